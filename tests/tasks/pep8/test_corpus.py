import ast
import json
import sysconfig
from pathlib import Path

import pytest

from heedful.errors import RunError
from heedful.scorers.reading import read
from heedful.tasks.pep8.corpus import SPLITS, build, find_sources, group_of, read_split, split_of, top_level_modules

BODY = "".join(f"def f{i}(a, b=1):\n    '''Doc.'''\n    x = a + b\n    return [x, {{'k{i}': b}}]\n\n" for i in range(8))
FILES = {
    **{f"module{c}.py": f"import os\n{BODY}name = '{c}'\n" for c in "abcdefghijklmnop"},
    **{f"test/test_module{c}.py": f"import module{c}\n{BODY}other = '{c}'\n" for c in "abcdefghijklmnop"},
    "json/decoder.py": BODY + "here = 1\n",
    "copy_of_a.py": f"import os\n{BODY}name = 'a'  # a comment\n",
    "python2.py": "print 'hello'\n",
    "small.py": "x = 1\n",
    "table.py": "TABLE = {\n"
    + "".join(f"    {i}: 'some long value {i}',\n" for i in range(50))
    + "}\n"
    + "x = 1\n" * 12,
    "faulty.py": BODY + "def g():\n    l = 1\n",
    "encodings/cp1.py": BODY,
    "site-packages/other.py": BODY,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("library")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def corpus(library, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    build(out, root=library, workers=1)
    return out


def rows_of(corpus):
    return [(split, row) for split in SPLITS for row in read_split(corpus, split)]


def test_styled_text_has_the_tree_of_clean_text_which_has_no_findings(corpus):
    rows = [row for _, row in rows_of(corpus)]
    assert len(rows) == 34  # 2 * 16, json, faulty
    for row in rows:
        assert ast.dump(ast.parse(row["text"])) == ast.dump(ast.parse(row["clean_text"]))
        assert read("", row["clean_text"]).findings == ()
        assert row["clean"] == (row["text"] == row["clean_text"]) == (not row["author"])
        assert "Doc." not in row["text"] and "#" not in row["text"]


def test_what_is_left_out_is_counted(corpus):
    manifest = json.loads((corpus / "manifest.json").read_text())
    expected = {
        "does not parse": 1,
        "short": 1,
        "mostly literals": 1,
        "copy or short": 1,
        "formatting changed the tree": 0,
        "findings stay": 0,
        "restyling changed the tree": 0,
    }
    dropped = {key.removeprefix("dropped: "): n for key, n in manifest["counts"].items() if key.startswith("dropped")}
    assert {key: dropped.get(key, 0) for key in expected} == expected and sum(dropped.values()) == 4
    assert manifest["counts"]["removed: E741"] == 1
    assert manifest["all"]["files"] == sum(split["files"] for split in manifest["splits"].values()) == 34


def test_the_same_seed_gives_the_same_bytes(library, corpus, tmp_path):
    build(tmp_path, root=library, workers=2)
    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl.gz").read_bytes() == (corpus / f"{split}.jsonl.gz").read_bytes()


def test_another_seed_gives_other_authors_and_the_same_splits(library, corpus, tmp_path):
    build(tmp_path, root=library, workers=1, seed=1)
    one, other = ({row["id"]: (split, row) for split, row in rows_of(folder)} for folder in (corpus, tmp_path))
    assert {path: split for path, (split, _) in one.items()} == {path: split for path, (split, _) in other.items()}
    assert any(row["author"] != other[path][1]["author"] for path, (_, row) in one.items())


def test_splits_share_no_group(corpus):
    splits_by_group = {}
    for split, row in rows_of(corpus):
        splits_by_group.setdefault(row["group"], set()).add(split)
    assert all(len(splits) == 1 for splits in splits_by_group.values())
    assert len(splits_by_group) == 19  # modules a to p, json, faulty, and the copy of a, whose path comes first


def test_lines_are_logical_and_counted_with_their_findings(corpus):
    _, row = next(item for item in rows_of(corpus) if item[1]["clean"])
    assert row["lines"] == 8 * 3 + 2 and row["faulty_lines"] == 0
    assert any(row["faulty_lines"] for _, row in rows_of(corpus))


def test_an_empty_library_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no Python files"):
        build(tmp_path / "out", root=tmp_path)


LIBRARY = (
    "json/a.py", "urllib/b.py", "decimal.py", "_pydecimal.py", "_strptime.py", "multiprocessing/c.py", "pickle.py",
    "string.py", "unittest/d.py", "doctest.py", "asyncio/e.py", "os.py",
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("json/decoder.py", "json"),
        ("test/test_json/test_float.py", "json"),
        ("test/test_urllib2_localnet.py", "urllib"),
        ("_pydecimal.py", "decimal"),
        ("_strptime.py", "strptime"),
        ("test/test_strptime.py", "strptime"),
        ("test/_test_multiprocessing.py", "multiprocessing"),
        ("test/pickletester.py", "pickle"),
        ("test/string_tests.py", "string"),
        ("unittest/test/test_case.py", "unittest"),
        ("test/test_unittest/test_case.py", "unittest"),
        ("doctest.py", "doctest"),
        ("test/test_doctest2.py", "doctest"),
        ("test/test_named_expressions.py", "named"),
        ("test/test_asyncio/utils.py", "asyncio"),
        ("test/support/os_helper.py", "support"),
    ],
)
def test_a_test_belongs_to_what_it_tests(path, group):
    modules = top_level_modules(LIBRARY)
    assert group_of(path, modules) == group


def test_the_split_of_a_group_never_changes():
    """The committed bases and slices rest on these."""
    assert {group: split_of(group) for group in KNOWN_SPLITS} == KNOWN_SPLITS


KNOWN_SPLITS = {
    "asyncio": "base",
    "json": "base",
    "re": "feedback",
    "codecs": "reward",
    "bisect": "selection",
    "ast": "test",
}


def test_this_library_is_found_without_tables_and_packages():
    paths = find_sources(Path(sysconfig.get_path("stdlib")))
    assert "json/decoder.py" in paths
    assert not [path for path in paths if path.startswith(("site-packages/", "encodings/", "lib2to3/"))]
