"""Rows from CSV, Parquet and the Hugging Face Hub; JSON lines have their own reader in lines.py.

CSV has no types, so every cell is text, except in the columns of `LITERALS`, where a cell is read as the number or
truth value it spells. (`datasets` guesses a type per column and reads the answers "None" and "007" as null and 7.) An
empty cell is an absent value. Parquet is read by pyarrow, which the `data` extra brings along; neither writes a cache.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from heedful.data.lines import LIMITS, decode, read_lines
from heedful.errors import DataError

LITERALS = frozenset({"rank", "score", "label", "score_chosen", "score_rejected", "score_0", "score_1", "seconds"})
TRUTH = {"true": True, "false": False}
NEED_DATA = "pip install 'heedful[data]'"


def read_csv(path: Path, delimiter: str) -> Iterator[tuple[int, tuple[list[str], list[str]]]]:
    """Line on which a row starts, with the header and the row's cells, for `named` to join.

    Raises:
        DataError: not UTF-8, not CSV, or a column twice.
    """
    csv.field_size_limit(LIMITS.line_bytes)
    texts = (decode(line, f"{path}:{number}") for number, line in read_lines(path))
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next((cells for cells in reader if cells), [])
        _refuse_twice(header, f"{path}:{reader.line_num}")
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                yield line, (header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"broken CSV ({error})", where=f"{path}:{line}", allowed="every quote closed") from None


def _refuse_twice(columns: Iterable[str], where: str) -> None:
    """Of two columns with one name only the last would be read."""
    for name, count in Counter(columns).items():
        if count > 1:
            raise DataError(
                f"the column {name!r} is there {count} times",
                where=where,
                allowed="each column once",
                hint="rename all but one",
            )


def named(row: tuple[list[str], list[str]], where: str) -> dict[str, Any]:
    """The cells of a row by their column.

    Raises:
        DataError: more or fewer of them than the header has.
    """
    header, cells = row
    if len(cells) != len(header):
        raise DataError(f"found {len(cells)} cells", where=where, allowed=f"{len(header)}, as in the header")
    return {name: literal(cell) if name in LITERALS else cell or None for name, cell in zip(header, cells)}


def literal(cell: str | None) -> Any:
    """The number or truth value that a cell spells, else its text; None for an empty one."""
    if not cell:
        return None
    if cell.lower() in TRUTH:
        return TRUTH[cell.lower()]
    for read in (int, float):
        try:
            return read(cell)
        except ValueError:
            continue
    return cell


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 1) and columns of each row, as plain JSON values."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("reading Parquet needs pyarrow", where=str(path), hint=NEED_DATA) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
        _refuse_twice(file.schema_arrow.names, str(path))
        rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield number, plain(row)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"broken Parquet ({str(error).splitlines()[0]})", where=str(path)) from None


def read_hub(name: str, split: str, *, limited: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 1) and columns of each row of a dataset on the Hub, `owner/name` or `owner/name:configuration`.

    Args:
        limited: stream, so that a few rows do not cost the whole download.
    """
    try:
        import datasets
    except ImportError:
        raise DataError("reading from the Hub needs `datasets`", where=name, hint=NEED_DATA) from None
    repository, _, configuration = name.partition(":")
    try:
        rows = datasets.load_dataset(repository, configuration or None, split=split, streaming=limited)
    except Exception as error:  # datasets raises what its many parts raise; the first line says which
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot be loaded from the Hub ({message})",
            where=name,
            hint="a file on disk is read by its path; a configuration is given as owner/name:configuration",
        ) from None
    for number, row in enumerate(rows, 1):
        yield number, plain(row)


def plain(value: Any) -> Any:
    """A cell as JSON could hold it: dates and the like become text; NaN stays, to be refused where it would be used."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
