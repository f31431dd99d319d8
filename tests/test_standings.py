"""Order, tiers and verdict of a comparison."""

import pytest

from heedful.results import Difference, Ledger, Metric, Pair, Results, Row, Summary
from heedful.standings import headline, standings, verdicts


def row(method, score=0.0, *, tier=1, status="done", direction="higher", **fields):
    metrics = {"gold": Metric(value=score, n=50, direction=direction)} if status in ("done", "degenerate") else {}
    error = None if status == "done" else "the reason"
    ledger = Ledger(train_tokens=1000, seconds=9.0)
    return Row(method=method, tier=tier, status=status, error=error, metrics=metrics, ledger=ledger, **fields)


def summary(method, score, gain=None, low=None, high=None, p=None):
    difference = None if gain is None else Difference(mean=gain, low=low, high=high, p=p)
    return Summary(method=method, metric="gold", mean=score, n=50, over="prompts", difference_to_base=difference)


def compare(rows, summaries=(), pairs=()):
    return Results(task="pep8", base="b", seeds=[0], rows=rows, summary=list(summaries), pairs=list(pairs))


BASE = (row("base", -0.3, tier=None), summary("base", -0.3))


def two(gain_a=(0.1, 0.05, 0.15, 0.001), gain_b=(0.02, -0.01, 0.05, 0.2), **fields):
    rows = [BASE[0], row("a", -0.2), row("b", -0.28)]
    return compare(rows, [BASE[1], summary("a", -0.2, *gain_a), summary("b", -0.28, *gain_b)], **fields)


def test_the_base_stands_first_and_tiers_apart():
    rows = [row("ppo", tier=2), row("sft"), row("conditional_base", tier=None), row("base", tier=None)]
    found = standings(compare(rows))
    assert [[entry.name for entry in block.entries] for block in found.blocks] == [
        ["base", "conditional_base"],
        ["sft"],
        ["ppo"],
    ]


def test_methods_are_ranked_within_a_tier_best_first():
    rows = [row("a", tier=1), row("b", tier=1), row("c", tier=3)]
    found = standings(compare(rows, [summary("a", -0.3), summary("b", -0.1), summary("c", -0.2)]))
    assert [(entry.name, entry.rank) for entry in found.entries] == [("b", 1), ("a", 2), ("c", 1)]


def test_the_smaller_is_better_where_the_metric_says_so():
    rows = [row("a", direction="lower"), row("b", direction="lower")]
    found = standings(compare(rows, [summary("a", 2.0), summary("b", 1.0)]))
    assert [entry.name for entry in found.entries] == ["b", "a"]


def test_equal_scores_share_a_rank():
    found = standings(compare([row("a", -0.2), row("b", -0.1), row("c", -0.2), row("d", -0.3)]))
    assert [(entry.name, entry.rank) for entry in found.entries] == [("b", 1), ("a", 2), ("c", 2), ("d", 4)]


def test_degenerate_failed_and_skipped_methods_are_shown_unranked_and_say_why():
    rows = [row("s", status="skipped"), row("f", status="failed"), row("d", 0.9, status="degenerate"), row("ok", 0.1)]
    found = standings(compare(rows, [summary("d", 0.9), summary("ok", 0.1)]))
    assert [(entry.name, entry.rank) for entry in found.entries] == [("ok", 1), ("d", None), ("f", None), ("s", None)]
    assert found.entries[1].notes == ("the reason",)


def test_a_failed_seed_is_noted_and_the_others_count():
    rows = [row("sft", seed=0), row("sft", seed=1, status="failed")]
    entry = standings(compare(rows, [summary("sft", 0.0)])).entries[0]
    assert (entry.status, entry.seeds, entry.notes) == ("done", (0,), ("seed 1: the reason",))


def test_without_a_summary_the_rows_are_shown_without_differences():
    found = standings(compare([row("sft", 0.2, seed=0), row("sft", 0.4, seed=1)]))
    assert found.entries[0].metrics["gold"].mean == pytest.approx(0.3)
    assert found.entries[0].difference("gold") is None


def test_a_seed_without_a_row_is_noted():
    results = compare([row("sft", seed=0)]).model_copy(update={"seeds": [0, 1]})
    assert standings(results).entries[0].notes == ("seed 1: no row",)


def test_cost_is_the_mean_of_a_methods_seeds():
    rows = [
        row("sft", seed=seed).model_copy(update={"ledger": Ledger(train_tokens=t)}) for seed, t in ((0, 100), (1, 200))
    ]
    assert standings(compare(rows)).entries[0].ledger.train_tokens == 150


def test_the_verdict_names_winner_amount_interval_and_cost():
    verdict = verdicts(standings(two()))[0]
    assert (verdict.winner, verdict.is_sure) == ("a", True)
    assert verdict.text.startswith(
        "beats the base by +0.100 gold score [+0.050, +0.150] (95% interval, 50 prompts, 1 seed)"
    )
    assert "Cost: 1.0k trained tokens, 9.0 s" in verdict.text


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.1, -0.02, 0.2, 0.2), "may be chance"),
        ((0.1, 0.01, 0.2, 0.06), "Holm"),
        ((-0.1, -0.2, -0.01, 0.01), "does not beat the base"),
        ((0.1, None, None, None), "may be chance"),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(gain, words):
    verdict = verdicts(standings(two(gain_a=gain)))[0]
    assert not verdict.is_sure and words in verdict.text


def test_the_verdict_says_whether_the_second_is_apart():
    pair = Pair(a="b", b="a", judge="gold", win=0.3, tie=0.2, loss=0.5, low=0.33, high=0.47, n=50)
    assert "Against b it wins 60.0% of prompts [53.0%, 67.0%]." in verdicts(standings(two(pairs=[pair])))[0].text
    close = pair.model_copy(update={"high": 0.55})
    assert "too close to call" in verdicts(standings(two(pairs=[close])))[0].text


def test_a_tier_where_all_failed_says_so():
    verdict = verdicts(standings(compare([row("ppo", tier=2, status="failed")])))[0]
    assert (verdict.winner, verdict.text) == (None, "Nothing to rank: ppo failed.")


def test_the_headline_counts_who_surely_beats_the_base():
    assert headline(standings(two())) == "1 of 2 methods beats the base on pep8"
    unsure = two(gain_a=(0.1, -0.1, 0.2, 0.5))
    assert headline(standings(unsure)) == "None of 2 methods surely beats the base on pep8"
    assert headline(standings(compare([]))) == "Nothing to rank on pep8"
