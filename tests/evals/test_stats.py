"""Intervals: values a reader can redo, coverage on a known truth, and refusals."""

import time

import numpy as np
import pytest

from heedful.errors import DataError
from heedful.evals.stats import holm, mean_interval, paired_difference, pooled, wilson, win_rate


def one_seed(*numbers):
    return {(0, f"p{i:04}"): number for i, number in enumerate(numbers)}


def table(grid):
    """{(seed, prompt): value} of an [S, P] array."""
    return {(s, f"p{p:04}"): float(grid[s][p]) for s, p in np.ndindex(np.shape(grid))}


def test_the_mean_is_the_plain_mean():
    assert mean_interval(one_seed(1.0, 2.0, 6.0)).mean == pytest.approx(3.0)


def test_two_values_give_an_interval_from_one_to_the_other():
    interval = mean_interval(one_seed(0.0, 1.0))  # resample means: 0 and 1 a quarter each, 1/2 half the time
    assert (interval.low, interval.high, interval.n, interval.over) == (0.0, 1.0, 2, "prompts")


def test_the_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    interval = mean_interval(one_seed(*values), resamples=20000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.005)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.005)


def test_a_rate_is_the_ratio_of_sums_not_the_mean_of_ratios():
    rate = mean_interval(one_seed((8.0, 2.0), (1.0, 1.0)))  # bits, bytes
    assert rate.mean == pytest.approx(3.0)  # 9 / 3, where the mean of ratios is 2.5


def test_a_difference_is_between_values_of_the_same_key():
    difference = paired_difference(one_seed(3.0, 5.0), one_seed(1.0, 4.0))
    assert difference.mean == pytest.approx(1.5)
    assert (difference.low, difference.high) == (1.0, 2.0)


def test_pairing_shortens_the_interval_by_what_the_prompts_share():
    rng = np.random.default_rng(1)
    hard = rng.normal(size=200)
    a, b = hard + 0.1 + 0.01 * rng.normal(size=200), hard
    paired = paired_difference(one_seed(*a), one_seed(*b))
    unpaired = paired_difference(one_seed(*a), one_seed(*rng.permutation(b)))
    assert paired.low > 0.09 and paired.high < 0.11
    assert unpaired.low < 0 < unpaired.high


def test_one_draw_of_prompts_serves_all_seeds():
    hard = np.tile(np.linspace(-1, 1, 50), (4, 1))  # four seeds that answer alike are no new prompts
    once, four = mean_interval(table(hard[:1])), mean_interval(table(hard))
    assert (four.n, four.over) == (4, "seeds")
    assert four.high - four.low == pytest.approx(once.high - once.low, rel=0.1)


def test_seeds_that_disagree_widen_the_interval():
    agreeing = mean_interval(table(np.zeros((3, 40)) + np.linspace(-0.1, 0.1, 40)))
    disagreeing = mean_interval(table(np.array([[-1.0], [0.0], [1.0]]) + np.linspace(-0.1, 0.1, 40)))
    assert disagreeing.high - disagreeing.low > 10 * (agreeing.high - agreeing.low)


@pytest.mark.parametrize(("seeds", "at_least", "at_most"), [(1, 0.90, 0.98), (3, 0.84, 0.99), (5, 0.88, 0.99)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, at_least, at_most):
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        seed_effect = 0.03 * rng.normal(size=(seeds, 1)) if seeds > 1 else 0.0
        grid = seed_effect + 0.1 * rng.normal(size=(1, 80)) + 0.25 * rng.normal(size=(seeds, 80))
        interval = mean_interval(table(grid), resamples=400)
        held += interval.low <= 0 <= interval.high
    assert at_least <= held / 200 <= at_most


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = one_seed(*np.random.default_rng(3).normal(size=50))
    assert mean_interval(values, seed=7) == mean_interval(values, seed=7)
    assert mean_interval(values, seed=7) != mean_interval(values, seed=8)


def test_the_order_of_the_values_does_not_matter():
    values = one_seed(*np.random.default_rng(4).normal(size=30))
    assert mean_interval(dict(reversed(values.items()))) == mean_interval(values)


def test_one_observation_has_no_interval():
    interval = mean_interval({(0, "only"): 2.0})
    assert (interval.mean, interval.low, interval.high, interval.p) == (2.0, None, None, None)


def test_equal_values_have_an_interval_without_width():
    interval = mean_interval(one_seed(0.5, 0.5, 0.5))
    assert (interval.low, interval.high) == (0.5, 0.5)
    assert interval.p == 0.25  # three values that agree
    assert mean_interval(one_seed(*[0.5] * 20)).p == pytest.approx(2 / 2001)  # twice the empty tail, plus one


def test_no_difference_at_all_has_p_one():
    assert paired_difference(one_seed(1.0, 2.0), one_seed(1.0, 2.0)).p == 1.0


def test_p_falls_below_alpha_where_the_interval_leaves_zero():
    values = np.random.default_rng(5).normal(0.25, 1.0, size=100)
    interval = mean_interval(one_seed(*values))
    assert (interval.low > 0) == (interval.p < 0.05)


def test_a_few_values_that_agree_prove_nothing():
    def p(num_prompts, num_seeds=1):
        keys = [(s, str(n)) for s in range(num_seeds) for n in range(num_prompts)]
        return paired_difference(dict.fromkeys(keys, 0.5), dict.fromkeys(keys, 0.0)).p

    assert [p(2), p(4), p(5)] == [0.5, 0.125, 0.0625]
    assert p(6) < 0.05
    assert p(1, num_seeds=2) == 0.5
    assert p(2, num_seeds=9) == 0.5


def test_many_prompts_and_seeds_take_well_under_a_second():
    rng = np.random.default_rng(6)
    a, b = table(rng.normal(size=(3, 500))), table(rng.normal(size=(3, 500)))
    start = time.thread_time()
    paired_difference(a, b)
    assert time.thread_time() - start < 1.0


def test_blocks_of_resamples_are_as_good_as_one(monkeypatch):
    values = one_seed(*np.random.default_rng(7).normal(size=60))
    whole = mean_interval(values)
    monkeypatch.setattr("heedful.evals.stats._CELLS", 60 * 300)
    blocks = mean_interval(values)
    assert blocks.low == pytest.approx(whole.low, abs=0.03)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), (1.0, float("nan")), (1.0, -1.0), (1.0, 2.0, 3.0)])
def test_a_value_that_is_no_finite_number_is_refused_with_its_prompt(bad):
    with pytest.raises(DataError, match="p0001"):
        mean_interval(one_seed(1.0, bad))


def test_nothing_to_average_is_refused():
    with pytest.raises(DataError, match="no values"):
        mean_interval({})


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(DataError, match="denominator is 0"):
        mean_interval(one_seed((0.0, 0.0), (0.0, 0.0)))


def test_a_prompt_that_only_one_method_answered_is_refused_by_name():
    with pytest.raises(DataError, match="'p0001' under seed 0"):
        paired_difference(one_seed(1.0, 2.0), one_seed(1.0))


def test_a_seed_that_only_one_method_has_is_left_out():
    a = {**table(np.ones((2, 5))), **{(2, f"p{i:04}"): 99.0 for i in range(5)}}
    difference = paired_difference(a, table(np.zeros((2, 5))))
    assert (difference.mean, difference.n) == (1.0, 2)


def test_no_common_seed_is_refused():
    with pytest.raises(DataError, match="no seed in common"):
        paired_difference({(0, "p"): 1.0}, {(1, "p"): 1.0})


def test_win_rate_counts_wins_ties_and_losses():
    rate = win_rate(one_seed(1.0, 2.0, 3.0, 4.0), one_seed(0.0, 2.0, 9.0, 0.0))
    assert (rate.win, rate.tie, rate.loss, rate.n) == (0.5, 0.25, 0.25, 4)
    assert rate.low < 0.625 < rate.high


def test_win_rate_turns_around_where_lower_is_better():
    rate = win_rate(one_seed(1.0, 1.0, 1.0), one_seed(2.0, 2.0, 0.0), higher_is_better=False)
    assert (rate.win, rate.loss) == pytest.approx((2 / 3, 1 / 3))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_sweep_is_no_proof_of_always_winning(seeds):
    rate = win_rate(table(np.ones((seeds, 20))), table(np.zeros((seeds, 20))))
    assert rate.win == 1.0
    assert rate.low == pytest.approx(0.8389, abs=1e-4)  # Wilson, 20 of 20: 20 / (20 + 1.96^2)
    assert rate.high == 1.0


def test_all_ties_are_half_wins():
    rate = win_rate(one_seed(*[1.0] * 20), one_seed(*[1.0] * 20))
    assert rate.tie == 1.0 and rate.low < 0.5 < rate.high


def test_wilson_of_nine_in_ten():
    low, high = wilson(0.9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_holm_steps_down_and_keeps_the_order():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 3 x .01, 2 x .03, max(.06, 1 x .04)


def test_holm_never_exceeds_one_and_bears_an_empty_family():
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(DataError, match="p-values"):
        holm([0.1, float("nan")])


# Groups


def test_copies_of_a_prompt_in_its_group_leave_the_interval_as_it_was():
    alone = {(0, f"g{i}"): value for i, value in enumerate([0.1, 0.4, -0.2, 0.9, 0.3])}
    copies = {(0, f"{group}/{j}"): value for (_, group), value in alone.items() for j in range(4)}
    groups = {prompt: prompt.partition("/")[0] for _, prompt in copies}
    ours, theirs = mean_interval(pooled(copies, groups)), mean_interval(alone)
    assert (ours.mean, ours.low, ours.high) == pytest.approx((theirs.mean, theirs.low, theirs.high))
    assert mean_interval(copies).high < ours.high  # as independent prompts they would look surer


def test_pooling_keeps_every_mean_of_numbers_and_rates():
    numbers = {(0, "a1"): 1.0, (0, "a2"): 2.0, (0, "b"): 6.0}
    assert pooled(numbers, {"a1": "a", "a2": "a"}) == {(0, "a"): (3.0, 2.0), (0, "b"): (6.0, 1.0)}
    assert mean_interval(pooled(numbers, {"a1": "a", "a2": "a"})).mean == 3.0
    rates = {(s, p): (x, 10.0) for s in (0, 1) for p, x in (("a1", 1.0), ("a2", 3.0))}
    assert pooled(rates, {"a1": "a", "a2": "a"}) == {(0, "a"): (4.0, 20.0), (1, "a"): (4.0, 20.0)}


def test_wins_within_a_group_count_as_the_group():
    files = {(0, f"f{i}/{j}"): 1.0 if i < 4 else -1.0 for i in range(8) for j in range(8)}  # won in half of the files
    zeros = dict.fromkeys(files, 0.0)
    groups = {prompt: prompt.partition("/")[0] for _, prompt in files}
    alone, together = win_rate(files, zeros), win_rate(files, zeros, groups=groups)
    assert (alone.win, together.win, together.n) == (0.5, 0.5, 64)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_sweep_of_groups_is_no_proof():
    ones = {(0, f"f{i}/{j}"): 1.0 for i in range(3) for j in range(50)}
    groups = {prompt: prompt.partition("/")[0] for _, prompt in ones}
    assert win_rate(ones, dict.fromkeys(ones, 0.0), groups=groups).low == pytest.approx(wilson(1.0, 3)[0])
