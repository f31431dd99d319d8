"""HIR's kernels against numbers a reader can redo; what all kernels share is in test_response_kernels.py."""

import math

import pytest
import torch
from torch import tensor

from heedful.objectives.hindsight import instruction_gap, n_way_contrast, token_entropy, two_way_contrast
from heedful.objectives.likelihood import nll, smoothed_nll

# The golden setting: four positions, five tokens; labels (2t + 1) mod 5; z2 are logits under the opposite instruction.
Z = tensor([[((3 * t + 2 * v + t * v) % 7) / 2 for v in range(5)] for t in range(4)], dtype=torch.float64)
Z2 = tensor([[((5 * t + 3 * v + 2 * t * v + 1) % 7) / 2 for v in range(5)] for t in range(4)], dtype=torch.float64)
LABELS = tensor([(2 * t + 1) % 5 for t in range(4)])
EVERY = Z.log_softmax(-1)
LOGP, LOGP2 = (z.log_softmax(-1).gather(1, LABELS[:, None]).T for z in (Z, Z2))  # [1, 4]
ENTROPY = -(EVERY.exp() * EVERY).sum(-1)[None]
ONES = torch.ones(1, 4, dtype=torch.float64)
SUMS = torch.cat([LOGP.sum(1), LOGP2.sum(1)])
FOUR = tensor([4.0, 4.0], dtype=torch.float64)
PAIR, WEIGHT = tensor([[0, 1]]), torch.ones(1, dtype=torch.float64)


def golden(value):
    return pytest.approx(value, abs=1e-6)


def softplus(x):
    return math.log1p(math.exp(x))


def contrast(sums=SUMS, count=FOUR, *, smoothing):
    return two_way_contrast(sums, count, PAIR, WEIGHT, smoothing=smoothing)


def test_golden_smoothed_nll():
    assert smoothed_nll(LOGP, EVERY.mean(-1)[None], ONES, smoothing=0.2).item() / 4 == golden(1.386142)


def test_golden_mean_entropy():
    assert token_entropy(ENTROPY, ONES).item() / 4 == golden(1.190326)


def test_golden_gap_between_the_instructions():
    assert instruction_gap(SUMS, FOUR, PAIR, WEIGHT).item() == golden(0.667805)


@pytest.mark.parametrize(("smoothing", "value"), [(0.2, 0.547545), (0.0, 0.413984)])
def test_golden_two_way_contrast(smoothing, value):
    assert contrast(smoothing=smoothing).item() == golden(value)


def test_golden_contrast_of_summed_log_probabilities():
    assert contrast(count=torch.ones(2, dtype=torch.float64), smoothing=0.0).item() == golden(0.066881)
    two = n_way_contrast(SUMS, tensor([0, 0]), tensor([1.0, 0.0], dtype=torch.float64))
    assert two.item() == golden(0.066881)  # the paper's, of two contexts


def test_golden_total_of_the_code():
    supervised = smoothed_nll(LOGP, EVERY.mean(-1)[None], ONES, smoothing=0.2) / 4
    total = supervised + contrast(smoothing=0.2) - 0.001 * token_entropy(ENTROPY, ONES) / 4
    assert total.item() == golden(1.932497)


def test_labels_that_are_not_smoothed_are_nll():
    assert smoothed_nll(LOGP, EVERY.mean(-1)[None], ONES, smoothing=0.0) == nll(LOGP, ONES)


def test_smoothed_nll_is_least_where_the_label_has_all_but_what_is_spread():
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        logp = logits.log_softmax(-1)
        loss = smoothed_nll(logp[None, 2:3], logp.mean()[None, None], ONES[:, :1], smoothing=0.2)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert logits.softmax(-1).tolist() == pytest.approx([0.04, 0.04, 0.84, 0.04, 0.04], abs=1e-4)


def test_a_mask_weighs_tokens():
    mask = tensor([[0.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    wanted = ENTROPY[0, 1] + 2 * ENTROPY[0, 2]
    assert token_entropy(ENTROPY, mask).item() == pytest.approx(wanted.item())
    spread = EVERY.mean(-1)[None]
    each = -(0.8 * LOGP + 0.2 * spread)[0]
    assert smoothed_nll(LOGP, spread, mask, smoothing=0.2).item() == pytest.approx((each[1] + 2 * each[2]).item())


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.5])
def test_one_instruction_twice_costs_log_two_and_pushes_nowhere_in_sum(smoothing):
    """Its two branches are one: the gradients at both cancel."""
    sums = tensor([-3.0, -3.0], dtype=torch.float64, requires_grad=True)
    loss = contrast(sums, smoothing=smoothing)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert sums.grad.sum().item() == pytest.approx(0.0, abs=1e-15)


def test_contrast_without_smoothing_is_softplus_and_its_gradient_minus_a_sigmoid():
    sums = tensor([-2.0, -5.0], dtype=torch.float64, requires_grad=True)
    loss = contrast(sums, torch.ones(2, dtype=torch.float64), smoothing=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(softplus(-3.0))
    assert sums.grad[0].item() == pytest.approx(-1 / (1 + math.exp(3.0)))


def test_smoothing_bounds_the_margin_at_1_386_nats_a_token():
    def at(d):
        return contrast(tensor([d, 0.0], dtype=torch.float64), FOUR / 4, smoothing=0.2).item()

    best = math.log(0.8 / 0.2)
    assert best == pytest.approx(1.386, abs=1e-3) and at(best) == pytest.approx(0.5004, abs=1e-4)
    assert at(best) < min(at(best - 0.01), at(best + 0.01))


def test_a_long_output_is_not_charged_for_its_length():
    short, long = (contrast(tensor([-1.0, -2.0]).double() * n, FOUR / 4 * n, smoothing=0.2) for n in (1, 50))
    assert short.item() == pytest.approx(long.item())


@pytest.mark.parametrize("n", [2, 5])
def test_n_equal_contexts_cost_log_n(n):
    value, group, example = torch.full((n,), -7.0), torch.zeros(n, dtype=torch.long), tensor([1.0, *[0.0] * (n - 1)])
    assert n_way_contrast(value, group, example) == pytest.approx(math.log(n))


def test_every_output_has_its_own_contexts():
    value, group = tensor([-1.0, -2.0, -5.0, -4.0, -4.0]), tensor([0, 0, 1, 1, 1])
    found = n_way_contrast(value, group, tensor([1.0, 0, 2.0, 0, 0]))
    wanted = softplus(-1.0) + 2 * math.log(1 + 2 * math.exp(1.0))
    assert found.item() == pytest.approx(wanted, rel=1e-6)


def test_uniform_predictions_have_the_entropy_log_v():
    logp = torch.zeros(1, 3, 7).log_softmax(-1)
    assert token_entropy(-(logp.exp() * logp).sum(-1), torch.ones(1, 3)).item() / 3 == pytest.approx(math.log(7))


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match="expected two"):
        token_entropy(torch.zeros(3), torch.zeros(1, 3))
    with pytest.raises(AssertionError, match="one shape"):
        smoothed_nll(LOGP, EVERY, ONES, smoothing=0.1)
