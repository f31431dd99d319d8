"""Pure functions of how far a run is: its learning rate, its order of rows, its end."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np

from heedful.config import Budget, Optim, Training

T = TypeVar("T")


def learning_rate(optim: Optim, progress: float) -> float:
    """The learning rate at `progress` in [0, 1]: a linear rise over `warmup`, then `decay` down to `final * lr`."""
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    done = min(1.0, (progress - optim.warmup) / (1 - optim.warmup))
    left = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[optim.decay]
    return optim.lr * (optim.final + (1 - optim.final) * left)


class Spent(Protocol):
    """What a run has used of its budget."""

    tokens: int
    step: int
    seconds: float
    round_index: int
    index: int  # step within the round
    empty_rounds: int


class Limit:
    """When a round ends, and how far the run is.

    A budget in tokens, steps or seconds is the whole run's, and each of a fixed number of rounds has an equal share;
    one in epochs is passes over each round's rows. Where the number of rounds is open each is `epochs` passes over its
    rows, and the budget says how many there are; one in epochs is then passes over the prompts.

    Args:
        budget: without one, `epochs`, or one epoch; where the number of rounds is open one pass over the prompts.
        num_rows: groups of this round.
        rounds: None where their number is open.
        pass_rounds: rounds in which every prompt is asked once, where it is open.
        restart: each round has a learning rate from its rise to its decay; where their number is fixed.
    """

    def __init__(
        self,
        budget: Budget,
        num_rows: int,
        batch_size: int,
        epochs: int | None,
        rounds: int | None = 1,
        pass_rounds: int = 1,
        restart: bool = False,
    ):
        assert rounds or not restart, "rounds that restart have a number, or none could have a share of the budget"
        self.rounds, self.pass_rounds, self.restart = rounds, pass_rounds, restart
        self.steps_per_epoch = num_rows / min(batch_size, num_rows)
        self.unit, self.amount = limiting(budget, epochs if rounds else 1)
        if self.unit == "epochs" and rounds:
            self.amount = rounds * math.ceil(self.amount * self.steps_per_epoch)
        elif self.unit == "epochs":
            self.amount = math.ceil(self.amount * pass_rounds) * self._steps(epochs)
        self.round_steps = None if rounds else self._steps(epochs)

    def _steps(self, epochs: int | None) -> int:
        return math.ceil((epochs or 1) * self.steps_per_epoch)

    def progress(self, state: Spent) -> float:
        """Share of the budget used, in [0, 1]."""
        before = self.round_steps or self.amount / (self.rounds or 1)  # steps of each round that is done
        epochs = state.round_index * before + state.index
        used = {"tokens": state.tokens, "steps": state.step, "seconds": state.seconds, "epochs": epochs}[self.unit]
        return min(1.0, used / self.amount)

    def middle(self, state: Spent, tokens: int) -> float:
        """Progress half-way through the next step, of `tokens` tokens: there neither the first step of a warm-up nor
        the last of a decay has a learning rate of 0. Progress of the round, where each restarts."""
        seconds = state.seconds / max(1, state.step)
        step = {"tokens": tokens, "steps": 1, "seconds": seconds, "epochs": 1}[self.unit] / self.amount
        parts, number = (self.rounds or 1, state.round_index) if self.restart else (1, 0)
        done = self.progress(state) * parts - number
        return done + min(step * parts, 1.0 - done) / 2

    def fit(self, state: Spent, sizes: Sequence[int], *, beside: int = 0) -> int:
        """How many of the next step's rows a budget in tokens still has room for; one at least, so that it ends as
        asked, by less than a row.

        Args:
            sizes: tokens of the rows.
            beside: tokens that the step has besides these rows.
        """
        if self.unit != "tokens":
            return len(sizes)
        room = self.amount - state.tokens - beside
        return max(1, sum(end <= room for end in accumulate(sizes)))

    def __call__(self, state: Spent) -> bool:
        if self.rounds is None:
            return self.progress(state) >= 1 or (self.round_steps is not None and state.index >= self.round_steps)
        return self.progress(state) >= (state.round_index + 1) / self.rounds


def limiting(budget: Budget, epochs: int | None) -> tuple[str, float]:
    """The unit of a budget and its amount: as given, else so many epochs, or one."""
    ((unit, amount),) = (dict(budget.given) or {"epochs": float(epochs or 1)}).items()
    return unit, amount


def is_over(budget: Budget, state: Spent, rounds: int | None, pass_rounds: int = 1) -> bool:
    """Whether no round follows, before the rows of the next one are known; see `Limit`. None does where the weights as
    they are found nothing to learn from in a whole pass over the prompts."""
    if state.empty_rounds >= pass_rounds:
        return True
    if rounds is not None:
        return state.round_index >= rounds
    return _used(budget, state, state.round_index / pass_rounds) >= 1


def next_round(budget: Budget, state: Spent, rounds: int | None) -> int:
    """The round after this one; of a fixed number the first whose share of the budget is not used yet, or that number
    where there is none, or its samples would be drawn for nothing: a step may be larger than a share."""
    following = state.round_index + 1
    if rounds is None:
        return following
    used = _used(budget, state)
    return next((n for n in range(following, rounds) if used < (n + 1) / rounds), rounds)


def _used(budget: Budget, state: Spent, epochs: float = 0.0) -> float:
    """Share of the budget, before the rows of a round are known, with so many passes over the prompts done; one in
    epochs of each round is every round's own."""
    unit, amount = limiting(budget, 1)
    return {"tokens": state.tokens, "steps": state.step, "seconds": state.seconds, "epochs": epochs}[unit] / amount


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


class Row(Protocol):
    """What a step is made of."""

    @property
    def num_tokens(self) -> int: ...


R = TypeVar("R", bound=Row)


@dataclass
class _Plan:
    """A run of one round that is only counted."""

    tokens: int = 0
    step: int = 0
    seconds: float = 0.0
    round_index: int = 0
    index: int = 0
    empty_rounds: int = 0


def planned(rows: Sequence[R], *, training: Training, epochs: int | None) -> Sequence[R]:
    """The rows that a run of one round will train, each once: perhaps all, as far as nobody knows how many a budget in
    seconds, or one shared with a mix, has room for."""
    limit, state = Limit(training.budget, len(rows), training.batch_size, epochs), _Plan()
    found: dict[int, R] = {}
    while limit.unit != "seconds" and not limit(state):
        step = step_rows(rows, training.batch_size, seed=training.seed, round_index=0, index=state.index)
        step = step[: limit.fit(state, [row.num_tokens for row in step])]
        found |= {id(row): row for row in step}
        state = _Plan(state.tokens + sum(row.num_tokens for row in step), state.step + 1, index=state.index + 1)
        if len(found) == len(rows):
            break
    return list(found.values()) if found else rows


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from anything with a stable text form; the same in every process and version."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
