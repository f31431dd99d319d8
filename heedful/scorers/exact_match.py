"""1 for the right answer, 0 for any other.

Both texts are normalised, and nothing else is forgiven:

1. after the last `####`, if there is one: how GSM8K marks the answer behind its working;
2. Unicode NFKC, case folded, runs of white space to one space, ends stripped, one final full stop dropped;
3. if both are then decimal numbers (a leading `$` or trailing `%` and commas between groups of three
   digits aside), they are compared as numbers: `1,234.50` equals `1234.5`.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

from heedful.errors import DataError
from heedful.records import Score
from heedful.scorers.protocol import Item

ANSWER_MARK = "####"
NUMBER = re.compile(r"\$?([-+]?)\$?(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?%?", re.ASCII)


def normalise(text: str) -> str | Decimal:
    """The part of a text that is compared: a number where it is one, else its folded words."""
    text = unicodedata.normalize("NFKC", text.rpartition(ANSWER_MARK)[2]).casefold()
    words = " ".join(text.split()).removesuffix(".").rstrip()
    number = NUMBER.fullmatch(words)
    if number is None or not (number[2] or number[3]):
        return words
    return Decimal(number[1] + (number[2] or "0").replace(",", "") + (number[3] or ""))


@dataclass(frozen=True)
class ExactMatch:
    """1.0 if the response's answer is the item's, else 0.0."""

    name: str = "exact_match"
    version: str = "1"
    needs: frozenset[str] = frozenset({"answer"})

    def score(self, item: Item) -> Score:
        if item.answer is None:
            raise DataError("no answer to compare with", where=item.id, allowed="a record with `answer`")
        value = float(normalise(item.response) == normalise(item.answer))
        return Score(self.name, value, self.version, length=len(item.response))
