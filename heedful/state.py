"""Where a run is, and what it has cost so far."""

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
    evaluated: int = -1  # step of the last evaluation
    metrics: dict[str, float] = field(default_factory=dict)

    def add(self, cost: Cost) -> None:
        """Note what asking cost."""
        whole = Cost(self.sampled_tokens, self.scorer_calls, self.frozen_tokens, self.frozen_critic_tokens) + cost
        self.sampled_tokens, self.scorer_calls = whole.sampled_tokens, dict(whole.scorer_calls)
        self.frozen_tokens, self.frozen_critic_tokens = whole.frozen_tokens, whole.frozen_critic_tokens
