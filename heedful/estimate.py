"""What a training would cost: three steps are made in memory and measured; no file is written."""

import time
from typing import NamedTuple

from heedful import memory, schedule
from heedful.learner import Learner
from heedful.training import Prepared

TIMED_STEPS = 2  # after one that warms up


class Cost(NamedTuple):
    """What a run needs on this machine, evaluations left out."""

    seconds: float
    memory_bytes: int  # the most held at once by the measured steps; longer rows than theirs take more


def measure(prepared: Prepared) -> Cost:
    """The cost of the whole budget, from the speed and the memory of a few steps as large as the run's.

    The prepared policy is used up.
    """
    memory.forget_peak()
    groups = list(prepared.method.targets(prepared.feedback))
    tokens_per_second = _speed(prepared, Learner(prepared.policy, prepared.settings), groups)
    return Cost(_seconds(prepared, groups, tokens_per_second), memory.peak())


def _seconds(prepared: Prepared, groups: list, tokens_per_second: float) -> float:
    budget = prepared.settings.budget
    if budget.seconds is not None:
        return budget.seconds
    epoch = sum(group.num_tokens for group in groups)
    size = min(prepared.settings.batch_size, len(groups))
    if budget.tokens is not None:
        tokens = float(budget.tokens)
    elif budget.steps is not None:
        tokens = budget.steps * size * epoch / len(groups)
    else:
        tokens = (budget.epochs or prepared.method.schedule.epochs or 1.0) * epoch
    return tokens / tokens_per_second


def _speed(prepared: Prepared, learner: Learner, groups: list) -> float:
    tokens, started = 0, 0.0
    for index in range(1 + TIMED_STEPS):
        if index == 1:
            started = time.monotonic()
        size = prepared.settings.batch_size
        rows = schedule.step_rows(groups, size, seed=prepared.settings.seed, round_index=0, index=index)
        learner.update([(prepared.method.objective, rows)], 0.5)
        tokens += sum(group.num_tokens for group in rows) if index else 0
    return tokens / (time.monotonic() - started)
