"""JSON lines on disk become rows, one at a time, each with its physical line number.

Our own reader, because `datasets` turns misspelt fields into columns of null, casts "7" to 7 and has no line
numbers. A line is what ends in "\\n" (a U+2028 inside a text ends nothing); a BOM, CRLF and blank lines are accepted.
Refused, with the place: what is not UTF-8, NUL, half of a surrogate pair, NaN and Infinity, a field given twice, lines,
nesting and gzip beyond `Limits`.
"""

import gzip
import io
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from heedful.disk import writing
from heedful.errors import DataError
from heedful.records import Feedback, to_json

MIB = 1 << 20
BOM = b"\xef\xbb\xbf"
WIDE_MARKS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00": "UTF-32"}
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"?')


@dataclass(frozen=True)
class Limits:
    """What a file may ask of the machine that reads it."""

    line_bytes: int = 32 * MIB  # the longest novels are 6 MB
    depth: int = 64
    unpacked_bytes: int = 256 * MIB  # gzip may always unpack to this much,
    unpacked_ratio: int = 100  # and beyond it to this many times its size; text packs 3 to 10 times


LIMITS = Limits()


def read_lines(path: Path, limits: Limits = LIMITS) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of each line, its line break included.

    Raises:
        DataError: the file cannot be read, is no UTF-8 by its first bytes, or goes beyond the limits.
    """
    with open_bytes(path, limits) as file:
        number = 0
        while line := _next_line(file, f"{path}:{number + 1}", limits):
            number += 1
            if number == 1:
                line = _without_bom(line, path)
            yield number, line


def parse_line(line: bytes, where: str, limits: Limits = LIMITS) -> Any:
    """The JSON value on one line.

    Raises:
        DataError: whose `where` ends in the column, from 1, wherever there is one.
    """
    return parse_json(decode(line, where).rstrip("\r\n"), where, limits)


def parse_json(text: str, where: str, limits: Limits = LIMITS) -> Any:
    """A JSON text, strictly: no NaN, no field twice, no half of a surrogate pair, bounded nesting and numbers."""
    if "\\u" in text:
        _check_escapes(text, where)
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        _refuse_json(error, where)
    except RecursionError:
        _refuse_depth(where, limits)
    except _NotFinite as error:
        _refuse_number(str(error), text, where)
    except _Twice as error:
        raise DataError(f"the field {str(error)!r} is given twice", where=where, allowed="each field once") from None
    except ValueError:  # what is left is Python's own bound on the digits of an integer
        allowed = f"at most {sys.get_int_max_str_digits()}"
        raise DataError("a whole number has too many digits", where=where, allowed=allowed) from None
    if text.count("{") + text.count("[") > limits.depth and _depth(value) > limits.depth:
        _refuse_depth(where, limits)
    return value


def decode(data: bytes, where: str) -> str:
    """The text of a line.

    Raises:
        DataError: NUL, or no UTF-8, and at which byte.
    """
    nul = data.find(b"\0")
    if nul >= 0:
        raise DataError(f"NUL byte at byte {nul + 1} of the line", where=where, allowed="UTF-8 text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte, place = data[error.start], error.start + 1
        raise DataError(f"byte 0x{byte:02x} at byte {place} of the line is not UTF-8", where=where) from None


def read_array(path: Path, limits: Limits = LIMITS) -> Iterator[tuple[int, Any]]:
    """Index (from 0) and value of each item of a file that is one JSON array."""
    with open_bytes(path, limits) as file:
        data = _without_bom(file.read(), path)
    value = parse_json(decode(data, str(path)), str(path), limits)
    yield from enumerate(value)


def is_array(path: Path) -> bool:
    """Whether the file's first character opens a JSON array."""
    with open_bytes(path) as file:
        return file.read(4096).removeprefix(BOM).lstrip()[:1] == b"["


def open_bytes(path: Path, limits: Limits = LIMITS) -> BinaryIO:
    """The file's content, unpacked where its first bytes say gzip.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from None
    if file.read(2) != b"\x1f\x8b":
        file.seek(0)
        return file
    file.seek(0)
    bound = max(limits.unpacked_bytes, limits.unpacked_ratio * os.fstat(file.fileno()).st_size)
    return io.BufferedReader(cast(io.RawIOBase, _Unpacked(file, path, bound)), MIB)


class _Unpacked(io.RawIOBase):
    """Gzip that says where it broke, and stops at a size that no text reaches."""

    def __init__(self, file: BinaryIO, path: Path, bound: int):
        self.file, self.gzip, self.path, self.left = file, gzip.GzipFile(fileobj=file), path, bound

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self.gzip.readinto(buffer)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"broken gzip ({error})", where=str(self.path), hint="download it again") from None
        self.left -= count
        if self.left < 0:
            raise DataError(
                "gzip unpacks to more than 100 times its size", where=str(self.path), hint="unpack it yourself first"
            )
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _next_line(file: BinaryIO, where: str, limits: Limits) -> bytes:
    line = file.readline(limits.line_bytes + 1)
    if len(line) > limits.line_bytes:
        raise DataError("a line is too long", where=where, allowed=f"at most {limits.line_bytes} bytes a line")
    return line


def _without_bom(data: bytes, path: Path) -> bytes:
    for mark, name in WIDE_MARKS.items():
        if data.startswith(mark):
            raise DataError(f"looks like {name} (byte offset 0)", where=str(path), allowed="UTF-8")
    return data.removeprefix(BOM)


def _check_escapes(text: str, where: str) -> None:
    """Refuse \\u0000 and half surrogate pairs; backslashes are taken in order, so `\\\\ud800` is only text."""
    high = None
    for match in ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0x20
        follows = high is not None and match.start() == high
        if code == 0:
            raise DataError("NUL character \\u0000", where=f"{where}:{match.start() + 1}", allowed="text without it")
        if (0xDC00 <= code < 0xE000) != follows:
            _refuse_surrogate(where, match.start() if high is None else high - 6)
        high = match.end() if 0xD800 <= code < 0xDC00 else None
    if high is not None:
        _refuse_surrogate(where, high - 6)


def _refuse_surrogate(where: str, offset: int) -> NoReturn:
    raise DataError("half of a surrogate pair", where=f"{where}:{offset + 1}", allowed="both halves, or neither")


def _refuse_depth(where: str, limits: Limits) -> NoReturn:
    raise DataError("nested too deep", where=where, allowed=f"at most {limits.depth} levels")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


class _NotFinite(ValueError):
    """A number that JSON has not, or that no float holds, as it is written."""


class _Twice(ValueError):
    """A field that stands twice in an object, by its name."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(max(names, key=names.count))
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise _NotFinite(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if abs(number) == float("inf"):
        raise _NotFinite(digits)
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_json(error: json.JSONDecodeError, where: str) -> NoReturn:
    is_cut = error.msg.startswith("Unterminated") or not error.doc[error.pos :].strip()
    found = "the end" if is_cut else f"`{error.doc[error.pos]}`"
    raise DataError(
        f"invalid JSON ({error.msg}), found {found}",
        where=_at(where, error.doc, error.pos),
        allowed="a JSON object",
        hint="it is cut short: write it again" if is_cut else "double quotes round names and texts, no comma at an end",
    ) from None


def _refuse_number(number: str, text: str, where: str) -> NoReturn:
    bare = STRING.sub(lambda match: " " * len(match[0]), text)
    field = _field_of_odd_number(text)
    raise DataError(
        f"found {number[:20]}",
        where=_at(where, text, bare.index(number)) + (f": {field}" if field else ""),
        allowed="a finite number",
        hint="leave the field out where there is no number",
    ) from None


def _at(where: str, text: str, offset: int) -> str:
    """File and line, then the column, from 1; of a text with several lines, its line as well."""
    lines = text[:offset].split("\n")
    line = f"{len(lines)}:" if len(lines) > 1 else ""
    return f"{where}:{line}{len(lines[-1]) + 1}"


def _field_of_odd_number(text: str) -> str:
    """The path of the first number that is not finite, as `responses[0].score`; nothing where more is wrong."""
    try:
        todo = [("", json.loads(text))]
    except (ValueError, RecursionError):
        return ""
    while todo:
        path, value = todo.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return path
        if isinstance(value, dict):
            todo += [(f"{path}.{name}".removeprefix("."), item) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            todo += [(f"{path}[{index}]", value[index]) for index in reversed(range(len(value)))]
    return ""


def write_feedback(path: str | Path, records: Iterable[Feedback]) -> int:
    """Write records as JSON lines, whole or not at all; gzip where the name ends in .gz, the same bytes every time.

    Returns:
        How many were written.

    Raises:
        DataError: a record that is no JSON. RunError: the disk refuses.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            count = _write_lines(partial, records, packed=path.suffix == ".gz")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return count


def _to_line(record: Feedback) -> bytes:
    try:
        return json.dumps(to_json(record), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except ValueError as error:  # NaN in metadata, or half of a surrogate pair in a text
        raise DataError(f"cannot be written as JSON ({error})", where=f"record {record.id!r}") from None


def _write_lines(path: Path, records: Iterable[Feedback], *, packed: bool) -> int:
    count = 0
    with path.open("wb") as raw:
        out = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if packed else raw
        for record in records:
            out.write(_to_line(record))
            count += 1
        if packed:
            out.close()
        raw.flush()
        os.fsync(raw.fileno())
    return count
