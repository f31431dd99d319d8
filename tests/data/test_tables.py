"""CSV, Parquet and the Hub: typed or not, every row passes the same validation."""

import sys
import types

import pytest

from heedful.data import load_feedback
from heedful.data.tables import literal
from heedful.errors import DataError


def test_csv_cells_are_text_and_lines_are_physical(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfprompt,completion\r\n"two\r\nlines",None\r\n2+2=,007\r\n')
    file = load_feedback(path)
    assert [(record.prompt, record.responses[0].text) for record in file] == [("two\r\nlines", "None"), ("2+2=", "007")]
    assert [record.id for record in file] == ["a.csv:2", "a.csv:4"]


def test_csv_truth_values_and_numbers_are_read_in_their_columns(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("prompt\tcompletion\tlabel\np\tc\tTrue\np\tc\tfalse\n")
    assert [record.responses[0].label for record in load_feedback(path)] == ["good", "bad"]


def test_mapped_csv_numbers_are_read_where_a_number_belongs(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("q,a,rating\np,12,4.5\n")
    (record,) = load_feedback(path, map=["prompt=q", "responses[0].text=a", "responses[0].score=rating"])
    assert (record.responses[0].text, record.responses[0].score) == ("12", 4.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt,completion\np\n", r"a\.csv:2: found 1 cells: expected 2, as in the header"),
        (b'prompt,completion\np,"c\n', r"a\.csv:2: broken CSV \(unexpected end of data\)"),
        (b"prompt,completion\np,\xff\n", r"a\.csv:2: byte 0xff at byte 3 of the line is not UTF-8"),
        (b"prompt,completion\n", "no rows in it"),
        (b"", "no rows in it"),
        (b"prompt,completion\np,\n", r"a\.csv:2: `completion`: found null: expected text"),
    ],
)
def test_broken_csv_is_an_error_with_its_line(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_feedback(path)


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_column_that_is_there_twice_is_refused_with_its_line(tmp_path, name, delimiter):
    path = tmp_path / name
    path.write_text(delimiter.join(["prompt", "completion", "completion"]) + "\n" + delimiter.join("pab") + "\n")
    message = rf"{name}:1: the column 'completion' is there 2 times: expected each column once \(rename all but one\)"
    with pytest.raises(DataError, match=message):
        load_feedback(path, on_bad_row="skip")


def test_a_csv_row_of_wrong_width_can_be_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\np\np,c\n")
    file = load_feedback(path, on_bad_row="skip")
    assert len(file) == 1 and file.num_rows == 2


@pytest.mark.parametrize(
    ("cell", "value"), [("", None), (None, None), ("TRUE", True), ("7", 7), ("-1.5", -1.5), ("seven", "seven")]
)
def test_a_literal_is_what_it_spells(cell, value):
    assert literal(cell) == value and type(literal(cell)) is type(value)


@pytest.fixture
def parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra brings pyarrow: pip install 'heedful[data]'")
    import pyarrow.parquet as files

    def parquet(rows):
        path = tmp_path / "a.parquet"
        files.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    return parquet


def test_parquet_rows_are_validated_like_any_other(parquet):
    rows = [{"prompt": "p", "responses": [{"text": "a", "rank": 1}, {"text": "b", "rank": 2}]}] * 2
    assert [response.rank for response in load_feedback(parquet(rows))[1].responses] == [1, 2]
    rows[1] = {"prompt": "p", "responses": [{"text": "a", "rank": 0}]}
    with pytest.raises(DataError, match=r"a\.parquet row 2: responses\[0\]\.rank: found 0"):
        load_feedback(parquet(rows))


def test_nan_in_parquet_is_refused_as_a_score_and_absent_as_metadata(parquet):
    rows = [{"prompt": "p", "completion": "c", "note": float("nan")}]
    assert load_feedback(parquet(rows))[0].metadata == {}
    with pytest.raises(DataError, match="found nan: expected a finite number"):
        load_feedback(parquet([{"prompt": "p", "responses": [{"text": "a", "score": float("nan")}]}]))


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra brings pyarrow: pip install 'heedful[data]'")
    import pyarrow.parquet as files

    path = tmp_path / "a.parquet"
    names = ["prompt", "completion", "completion"]
    files.write_table(pyarrow.table([["p"], ["a"], ["b"]], names=names), path)
    with pytest.raises(DataError, match=r"a\.parquet: the column 'completion' is there 2 times"):
        load_feedback(path)


def test_broken_parquet_is_a_data_error(tmp_path):
    pytest.importorskip("pyarrow", reason="the `data` extra brings pyarrow: pip install 'heedful[data]'")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match=r"a\.parquet: broken Parquet"):
        load_feedback(path)


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for `datasets` that remembers what it was asked."""
    asked = {}

    def load_dataset(name, configuration, *, split, streaming):
        asked.update(name=name, configuration=configuration, split=split, streaming=streaming)
        if split == "none":
            raise ValueError('Unknown split "none".\nShould be one of train.')
        return [{"prompt": "p", "completion": "c"}] * 3

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_hub_name_is_loaded_by_datasets(hub):
    file = load_feedback("owner/set:main", limit=2)
    assert hub == {"name": "owner/set", "configuration": "main", "split": "train", "streaming": True}
    assert len(file) == 2 and file[0].id == "set:main row 1" and file.sha256 == ""


def test_a_hub_error_is_one_sentence_with_a_way_out(hub):
    with pytest.raises(DataError, match=r'owner/set: cannot be loaded from the Hub \(Unknown split "none"\.\)'):
        load_feedback("owner/set", split="none")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'heedful\[data\]'"):
        load_feedback("owner/set")


def test_a_missing_file_in_a_folder_is_no_hub_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/pairs.jsonl", "data/pairs.csv", "./x", "a/b/c"):
        with pytest.raises(DataError, match="no such file"):
            load_feedback(name)


def test_reading_json_lines_imports_no_heavy_library(tmp_path):
    import subprocess

    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "p", "completion": "c"}\n')
    code = (
        "import sys; from heedful.data import load_feedback; load_feedback(sys.argv[1]);"
        "print([name for name in ('torch', 'transformers', 'datasets', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
