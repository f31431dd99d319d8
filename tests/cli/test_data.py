"""`heedful data`: what is in a file, and its parts."""

import errno
import json
from pathlib import Path

import pytest
from small_feedback import record

from heedful.data import lines


def test_inspect_names_what_each_method_lacks(heedful):
    file = heedful.write("f.jsonl", {"prompt": "p", "responses": [{"text": "a", "demonstration": True}]})
    found = heedful("data", "inspect", file, "--json").json
    assert found["records"] == 1
    assert found["methods"]["sft"] is None
    assert "no response has a `score`" in found["methods"]["rwr"]
    assert found["agreement"]["contradictions"] == 0 and found["agreement"]["labelers"] == "no labeler ids"


def test_inspect_shows_the_tokens_and_the_mask_of_the_model_that_is_named(heedful, model):
    file = heedful.write("f.jsonl", {"prompt": "ab", "responses": [{"text": "cd"}]})
    found = heedful("data", "inspect", file, "-m", model, "--json").json["example"]
    assert found["tokens"] == ["<s>", "a", "b", "c", "d", "</s>"]
    assert found["mask"] == [0, 0, 0, 1, 1, 1]


def test_inspect_shows_the_same_to_people(heedful, model):
    file = heedful.write("f.jsonl", {"prompt": "ab", "responses": [{"text": "cd"}]})
    found = heedful("data", "inspect", file, "-m", model).out
    assert "1 record from 1 row," in found
    assert "[c][d]" in found
    assert "  not filtering, conditional, unlikelihood, rwr, awr: no " in found
    assert "no labeler ids" in found


def test_inspect_needs_no_model_of_the_users(heedful):
    file = heedful.write("f.jsonl", record(0))
    assert heedful("data", "inspect", file, "--json").json["example"]["mask"][-1] == 1


def test_inspect_shows_the_embedded_corpus_by_the_name_of_its_task(heedful):
    found = heedful("data", "inspect", "pep8", "--limit", 3, "--json").json
    assert found["records"] == found["kinds"]["segments"] == 3
    assert found["methods"]["conditional"] is None


def test_wrong_rows_are_counted_where_they_may_be_skipped(heedful):
    file = heedful.write("f.jsonl", record(0), '{"prompt": ', record(2))
    assert "f.jsonl:2" in heedful("data", "inspect", file, code=2).err
    found = heedful("data", "inspect", file, "--skip-bad", "--json").json["file"]
    assert sum(found["skipped"].values()) == 1
    assert "f.jsonl:2" in found["faults"][0]


@pytest.mark.parametrize("by", ["prompt", "user", "labeler"])
def test_the_parts_of_a_split_share_nothing(heedful, by):
    rows = [record(n, user=f"u{n % 20}", labeler=f"l{n % 20}") | {"prompt": f"prompt {n % 40}"} for n in range(80)]
    file = heedful.write("f.jsonl", *rows)
    found = heedful("data", "split", file, "--by", by, "-o", "parts", "--json").json
    parts = {name: read(path) for name, path in found["files"].items()}
    assert list(parts) == ["train", "validation", "test"]
    keys = [{row[by] for row in rows} for rows in parts.values()]
    assert sum(map(len, keys)) == len(set().union(*keys))
    assert sum(map(len, parts.values())) == 80


def read(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_the_shares_and_names_of_the_parts_are_the_users(heedful):
    file = heedful.write("f.jsonl", *map(record, range(20)))
    heedful("data", "split", file, "--shares", "a=0.5,b=0.5", "-o", "parts")
    assert sorted(path.name for path in (heedful.folder / "parts").iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("shares", "words"),
    [("a=0.5,b=0.2", "sum to 1"), ("a:1", "parts such as"), ("../a=1", "cannot be part of a path")],
)
def test_shares_that_make_no_sense_are_refused(heedful, shares, words):
    file = heedful.write("f.jsonl", record(0))
    assert words in heedful("data", "split", file, "--shares", shares, "-o", "parts", code=2).err
    assert not (heedful.folder / "parts").exists()


def test_a_split_overwrites_nothing(heedful):
    file = heedful.write("f.jsonl", record(0))
    heedful("data", "split", file, "-o", "parts")
    assert "there already" in heedful("data", "split", file, "-o", "parts", code=2).err


@pytest.mark.parametrize("is_there", [False, True])
def test_a_full_disk_leaves_nothing_of_a_split(heedful, monkeypatch, is_there):
    def full(path, records, *, packed):
        if path.name.startswith(".test"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, records, packed=packed)

    real = lines._write_lines
    monkeypatch.setattr(lines, "_write_lines", full)
    file = heedful.write("f.jsonl", *map(record, range(20)))
    if is_there:
        (heedful.folder / "parts").mkdir()
    assert "no space" in heedful("data", "split", file, "-o", "parts", code=2).err
    assert sorted(path.name for path in heedful.folder.rglob("*")) == ["f.jsonl", *["parts"] * is_there]


def test_a_record_without_a_user_cannot_be_split_by_user(heedful):
    file = heedful.write("f.jsonl", record(0))
    wrong = heedful("data", "split", file, "--by", "usr", "-o", "parts", code=2).err
    assert wrong == "error: --by: unknown value 'usr': expected one of prompt, user, labeler (did you mean 'user'?)\n"
    assert "no `user` to split by" in heedful("data", "split", file, "--by", "user", "-o", "parts", code=2).err
    assert not (heedful.folder / "parts").exists()
