"""What a scorer is: texts in, one number out, higher is better."""

import math
from dataclasses import dataclass
from typing import Protocol

from heedful.errors import DataError, HeedfulError
from heedful.records import Score


@dataclass(frozen=True)
class Item:
    """One response to score, with what it answers."""

    prompt: str
    response: str
    answer: str | None = None
    id: str = ""


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
    if not math.isfinite(score.value):
        raise DataError(f"{scorer.name} gave {score.value}", where=where, allowed="a finite number")
    return score
