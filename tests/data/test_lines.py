"""The reader of JSON lines: what it accepts, what it refuses, and where it says the fault is."""

import errno
import gzip
import json

import pytest
from faults import Faults
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.lines import LIMITS, Limits, parse_line, read_lines, write_feedback
from heedful.errors import DataError, RunError
from heedful.records import Feedback, Response


@pytest.fixture
def write(tmp_path):
    def write(data: bytes, name="a.jsonl"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def values(path, limits=LIMITS):
    """Line numbers and values of a file."""
    return [
        (number, parse_line(line, f"{path.name}:{number}", limits))
        for number, line in read_lines(path, limits)
        if line.strip()
    ]


def refuse(line: bytes, limits=LIMITS) -> str:
    """The message that a line is refused with."""
    with pytest.raises(DataError) as caught:
        parse_line(line, "a.jsonl:3", limits)
    return str(caught.value)


def test_line_numbers_are_those_of_an_editor_blank_lines_counted(write):
    assert values(write(b'{"a":1}\n\n  \n{"a":2}')) == [(1, {"a": 1}), (4, {"a": 2})]


def test_bom_and_crlf_are_accepted(write):
    assert values(write(b'\xef\xbb\xbf{"a":1}\r\n\r\n{"a":2}\r\n')) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_line_separator_inside_a_text_ends_no_line(write):
    assert values(write('{"a":"x\u2028y\u0085z"}\n'.encode())) == [(1, {"a": "x\u2028y\u0085z"})]


def test_gzip_is_known_by_its_first_bytes_not_its_name(write):
    assert values(write(gzip.compress(b'{"a":1}\n'), "plain.jsonl")) == [(1, {"a": 1})]


def test_an_error_names_line_and_column():
    assert refuse(b'{"prompt": "a", oops}') == (
        "a.jsonl:3:17: invalid JSON (Expecting property name enclosed in double quotes), found `o`: "
        "expected a JSON object (double quotes round names and texts, no comma at an end)"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "\xff"}', "a.jsonl:3: byte 0xff at byte 8 of the line is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "byte 0xed at byte 8 of the line is not UTF-8"),
        (b'{"a": "\x00"}', "a.jsonl:3: NUL byte at byte 8 of the line"),
        (rb'{"a": "\u0000"}', "a.jsonl:3:8: NUL character"),
        (rb'{"a": "x\ud800y"}', "a.jsonl:3:9: half of a surrogate pair"),
        (rb'{"a": "x\udc00"}', "a.jsonl:3:9: half of a surrogate pair"),
        (rb'{"a": "\ud83d\ud83d\ude00"}', "a.jsonl:3:8: half of a surrogate pair"),
        (b'{"a": NaN}', "a.jsonl:3:7: a: found NaN: expected a finite number (leave the field out "),
        (b'{"a": "NaN", "b": -Infinity}', "a.jsonl:3:19: b: found -Infinity: expected a finite"),
        (b'{"a": "\\"NaN", "b": [{"c": 1}, {"c": NaN}]}', "a.jsonl:3:38: b[1].c: found NaN: "),
        (b'{"a": NaN, oops', "a.jsonl:3:7: found NaN: expected a finite number"),
        (b'{"a":' * 500 + b"NaN" + b"}" * 500, ".a.a: found NaN: expected a finite number"),
        (b'{"a": 1e999}', "a.jsonl:3:7: a: found 1e999: expected a finite number"),
        (
            b'{"a": [1, 2',
            "a.jsonl:3:12: invalid JSON (Expecting ',' delimiter), found the end: expected a JSON object (it is ",
        ),
        (b'{"a": \r\n', "a.jsonl:3:7: invalid JSON (Expecting value), found the end"),
        (b'{"a": "x', "a.jsonl:3:7: invalid JSON (Unterminated string starting at), found the end"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a.jsonl:3: a whole number has too many digits"),
        (b'{"a": 1, "a": 2}', "a.jsonl:3: the field 'a' is given twice"),
        (b"[" * 100_000, "a.jsonl:3: nested too deep: expected at most 64 levels"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "a.jsonl:3: nested too deep"),
        (b'{"a": 1} {"a": 2}', "a.jsonl:3:10: invalid JSON (Extra data)"),
    ],
)
def test_what_is_no_strict_json_is_refused_at_its_place(line, message):
    assert refuse(line).startswith(message) or message in refuse(line)


def test_an_escaped_backslash_before_u_is_only_text():
    assert parse_line(rb'{"a": "\\ud800 \\u0000"}', "") == {"a": r"\ud800 \u0000"}


def test_both_halves_of_a_surrogate_pair_are_a_character():
    assert parse_line(rb'{"a": "\ud83d\ude00"}', "") == {"a": "\U0001f600"}


def test_many_brackets_in_a_text_are_not_depth():
    assert parse_line(json.dumps({"a": "[" * 1000}).encode(), "") == {"a": "[" * 1000}


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-be", "NUL byte")])
def test_wide_encodings_are_refused_by_name(write, encoding, name):
    with pytest.raises(DataError, match=name):
        values(write('{"a": 1}'.encode(encoding)))


def test_a_line_beyond_the_limit_is_refused_before_it_is_read_whole(write):
    with pytest.raises(DataError, match=r"a\.jsonl:2: a line is too long: expected at most 100 bytes"):
        values(write(b"{}\n" + b"x" * 10_000), Limits(line_bytes=100))


def test_a_gzip_bomb_is_refused(write):
    bomb = write(gzip.compress(b"{}\n" * 100_000))
    with pytest.raises(DataError, match="unpacks to more than 100 times its size"):
        values(bomb, Limits(unpacked_bytes=1000))


def test_a_cut_gzip_is_refused(write):
    with pytest.raises(DataError, match="broken gzip"):
        values(write(gzip.compress(b'{"a": "%d"}\n' % 7**999)[:-20]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read \(No such file or directory\)"):
        values(tmp_path / "none.jsonl")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(JSON, st.booleans())
def test_every_json_value_is_read_as_the_standard_reader_reads_it(value, ascii):
    line = json.dumps(value, ensure_ascii=ascii)
    try:
        data = line.encode()
    except UnicodeEncodeError:
        return
    if "\\u0000" in line or any("\ud800" <= c < "\ue000" for c in str(value)):
        return
    assert parse_line(data, "") == json.loads(line)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_parse_or_raise_a_data_error(data):
    try:
        parse_line(data, "a:1")
    except DataError as error:
        assert str(error).startswith("a:1")


def test_written_gzip_has_the_same_bytes_every_time(tmp_path):
    records = [Feedback("p", (Response("\u2028 é"),))]
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    assert write_feedback(first, records) == write_feedback(second, records) == 1
    assert first.read_bytes() == second.read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.jsonl"
    write_feedback(path, [Feedback("p", ())])
    before = path.read_bytes()
    with pytest.raises(DataError, match="cannot be written as JSON"):
        write_feedback(path, [Feedback("p", ()), Feedback("q", (), metadata={"x": float("nan")})])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space: need more have "), (errno.EROFS, "cannot write here")]
)
def test_a_disk_that_refuses_is_named_and_leaves_the_old_file(tmp_path, number, words):
    path = tmp_path / "a.jsonl"
    write_feedback(path, [Feedback("p", ())])
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = Faults(monkeypatch, at=0, refuse=number)
        with pytest.raises(RunError, match=rf"a\.jsonl: {words}") as found:
            write_feedback(path, [Feedback("q", ())])
    assert faults.count and found.value.hint
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
