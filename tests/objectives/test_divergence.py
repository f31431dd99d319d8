"""The distance from the start: a sum over a mask. That it is a KL divergence is for tests/methods/test_slic_hf.py."""

import pytest
import torch
from torch import tensor

from heedful.objectives.divergence import kl_from_start


def test_kl_from_start_is_summed_over_the_mask():
    kl = tensor([[0.5, 2.0, 0.25]], requires_grad=True)
    mask = tensor([[1.0, 0.0, 1.0]])
    found = kl_from_start(kl, mask)
    assert found.item() == pytest.approx(0.75)
    found.backward()
    assert torch.equal(kl.grad, mask)


def test_shapes_must_agree():
    with pytest.raises(AssertionError, match="expected two"):
        kl_from_start(torch.zeros(3), torch.zeros(1, 3))
