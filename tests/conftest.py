"""What tests share: this folder is importable from every other, and `one_thread` for numbers that must not move."""

import os

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def one_thread():
    """Torch on one thread: sums in one order, and no waiting for cores that others use."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
