"""TRL's dataset types with text or conversations: https://huggingface.co/docs/trl/dataset_formats

    text                                language modelling: a pretraining document
    prompt                              prompt only: something to sample from
    prompt, completion                  a demonstration
    prompt, completion, label           a judged response, label true (good) or false (bad)
    [prompt,] chosen, rejected          a preference; without a prompt, what both begin with is one

`messages` is read by conversations.py, a preference between transcripts by transcripts.py. These are files people make
for themselves, so an empty completion is an error, not a known defect.
"""

from heedful.data.formats.base import Format, Row, flag, has, is_list, label, text
from heedful.data.formats.conversations import as_messages, judged_turn, pair_of_conversations, turns
from heedful.data.formats.transcripts import pair_of_texts
from heedful.errors import DataError

VERDICTS = ("score", "reward", "rating", "rank", "label")


def read_document(row: Row) -> Row:
    return {"prompt": "", "responses": [{"text": text(row, "text")}]}


def read_prompt(row: Row) -> Row:
    return {"prompt": _prompt(row), "responses": []}


def read_completion(row: Row) -> Row | list[Row]:
    if is_list(row, "completion"):
        start = _as_conversation(_prompt(row))
        return turns([*start, *as_messages(row, "completion")], first=len(start))
    demonstration = {"text": text(row, "completion"), "demonstration": True}
    return {"prompt": _prompt(row), "responses": [demonstration]}


def read_labelled(row: Row) -> Row:
    """The label is of the whole completion; a conversation's earlier turns go into its prompt."""
    verdict = label(flag(row, "label"))
    if is_list(row, "completion"):
        return judged_turn([*_as_conversation(_prompt(row)), *as_messages(row, "completion")], verdict)
    return {"prompt": _prompt(row), "responses": [{"text": text(row, "completion"), "label": verdict}]}


def read_preference(row: Row) -> Row:
    if is_list(row, "chosen") or is_list(row, "rejected"):
        prompt, chosen, rejected = pair_of_conversations(row)
    elif row.get("prompt") is not None:
        prompt, chosen, rejected = _prompt(row), text(row, "chosen"), text(row, "rejected")
    else:
        prompt, chosen, rejected = pair_of_texts(text(row, "chosen"), text(row, "rejected"))
    better, worse = {"text": chosen}, {"text": rejected}
    if row.get("score_chosen") is not None and row.get("score_rejected") is not None:  # ultrafeedback_binarized
        better["score"], worse["score"] = row["score_chosen"], row["score_rejected"]
    return {
        "prompt": prompt,
        "responses": [better, worse],
        "comparisons": [{"better": 0, "worse": 1}],
    }


def _as_conversation(prompt: str | list[Row]) -> list[Row]:
    return prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]


def _prompt(row: Row) -> str | list[Row]:
    if is_list(row, "prompt"):
        return as_messages(row, "prompt")
    if isinstance(row.get("prompt"), dict):
        raise DataError("found an object", where="`prompt`", allowed="text or a list of {role, content}")
    return text(row, "prompt")


def _unused_verdict(row: Row) -> str | None:
    """A column that looks like a judgement, but of which nobody knows whether higher is better."""
    name = next((name for name in VERDICTS if row.get(name) is not None), None)
    return f"`{name}` kept as metadata: to learn from it, --map it to a field" if name else None


DOCUMENT = Format(
    "trl text",
    "text",
    lambda row: isinstance(row.get("text"), str),
    read_document,
    frozenset({"text"}),
    _unused_verdict,
)
PROMPT = Format("trl prompt", "prompt", has("prompt"), read_prompt, frozenset({"prompt"}))
COMPLETION = Format(
    "trl prompt-completion",
    "prompt, completion",
    has("prompt", "completion"),
    read_completion,
    frozenset({"prompt", "completion"}),
    _unused_verdict,
)
LABELLED = Format(
    "trl unpaired preference",
    "prompt, completion, label",
    has("prompt", "completion", "label"),
    read_labelled,
    frozenset({"prompt", "completion", "label"}),
)
PREFERENCE = Format(
    "trl preference",
    "[prompt,] chosen, rejected",
    has("chosen", "rejected"),
    read_preference,
    frozenset({"prompt", "chosen", "rejected", "score_chosen", "score_rejected"}),
)
