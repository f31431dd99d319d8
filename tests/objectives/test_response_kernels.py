"""What every kernel that reads whole responses must do, whichever it is."""

import pytest
import torch
from response_kernels import KERNELS, PAIRED, batch, gradient
from torch import tensor

each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
each_paired = pytest.mark.parametrize("kernel", PAIRED.values(), ids=PAIRED)


@each_kernel
def test_gradient_matches_finite_differences(kernel):
    b = batch()
    assert torch.autograd.gradcheck(lambda x: kernel(x, b), (b.value.clone().requires_grad_(),))


@each_kernel
def test_one_prompt_at_a_time_equals_all_at_once(kernel):
    b = batch()
    parts = [kernel(part.value, part) for part in (b.rows(0, 3), b.rows(3, 7))]
    assert sum(parts).item() == pytest.approx(kernel(b.value, b).item(), rel=1e-12)


@each_kernel
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_inputs_stay_finite(kernel, extreme):
    value = (extreme * torch.arange(7.0)).requires_grad_()
    loss = kernel(value, batch(torch.float32))
    loss.backward()
    assert loss.isfinite()
    assert value.grad.isfinite().all()


@each_paired
def test_a_pair_of_weight_zero_is_no_pair(kernel):
    b = batch()
    weight = b.weight.clone()
    weight[[2, 5]] = 0
    kept = tensor([0, 1, 3, 4, 6, 7])
    expected = kernel(b.value, b._replace(pair=b.pair[kept], weight=b.weight[kept]))
    assert kernel(b.value, b._replace(weight=weight)).item() == pytest.approx(expected.item(), rel=1e-12)


@each_paired
def test_a_prompt_without_pairs_adds_exactly_nothing(kernel):
    b = batch()
    none = b._replace(pair=b.pair[:0], weight=b.weight[:0])
    assert kernel(b.value, none) == 0
    assert gradient(lambda x: kernel(x, none), b.value).tolist() == [0.0] * 7


@each_kernel
def test_a_column_never_broadcasts(kernel):
    b = batch()
    with pytest.raises(AssertionError, match="one shape"):
        kernel(b.value[:, None], b)


@each_kernel
def test_integers_are_no_log_probabilities(kernel):
    b = batch()
    with pytest.raises(AssertionError, match="float"):
        kernel(b.value.long(), b)


@each_paired
def test_pairs_and_weights_are_checked(kernel):
    b = batch()
    for wrong in (
        b._replace(pair=b.pair.int()),
        b._replace(pair=b.pair[:1]),
        b._replace(pair=b.pair.T),
        b._replace(weight=b.weight[:, None]),
        b._replace(weight=b.weight[:1]),
    ):
        with pytest.raises(AssertionError, match="expected pair"):
            kernel(b.value, wrong)
