"""Rewards, advantages and whitening, by the golden numbers and the identities P1 to P6 and P13."""

import math
from statistics import fmean, pstdev

import pytest

from heedful.targets.advantage import generalised_advantages, leave_one_out, shaped_rewards, whitened, within_group

LOGP, REF, SCORE, VALUES = [-1.0, -2.0, -0.5], [-1.2, -1.5, -0.7], 2.0, [0.5, 0.8, 1.5]
REWARDS = shaped_rewards(SCORE, LOGP, REF, kl_coef=0.1)


def near(values):
    return pytest.approx(values, abs=1e-6)


def test_golden_rewards():
    assert near([-0.02, 0.05, 1.98]) == REWARDS


def test_p1_rewards_sum_to_the_score_less_beta_times_the_log_ratio():
    assert sum(REWARDS) == near(SCORE - 0.1 * (sum(LOGP) - sum(REF)))


def test_p2_at_the_reference_only_the_last_token_has_a_reward():
    assert shaped_rewards(SCORE, LOGP, LOGP, kl_coef=0.1) == near([0.0, 0.0, SCORE])


@pytest.mark.parametrize(
    ("lam", "advantages", "returns"),
    [
        (0.95, [1.4257, 1.2060, 0.4800], [1.9257, 2.0060, 1.9800]),
        (1.0, [1.51, 1.23, 0.48], [2.01, 2.03, 1.98]),
        (0.0, [0.28, 0.75, 0.48], [0.78, 1.55, 1.98]),
    ],
)
def test_golden_advantages_and_returns(lam, advantages, returns):
    found = generalised_advantages(REWARDS, VALUES, gamma=1.0, lam=lam)
    assert found == (near(advantages), near(returns))


@pytest.mark.parametrize("values", [VALUES, [7.0, -3.0, 0.0]])
def test_p3_at_lambda_1_a_return_is_what_is_still_to_come_whatever_the_values(values):
    _, returns = generalised_advantages(REWARDS, values, gamma=1.0, lam=1.0)
    assert returns == near([sum(REWARDS[t:]) for t in range(3)])


def test_p4_at_lambda_0_an_advantage_is_one_step_ahead():
    found, _ = generalised_advantages(REWARDS, VALUES, gamma=0.9, lam=0.0)
    assert found == near([-0.02 + 0.9 * 0.8 - 0.5, 0.05 + 0.9 * 1.5 - 0.8, 1.98 - 1.5])


def test_p5_values_that_are_right_leave_no_advantage_at_lambda_1():
    values = [sum(REWARDS[t:]) for t in range(3)]
    assert generalised_advantages(REWARDS, values, gamma=1.0, lam=1.0)[0] == near([0.0] * 3)


def test_p6_a_score_behind_eos_is_the_same_at_lambda_1_and_another_below():
    late, values = [*REWARDS[:-1], REWARDS[-1] - SCORE, SCORE], [*VALUES, 0.9]
    for lam, is_same in ((1.0, True), (0.95, False)):
        own, after = (
            generalised_advantages(*row, gamma=1.0, lam=lam)[0][:3] for row in ((REWARDS, VALUES), (late, values))
        )
        assert (own == near(after)) is is_same


def test_golden_whitening():
    advantages = [1.4257, 1.2060, 0.4800]
    assert whitened([advantages]) == [near([0.961306, 0.417633, -1.378939])]
    assert whitened([REWARDS], keep_mean=True) == [near([-0.074537, 0.000996, 2.083541])]


def test_whitening_is_over_all_tokens_of_a_round():
    every = [value for row in whitened([[1.0, 5.0], [2.0], [-3.0, 0.0, 4.0]]) for value in row]
    assert fmean(every) == near(0.0) and pstdev(every) == near(1.0)


def test_p13_equal_advantages_become_0_and_no_row_is_no_row():
    assert whitened([[0.5, 0.5], [0.5]]) == [[0.0, 0.0], [0.0]]
    assert whitened([]) == [] and whitened([[]]) == [[]]


def test_golden_leave_one_out():
    assert leave_one_out([1, 0, 0, 2]) == near([1 / 3, -1, -1, 5 / 3])
    assert leave_one_out([3.0, 3.0]) == [0.0, 0.0] and leave_one_out([3.0]) == [0.0]


def test_golden_group():
    assert within_group([1, 0, 0, 2]) == near([0.261089, -0.783268, -0.783268, 1.305446])
    assert within_group([1, 0, 0, 2], scale=False) == [0.25, -0.75, -0.75, 1.25]
    assert within_group([3.0, 3.0]) == [0.0, 0.0] and within_group([3.0]) == [0.0]


@pytest.mark.parametrize("baseline", [leave_one_out, within_group])
def test_advantages_of_a_group_sum_to_0_and_a_constant_changes_none(baseline):
    rewards = [0.3, -1.0, 2.5, 0.3, 0.9]
    assert sum(baseline(rewards)) == near(0.0)
    assert baseline([r + 7.0 for r in rewards]) == near(baseline(rewards))


def test_a_scaled_group_does_not_change_with_the_scale_of_its_rewards():
    rewards = [0.3, -1.0, 2.5, 0.9]
    assert within_group([10 * r for r in rewards]) == pytest.approx(within_group(rewards), rel=1e-3)
    assert all(math.isfinite(value) for value in within_group([1e-9, 2e-9]))
