"""How a model is asked to mend a response, to criticise one, or whether one has taken a critique in: layouts as text.

The layouts are data; a trained model carries its own in heedful.json, see `Form.to_json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from heedful.card import fenced
from heedful.records import Feedback, Response, prompt_text
from heedful.text import Text

INFO = "refiner"  # key of heedful.json
CHOSEN = "chosen_refinement"  # key of a record's metadata: index of the response that is imitated; absent where none is
NO_ROOM = "question leaves no room for an answer"  # as `Drops` counts it


@dataclass(frozen=True)
class Form:
    """A question whose answer is text.

    Attributes:
        writes: "refinement" or "critique": what the answer is.
        parts: what stands before each field and behind the last; tokenised apart from those.
    """

    writes: str
    parts: tuple[str, ...]

    def fields(self, record: Feedback, response: Response) -> list[str]:
        """What the question is about; one spelling for training and asking."""
        return [prompt_text(record.prompt), response.text, response.critique or ""][: len(self.parts) - 1]

    def question(self, text: Text, fields: Sequence[str], *, room: int = 1, id: str = "") -> list[int] | None:
        """The fields between the parts, as a prompt with its root; None, counted, where fewer than `room` tokens of the
        context are left behind it. Nothing is cut: a response without its end is another response.

        Args:
            fields: see `fields`.
        """
        pieces = [piece for pair in zip(self.parts, [*fields, ""], strict=True) for piece in pair]
        ids = text.rooted(token for n, piece in enumerate(pieces) for token in text.encode(piece, continues=n > 0))
        text.drops.longest = max(text.drops.longest, (len(ids) + room, id))
        if len(ids) + room <= text.max_length:
            return ids
        text.drops.count(NO_ROOM)
        return None

    def to_json(self) -> dict[str, Any]:
        """For heedful.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Form":
        """The inverse of `to_json`."""
        return cls(values["writes"], tuple(values["parts"]))


# Ours, in the manner of the ranker's (verdict.py): a marker is a line, so that it and a text never share a token.
FORMS: Mapping[str, Form] = {
    "refinement": Form("refinement", ("[CONTEXT]\n", "\n[RESPONSE]\n", "\n[CRITIQUE]\n", "\n[REFINEMENT]\n")),
    "critique": Form("critique", ("[CONTEXT]\n", "\n[RESPONSE]\n", "\n[CRITIQUE]\n")),
}

# Whether a text has taken a critique in, in five wordings (ILF at scale asks in five; these are ours).
WORDINGS = (
    "Here is a request:\n{context}\n\nA first answer:\n{response}\n\nFeedback on it:\n{critique}\n\n"
    "A new answer:\n{refinement}\n\nDoes the new answer incorporate the feedback? Answer Yes or No.\n",
    "Request:\n{context}\n\nOld answer:\n{response}\n\nA reviewer said of it:\n{critique}\n\n"
    "Revised answer:\n{refinement}\n\nDoes the revised answer settle the reviewer's points? Answer Yes or No.\n",
    "Request:\n{context}\n\nAnswer:\n{response}\n\nWhat should change:\n{critique}\n\nAnswer after the change:\n"
    "{refinement}\n\nWas everything changed that should have been? Answer Yes or No.\n",
    "You check whether feedback was followed.\n\nRequest:\n{context}\n\nDraft:\n{response}\n\nFeedback:\n{critique}\n\n"
    "Next draft:\n{refinement}\n\nWas the feedback followed? Answer Yes or No.\n",
    "Feedback:\n{critique}\n\nIt was given on this answer:\n{response}\n\nto this request:\n{context}\n\n"
    "Is this answer better in the way the feedback asks for?\n{refinement}\n\nAnswer Yes or No.\n",
)
YES, NO = "Yes", "No"


def how_to_ask(form: Form) -> str:
    """For the model card: what to write."""
    names = [*("CONTEXT", "RESPONSE", "CRITIQUE")[: len(form.parts) - 1], ""]
    layout = "".join(part + name for part, name in zip(form.parts, names, strict=True))
    words = (
        f"It writes a {form.writes} of a response, up to EOS, behind this text; parts and fields are tokenised apart "
        "and joined, a line break before and after each marker belonging to the marker:"
    )
    return f"## How to ask\n\n{words}\n\n{fenced(layout)}\n"
