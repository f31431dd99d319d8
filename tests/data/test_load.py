"""load_feedback: rows become records or are accounted for."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from heedful.data import load_feedback, write_feedback
from heedful.errors import ConfigError, DataError
from heedful.records import (
    RECORD,
    RESPONSE,
    Comparison,
    Feedback,
    Message,
    Response,
    Score,
    Segment,
    from_json,
    strict_pairs,
)

GOOD = {"prompt": "p", "responses": [{"text": "a"}]}
BAD_RANK = {"prompt": "p", "responses": [{"text": "a", "rank": 0}]}


@pytest.fixture
def file(tmp_path):
    """Write lines (rows, or raw text) and return the path."""

    def file(*rows, name="a.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return path

    return file


RECORDS = [
    Feedback(
        (Message("user", "hi\u2028"),),
        (
            Response("a b", rank=1, segments=(Segment("a ", 0.0), Segment("b", -1.0)), flags=("x",)),
            Response("c", rank=2, label="bad", scores=(Score("s", -1.0, count=2.0, length=1),), truncated=True),
        ),
        id="one",
        comparisons=(Comparison(0, 1, 2.0),),
        labeler="l",
        metadata={"k": [1, {"n": None}]},
    ),
    Feedback("", (Response("a document"),), id="two"),
    Feedback("only a prompt", (), id="three", answer="7"),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.ndjson"])
def test_written_records_are_read_back_the_same(tmp_path, name):
    write_feedback(tmp_path / name, RECORDS)
    assert list(load_feedback(tmp_path / name)) == RECORDS


def test_a_file_is_known_by_its_hash_and_shape(file):
    path = file(GOOD)
    loaded = load_feedback(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (loaded.format, loaded.num_rows, loaded.path) == ("native", 1, str(path))


def test_a_record_without_an_id_is_named_after_its_line(file):
    assert [record.id for record in load_feedback(file(GOOD, "", GOOD | {"id": "x"}))] == ["a.jsonl:1", "x"]


def test_the_limit_stops_reading_before_a_later_fault(file):
    assert len(load_feedback(file(GOOD, GOOD, BAD_RANK), limit=2)) == 2


def test_a_wrong_row_stops_with_its_line_and_field(file):
    path = file(GOOD, "", BAD_RANK)
    with pytest.raises(DataError) as caught:
        load_feedback(path)
    assert str(caught.value).startswith(f"{path}:3: responses[0].rank: found 0: expected a whole number from 1 up")


def test_corrupted_json_on_line_3_is_named_with_its_column(file):
    path = file(GOOD, GOOD, '{"prompt": "p", }')
    with pytest.raises(DataError, match=r"a\.jsonl:3:17: invalid JSON"):
        load_feedback(path)


@pytest.mark.parametrize("row", ["[1, 2]", "7", "null", '"text"'])
@pytest.mark.parametrize("first", [[], [GOOD]])
def test_a_row_that_is_no_object_says_what_it_is(file, first, row):
    with pytest.raises(DataError, match=r"a\.jsonl:\d: found .*: expected an object"):
        load_feedback(file(*first, row))


def test_skipped_rows_are_counted_by_reason_and_listed(file):
    rows = [GOOD, BAD_RANK, "{", BAD_RANK, "[]", GOOD]
    loaded = load_feedback(file(*rows), on_bad_row="skip")
    assert (len(loaded), loaded.num_rows, sum(loaded.skipped.values())) == (2, 6, 4)
    assert loaded.skipped["responses[].rank: expected a whole number from 1 up"] == 2
    assert len(loaded.faults) == 4 and "a.jsonl:2" in loaded.faults[0]


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_an_empty_file_is_an_error(file, content):
    with pytest.raises(DataError, match=r"no rows in it: expected at least one record \(a record is {"):
        load_feedback(file(content))


def test_a_file_of_which_nothing_is_left_is_an_error_with_the_reasons(file):
    with pytest.raises(
        DataError, match=r"none of 2 rows can be used \(responses\[\]\.rank: .*: 2\).*without --skip-bad"
    ):
        load_feedback(file(BAD_RANK, BAD_RANK), on_bad_row="skip")


def test_a_json_array_is_read_by_index(file):
    path = file(json.dumps([GOOD, GOOD], indent=1), name="a.json")
    assert [record.id for record in load_feedback(path)] == ["a.json[0]", "a.json[1]"]
    with pytest.raises(DataError, match=r"a\.json\[1\]: responses\[0\]\.rank"):
        load_feedback(file(json.dumps([GOOD, BAD_RANK]), name="a.json"))


def test_a_fault_in_an_array_has_line_and_column(file):
    with pytest.raises(DataError, match=r"b\.json:2:1: invalid JSON"):
        load_feedback(file("[{},", "oops]", name="b.json"))
    with pytest.raises(DataError, match=r"b\.json:2:12: \[1\]\.score: found NaN"):
        load_feedback(file("[{},", ' {"score": NaN}]', name="b.json"))


def test_json_lines_named_json_are_read_as_lines(file):
    assert len(load_feedback(file(GOOD, GOOD, name="a.json"))) == 2


def test_a_missing_file_gets_a_suggestion(file):
    path = file(GOOD, name="pairs.jsonl")
    with pytest.raises(DataError, match=r"no such file.*did you mean .*pairs\.jsonl\?"):
        load_feedback(path.with_name("pair.jsonl"))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        load_feedback(tmp_path)


def test_names_with_spaces_and_any_script_work(tmp_path):
    path = tmp_path / "rück meldung 反馈.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert load_feedback(str(path))[0].id == "rück meldung 反馈.jsonl.gz:1"


def test_options_that_make_no_sense_are_refused(file):
    path = file(GOOD)
    for options in ({"limit": 0}, {"split": "train"}, {"on_bad_row": "ignore"}, {"map": ["prompt"]}):
        with pytest.raises(ConfigError):
            load_feedback(path, **options)


def test_the_record_in_the_docs_is_one():
    page = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text()
    example = "\n".join(line for line in page.split("## ")[1].splitlines() if line[:4] == "    ")
    assert strict_pairs(from_json(json.loads(example.strip()))) == [(0, 1)]
    assert all(f"`{name}`" in page or f".{name}`" in page for name in (*RECORD, *RESPONSE) if name != "responses")


def test_a_loaded_file_is_a_sequence(file):
    loaded = load_feedback(file(GOOD, GOOD))
    assert len(loaded) == 2 and loaded[0] == next(iter(loaded)) and len(loaded[:1]) == 1
