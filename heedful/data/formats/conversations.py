"""Conversations: TRL's and OpenAI's `messages`, sharegpt's `conversations`, and LLaMA-Factory's pairs and tags on them.

Every turn of the assistant is trained: a conversation with three of them becomes three records, each with the turns
before it as its prompt, as the model will see them when it answers. They are named `id#0`, `id#1`, ... and carry the
conversation's id in their metadata, so that a split keeps them together. With a verdict on the conversation (`label`,
`kto_tag`) only the last turn is judged, and there is one record. What follows the last turn of the assistant has no
answer, and is left out.
"""

from typing import Any

from heedful.data.formats.base import Format, Row, column, flag, has, items, label, optional_text, text
from heedful.errors import DataError
from heedful.records import describe

ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "observation": "tool"}


def as_messages(row: Row, name: str) -> list[Row]:
    """A column of {role, content} or sharegpt's {from, value}, with sharegpt's roles under their usual names."""
    return [_message(item, f"`{name}`[{index}]") for index, item in enumerate(items(row, name, dict))]


def _message(item: Row, place: str) -> Row:
    who, what = ("from", "value") if "from" in item else ("role", "content")
    if not isinstance(item.get(what), str):
        hint = "calls of tools and parts that are no text cannot be read"
        raise DataError(f"found {describe(item.get(what))}", where=f"{place}.{what}", allowed="text", hint=hint)
    role = text({f"{place}.{who}": item.get(who)}, f"{place}.{who}")
    return {"role": ROLES.get(role, role), "content": item[what]}


def turns(messages: list[Row], *, first: int = 0) -> list[Row]:
    """A demonstration of each turn of the assistant from position `first` on.

    Raises:
        DataError: there is none, or nothing stands before it.
    """
    places = [n for n, message in enumerate(messages) if n >= first and message["role"] == "assistant"]
    if not places or places[0] == 0:
        found = "no turn of the assistant" if not places else "the assistant begins"
        raise DataError(found, where="`messages`", allowed="a turn of the user, then one of the assistant")
    return [
        {"prompt": messages[:n], "responses": [{"text": messages[n]["content"], "demonstration": True}]} for n in places
    ]


def judged_turn(messages: list[Row], verdict: str) -> Row:
    """The last turn of the assistant, with what was said of it."""
    last = turns(messages)[-1]
    return {"prompt": last["prompt"], "responses": [{"text": last["responses"][0]["text"], "label": verdict}]}


def pair_of_conversations(row: Row) -> tuple[Any, str, str]:
    """Prompt and the two answers of `chosen` and `rejected`, each a conversation with or without the prompt.

    Raises:
        DataError: they part before their last turn: a verdict on several turns is none on any of them.
    """
    chosen, rejected = as_messages(row, "chosen"), as_messages(row, "rejected")
    same = 0
    while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
        same += 1
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if len(side) != same + 1 or side[same]["role"] != "assistant":
            raise DataError(
                f"{len(side) - same} turns after what both begin with",
                where=f"`{name}`",
                allowed="one, the assistant's",
            )
    return _prompt_before(row, chosen[:same]), chosen[same]["content"], rejected[same]["content"]


def _prompt_before(row: Row, shared: list[Row]) -> list[Row]:
    """What both sides begin with, after the `prompt` unless it repeats it; a text is then a turn of the user."""
    if isinstance(row.get("prompt"), list):
        prompt = as_messages(row, "prompt")
    elif shared or row.get("prompt") is None:  # ultrafeedback_binarized: the text repeats the first turn
        return shared
    else:
        prompt = [{"role": "user", "content": text(row, "prompt")}]
    return shared if shared[: len(prompt)] == prompt else [*prompt, *shared]


def read_messages(row: Row) -> Row | list[Row]:
    messages = as_messages(row, "messages")
    if row.get("label") is None:
        return turns(messages)
    return judged_turn(messages, label(flag(row, "label")))


def read_sharegpt(row: Row) -> Row | list[Row]:
    messages = _with_system(row)
    if row.get("kto_tag") is None:
        return turns(messages)
    return judged_turn(messages, label(flag(row, "kto_tag")))


def read_sharegpt_pair(row: Row) -> Row:
    better, worse = (_message(column(row, n, dict, "an object"), f"`{n}`")["content"] for n in ("chosen", "rejected"))
    return {
        "prompt": _with_system(row),
        "responses": [{"text": better}, {"text": worse}],
        "comparisons": [{"better": 0, "worse": 1}],
    }


def _with_system(row: Row) -> list[Row]:
    messages = as_messages(row, "conversations")
    if system := optional_text(row, "system"):
        messages.insert(0, {"role": "system", "content": system})
    return messages


MESSAGES = Format("messages", "messages", has("messages"), read_messages, frozenset({"messages", "label"}))
SHAREGPT = Format(
    "sharegpt",
    "conversations",
    has("conversations"),
    read_sharegpt,
    frozenset({"conversations", "system", "kto_tag"}),
)
SHAREGPT_PAIR = Format(
    "sharegpt preference",
    "conversations, chosen, rejected",
    has("conversations", "chosen", "rejected"),
    read_sharegpt_pair,
    frozenset({"conversations", "system", "chosen", "rejected"}),
)
