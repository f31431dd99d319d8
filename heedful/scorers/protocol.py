"""What a scorer is: texts in, one number out, higher is better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from heedful.errors import DataError, HeedfulError
from heedful.records import Feedback, Message, Response, Score, prompt_text


@dataclass(frozen=True)
class Item:
    """One response to score, with what it answers.

    Attributes:
        turns: the conversation that `prompt` spells out, if it is one.
        pieces: parts of the response that are tokenised apart, if it has some.
        truncated: the response was cut before it ended.
    """

    prompt: str
    response: str
    answer: str | None = None
    id: str = ""
    turns: tuple[Message, ...] = ()
    pieces: tuple[str, ...] = ()
    truncated: bool = False


def item_of(record: Feedback, response: Response, id: str) -> Item:
    """A response to a record's prompt, as an item."""
    turns = () if isinstance(record.prompt, str) else tuple(record.prompt)
    prompt, pieces = prompt_text(record.prompt), tuple(segment.text for segment in response.segments)
    return Item(prompt, response.text, record.answer, id, turns, pieces, response.truncated)


class Scorer(Protocol):
    """A number for a response. `version` changes whenever the number for some text can change."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields of an item that must be there, such as "answer"."""
        ...

    def score(self, item: Item) -> Score:
        """Higher is better; a scorer that counts faults returns the negative, and the raw count."""
        ...


@runtime_checkable
class BatchScorer(Scorer, Protocol):
    """A model: it scores several responses at once, in this process, and reads all of an item."""

    def score_batch(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, in order."""
        ...


@runtime_checkable
class BoundedScorer(Scorer, Protocol):
    """A model whose context has an end: it refuses a prompt that leaves no room for a response."""

    def leaves_room(self, item: Item) -> bool:
        """Whether a response, or two where it compares, can follow the item's prompt."""
        ...


@runtime_checkable
class Comparer(Scorer, Protocol):
    """A model that says which of two responses is better: a response alone has no score, one among others has."""

    def preferences(self, pairs: Sequence[tuple[Item, Item]]) -> list[float]:
        """For each pair of responses to one prompt the probability that the first is better. Which is named first
        changes nothing: that of (b, a) is 1 minus that of (a, b)."""
        ...

    def score_together(self, items: Sequence[Item]) -> list[Score]:
        """One score per item, in order; they answer one prompt, and each is scored among the others."""
        ...


def leaves_room(scorer: Scorer, record: Feedback) -> bool:
    """Whether the scorer can read a response to the record's prompt."""
    return not isinstance(scorer, BoundedScorer) or scorer.leaves_room(item_of(record, Response(""), record.id))


def score_one(scorer: Scorer, item: Item) -> Score:
    """The scorer's score, checked; any failure is a DataError naming the item."""
    where = item.id or "item"
    for field in sorted(scorer.needs):
        if getattr(item, field) is None:
            raise DataError(f"{scorer.name} needs `{field}`", where=where, allowed=f"a record with `{field}`")
    try:
        score = scorer.score(item)
    except (HeedfulError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{scorer.name} failed: {type(error).__name__}: {error}", where=where) from error
    return checked(score, where)


def checked(score: Score, where: str) -> Score:
    """The score, or a DataError that names the item where it is not finite."""
    if not math.isfinite(score.value):
        raise DataError(f"{score.scorer} gave {score.value}", where=where, allowed="a finite number")
    return score
