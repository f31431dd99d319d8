"""What a shape of feedback file is, and how its reader gets at a row's columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heedful.errors import DataError
from heedful.records import describe

Row = dict[str, Any]
WORDS: dict[Any, str] = {str: "text", dict: "an object", int: "a whole number"}


@dataclass(frozen=True)
class Format:
    """A shape of row and its reader.

    Args:
        name: shown to users and kept in manifests.
        columns: the columns that make the shape, in words.
        matches: whether a row has the shape, by its columns alone.
        read: a row to a native row, or several.
        used: the columns that `read` uses; every other one becomes metadata. None: `read` sees to all of them.
        remark: what is lost or odd about a row, to be counted; None for most rows.
    """

    name: str
    columns: str
    matches: Callable[[Row], bool]
    read: Callable[[Row], Row | list[Row]]
    used: frozenset[str] | None
    remark: Callable[[Row], str | None] = lambda row: None


class Unusable(Exception):
    """A row that a published set is known to hold and nothing can be learned from; dropped, and counted by reason."""


def has(*names: str) -> Callable[[Row], bool]:
    """A shape of all these columns, and any others."""
    return lambda row: all(name in row for name in names)


def is_list(row: Row, name: str) -> bool:
    """Whether the column is there and holds a list."""
    return isinstance(row.get(name), list)


def column(row: Row, name: str, kind: type | tuple[type, ...], allowed: str) -> Any:
    """A column's value of the type it must have.

    Raises:
        DataError: it is missing, null, or of another type.
    """
    if row.get(name) is None:
        raise DataError("missing" if name not in row else "found null", where=f"`{name}`", allowed=allowed)
    value = row[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DataError(f"found {describe(value)}", where=f"`{name}`", allowed=allowed)
    return value


def optional(row: Row, name: str, kind: type | tuple[type, ...], allowed: str) -> Any:
    """The same, or None where the column is missing or null."""
    return None if row.get(name) is None else column(row, name, kind, allowed)


def text(row: Row, name: str) -> str:
    """A column of text."""
    return column(row, name, str, "text")


def optional_text(row: Row, name: str) -> str | None:
    """A column of text, None where it is missing, null or empty."""
    return optional(row, name, str, "text") or None


def filled(row: Row, name: str) -> str:
    """A column of text that published sets leave empty in a few rows; those are dropped and counted."""
    value = text(row, name)
    if not value.strip():
        raise Unusable(f"empty `{name}`")
    return value


def number(row: Row, name: str) -> float:
    """A column of numbers."""
    return column(row, name, (int, float), "a number")


def flag(row: Row, name: str) -> bool:
    """A column of truth values."""
    return column(row, name, bool, "true or false")


def items(row: Row, name: str, kind: type | tuple[type, ...] = object, size: int | None = None) -> list[Any]:
    """A column of lists, of `size` items of one type."""
    value = column(row, name, list, "a list")
    if size is not None and len(value) != size:
        raise DataError(f"found a list of {len(value)}", where=f"`{name}`", allowed=f"a list of {size}")
    for index, item in enumerate(value):
        if not isinstance(item, kind) or isinstance(item, bool):
            raise DataError(f"found {describe(item)}", where=f"`{name}`[{index}]", allowed=WORDS.get(kind, "a number"))
    return value


def others(row: Row, used: frozenset[str]) -> Row:
    """The columns that a reader does not use, for the record's metadata; absent values (null, NaN) are left out."""
    return {name: value for name, value in row.items() if name not in used and value is not None and value == value}


def label(is_good: bool) -> str:
    """The record's word for a verdict."""
    return "good" if is_good else "bad"


def compare(a: int, value_a: float, b: int, value_b: float) -> Row:
    """A comparison of two responses by the numbers one judge gave them; the strength is their distance, 0 a tie."""
    better, worse = (b, a) if value_b > value_a else (a, b)
    return {"better": better, "worse": worse, "strength": abs(value_a - value_b)}
