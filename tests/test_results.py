"""results.json: what is written is what is read, and what is wrong is refused by name."""

import json

import pytest

from heedful.errors import RunError
from heedful.results import Ledger, Metric, Results, Row, load, row_name, write


def results(**fields):
    return Results(**({"task": "pep8", "base": "b", "seeds": [0]} | fields))


def test_what_is_written_is_read_back(tmp_path):
    metric = Metric(value=-0.2, low=-0.3, high=-0.1, n=40, direction="higher")
    row = Row(
        method="ppo", variant="ptx", tier=2, metrics={"gold": metric}, ledger=Ledger(scorer_calls={"pep8_lines": 4})
    )
    found = results(rows=[row], budget={"tokens": 600_000})
    write(tmp_path, found)
    assert load(tmp_path) == found


def test_the_file_has_the_documented_keys(tmp_path):
    write(tmp_path, results(rows=[Row(method="sft", tier=1)]))
    read = json.loads((tmp_path / "results.json").read_text())
    assert list(read) == ["schema", "task", "base", "budget", "seeds", "rows", "pairs", "summary"]
    assert list(read["rows"][0]) == [
        "method",
        "variant",
        "tier",
        "seed",
        "status",
        "error",
        "run",
        "metrics",
        "ledger",
        "per_prompt",
    ]


def test_files_of_a_row_are_named_by_method_variant_and_seed():
    assert (row_name("ppo", "ptx", 1), row_name("sft", "", 0)) == ("ppo-ptx-s1", "sft-s0")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "sft", "status": "failed"}, "rows.0: a row that is failed says why"),
        (
            {"method": "sft", "run": "/etc/passwd"},
            'rows.0.run: found the text "/etc/passwd": expected a path below the folder',
        ),
        ({"method": "sft", "per_prompt": "../../secret"}, "expected a path below the folder"),
        ({"method": "sft", "tier": 4}, "rows.0.tier: found 4: expected one of 1, 2, 3 or null"),
        ({"method": "sft", "metrcs": {}}, "unknown field 'rows.0.metrcs': expected one of method, "),
        (
            {"method": "sft", "metrics": {"gold": {"value": "NaN"}}},
            'rows.0.metrics.gold.value: found the text "NaN": expected a finite number',
        ),
        ({}, "rows.0.method: missing: expected text (written by another version?)"),
        (3, "rows.0: found 3: expected a group of settings"),
    ],
)
def test_a_wrong_row_is_refused_with_its_field(tmp_path, fields, message):
    plain = results().model_dump(by_alias=True) | {"rows": [fields]}
    (tmp_path / "results.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match=r"results\.json") as caught:
        load(tmp_path)
    assert message in str(caught.value)


def test_one_row_twice_is_refused(tmp_path):
    plain = results().model_dump(by_alias=True) | {"rows": [{"method": "sft"}, {"method": "sft"}]}
    (tmp_path / "results.json").write_text(json.dumps(plain))
    with pytest.raises(RunError, match="two rows for sft-s0"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "found a list of 1: expected an object"),
        ('{"schema": 2, "task": "t", "base": "b"}', "schema: found 2: expected 1 "),
        ('{"task": "t", "base": "b", "rows": 3}', "rows: found 3: expected a list"),
        (
            '{"task": "t", "base": "b", "summary": [{"method": "m", "metric": "g", "mean": 0, "n": 1, "over": "seeds",'
            ' "difference_to_base": {"mean": "much"}}]}',
            r'summary\.0\.difference_to_base\.mean: found the text "much": expected a number',
        ),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(RunError, match=rf"results\.json: {message}"):
        load(tmp_path)


def test_a_missing_file_is_an_error_with_its_path(tmp_path):
    with pytest.raises(RunError, match=r"results\.json"):
        load(tmp_path)


def test_a_broken_number_never_reaches_the_file(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        Metric(value=float("nan"))


def test_prerequisites_are_added_and_shown_apart():
    own = Ledger(labels=100, train_tokens=10, seconds=2.0, peak_memory_bytes=5, scorer_calls={"a": 1})
    reward = Ledger(labels=100, train_tokens=30, seconds=1.0, peak_memory_bytes=9, scorer_calls={"a": 2, "b": 3})
    both = own.including({"reward_model": reward})
    assert (both.train_tokens, both.seconds, both.peak_memory_bytes) == (40, 3.0, 9)
    assert both.labels == 100  # the same labels
    assert both.scorer_calls == {"a": 3, "b": 3}
    assert both.prerequisites == {"reward_model": reward}


def test_the_primary_metric_is_the_first_known_one():
    metrics = {name: Metric(value=1, direction="higher") for name in ("length", "pref_accuracy", "gold")}
    assert results(rows=[Row(method="sft", metrics=metrics)]).primary == "gold"
    mine = {"length": Metric(value=1), "my_metric": Metric(value=1, direction="lower")}
    assert results(rows=[Row(method="sft", metrics=mine)]).primary == "my_metric"
    assert results().primary is None


def test_methods_are_not_ranked_by_what_has_no_better():
    metrics = {"length": Metric(value=1), "pref_accuracy": Metric(value=1)}
    assert results(rows=[Row(method="sft", metrics=metrics)]).primary is None
