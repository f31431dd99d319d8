"""From rows and their values per prompt to what a comparison claims."""

import json

import pytest

from heedful.evals.summary import compare_pairs, measure, summarize
from heedful.results import Metric, Results, Row


def write_row(folder, method, values, *, seed=0, direction="higher", groups=None, **fields):
    """A row whose metric `gold` has these values per prompt, in a file."""
    name = f"{method}-s{seed}.jsonl"
    lines = [{"id": f"p{i}", "seed": seed, "gold": value} for i, value in enumerate(values)]
    lines = [line | ({"group": groups[i]} if groups else {}) for i, line in enumerate(lines)]
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    gold = measure({f"p{i}": value for i, value in enumerate(values) if value is not None}, direction=direction)
    return Row(method=method, tier=fields.pop("tier", 1), seed=seed, metrics={"gold": gold}, per_prompt=name, **fields)


def compare(*rows):
    return Results(task="t", base="b", seeds=sorted({row.seed for row in rows}), rows=list(rows))


def of(results, method, metric="gold"):
    return next(one for one in results.summary if (one.method, one.metric) == (method, metric))


def test_the_difference_to_the_base_is_paired_by_prompt(tmp_path):
    base = write_row(tmp_path, "base", [-0.9, -0.5, -0.1], tier=None)
    sft = write_row(tmp_path, "sft", [-0.7, -0.3, 0.1])
    found, problems = summarize(compare(base, sft), tmp_path)
    difference = of(found, "sft").difference_to_base
    assert not problems
    assert (difference.mean, difference.low, difference.high) == pytest.approx((0.2, 0.2, 0.2))
    assert of(found, "base").difference_to_base is None
    assert (of(found, "sft").n, of(found, "sft").over) == (3, "prompts")


def test_prompts_of_one_group_are_drawn_together(tmp_path):
    def interval(groups):
        base = write_row(tmp_path, "base", [0.0] * 8, tier=None, groups=groups)
        sft = write_row(tmp_path, "sft", [1.0] * 4 + [0.0] * 4, groups=groups)
        found = of(summarize(compare(base, sft), tmp_path)[0], "sft")
        assert (found.mean, found.n) == (0.5, 8)
        return found.low, found.high, found.difference_to_base.low

    assert interval(None)[0] > 0  # eight prompts
    assert interval("aaaabbbb") == (0.0, 1.0, 0.0)  # two files, one all good and one all bad


def test_several_seeds_are_compared_with_the_base_measured_once(tmp_path):
    base = write_row(tmp_path, "base", [0.0, 1.0], tier=None)
    seeds = [write_row(tmp_path, "sft", [0.5 + seed, 1.5 + seed], seed=seed) for seed in (0, 1)]
    found, _ = summarize(compare(base, *seeds), tmp_path)
    summary = of(found, "sft")
    assert (summary.n, summary.over) == (2, "seeds")
    assert summary.difference_to_base.mean == pytest.approx(1.0)  # 0.5 and 1.5


def test_a_rate_keeps_its_ratio_of_sums(tmp_path):
    base = write_row(tmp_path, "base", [[10, 10], [1, 2]], tier=None, direction="lower")
    sft = write_row(tmp_path, "sft", [[5, 10], [1, 2]], direction="lower")
    found, _ = summarize(compare(base, sft), tmp_path)
    assert of(found, "base").mean == pytest.approx(11 / 12)
    assert of(found, "sft").difference_to_base.mean == pytest.approx(6 / 12 - 11 / 12)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_prompt_where_a_metric_does_not_exist_weighs_nothing(tmp_path, seeds):
    base = write_row(tmp_path, "base", [1.0, 2.0, 3.0], tier=None)
    rows = [write_row(tmp_path, "sft", [1.5, None, 3.5], seed=seed) for seed in seeds]
    found, problems = summarize(compare(base, *rows), tmp_path)
    assert not problems
    assert of(found, "sft").mean == pytest.approx(2.5)
    assert of(found, "sft").difference_to_base.mean == pytest.approx(0.5)


def test_p_values_are_corrected_for_the_number_of_methods(tmp_path):
    base = write_row(tmp_path, "base", [0.0] * 20, tier=None)
    rows = [write_row(tmp_path, f"m{i}", [0.1] * 20) for i in range(5)]
    found, _ = summarize(compare(base, *rows), tmp_path)
    assert of(found, "m0").difference_to_base.p == pytest.approx(5 * 2 / 2001)


def test_a_metric_without_values_per_prompt_is_over_seeds():
    def row(method, seed, value):
        return Row(method=method, tier=1, seed=seed, metrics={"kl_to_base": Metric(value=value, n=9)})

    found, _ = summarize(compare(row("sft", 0, 0.2), row("sft", 1, 0.4)), ".")
    assert of(found, "sft", "kl_to_base").mean == pytest.approx(0.3)
    assert (of(found, "sft", "kl_to_base").n, of(found, "sft", "kl_to_base").over) == (2, "seeds")


def test_one_seed_without_values_per_prompt_keeps_the_interval_of_its_row():
    metric = Metric(value=0.2, low=0.1, high=0.3, n=9)
    found, _ = summarize(compare(Row(method="sft", tier=1, metrics={"kl_to_base": metric})), ".")
    summary = of(found, "sft", "kl_to_base")
    assert (summary.mean, summary.low, summary.high, summary.n) == (0.2, 0.1, 0.3, 9)


def test_failed_rows_are_left_out_and_the_rest_stands(tmp_path):
    base = write_row(tmp_path, "base", [0.0, 1.0], tier=None)
    failed = Row(method="ppo", tier=2, status="failed", error="kl is not finite")
    found, problems = summarize(compare(base, failed), tmp_path)
    assert [one.method for one in found.summary] == ["base"]
    assert not problems


def test_a_missing_file_is_a_problem_and_not_the_end(tmp_path):
    base = write_row(tmp_path, "base", [0.0, 1.0], tier=None)
    sft = write_row(tmp_path, "sft", [0.5, 1.5])
    (tmp_path / "sft-s0.jsonl").unlink()
    found, problems = summarize(compare(base, sft), tmp_path)
    assert "sft-s0.jsonl: missing or empty" in problems[0]
    assert of(found, "sft").mean == pytest.approx(1.0)
    assert of(found, "sft").difference_to_base.low is None  # nothing left to pair by prompt


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['{"id": "p0", "gold": 0.5}', '{"id": "p0", "gold": 1.5}'], "'p0' is there twice"),
        (['{"gold": 1.0}'], "a line has no id"),
        (['{"id": "p0", "gold": 7.0}', '{"id": "p1", "gold": 9.0}'], "average 8, the row says 1"),
        (['{"id": "p0", "gold": "NaN"}', '{"id": "p1", "gold": 1.0}'], "'NaN'"),
        (["{broken", '{"id": "p1", "gold": 1.0}'], "damaged"),
    ],
)
def test_values_that_cannot_be_the_rows_are_not_used(tmp_path, lines, problem):
    sft = write_row(tmp_path, "sft", [0.5, 1.5])
    (tmp_path / "sft-s0.jsonl").write_text("\n".join(lines) + "\n")
    found, problems = summarize(compare(sft), tmp_path)
    assert problem in problems[0]
    assert of(found, "sft").mean == pytest.approx(1.0)


def test_other_prompts_than_the_base_are_a_problem(tmp_path):
    base = write_row(tmp_path, "base", [0.0, 1.0, 2.0], tier=None)
    sft = write_row(tmp_path, "sft", [0.5, 1.5])
    found, problems = summarize(compare(base, sft), tmp_path)
    assert "sft against base, gold" in problems[0] and "p2" in problems[0]
    assert of(found, "sft").difference_to_base is None


def test_every_two_methods_are_judged_prompt_by_prompt(tmp_path):
    rows = [
        write_row(tmp_path, name, values) for name, values in [("a", [1, 1, 1]), ("b", [0, 1, 2]), ("c", [0, 0, 0])]
    ]
    found, problems = compare_pairs(compare(*rows), tmp_path, "gold")
    shares = {(pair.a, pair.b): (pair.win, pair.tie, pair.loss) for pair in found.pairs}
    assert not problems
    assert shares["a", "b"] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert shares["a", "c"] == (1.0, 0.0, 0.0)


def test_lower_wins_where_lower_is_better(tmp_path):
    rows = [
        write_row(tmp_path, "a", [1.0, 1.0], direction="lower"),
        write_row(tmp_path, "b", [2.0, 2.0], direction="lower"),
    ]
    found, _ = compare_pairs(compare(*rows), tmp_path, "gold")
    assert found.pairs[0].win == 1.0
