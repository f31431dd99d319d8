"""--map: any columns become a record's fields."""

import json

import pytest

from heedful.data import load_feedback
from heedful.data.mapping import apply_map, parse_map
from heedful.errors import ConfigError, DataError


def mapped(row, *rules, **options):
    """The native row that the rules make, its metadata left out."""
    native = apply_map(parse_map(rules), row, **options)
    return {name: value for name, value in native.items() if name != "metadata"}


def test_columns_and_paths_become_fields():
    row = {"q": "p", "model": {"answers": [{"body": "a"}, {"body": "b"}]}, "best": 1}
    assert mapped(row, "prompt=q", "responses[0].text=model.answers[1].body", "responses[0].rank=best") == {
        "prompt": "p",
        "responses": [{"text": "b", "rank": 1}],
    }


def test_lists_fill_one_response_each():
    row = {"q": "p", "outs": [{"o": "a", "s": 1}, {"o": "b", "s": 2}], "tags": ["x", "y"]}
    native = mapped(
        row, "prompt=q", "responses[].text=outs[].o", "responses[].score=outs[].s", "responses[].author=tags"
    )
    assert native["responses"] == [
        {"text": "a", "score": 1, "author": "x"},
        {"text": "b", "score": 2, "author": "y"},
    ]


def test_constants_are_json():
    assert mapped({"q": "p"}, "prompt=q", 'labeler:="me"', "seconds:=3") == {
        "prompt": "p",
        "labeler": "me",
        "seconds": 3,
    }


def test_a_column_name_may_hold_spaces():
    assert mapped({"my question": "p"}, "prompt=my question") == {"prompt": "p"}


def test_a_mapping_says_the_same_as_texts():
    assert parse_map({"prompt": "q", "seconds:": "3"}) == parse_map(["prompt=q", "seconds:=3"])


def test_truth_values_are_good_and_bad():
    row = {"q": "p", "a": "x", "ok": [True]}
    assert mapped(row, "prompt=q", "responses[0].text=a", "responses[].label=ok")["responses"][0]["label"] == "good"


def test_a_lone_response_that_nobody_judged_is_a_demonstration():
    rules = ("prompt=q", "responses[0].text=a")
    assert mapped({"q": "p", "a": "x"}, *rules)["responses"] == [{"text": "x", "demonstration": True}]
    judged = mapped({"q": "p", "a": "x", "s": 2}, *rules, "responses[0].score=s")
    assert "demonstration" not in judged["responses"][0]


def test_null_leaves_a_field_out():
    assert mapped({"q": "p", "l": None}, "prompt=q", "labeler=l") == {"prompt": "p"}


def test_what_no_rule_reads_is_metadata():
    assert apply_map(parse_map(["prompt=q"]), {"q": "p", "x": 1})["metadata"] == {"x": 1}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("prompt", "cannot read 'prompt': expected field=column"),
        ("prompt=", "cannot read 'prompt='"),
        ("promt=q", "did you mean `prompt`?"),
        ("responses[0].txt=q", "did you mean `text`?"),
        ("responses[].segments[].text=q", "cannot write there: expected one []"),
        ("responses[99999999].text=q", "cannot write there"),
        ("prompt=q..a", "cannot read the path 'q..a'"),
        ("prompt=q[x]", "cannot read the path 'q[x]'"),
        ("[0]=q", "cannot read the path '[0]'"),
        ("seconds:=three", "'three' is no JSON"),
    ],
)
def test_a_rule_that_cannot_be_read_is_named(rule, message):
    with pytest.raises(ConfigError) as caught:
        parse_map([rule])
    assert message in str(caught.value) and "--map" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x", "`x`: missing: expected one of q, list"),
        ("q.a", "`q.a`: missing: expected an object"),
        ("list[5]", "`list[5]`: missing: expected a list of 6 or more"),
        ("q[]", "`q`: is no list"),
    ],
)
def test_a_row_without_what_a_rule_reads_says_what_it_has(source, message):
    with pytest.raises(DataError) as caught:
        mapped({"q": "p", "list": [1]}, f"prompt={source}")
    assert message in str(caught.value)


def test_mapped_rows_pass_the_same_validation(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "p", "a": "x", "s": "7"}))
    with pytest.raises(DataError, match=r'a\.jsonl:1: responses\[0\]\.score: found the text "7"'):
        load_feedback(path, map=["prompt=q", "responses[0].text=a", "responses[0].score=s"])


def test_a_mapped_file_says_so(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"frage": "p", "antwort": "x"}))
    file = load_feedback(path, map={"prompt": "frage", "responses[0].text": "antwort"})
    assert file.format == "map" and file[0].responses[0].demonstration
