"""Pure functions of how far a run is: its learning rate, its order of rows, its end."""

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from heedful.config import Optim

T = TypeVar("T")


def learning_rate(optim: Optim, progress: float) -> float:
    """The learning rate at `progress` in [0, 1]: a linear rise over `warmup`, then `decay` down to `final * lr`."""
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    done = min(1.0, (progress - optim.warmup) / (1 - optim.warmup))
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[optim.decay]
    return optim.lr * (optim.final + (1 - optim.final) * left)


def order(size: int, *, seed: int, round_index: int, epoch: int) -> np.ndarray:
    """A permutation of `size` rows that depends on nothing but its arguments."""
    return np.random.default_rng([seed, round_index, epoch]).permutation(size)


def step_rows(rows: Sequence[T], batch_size: int, *, seed: int, round_index: int, index: int) -> list[T]:
    """The rows of step `index` of a round. Epochs follow each other; the last step of one is filled from the next.

    With fewer rows than `batch_size` a step is one whole epoch.
    """
    size = min(batch_size, len(rows))
    picked: list[T] = []
    position = index * size
    while len(picked) < size:
        epoch, offset = divmod(position, len(rows))
        part = order(len(rows), seed=seed, round_index=round_index, epoch=epoch)[offset : offset + size - len(picked)]
        picked += [rows[i] for i in part]
        position += len(part)
    return picked


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from anything with a stable text form; the same in every process and version."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
