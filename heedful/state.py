"""Where a run is, and what it has cost so far."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from heedful.method import Cost


@dataclass
class State:
    """Where a run is. Everything else follows from it, the seed and the data."""

    step: int = 0
    round_index: int = 0
    index: int = 0  # step within the round
    empty_rounds: int = 0  # in a row before this one, that left nothing to learn from
    tokens: int = 0  # through forward and backward, a shared prompt once
    critic_tokens: int = 0  # those of them that a critic read as well
    frozen_tokens: int = 0  # forward only, through the model of the start or for values
    frozen_critic_tokens: int = 0  # those of them through a critic
    sampled_tokens: int = 0  # drawn from the policy: for rounds, and to measure it
    scorer_calls: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    best_step: int = 0
    best: float | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    round_best_step: int = 0  # as `best`, since the weights began anew where each round begins with those of the start
    round_best: float | None = None
    evaluated: int = -1  # step of the last evaluation
    metrics: dict[str, float] = field(default_factory=dict)

    def note(self, metrics: Mapping[str, float], select: tuple[str, str]) -> bool:
        """Take in an evaluation of this step; whether it is the best so far, so that its weights have to be kept."""
        self.metrics, self.evaluated = dict(metrics), self.step
        name, direction = select
        if name not in metrics or not _better(metrics[name], self.round_best, direction):
            return False
        self.round_best, self.round_best_step = metrics[name], self.step
        if _better(metrics[name], self.best, direction):
            self.best, self.best_step, self.best_metrics = metrics[name], self.step, dict(metrics)
        return True

    @property
    def kept(self) -> set[int]:
        """Steps whose weights somebody will ask for."""
        bests = ((self.best, self.best_step), (self.round_best, self.round_best_step))
        return {step for value, step in bests if value is not None}

    def add(self, cost: Cost) -> None:
        """Note what asking cost."""
        whole = Cost(self.sampled_tokens, self.scorer_calls, self.frozen_tokens, self.frozen_critic_tokens) + cost
        self.sampled_tokens, self.scorer_calls = whole.sampled_tokens, dict(whole.scorer_calls)
        self.frozen_tokens, self.frozen_critic_tokens = whole.frozen_tokens, whole.frozen_critic_tokens


def _better(value: float, best: float | None, direction: str) -> bool:
    if not math.isfinite(value):
        return False
    return best is None or (value < best if direction == "min" else value > best)
