"""The most memory a piece of work held."""

import sys

import pytest
import torch

from heedful import memory


@pytest.mark.skipif(not sys.platform.startswith("linux") or torch.cuda.is_available(), reason="only Linux can reset it")
def test_a_peak_is_of_the_work_since_it_was_forgotten():
    block = torch.ones(2**26)  # 256 MB
    high = memory.peak()
    del block
    memory.forget_peak()
    assert memory.peak() < high - 2**27


def test_a_peak_is_at_least_what_the_interpreter_takes():
    assert memory.peak() > 10**7
