"""The kernels of heedful/objectives/likelihood.py, against numbers a reader can redo."""

import math

import pytest
import torch
from torch import tensor

from heedful.objectives.likelihood import (
    advantage_weighted_nll,
    nll,
    unlikelihood,
    value_regression,
    weighted_nll,
)

# The golden setting: four positions, five tokens, logits ((3t + 2v + t*v) mod 7) / 2, labels (2t + 1) mod 5.
LOGITS = tensor([[((3 * t + 2 * v + t * v) % 7) / 2 for v in range(5)] for t in range(4)], dtype=torch.float64)
LABELS = tensor([(2 * t + 1) % 5 for t in range(4)])
LOGP = LOGITS.log_softmax(-1).gather(1, LABELS[:, None]).T  # [1, 4]
SCORES = tensor([[0.0, 0.3, 0.0, 0.8]], dtype=torch.float64)
REWARD = -SCORES
VALUE = tensor([[-0.1, -0.2, -0.3, -0.4]], dtype=torch.float64)
ONES = torch.ones(1, 4, dtype=torch.float64)


def golden(value):
    return pytest.approx(value, abs=1e-6)


def test_golden_nll_of_each_token():
    expected = [2.491696, 1.216415, 0.543998, 0.592459]
    assert (-LOGP[0]).tolist() == [golden(x) for x in expected]


def test_golden_mle_mean():
    assert nll(LOGP, ONES).item() / 4 == golden(1.211142)


def test_golden_masked_mean():
    mask = tensor([[0.0, 1, 1, 1]], dtype=torch.float64)
    assert (nll(LOGP, mask) / mask.sum()).item() == golden(0.784291)


@pytest.mark.parametrize(("alpha", "value"), [(1.0, 1.048051), (0.5, 0.903487)])
def test_golden_unlikelihood_with_threshold_a_tenth(alpha, value):
    aligned = (SCORES <= 0.1).double()
    total = nll(LOGP, aligned) + alpha * unlikelihood(LOGP, 1 - aligned)
    assert total.item() / 4 == golden(value)


def test_golden_unlikelihood_as_the_released_code_reads_a_threshold_of_zero():
    released = nll(LOGP, 1 - SCORES) + unlikelihood(LOGP, SCORES)
    assert released.item() / 4 == golden(1.188797)
    aligned = (SCORES <= 0).double()  # a threshold like any other here
    assert (nll(LOGP, aligned) + unlikelihood(LOGP, 1 - aligned)).item() / 4 == golden(1.048051)


@pytest.mark.parametrize(("beta", "value"), [(0.5, 0.955723), (1.0, 1.050761), (10.0, 1.190767)])
def test_golden_reward_weighted_regression(beta, value):
    assert weighted_nll(LOGP, (REWARD / beta).exp(), ONES).item() / 4 == golden(value)


@pytest.mark.parametrize(("beta", "value"), [(0.5, 2.597925), (1.0, 1.732413), (10.0, 1.251819)])
def test_golden_released_rwr_is_awr_with_a_value_of_minus_a_half(beta, value):
    half = torch.full_like(ONES, -0.5)
    total = advantage_weighted_nll(LOGP, half, REWARD, ONES, beta=beta, max_weight=1000)
    assert total.item() / 4 == golden(value)


@pytest.mark.parametrize(("beta", "value"), [(0.5, 0.695840), (10.0, 0.640105)])
def test_golden_advantage_weighted_regression(beta, value):
    text = advantage_weighted_nll(LOGP, VALUE, REWARD, ONES, beta=beta, max_weight=1000)
    total = 0.5 * text + 0.5 * value_regression(VALUE, REWARD, ONES)
    assert total.item() / 4 == golden(value)


def test_nll_charges_minus_log_p():
    assert nll(tensor([[math.log(0.25), math.log(0.5)]]), tensor([[1.0, 1.0]])) == pytest.approx(math.log(8))


def test_unlikelihood_charges_minus_log_of_anything_else():
    assert unlikelihood(tensor([[math.log(0.25)]]), tensor([[1.0]])) == pytest.approx(-math.log(0.75))


def test_weighted_nll_multiplies_each_token():
    logp = tensor([[math.log(0.5), math.log(0.5)]])
    assert weighted_nll(logp, tensor([[2.0, 0.5]]), tensor([[1.0, 1.0]])) == pytest.approx(2.5 * math.log(2))


def test_advantage_weight_is_capped():
    loss = advantage_weighted_nll(
        tensor([[-1.0]]), tensor([[-9.0]]), tensor([[0.0]]), tensor([[1.0]]), beta=0.1, max_weight=1000.0
    )
    assert loss == pytest.approx(1000.0)


def test_value_regression_is_the_squared_error():
    assert value_regression(tensor([[0.5]]), tensor([[-1.0]]), tensor([[1.0]])) == pytest.approx(2.25)


def call(kernel, logp, mask):
    """Any kernel on log-probabilities and a mask, its other inputs fixed."""
    other = torch.linspace(-0.9, -0.1, logp.numel(), dtype=logp.dtype).view_as(logp)
    return {
        "nll": lambda: nll(logp, mask),
        "weighted_nll": lambda: weighted_nll(logp, other.exp(), mask),
        "unlikelihood": lambda: unlikelihood(logp, mask),
        "advantage": lambda: advantage_weighted_nll(logp, other, -other, mask, beta=0.7, max_weight=50),
        "value": lambda: value_regression(logp, other, mask),
    }[kernel]()


KERNELS = ["nll", "weighted_nll", "unlikelihood", "advantage", "value"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_masked_token_changes_nothing(kernel):
    mask = tensor([[1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    poisoned = LOGP.clone()
    poisoned[0, 1] = -50.0
    assert call(kernel, LOGP, mask) == call(kernel, poisoned, mask)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("extreme", [-1e-12, 0.0, -80.0, -1e4])
def test_extreme_inputs_stay_finite(kernel, extreme):
    logp = torch.full((1, 4), extreme, dtype=torch.float32, requires_grad=True)
    loss = call(kernel, logp, torch.ones(1, 4))
    loss.backward()
    assert loss.isfinite()
    assert logp.grad.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_matches_finite_differences(kernel):
    logp = LOGP.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: call(kernel, x, ONES), (logp,), atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_row_at_a_time_equals_all_at_once(kernel):
    logp, mask = LOGP.view(2, 2), tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    other = torch.linspace(-0.9, -0.1, 4, dtype=torch.float64).view(2, 2)
    run = {
        "nll": lambda r: nll(logp[r], mask[r]),
        "weighted_nll": lambda r: weighted_nll(logp[r], other[r].exp(), mask[r]),
        "unlikelihood": lambda r: unlikelihood(logp[r], mask[r]),
        "advantage": lambda r: advantage_weighted_nll(logp[r], other[r], -other[r], mask[r], beta=1, max_weight=9),
        "value": lambda r: value_regression(logp[r], other[r], mask[r]),
    }[kernel]
    assert run(slice(0, 2)).item() == pytest.approx(run(slice(0, 1)).item() + run(slice(1, 2)).item(), rel=1e-12)


def test_unlikelihood_gradient_at_the_logits_has_its_closed_form():
    logits = LOGITS[:1].clone().requires_grad_()
    unlikelihood(logits.log_softmax(-1)[:, 1:2], torch.ones(1, 1, dtype=torch.float64)).backward()
    p = LOGITS[0].softmax(-1)
    expected = [(p[1] if v == 1 else -p[1] * p[v] / (1 - p[1])).item() for v in range(5)]
    assert logits.grad[0].tolist() == pytest.approx(expected, abs=1e-12)
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("complement", "value"), [(1e-12, 12), (1e-19, 19), (1e-21, 20), (0.0, 20)])
def test_unlikelihood_is_flat_where_one_minus_p_is_below_1e_20_and_only_there(complement, value):
    logp = tensor([[-complement]], dtype=torch.float64, requires_grad=True)  # log(1 - x) = -x for an x so small
    loss = unlikelihood(logp, torch.ones(1, 1, dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(value * math.log(10))
    assert logp.grad.item() == (pytest.approx(1 / complement) if value < 20 else 0.0)


def test_a_certain_token_that_is_not_marked_has_no_gradient():
    logp = tensor([[0.0, -1e-30, -1.0]], requires_grad=True)
    unlikelihood(logp, tensor([[0.0, 0.0, 1.0]])).backward()
    assert logp.grad[0, :2].tolist() == [0.0, 0.0]
    assert logp.grad[0, 2] > 0


@pytest.mark.parametrize("lead", [0.0, 5.0, 12.0, 16.0, 17.0, 30.0, 90.0])
def test_unlikelihood_pushes_no_logit_harder_than_one_even_in_single_precision(lead):
    logits = (torch.arange(320).view(16, 20) % 7) / 7
    logits[:, 0] += lead
    logits.requires_grad_()
    logp = logits.log_softmax(-1)[:, :1]
    unlikelihood(logp, torch.ones_like(logp)).backward()
    assert logits.grad.abs().max() <= 1 + 1e-5


def test_the_weight_of_awr_trains_no_value():
    value = VALUE.clone().requires_grad_()
    logp = LOGP.clone().requires_grad_()
    advantage_weighted_nll(logp, value, REWARD, ONES, beta=1.0, max_weight=1000).backward()
    assert value.grad is None
    assert logp.grad is not None


def test_awr_with_huge_beta_is_alpha_mle_and_value_regression():
    text = advantage_weighted_nll(LOGP, VALUE, REWARD, ONES, beta=1e9, max_weight=1000)
    assert text.item() == pytest.approx(nll(LOGP, ONES).item(), abs=1e-7)


def test_awr_with_a_perfect_value_is_mle():
    text = advantage_weighted_nll(LOGP, REWARD, REWARD, ONES, beta=0.1, max_weight=1000)
    assert text.item() == pytest.approx(nll(LOGP, ONES).item(), rel=1e-12)


def test_released_rwr_with_a_tiny_beta_is_all_or_nothing_about_a_score_of_a_half():
    half = torch.full_like(ONES, -0.5)
    text = advantage_weighted_nll(LOGP, half, REWARD, ONES, beta=1e-4, max_weight=1000)
    assert text.item() == pytest.approx(1000 * nll(LOGP, (SCORES < 0.5).double()).item(), rel=1e-12)


def test_awr_with_zero_value_is_rwr():
    zero = torch.zeros_like(ONES)
    text = advantage_weighted_nll(LOGP, zero, REWARD, ONES, beta=0.5, max_weight=1000)
    assert text.item() == pytest.approx(weighted_nll(LOGP, (REWARD / 0.5).exp(), ONES).item(), rel=1e-12)


def test_a_constant_on_all_rewards_scales_rwr_only():
    shifted = weighted_nll(LOGP, ((REWARD + 0.3) / 0.5).exp(), ONES)
    plain = weighted_nll(LOGP, (REWARD / 0.5).exp(), ONES)
    assert (shifted / plain).item() == pytest.approx(math.exp(0.3 / 0.5), rel=1e-12)


def test_shapes_never_broadcast():
    with pytest.raises(AssertionError, match="one shape"):
        nll(torch.zeros(2, 3), torch.zeros(3))
