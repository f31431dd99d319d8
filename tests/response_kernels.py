"""Every kernel that reads whole responses, on one batch that has all of what any of them reads."""

from typing import NamedTuple

import torch
from torch import Tensor, tensor

from heedful.objectives.calibration import expected_score, list_hinge, margin_hinge, rank_hinge
from heedful.objectives.comparison import (
    bradley_terry,
    dpo_hinge,
    dpo_sigmoid,
    ipo,
    ipo_per_token,
    kto,
    mismatched_log_ratio,
    plackett_luce,
)
from heedful.objectives.hindsight import n_way_contrast, two_way_contrast


class Batch(NamedTuple):
    """Responses to a few prompts, in order; `value` is a reward or a log-probability."""

    value: Tensor
    ref: Tensor
    num_tokens: Tensor
    group: Tensor
    rank: Tensor
    score: Tensor
    place: Tensor
    desirable: Tensor
    candidate: Tensor
    pair: Tensor
    weight: Tensor

    def rows(self, start, stop):
        """The responses from start to stop and the pairs within them, numbered anew."""
        inside = ((self.pair >= start) & (self.pair < stop)).all(1)
        kept = [column[start:stop] for column in self[:-2]]
        return Batch(*kept, self.pair[inside] - start, self.weight[inside])


def batch(dtype=torch.float64) -> Batch:
    """Two prompts, of three and of four responses, with a tie, and some that are no example or no candidate."""
    return Batch(
        value=tensor([-1.0, -2.5, 0.4, -3.0, 1.2, -0.3, -2.0], dtype=dtype),
        ref=tensor([-1.2, -2.0, 0.1, -3.3, 0.2, -0.9, -1.7], dtype=dtype),
        num_tokens=tensor([3.0, 5, 2, 4, 1, 7, 6], dtype=dtype),
        group=tensor([0, 0, 0, 1, 1, 1, 1]),
        rank=tensor([2.0, 1, 3, 1, 2, 2, 4], dtype=dtype),
        score=tensor([0.6, 0.9, 0.1, 0.8, 0.7, 0.5, 0.2], dtype=dtype),
        place=tensor([1.0, 0, 2, 0, 1, 2, 3], dtype=dtype),
        desirable=tensor([1.0, -1, 0, -1, 1, 0, 1], dtype=dtype),
        candidate=tensor([1.0, 1, 0, 1, 1, 0, 1], dtype=dtype),
        pair=tensor([[1, 0], [1, 2], [0, 2], [3, 4], [3, 5], [3, 6], [4, 6], [5, 6]]),
        weight=tensor([1 / 3] * 3 + [0.2] * 5, dtype=dtype),
    )


PAIRED = {  # those whose loss is a sum over pairs
    "bradley_terry": lambda x, b: bradley_terry(x, b.pair, b.weight),
    "dpo_sigmoid": lambda x, b: dpo_sigmoid(x, b.ref, b.pair, b.weight, beta=0.7, label_smoothing=0.1),
    "dpo_hinge": lambda x, b: dpo_hinge(x, b.ref, b.pair, b.weight, beta=0.7),
    "ipo": lambda x, b: ipo(x, b.ref, b.pair, b.weight, tau=0.3),
    "ipo_per_token": lambda x, b: ipo_per_token(x, b.ref, b.num_tokens, b.pair, b.weight, tau=0.3),
    "rank_hinge": lambda x, b: rank_hinge(x, b.pair, b.weight, margin=1.1),
    "margin_hinge": lambda x, b: margin_hinge(x, b.score, b.pair, b.weight, margin=2.3),
    "list_hinge": lambda x, b: list_hinge(x, b.place, b.pair, b.weight, margin=0.9),
    "two_way_contrast": lambda x, b: two_way_contrast(x, b.num_tokens, b.pair, b.weight, smoothing=0.2),
}
KERNELS = PAIRED | {
    "plackett_luce": lambda x, b: plackett_luce(x, b.group, b.rank),
    "kto": lambda x, b: kto(x, b.ref, b.desirable, tensor(0.3), beta=0.7, desirable_weight=1.1, undesirable_weight=0.9),
    "mismatched_log_ratio": lambda x, b: mismatched_log_ratio(x, b.ref, (b.desirable == 0).to(x)),
    "expected_score": lambda x, b: expected_score(x, b.score, b.group, b.candidate),
    "n_way_contrast": lambda x, b: n_way_contrast(x, b.group, b.candidate),
}


def gradient(loss, value: Tensor) -> Tensor:
    """The gradient of a loss at a value."""
    value = value.clone().requires_grad_()
    loss(value).backward()
    assert value.grad is not None
    return value.grad
