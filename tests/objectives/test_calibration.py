"""The kernels of heedful/objectives/calibration.py, against numbers a reader can redo."""

import itertools
import math

import pytest
import torch
from response_kernels import KERNELS, batch, gradient
from torch import tensor

from heedful.objectives.calibration import expected_score, list_hinge, margin_hinge, rank_hinge
from heedful.objectives.comparison import dpo_hinge
from heedful.objectives.likelihood import nll

PAIR, SWAPPED, WEIGHT = tensor([[0, 1]]), tensor([[1, 0]]), torch.ones(1, dtype=torch.float64)


def at(gap):
    """Two log-probabilities, the first higher by `gap`."""
    return tensor([-5.0 + gap, -5.0], dtype=torch.float64)


@pytest.mark.parametrize(("gap", "value"), [(-1.0, 2.0), (2.0, 0.0), (0.5, 0.5)])
def test_hinge_charges_the_shortfall(gap, value):
    assert rank_hinge(at(gap), PAIR, WEIGHT, margin=1.0).item() == pytest.approx(value)


@pytest.mark.parametrize(("margin", "value"), [(1.0, 0.0), (3.0, 1.0)])
def test_golden_hinge_at_a_gap_of_two(margin, value):
    logp = tensor([-10.0, -12.0], dtype=torch.float64)
    assert rank_hinge(logp, PAIR, WEIGHT, margin=margin).item() == pytest.approx(value)


@pytest.mark.parametrize("gap", [1.0, 1.5, 40.0])
def test_hinge_has_no_gradient_from_the_margin_on(gap):
    assert gradient(lambda x: rank_hinge(x, PAIR, WEIGHT, margin=1.0), at(gap)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("gap", [-30.0, 0.0, 0.99])
def test_hinge_has_the_same_gradient_everywhere_within_the_margin(gap):
    assert gradient(lambda x: rank_hinge(x, PAIR, WEIGHT, margin=1.0), at(gap)).tolist() == [-1.0, 1.0]


def test_a_response_paired_with_itself_costs_the_margin_and_moves_nothing():
    same = tensor([[0, 0]])
    assert rank_hinge(at(3.0), same, WEIGHT, margin=0.7).item() == pytest.approx(0.7)
    assert gradient(lambda x: rank_hinge(x, same, WEIGHT, margin=0.7), at(3.0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("gap", [-0.9, 0.0, 0.4])
def test_a_pair_within_the_margin_and_the_same_swapped_cost_two_margins(gap):
    total = sum(rank_hinge(at(gap), pair, WEIGHT, margin=1.0) for pair in (PAIR, SWAPPED))
    assert total.item() == pytest.approx(2.0)


def test_without_a_margin_only_the_reference_response_trains_a_pair_in_order():
    ordered = torch.cat([at(0.5), tensor([-7.0], dtype=torch.float64)])  # the third is the reference
    is_reference = tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)

    def loss(x, coef=1.0):
        return rank_hinge(x, PAIR, WEIGHT, margin=0.0) + coef * nll(x[None], is_reference)

    assert gradient(loss, ordered).tolist() == [0.0, 0.0, -1.0]


def test_a_huge_regulariser_is_continued_training_on_the_reference_response():
    logp = torch.cat([at(-2.0), tensor([-7.0], dtype=torch.float64)])
    is_reference = tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    coef = 1e9
    slope = gradient(lambda x: rank_hinge(x, PAIR, WEIGHT, margin=1.0) + coef * nll(x[None], is_reference), logp)
    assert (slope / coef).tolist() == pytest.approx([0.0, 0.0, -1.0], abs=1e-8)


@pytest.mark.parametrize("gap", [-50.0, -1.0, 3.0, 19.9, 20.0, 60.0])
def test_hinge_on_ratios_to_a_flat_reference_is_the_rank_hinge_times_beta(gap):
    flat = torch.full((2,), -9.0, dtype=torch.float64)
    ours = 0.05 * rank_hinge(at(gap), PAIR, WEIGHT, margin=1 / 0.05)
    assert ours.item() == pytest.approx(dpo_hinge(at(gap), flat, PAIR, WEIGHT, beta=0.05).item(), abs=1e-12)


def test_rank_hinge_starts_from_the_gaps_of_the_model_not_from_the_margin():
    logp = tensor([-3.0, -1.0, -8.0], dtype=torch.float64)
    pair, weight = tensor([[0, 1], [0, 2]]), tensor([0.5, 0.5], dtype=torch.float64)
    assert rank_hinge(logp, pair, weight, margin=1.0).item() == pytest.approx((3.0 + 0.0) / 2)
    assert dpo_hinge(logp, logp, pair, weight, beta=1.0).item() == pytest.approx(1.0)


def test_margin_grows_with_the_difference_of_scores():
    logp, score = tensor([-5.0, -5.5, -4.0]), tensor([0.9, 0.4, 0.1])
    loss = margin_hinge(logp, score, tensor([[0, 1], [1, 2]]), tensor([1.0, 2.0]), margin=3.0)
    assert loss == pytest.approx((3.0 * 0.5 - 0.5) + 2.0 * (3.0 * 0.3 + 1.5))


def test_margin_hinge_of_scores_one_apart_is_the_rank_hinge():
    score = tensor([1.0, 0.0], dtype=torch.float64)
    expected = rank_hinge(at(-0.4), PAIR, WEIGHT, margin=1.7)
    assert margin_hinge(at(-0.4), score, PAIR, WEIGHT, margin=1.7).item() == pytest.approx(expected.item())


def test_margin_grows_with_the_places_between():
    logp, place = tensor([-5.0, -5.5, -4.0]), tensor([0.0, 1.0, 2.0])
    pairs = tensor(list(itertools.combinations(range(3), 2)))
    loss = list_hinge(logp, place, pairs, torch.ones(3), margin=0.8)
    assert loss == pytest.approx((0.8 - 0.5) + (1.6 + 1.0) + (0.8 + 1.5))


def test_list_hinge_of_neighbours_is_the_rank_hinge():
    place = tensor([3.0, 4.0], dtype=torch.float64)
    expected = rank_hinge(at(-0.4), PAIR, WEIGHT, margin=1.7)
    assert list_hinge(at(-0.4), place, PAIR, WEIGHT, margin=1.7).item() == pytest.approx(expected.item())


def test_expected_score_weighs_scores_by_renormalised_probabilities():
    logp = tensor([math.log(0.06), math.log(0.02), math.log(0.5)])
    loss = expected_score(logp, tensor([1.0, 3.0, 0.2]), tensor([0, 0, 1]), torch.ones(3))
    assert loss == pytest.approx(-(0.75 * 1.0 + 0.25 * 3.0) - 0.2)


def test_expected_score_is_least_where_the_best_candidate_is_certain():
    score, ones, group = tensor([0.2, 0.9]), torch.ones(2), tensor([0, 0])
    assert expected_score(tensor([-400.0, -10.0]), score, group, ones) == pytest.approx(-0.9)


def test_expected_score_prefers_the_higher_score_and_its_gradients_sum_to_zero():
    score, ones, group = tensor([0.2, 0.9, 0.5]).double(), torch.ones(3).double(), tensor([0, 0, 0])
    slope = gradient(lambda x: expected_score(x, score, group, ones), tensor([-4.0, -5.0, -4.5]).double())
    assert slope[1] < 0 < slope[0]
    assert slope.sum().item() == pytest.approx(0, abs=1e-12)


def test_a_constant_on_all_scores_of_a_prompt_trains_nothing():
    b = batch()
    plain, shifted = (
        gradient(lambda x, s=score: expected_score(x, s, b.group, b.candidate), b.value)
        for score in (b.score, b.score + 5.0)
    )
    assert shifted.tolist() == pytest.approx(plain.tolist(), abs=1e-12)


def test_a_response_that_is_no_candidate_changes_nothing():
    b = batch()
    poisoned = b.value.clone()
    poisoned[[2, 5]] = 50.0
    expected = KERNELS["expected_score"](b.value, b)
    assert KERNELS["expected_score"](poisoned, b).item() == pytest.approx(expected.item(), rel=1e-12)
    assert gradient(lambda x: KERNELS["expected_score"](x, b), poisoned)[[2, 5]].tolist() == [0.0, 0.0]


def test_a_prompt_without_candidates_adds_exactly_nothing():
    b = batch()
    assert expected_score(b.value, b.score, b.group, torch.zeros_like(b.candidate)) == 0
