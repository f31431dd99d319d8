"""load_feedback: a file or Hub name in, validated records out, and an account of every row that did not become one."""

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from heedful.data import lines, tables
from heedful.data.formats import detect
from heedful.data.formats.base import Format, Row, Unusable, others
from heedful.data.mapping import Rule, apply_map, parse_map
from heedful.errors import ConfigError, DataError
from heedful.records import EXAMPLE, Feedback, describe, from_json

MAX_FAULTS = 20  # messages kept of the rows that were skipped
SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")


@dataclass(frozen=True)
class FeedbackFile(Sequence[Feedback]):
    """The records of a file, in order, and what became of its rows.

    Args:
        records: one for each row that could be used; several for a conversation with several turns to learn.
        path: as it was given.
        format: the shape the rows were read as.
        sha256: of the file's bytes; "" for a dataset of the Hub.
        num_rows: rows read.
        dropped: rows of a published set that nothing can be learned from, by reason.
        skipped: wrong rows, by reason; empty unless `on_bad_row="skip"`.
        faults: the first messages of the skipped rows.
        remarks: rows read with a loss, by what it is.
        metadata_columns: columns that no field of the record takes, kept as metadata.
    """

    records: Sequence[Feedback]
    path: str
    format: str
    sha256: str
    num_rows: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[str] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)
    metadata_columns: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Feedback]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> Feedback: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feedback]: ...
    def __getitem__(self, index):
        return self.records[index]


def load_feedback(
    path_or_name: str | Path,
    *,
    map: Mapping[str, str] | Iterable[str] | None = None,
    limit: int | None = None,
    split: str | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
) -> FeedbackFile:
    """Read feedback from JSON lines (.jsonl, .json, gzip or not), CSV, TSV, Parquet, or a dataset of the Hub.

    Args:
        path_or_name: a file, or `owner/name` or `owner/name:configuration` on the Hub.
        map: rules as in mapping.py, for columns of no known shape.
        limit: read no more records than this.
        split: of a Hub dataset; "train" if not given.
        on_bad_row: stop at the first wrong row, or count it and go on.

    Raises:
        DataError: naming file, line and field. ConfigError: a wrong rule or option.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"found {limit}", where="limit", allowed="1 or more")
    if on_bad_row not in ("error", "skip"):
        raise ConfigError(f"found {on_bad_row!r}", where="on_bad_row", allowed='"error" or "skip"')
    source = _open(path_or_name, split, limited=limit is not None)
    shape = _shape_of(parse_map(map), source.textual) if map else None
    account, name = _Account(), Path(path_or_name).name
    records: list[Feedback] = []
    for place, raw in source.rows:
        where = f"{path_or_name}{place}"
        account.num_rows += 1
        try:
            row = source.parse(raw, where)
            if not isinstance(row, dict):
                raise DataError(f"found {describe(row)}", where=where, allowed="an object", hint=f"write {EXAMPLE}")
            shape = shape or detect(row, where)
            records += _read_row(row, shape, name + place, where, account)
        except Unusable as reason:
            account.dropped[str(reason)] += 1
        except DataError as error:
            if on_bad_row == "error":
                raise
            account.skip(error, where)
        if limit is not None and len(records) >= limit:
            break
    return account.close(records[:limit], str(path_or_name), shape, source)


def _shape_of(rules: tuple[Rule, ...], textual: bool) -> Format:
    return Format("map", "", lambda row: True, partial(apply_map, rules, textual=textual), None)


@dataclass(frozen=True)
class _Source:
    """Where rows come from: their places (":3", "[2]") with raw rows, and how a raw row becomes a value."""

    rows: Iterator[tuple[str, Any]]
    parse: Callable[[Any, str], Any] = lambda raw, where: raw
    path: Path | None = None
    textual: bool = False


def _open(path_or_name: str | Path, split: str | None, *, limited: bool) -> _Source:
    path = Path(path_or_name)
    if not path.exists() and _is_hub_name(str(path_or_name)):
        rows = tables.read_hub(str(path_or_name), split or "train", limited=limited)
        return _Source((f" row {number}", row) for number, row in rows)
    if split is not None:
        raise ConfigError("a file has no splits", where="split", allowed="a split only with a dataset of the Hub")
    if path.is_dir() or not path.exists():
        found = "is a folder" if path.is_dir() else "no such file"
        raise DataError(found, where=str(path), allowed="a file, or owner/name on the Hub", hint=_nearest(path))
    return _open_file(path)


def _open_file(path: Path) -> _Source:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        return _Source(((f" row {n}", row) for n, row in tables.read_parquet(path)), path=path)
    if suffix in (".csv", ".tsv"):
        cells = tables.read_csv(path, "," if suffix == ".csv" else "\t")
        return _Source(((f":{n}", row) for n, row in cells), tables.named, path, textual=True)
    if suffix == ".json" and lines.is_array(path):
        return _Source(((f"[{n}]", row) for n, row in lines.read_array(path)), path=path)
    full = ((f":{n}", line) for n, line in lines.read_lines(path) if line and not line.isspace())
    return _Source(full, lines.parse_line, path)


def _is_hub_name(name: str) -> bool:
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and owner[0] not in ".~" and not rest.endswith(SUFFIXES)


def _nearest(path: Path) -> str:
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() and not path.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {path.with_name(near[0])}?" if near else ""


@dataclass
class _Account:
    """What became of the rows so far."""

    num_rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)

    def skip(self, error: DataError, where: str) -> None:
        """Count a wrong row by its field and what is allowed there, and keep the first few messages."""
        place = re.sub(r"\d+", "", error.where.removeprefix(where)).strip(": ")
        self.skipped[f"{place}: expected {error.allowed}" if place and error.allowed else error.what] += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(str(error))

    def close(self, records: Sequence[Feedback], name: str, shape: Format | None, source: _Source) -> FeedbackFile:
        """The file with its account.

        Raises:
            DataError: no record is left.
        """
        if not (records and shape):
            lost = "; ".join(f"{reason}: {count}" for reason, count in (self.dropped + self.skipped).items())
            found = f"none of {self.num_rows} rows can be used ({lost})" if self.num_rows else "no rows in it"
            hint = "the first of them is shown without --skip-bad" if self.skipped else f"a record is {EXAMPLE}"
            raise DataError(found, where=name, allowed="at least one record", hint=hint)
        return FeedbackFile(
            records=records,
            path=name,
            format=shape.name,
            sha256=_sha256(source.path),
            num_rows=self.num_rows,
            dropped=dict(self.dropped),
            skipped=dict(self.skipped),
            faults=tuple(self.faults),
            remarks=dict(self.remarks),
            metadata_columns=tuple(self.columns),
        )


def _read_row(row: Row, shape: Format, name: str, where: str, account: _Account) -> list[Feedback]:
    """The records of one row: native rows by its shape, named, through the validation all records pass."""
    try:
        natives = shape.read(row)
    except DataError as error:  # a reader knows the column, not the line
        raise DataError(error.what, where=f"{where}: {error.where}", allowed=error.allowed, hint=error.hint) from None
    if remark := shape.remark(row):
        account.remarks[remark] += 1
    if shape.used is not None and (rest := others(row, shape.used)):
        account.columns.update(dict.fromkeys(rest))
        natives = [native | {"metadata": rest} for native in (natives if isinstance(natives, list) else [natives])]
    return [from_json(native, where) for native in _named(natives, name)]


def _named(natives: Row | list[Row], name: str) -> list[Row]:
    """The turns of one conversation are told apart by their number and held together by its name."""
    if isinstance(natives, dict):
        natives = [natives]
    if len(natives) == 1:
        return natives if natives[0].get("id") else [natives[0] | {"id": name}]
    return [
        native | {"id": f"{name}#{turn}", "metadata": native.get("metadata", {}) | {"conversation": name}}
        for turn, native in enumerate(natives)
    ]


def _sha256(path: Path | None) -> str:
    if path is None:
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
