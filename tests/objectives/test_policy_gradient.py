"""PPO's losses and what is watched beside them, by hand."""

import math

import pytest
import torch
from torch import tensor

from heedful.objectives.policy_gradient import (
    approx_kl,
    clip_fraction,
    clipped_sequence_surrogate,
    clipped_surrogate,
    clipped_value,
    kl_k3,
)

KERNELS = {  # each as a function of what is trained
    "clipped_surrogate": lambda x, b: clipped_surrogate(x, b["old"], b["advantage"], b["mask"], clip=0.2),
    "clipped_value": lambda x, b: clipped_value(x, b["old"], b["returns"], b["mask"], clip=0.2),
    "kl_k3": lambda x, b: kl_k3(x, b["old"], b["mask"]),
    "clip_fraction": lambda x, b: clip_fraction(x, b["old"], b["mask"], clip=0.2),
    "approx_kl": lambda x, b: approx_kl(x, b["old"], b["mask"]),
}
TRAINED = ("clipped_surrogate", "clipped_value", "kl_k3")


def batch(dtype=torch.float64):
    """Two rows; the last token of the second is not trained."""
    return {
        "now": tensor([[-1.0, -0.6, -2.0], [-0.3, -1.4, -9.0]], dtype=dtype),
        "old": tensor([[-1.1, -1.0, -1.9], [-0.9, -1.3, -0.1]], dtype=dtype),
        "advantage": tensor([[0.5, -1.0, 2.0], [1.5, -0.3, 7.0]], dtype=dtype),
        "returns": tensor([[0.3, -1.5, 1.0], [0.4, -1.2, 8.0]], dtype=dtype),
        "mask": tensor([[1.0, 1, 1], [1, 1, 0]], dtype=dtype),
    }


def ratio(value):
    return tensor([[math.log(value)]], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(  # the golden table; P8
    ("advantage", "rho", "loss", "moves"),
    [(1, 1.5, -1.2, False), (1, 0.5, -0.5, True), (-1, 1.5, 1.5, True), (-1, 0.5, 0.8, False)],
)
def test_p8_the_clip_stops_what_went_too_far_the_right_way_and_nothing_else(advantage, rho, loss, moves):
    logp, zero, one = ratio(rho), torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = clipped_surrogate(logp, zero, advantage * one, one, clip=0.2)
    assert found.item() == pytest.approx(loss)
    found.backward()
    assert bool(logp.grad.abs().sum() > 0) is moves


def test_p7_where_the_policy_is_the_one_that_drew_it_is_reinforce():
    b = batch()
    logp = b["old"].clone().requires_grad_()
    loss = clipped_surrogate(logp, b["old"], b["advantage"], b["mask"], clip=0.2)
    assert loss.item() == pytest.approx(-(b["advantage"] * b["mask"]).sum().item())
    loss.backward()
    assert torch.equal(logp.grad, -b["advantage"] * b["mask"])
    assert clip_fraction(logp, b["old"], b["mask"], clip=0.2) == 0 and approx_kl(logp, b["old"], b["mask"]) == 0


def test_golden_clipped_value():
    value, old, returns, one = (tensor([[x]], dtype=torch.float64) for x in (1.5, 1.0, 2.0, 1.0))
    assert clipped_value(value, old, returns, one, clip=0.2).item() == pytest.approx(0.32)
    assert clipped_value(value, old, returns, one, clip=9.0).item() == pytest.approx(0.125)


def test_a_value_beyond_the_interval_towards_its_return_has_no_gradient():
    value = tensor([[1.5]], dtype=torch.float64, requires_grad=True)
    clipped_value(value, tensor([[1.0]]).double(), tensor([[2.0]]).double(), torch.ones(1, 1), clip=0.2).backward()
    assert value.grad.item() == 0


def test_k3_of_a_gap_and_of_none():
    """d = 0.3: exp(-0.3) - 1 + 0.3 = 0.040818."""
    one = torch.ones(1, 1, dtype=torch.float64)
    assert kl_k3(0.3 * one, 0 * one, one).item() == pytest.approx(0.040818, abs=1e-6)
    assert kl_k3(one, one, one).item() == 0


def test_a_sequence_has_one_ratio():
    logp, old, advantage = (tensor(x).double() for x in ([-2.0, -3.0], [-2.1, -2.0], [1.5, -0.5]))
    expected = -1.5 * math.exp(0.1) + 0.5 * 0.8  # the second ratio, exp(-1), is cut to 0.8
    assert clipped_sequence_surrogate(logp, old, advantage, clip=0.2).item() == pytest.approx(expected)


def test_a_response_that_is_no_example_changes_no_sequence_loss():
    logp = tensor([-2.0, -40.0], requires_grad=True)
    clipped_sequence_surrogate(logp, tensor([-2.1, -1.0]), tensor([1.5, 0.0]), clip=0.2).backward()
    assert logp.grad[0] != 0 and logp.grad[1] == 0


@pytest.mark.parametrize("name", KERNELS)
def test_a_token_without_mask_changes_nothing(name):
    b = batch()
    changed = b["now"].clone()
    changed[1, 2] = 3.0
    assert torch.equal(KERNELS[name](b["now"], b), KERNELS[name](changed, b))


@pytest.mark.parametrize("name", KERNELS)
def test_what_stands_behind_a_mask_may_be_infinitely_unlikely(name):
    b = batch(torch.float32)
    b["now"][1, 2] = -1e4
    assert torch.isfinite(KERNELS[name](b["now"], b))


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_is_that_of_finite_differences(name):
    b = batch()
    assert torch.autograd.gradcheck(lambda x: KERNELS[name](x, b), b["now"].requires_grad_())


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_at_a_time_is_all_at_once(name):
    b = batch()
    rows = [{key: value[n : n + 1] for key, value in b.items()} for n in range(2)]
    parts = sum(KERNELS[name](row["now"], row).item() for row in rows)
    assert KERNELS[name](b["now"], b).item() == pytest.approx(parts, abs=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_shapes_must_agree(name):
    b = batch()
    with pytest.raises(AssertionError, match="of one shape"):
        KERNELS[name](b["now"][0], b)


@pytest.mark.parametrize("name", ["clip_fraction", "approx_kl"])
def test_what_is_only_watched_has_no_gradient(name):
    b = batch()
    assert not KERNELS[name](b["now"].requires_grad_(), b).requires_grad


def test_clip_fraction_counts_tokens_and_approx_kl_is_half_the_squared_gap():
    b = batch()
    outside = [0.4, 0.6]  # exp(0.1) and exp(-0.1) are inside
    assert clip_fraction(b["now"], b["old"], b["mask"], clip=0.2) == len(outside)
    gaps = [0.1, 0.4, -0.1, 0.6, -0.1]
    assert approx_kl(b["now"], b["old"], b["mask"]).item() == pytest.approx(sum(g * g for g in gaps) / 2)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_beyond_what_a_float_holds_stays_finite(advantage):
    logp = torch.tensor([0.0], requires_grad=True)
    loss = clipped_sequence_surrogate(logp, torch.tensor([-95.0]), torch.tensor([advantage]), clip=0.2)
    loss.backward()
    assert loss.isfinite() and logp.grad.isfinite().all()
