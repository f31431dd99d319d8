"""The kernels of heedful/objectives/comparison.py, against numbers a reader can redo."""

import itertools
import math

import pytest
import torch
from response_kernels import KERNELS, batch, gradient
from torch import tensor

from heedful.objectives.comparison import (
    bradley_terry,
    comparison_accuracy,
    comparison_gap,
    dpo_hinge,
    dpo_sigmoid,
    ipo,
    ipo_per_token,
    kto,
    mismatched_log_ratio,
    plackett_luce,
)

# The golden setting: four responses in ranked order, all six pairs of them.
SCORES = tensor([1.0, 0.5, -0.2, -1.0], dtype=torch.float64)
RANKS = tensor([1.0, 2, 3, 4], dtype=torch.float64)
ALL_PAIRS = list(itertools.combinations(range(4), 2))
WITHOUT_THE_MIDDLE = [pair for pair in ALL_PAIRS if pair != (1, 2)]
ONE_GROUP = torch.zeros(4, dtype=torch.long)

# And two: log-probabilities -10 and -12, under the reference -11 and -11.5, of 5 and 8 tokens. Gap 2, of ratios 1.5.
LOGP, REF = tensor([-10.0, -12.0], dtype=torch.float64), tensor([-11.0, -11.5], dtype=torch.float64)
NUM_TOKENS = tensor([5.0, 8.0], dtype=torch.float64)
PAIR, SWAPPED, WEIGHT = tensor([[0, 1]]), tensor([[1, 0]]), torch.ones(1, dtype=torch.float64)


def golden(value):
    return pytest.approx(value, abs=1e-6)


def nats(p):
    """-log sigmoid of p, by hand."""
    return math.log(1 + math.exp(-p))


def equally(pairs, share=None):
    """A prompt's pairs, each with the same weight."""
    index = tensor(pairs, dtype=torch.long).view(-1, 2)
    weight = 1 / len(pairs) if share is None else share
    return index, torch.full((len(index),), weight, dtype=torch.float64)


def test_preference_costs_minus_log_sigmoid_of_the_gap_times_its_weight():
    reward = tensor([0.3, -0.4, 1.1])
    loss = bradley_terry(reward, tensor([[0, 1], [1, 2]]), tensor([0.5, 2.0]))
    assert loss == pytest.approx(0.5 * nats(0.7) + 2.0 * nats(-1.5))


@pytest.mark.parametrize(("pair", "value"), [(PAIR, 0.913015), (SWAPPED, 0.513015)])
def test_golden_pair_of_rewards(pair, value):
    assert bradley_terry(tensor([0.4, 0.8], dtype=torch.float64), pair, WEIGHT).item() == golden(value)


def test_golden_ranking_of_four_in_pairs():
    reward = SCORES.clone().requires_grad_()
    bradley_terry(reward, *equally(ALL_PAIRS, 1.0)).backward()
    assert bradley_terry(SCORES, *equally(ALL_PAIRS, 1.0)).item() == golden(1.839987)
    assert bradley_terry(SCORES, *equally(ALL_PAIRS)).item() == golden(0.306665)
    assert (reward.grad / 6).tolist() == [golden(x) for x in (-0.121370, -0.022783, 0.042210, 0.101942)]


@pytest.mark.parametrize(("share", "value"), [(1 / 5, 0.287360), (1 / 6, 0.239467)])
def test_golden_ranking_of_four_with_a_tie_in_the_middle(share, value):
    assert bradley_terry(SCORES, *equally(WITHOUT_THE_MIDDLE, share)).item() == golden(value)


def test_mixed_numbers_of_responses_differ_from_flattened_pairs_until_reweighted():
    reward = torch.cat([SCORES, tensor([0.7, 0.1], dtype=torch.float64)])
    pair = tensor([*ALL_PAIRS, (4, 5)])
    flat = torch.ones(7, dtype=torch.float64)
    by_prompt = tensor([1 / 6] * 6 + [1.0], dtype=torch.float64)
    expected = (bradley_terry(SCORES, *equally(ALL_PAIRS)).item() + nats(0.6)) / 2
    assert bradley_terry(reward, pair, by_prompt).item() / 2 == pytest.approx(expected, rel=1e-12)
    assert bradley_terry(reward, pair, flat).item() / 7 != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("loss", ["pairs", "ranking"])
def test_a_constant_on_all_rewards_changes_nothing_and_gradients_sum_to_zero(loss):
    run = {
        "pairs": lambda r: bradley_terry(r, *equally(ALL_PAIRS)),
        "ranking": lambda r: plackett_luce(r, ONE_GROUP, RANKS),
    }[loss]
    assert run(SCORES + 7.5).item() == pytest.approx(run(SCORES).item(), rel=1e-12)
    assert gradient(run, SCORES + 7.5).tolist() == pytest.approx(gradient(run, SCORES).tolist(), abs=1e-12)
    assert gradient(run, SCORES).sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("num_responses", [2, 3, 5, 9])
def test_equal_rewards_cost_ln_2_for_every_number_of_responses(num_responses):
    pairs = equally(list(itertools.combinations(range(num_responses), 2)))
    assert bradley_terry(torch.full((num_responses,), 3.0).double(), *pairs).item() == pytest.approx(math.log(2))


def test_gradient_of_a_ranking_is_the_mean_of_its_pairs_gradients():
    together = gradient(lambda r: bradley_terry(r, *equally(ALL_PAIRS)), SCORES)
    alone = [gradient(lambda r, p=pair: bradley_terry(r, *equally([p])), SCORES) for pair in ALL_PAIRS]
    assert (together - torch.stack(alone).mean(0)).abs().max() < 1e-12


def test_permuting_responses_with_their_ranking_changes_nothing():
    order = tensor([2, 0, 3, 1])
    back = order.argsort().tolist()
    moved = [(back[better], back[worse]) for better, worse in ALL_PAIRS]
    pairs = bradley_terry(SCORES[order], *equally(moved))
    assert pairs.item() == pytest.approx(bradley_terry(SCORES, *equally(ALL_PAIRS)).item(), rel=1e-12)
    ranking = plackett_luce(SCORES[order], ONE_GROUP, RANKS[order])
    assert ranking.item() == pytest.approx(plackett_luce(SCORES, ONE_GROUP, RANKS).item(), rel=1e-12)


def test_golden_ranking_of_four_as_a_whole():
    assert plackett_luce(SCORES, ONE_GROUP, RANKS).item() == golden(1.627708)


def test_a_ranking_costs_a_choice_among_what_is_left_for_each_place():
    loss = plackett_luce(tensor([0.2, 1.0, -0.5]), tensor([0, 0, 0]), tensor([2.0, 1.0, 3.0]))
    a, b, c = math.exp(0.2), math.exp(1.0), math.exp(-0.5)
    assert loss == pytest.approx(-math.log(b / (a + b + c)) - math.log(a / (a + c)))


def test_a_ranking_of_two_is_a_pair():
    ranking = plackett_luce(SCORES[:2], ONE_GROUP[:2], RANKS[:2])
    assert ranking.item() == pytest.approx(bradley_terry(SCORES[:2], PAIR, WEIGHT).item(), rel=1e-12)


def test_one_above_others_that_tie_is_the_softmax_cross_entropy_of_the_best():
    assert plackett_luce(SCORES, ONE_GROUP, tensor([1.0, 2, 2, 2])).item() == golden(0.714449)


def test_responses_that_tie_do_not_compete_with_each_other():
    loss = plackett_luce(SCORES, ONE_GROUP, tensor([1.0, 2, 2, 4]))
    one, two, three, four = (math.exp(score) for score in SCORES)
    places = [one / (one + two + three + four), two / (two + four), three / (three + four)]
    assert loss.item() == pytest.approx(-sum(math.log(p) for p in places))


@pytest.mark.parametrize("rank", [[3.0, 3, 3, 3], [0.0, 0, 0, 0]], ids=["all tie", "none is ranked"])
def test_a_prompt_without_an_order_adds_exactly_nothing(rank):
    assert plackett_luce(SCORES, ONE_GROUP, tensor(rank)) == 0
    assert gradient(lambda r: plackett_luce(r, ONE_GROUP, tensor(rank)), SCORES).tolist() == [0, 0, 0, 0]


def test_a_response_in_no_ranking_competes_with_none():
    loss = plackett_luce(SCORES, ONE_GROUP, tensor([1.0, 0, 2, 3]))
    others = tensor([0, 2, 3])
    assert loss.item() == pytest.approx(plackett_luce(SCORES[others], ONE_GROUP[:3], RANKS[:3]).item(), rel=1e-12)


def test_golden_losses_of_a_pair_on_log_ratios():
    inputs = LOGP, REF, PAIR, WEIGHT
    assert dpo_sigmoid(*inputs, beta=0.1, label_smoothing=0.0).item() == golden(0.620957)
    assert dpo_hinge(*inputs, beta=0.05).item() == golden(0.925)
    assert dpo_hinge(*inputs, beta=1.0).item() == 0
    assert ipo(*inputs, tau=0.1).item() == golden(12.25)
    assert ipo_per_token(LOGP, REF, NUM_TOKENS, PAIR, WEIGHT, tau=0.1).item() == golden(22.443906)


def test_losses_of_a_pair_are_what_their_formulas_say():
    inputs = LOGP, REF, PAIR, 3 * WEIGHT
    smoothed = 0.8 * nats(0.5 * 1.5) + 0.2 * nats(-0.5 * 1.5)
    assert dpo_sigmoid(*inputs, beta=0.5, label_smoothing=0.2).item() == pytest.approx(3 * smoothed)
    assert dpo_hinge(*inputs, beta=0.5).item() == pytest.approx(3 * 0.25)
    assert ipo(*inputs, tau=0.5).item() == pytest.approx(3 * 0.5**2)
    per_token = 1 / 5 + 0.5 / 8
    assert ipo_per_token(LOGP, REF, NUM_TOKENS, PAIR, 3 * WEIGHT, tau=2.0).item() == pytest.approx(
        3 * (per_token - 0.25) ** 2
    )


def test_policy_equal_to_the_reference_costs_ln_2_and_moves_by_half_of_beta():
    loss = dpo_sigmoid(LOGP, LOGP, PAIR, WEIGHT, beta=0.3, label_smoothing=0.0)
    assert loss.item() == pytest.approx(math.log(2))
    slope = gradient(lambda x: dpo_sigmoid(x, LOGP, PAIR, WEIGHT, beta=0.3, label_smoothing=0.0), LOGP)
    assert slope.tolist() == pytest.approx([-0.15, 0.15])


def test_hinge_of_the_policy_equal_to_the_reference_is_one_and_active_for_every_pair():
    pair = tensor(ALL_PAIRS)
    slope = gradient(lambda x: dpo_hinge(x, SCORES, pair, torch.ones(6).double(), beta=0.05), SCORES)
    for one in ALL_PAIRS:
        assert dpo_hinge(SCORES, SCORES, *equally([one]), beta=0.05) == 1
    assert slope.tolist() == pytest.approx([-0.15, -0.05, 0.05, 0.15])


def test_a_constant_on_the_reference_of_a_prompt_changes_nothing():
    for run in (
        lambda ref: dpo_sigmoid(LOGP, ref, PAIR, WEIGHT, beta=0.1, label_smoothing=0.1),
        lambda ref: dpo_hinge(LOGP, ref, PAIR, WEIGHT, beta=0.1),
        lambda ref: ipo(LOGP, ref, PAIR, WEIGHT, tau=0.1),
    ):
        assert run(REF + 4.2).item() == pytest.approx(run(REF).item(), rel=1e-12)


def test_smoothing_mixes_a_pair_with_the_same_pair_swapped():
    straight, swapped = (
        dpo_sigmoid(LOGP, REF, pair, WEIGHT, beta=0.4, label_smoothing=0.0) for pair in (PAIR, SWAPPED)
    )
    mixed = dpo_sigmoid(LOGP, REF, PAIR, WEIGHT, beta=0.4, label_smoothing=0.1)
    assert mixed.item() == pytest.approx((0.9 * straight + 0.1 * swapped).item(), rel=1e-12)


def test_ipo_is_zero_at_its_target_and_pulls_back_beyond_it():
    target = tensor([-1.0, -6.0], dtype=torch.float64)  # a gap of 5 is 1 / (2 * 0.1)
    zero = torch.zeros_like(target)
    assert ipo(target, zero, PAIR, WEIGHT, tau=0.1) == 0
    slope = gradient(lambda x: ipo(x, zero, PAIR, WEIGHT, tau=0.1), target + tensor([1.0, 0.0]))
    assert slope.tolist() == pytest.approx([2.0, -2.0])


def test_ipo_per_token_of_one_token_each_is_ipo():
    one = torch.ones_like(LOGP)
    expected = ipo(LOGP, REF, PAIR, WEIGHT, tau=0.3).item()
    assert ipo_per_token(LOGP, REF, one, PAIR, WEIGHT, tau=0.3).item() == pytest.approx(expected, rel=1e-12)


def test_a_response_without_tokens_counts_as_one_token():
    logp = tensor([0.0, -3.0])
    loss = ipo_per_token(logp, torch.zeros(2), tensor([0.0, 2.0]), PAIR, torch.ones(1), tau=0.5)
    assert loss == pytest.approx((1.5 - 1.0) ** 2)


KNOBS = {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}


@pytest.mark.parametrize(("label", "value"), [(1.0, 0.487503), (-1.0, 0.475021)])
def test_golden_kto(label, value):
    row = 0 if label > 0 else 1
    loss = kto(LOGP[[row]], REF[[row]], tensor([label]).double(), tensor(0.5), **KNOBS)
    assert loss.item() == golden(value)


def test_kto_weighs_good_and_bad():
    knobs = {"beta": 0.1, "desirable_weight": 1.3, "undesirable_weight": 0.7}
    loss = kto(LOGP, REF, tensor([1.0, -1.0]).double(), tensor(0.5), **knobs)
    sigmoid = [1 / (1 + math.exp(-z)) for z in (0.1 * (1.0 - 0.5), 0.1 * (0.5 + 0.5))]
    assert loss.item() == pytest.approx(1.3 * (1 - sigmoid[0]) + 0.7 * (1 - sigmoid[1]), rel=1e-12)


def test_kto_of_the_policy_equal_to_the_reference_is_half_of_the_weights():
    knobs = {"beta": 0.1, "desirable_weight": 1.3, "undesirable_weight": 0.7}
    loss = kto(SCORES, SCORES, tensor([1.0, -1, 1, 0]).double(), tensor(0.0), **knobs)
    assert loss.item() == pytest.approx(0.5 * (1.3 + 0.7 + 1.3))


def test_kto_of_one_class_is_that_class_alone():
    label = tensor([1.0, 1, -1, -1]).double()
    run = [kto(SCORES[rows], 0 * SCORES[rows], label[rows], tensor(0.2), **KNOBS) for rows in ([0, 1], [2, 3])]
    whole = kto(SCORES, 0 * SCORES, label, tensor(0.2), **KNOBS)
    assert sum(run).item() == pytest.approx(whole.item(), rel=1e-12)


def test_no_gradient_passes_through_z0():
    kl = tensor(0.5, requires_grad=True)
    logp = LOGP.clone().requires_grad_()
    kto(logp, REF, tensor([1.0, -1.0]).double(), kl, **KNOBS).backward()
    assert kl.grad is None
    assert logp.grad is not None


def test_z0_sums_the_log_ratios_of_mismatched_responses_only():
    logp, ref = tensor([-1.0, -2.0, -9.0]), tensor([-1.5, -1.0, -4.0])
    assert mismatched_log_ratio(logp, ref, tensor([1.0, 1.0, 0.0])) == pytest.approx(0.5 - 1.0)


@pytest.mark.parametrize(
    ("name", "outsiders"), [("kto", [2, 5]), ("mismatched_log_ratio", [0, 1, 3, 4, 6])], ids=["kto", "z0"]
)
def test_a_response_that_is_no_example_changes_nothing(name, outsiders):
    b = batch()
    poisoned = b.value.clone()
    poisoned[outsiders] = -50.0
    assert KERNELS[name](poisoned, b) == KERNELS[name](b.value, b)
    assert gradient(lambda x: KERNELS[name](x, b), b.value)[outsiders].tolist() == [0.0] * len(outsiders)


def test_a_response_that_is_in_no_ranking_changes_nothing():
    b = batch()
    rank = b.rank.clone()
    rank[[1, 6]] = 0
    poisoned = b.value.clone()
    poisoned[[1, 6]] = 50.0
    expected = plackett_luce(b.value, b.group, rank)
    assert plackett_luce(poisoned, b.group, rank).item() == pytest.approx(expected.item(), rel=1e-12)


def test_groups_and_z0_are_checked():
    b = batch()
    with pytest.raises(AssertionError, match="group of long"):
        plackett_luce(b.value, b.group.double(), b.rank)
    with pytest.raises(AssertionError, match="one shape"):
        plackett_luce(b.value, b.group[:1], b.rank)
    with pytest.raises(AssertionError, match="scalar kl"):
        kto(b.value, b.ref, b.desirable, tensor([0.3]), **KNOBS)


# Measures


def test_accuracy_counts_pairs_in_order_and_gap_says_by_how_much():
    reward, pair = tensor([1.0, 0.5, 0.5, -1.0]).double(), tensor([[0, 1], [1, 2], [3, 0]])
    weight = tensor([0.5, 1.0, 0.25]).double()
    assert comparison_accuracy(reward, pair, weight).item() == pytest.approx(0.5 * 1 + 1.0 * 0.5 + 0.25 * 0)
    assert comparison_gap(reward, pair, weight).item() == pytest.approx(0.5 * 0.5 + 0.25 * -2.0)


@pytest.mark.parametrize("measure", [comparison_accuracy, comparison_gap])
def test_a_measure_has_no_gradient_and_is_the_sum_over_its_pairs(measure):
    reward, pair = tensor([1.0, 0.5, -1.0], requires_grad=True), tensor([[0, 1], [2, 1]])
    assert not measure(reward, pair, torch.ones(2)).requires_grad
    parts = sum(measure(reward, pair[n : n + 1], torch.ones(1)).item() for n in range(2))
    assert measure(reward, pair, torch.ones(2)).item() == pytest.approx(parts)
    assert measure(reward, pair[:0], torch.ones(0)).item() == 0
