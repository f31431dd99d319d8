"""How long a training would take: three steps are made in memory, and timed; no file is written."""

import time

from heedful import schedule
from heedful.learner import Learner
from heedful.training import Prepared

TIMED_STEPS = 2  # after one that warms up


def seconds(prepared: Prepared) -> float:
    """Seconds of the whole budget on this machine, evaluations left out. The prepared policy is used up.

    Tokens per second are those of two steps; a step is as large as in the run.
    """
    budget = prepared.settings.budget
    if budget.seconds is not None:
        return budget.seconds
    groups = list(prepared.method.targets(prepared.feedback))
    learner = Learner(prepared.policy, prepared.settings)
    tokens_per_second = _speed(prepared, learner, groups)
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
