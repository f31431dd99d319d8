"""What a training would cost: three steps are made in memory and measured; no file is written."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from heedful import memory, schedule
from heedful.batch import Group
from heedful.learner import Learner
from heedful.reference import Reference, reads_reference
from heedful.training import Prepared

TIMED_STEPS = 2  # after one that warms up

Steps = list[list[Group]]


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
    learner = Learner(prepared.policy, prepared.settings)
    size, seed = prepared.settings.batch_size, prepared.settings.seed
    steps = [schedule.step_rows(groups, size, seed=seed, round_index=0, index=n) for n in range(1 + TIMED_STEPS)]
    steps, frozen = _with_reference(prepared, learner, steps)
    seconds = _seconds(prepared, groups, _speed(prepared, learner, steps)) + frozen * _num_tokens(groups)
    return Cost(seconds, memory.peak())


def _with_reference(prepared: Prepared, learner: Learner, steps: Steps) -> tuple[Steps, float]:
    """The steps with the log-probabilities that the objective measures from, and the seconds a token of them takes."""
    if not reads_reference(prepared.method):
        return steps, 0.0
    groups, reference = [group for rows in steps for group in rows], Reference(learner)
    started = time.monotonic()
    reference.read(groups)
    taken = time.monotonic() - started
    steps = [[reference(group) for group in rows] for rows in steps]
    return steps, taken / _num_tokens(groups)


def _seconds(prepared: Prepared, groups: list, tokens_per_second: float) -> float:
    budget = prepared.settings.budget
    if budget.seconds is not None:
        return budget.seconds
    epoch = _num_tokens(groups)
    size = min(prepared.settings.batch_size, len(groups))
    if budget.tokens is not None:
        tokens = float(budget.tokens)
    elif budget.steps is not None:
        tokens = budget.steps * size * epoch / len(groups)
    else:
        tokens = (budget.epochs or prepared.method.schedule.epochs or 1.0) * epoch
    return tokens / tokens_per_second


def _speed(prepared: Prepared, learner: Learner, steps: Steps) -> float:
    tokens, started = 0, 0.0
    for index, rows in enumerate(steps):
        if index == 1:
            started = time.monotonic()
        learner.update([(prepared.method.objective, rows)], 0.5, statistics=prepared.method.statistics)
        tokens += _num_tokens(rows) if index else 0
    return tokens / (time.monotonic() - started)


def _num_tokens(groups: Sequence[Group]) -> int:
    return sum(group.num_tokens for group in groups)
