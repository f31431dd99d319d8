"""How a ranker is asked: responses laid out as text, and the first token of each of two words that can follow.

The layouts are data with a source; a trained ranker carries its own in heedful.json, see `Form.to_json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.card import fenced
from heedful.errors import ConfigError
from heedful.text import Text

INFO = "ranker"  # key of heedful.json


@dataclass(frozen=True)
class Form:
    """A question about one response or two.

    Attributes:
        parts: what stands before the context, before each response, and at the end; tokenised apart from those.
        verdicts: two words; the first means that the first response is better, or that the only one is good.
    """

    parts: tuple[str, ...]
    verdicts: tuple[str, str]

    @property
    def num_responses(self) -> int:
        """One (pointwise) or two (pairwise)."""
        return len(self.parts) - 2

    def verdict_ids(self, text: Text) -> tuple[int, int]:
        """The first token of each verdict.

        Raises:
            ConfigError: they are the same token.
        """
        first, second = (text.encode(word)[0] for word in self.verdicts)
        if first == second:
            words = " and ".join(self.verdicts)
            raise ConfigError(
                f"the tokenizer begins {words} with one token", allowed="a tokenizer that tells them apart"
            )
        return first, second

    def room(self, text: Text, context: str) -> int:
        """Tokens of the context length that are left for responses, and below 0 those that are too many."""
        asked = [text.encode(part, continues=n > 0) for n, part in enumerate(self.parts)] + [text.encode(context)]
        return text.max_length - 1 - len(text.root) - sum(map(len, asked))

    def question(
        self, text: Text, context: str, responses: Sequence[str], *, id: str = ""
    ) -> tuple[list[int], list[list[int]]] | None:
        """Context and responses between the parts, as a prompt with its root that leaves room for one more token; and
        the responses as they stand in it. None where the context leaves no room; counted.

        Where it would be too long, responses are cut at their ends, the longer one first; the context never.
        """
        parts = [text.encode(part, continues=n > 0) for n, part in enumerate(self.parts)]
        asked = [*parts[0], *text.encode(context)]
        written = [text.encode(response) for response in responses]
        room = self.room(text, context)
        text.drops.longest = max(text.drops.longest, (text.max_length - room + sum(map(len, written)), id))
        if room < len(written):
            text.drops.count("prompt leaves no room for a response")
            return None
        kept = cut(written, room)
        for _ in [row for row, whole in zip(kept, written) if len(row) < len(whole)]:
            text.drops.count("response cut to the context (kept)")
        for part, row in zip(parts[1:], kept):
            asked += [*part, *row]
        return text.rooted([*asked, *parts[-1]]), kept

    def to_json(self) -> dict[str, Any]:
        """For heedful.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Form":
        """The inverse of `to_json`; other keys are left alone."""
        first, second = values["verdicts"]
        return cls(tuple(values["parts"]), (first, second))


# SLiC-HF (Zhao et al. 2023, arXiv:2305.10425), section 2.3, writes "[CONTEXT] x [SUMMARY A] y1 [SUMMARY B] y2" and has
# the decoder of a T5 answer "A" or "B", and "[CONTEXT] x [SUMMARY] y" for "Good" or "Bad"; RSO (Liu et al. 2023,
# arXiv:2309.06657) has RESPONSE where the task is no summary. Ours are the line breaks, so that a marker and a text
# never share a token, and the last part: without a decoder something must say that the verdict comes next.
FORMS: Mapping[str, Form] = {
    "pairwise": Form(("[CONTEXT]\n", "\n[RESPONSE A]\n", "\n[RESPONSE B]\n", "\n[BETTER]\n"), ("A", "B")),
    "pointwise": Form(("[CONTEXT]\n", "\n[RESPONSE]\n", "\n[VERDICT]\n"), ("Good", "Bad")),
}


def cut(rows: Sequence[list[int]], room: int) -> list[list[int]]:
    """One row or two of at most `room` tokens together; the shorter of two is cut only below half of the room."""
    if sum(map(len, rows)) <= room:
        return list(rows)
    longest = max(room - min(map(len, rows)), room // 2) if len(rows) > 1 else room
    return [row[:longest] for row in rows]


def how_to_ask(asked: Mapping[str, Any], start_id: int | None = None) -> str:
    """For the model card: what to write, and which two tokens to compare.

    Args:
        asked: heedful.json's `ranker`.
        start_id: the decoder's start token, of an encoder-decoder.
    """
    form = Form.from_json(asked)
    names = ["CONTEXT", *(f"RESPONSE {n}" for n in range(1, form.num_responses + 1)), ""]
    layout = "".join(part + name for part, name in zip(form.parts, names))
    auto, given = "AutoModelForCausalLM", "ids"
    if start_id is not None:
        auto, given = "AutoModelForSeq2SeqLM", f"ids, decoder_input_ids=torch.tensor([[{start_id}]])"
    code = fenced(
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        f'model = {auto}.from_pretrained("FOLDER")\n'
        f"logits = model({given}).logits[0, -1, {list(asked['verdict_ids'])}]\n"
        "logits.softmax(-1)[0]"
    )
    meaning = "the first response is the better one" if form.num_responses == 2 else "the response is good"
    root = "BOS and" if start_id is None else "EOS behind"
    words = (
        f"The probability that {meaning}. `ids` are {root} the pieces of this text, tokenised apart and joined, "
        "a line break before and after each marker belonging to the marker:"
    )
    order = " Ask in both orders and take the mean: no ranker is free of a preference for a place."
    return f"## How to ask\n\n{code}\n\n{words}\n\n{fenced(layout)}\n\n" + (order if form.num_responses == 2 else "")
