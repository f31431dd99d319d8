"""What a method is: a source, targets and an objective. Types only.

samples = source.collect(r, policy)      a dataset, or fresh generations with scores
groups  = targets(samples)               pure: text and scores in, per-token streams out
terms   = [term(outputs, batch) ...]     log-probabilities and streams in, sums out
"""

import functools
import inspect
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from heedful.batch import Group, TreeBatch


@dataclass(frozen=True)
class Outputs:
    """What one forward gives, aligned with the tokens: entry [b, t] is about token t given its ancestors.

    Attributes:
        logp: [B, T] natural log-probability of each token, 0 where nobody reads it.
        value: [B, T] scalar head at the token's predecessor, or None without that head.
        reward: [N] scalar head at the last token of each response, or None without that head.
        start_kl: [B, T] KL of the next-token distribution at each token from the start's, 0 where nobody asked; None
            where the policy keeps no copy of its start.
        entropy: [B, T] nats, of the next-token distribution at each token; None, as the next, where the batch has no
            stream `batch.DISTRIBUTION`.
        vocabulary_logp: [B, T] mean over the vocabulary of the log-probabilities of the next token.
    """

    logp: Tensor
    value: Tensor | None = None
    reward: Tensor | None = None
    start_kl: Tensor | None = None
    entropy: Tensor | None = None
    vocabulary_logp: Tensor | None = None


@dataclass(frozen=True)
class Term:
    """A sum to be minimised, and the batch stream whose sum over the whole step divides it."""

    name: str
    total: Tensor
    per: str
    coef: float


@dataclass(frozen=True)
class TermSpec:
    """One term of an objective before it has seen a batch; call it with outputs and a batch."""

    name: str
    kernel: Callable[..., Tensor]
    per: str
    coef: float
    inputs: Mapping[str, str]
    knobs: Mapping[str, Any]

    def __call__(self, outputs: Outputs, batch: TreeBatch, statistics: Mapping[str, Tensor] | None = None) -> Term:
        values = {argument: _read(name, outputs, batch, statistics or {}) for argument, name in self.inputs.items()}
        return Term(self.name, self.kernel(**values, **self.knobs), self.per, self.coef)

    @property
    def reads(self) -> frozenset[str]:
        """Names of the outputs and streams this term uses, its divisor included."""
        return frozenset(itertools.chain.from_iterable(map(_parts, self.inputs.values()))) | {self.per}


def term(
    kernel: Callable[..., Tensor],
    *,
    per: str,
    coef: float = 1.0,
    name: str = "",
    streams: Mapping[str, str] | None = None,
    **knobs,
) -> TermSpec:
    """Compose a kernel into an objective.

    The kernel's positional parameters are filled by name from `Outputs` and the batch (`streams` renames:
    {"mask": "aligned"}), its keyword-only ones from `knobs`.
    """
    parameters = inspect.signature(kernel).parameters.values()
    inputs = {p.name: (streams or {}).get(p.name, p.name) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    return TermSpec(name or kernel.__name__, kernel, per, coef, inputs, knobs)


# What is summed over the trained tokens of each response, and the streams it is the product of.
PER_RESPONSE: Mapping[str, tuple[str, ...]] = {
    "response_logp": ("logp", "mask"),
    "ref_response_logp": ("ref_logp", "mask"),
    "num_tokens": ("mask",),
    "old_response_logp": ("old_logp", "mask"),
    "verdict_logp": ("logp", "verdict"),
}
# A difference of such sums: how much likelier a response is than at the start.
DIFFERENCES: Mapping[str, tuple[str, str]] = {"log_ratio": ("response_logp", "ref_response_logp")}


def _parts(name: str) -> tuple[str, ...]:
    """The outputs and streams that something is read from."""
    parts = DIFFERENCES.get(name) or PER_RESPONSE.get(name)
    return tuple(itertools.chain.from_iterable(map(_parts, parts))) if parts else (name,)


def _read(name: str, outputs: Outputs, batch: TreeBatch, statistics: Mapping[str, Tensor]) -> Tensor:
    if name in statistics:
        return statistics[name]
    if name in DIFFERENCES:
        return operator.sub(*(_read(part, outputs, batch, statistics) for part in DIFFERENCES[name]))
    if name in PER_RESPONSE:
        parts = [_read(part, outputs, batch, statistics) for part in PER_RESPONSE[name]]
        return batch.by_response(functools.reduce(operator.mul, parts))
    if name in batch:  # AWR's rows have a reward of their own
        return batch.read(name)
    value = getattr(outputs, name)
    assert value is not None, f"the objective reads {name!r} but the model has no such head"
    return value


class Share(NamedTuple):
    """What one of several processes does of a list of things: every `of`-th, from number `first` on."""

    first: int = 0
    of: int = 1


WHOLE = Share()
Say = Callable[[int, int], None]


@dataclass(frozen=True)
class Cost:
    """What asking models cost: tokens that the policy drew, how often each scorer was called, tokens that went forward
    only, through the start or for values, and those of them that went through a critic."""

    sampled_tokens: int = 0
    scorer_calls: Mapping[str, int] = field(default_factory=dict)
    frozen_tokens: int = 0
    frozen_critic_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        names = sorted({*self.scorer_calls, *other.scorer_calls})
        calls = {name: self.scorer_calls.get(name, 0) + other.scorer_calls.get(name, 0) for name in names}
        return Cost(
            self.sampled_tokens + other.sampled_tokens,
            calls,
            self.frozen_tokens + other.frozen_tokens,
            self.frozen_critic_tokens + other.frozen_critic_tokens,
        )


class Source(Protocol):
    """Where samples come from; `collect` is called once a round."""

    def collect(self, round_index: int, policy: Any = None) -> Sequence[Any]:
        """The samples of one round, given the policy as it is; a dataset asks neither."""


@runtime_checkable
class Sampler(Source, Protocol):
    """A source that asks the policy. Its samples are `Feedback` records: each process collects its share, and the loop
    writes all of them to the run folder before the round's first update and reads them back when it resumes."""

    def collect(
        self,
        round_index: int,
        policy: Any = None,
        share: Share = WHOLE,
        *,
        before: Callable[[], Sequence[Any]] = tuple,
        say: Say | None = None,
    ) -> Sequence[Any]:
        """The records of a share of the prompts, in their order; (seed, round, prompt) decide what is drawn.

        Args:
            before: reads the records of the round before; there are none before the first.
            say: told how many responses are done, of how many, while they are drawn.
        """

    def cost(self, samples: Sequence[Any]) -> Cost:
        """What collecting these records cost, read from the records."""

    def metrics(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """What is logged of a round."""


class Measure(Protocol):
    """A number of the policy on held-out prompts, taken at every evaluation; `Schedule.select` may name it."""

    name: str

    def begin(self, policy: Any, share: Share) -> Cost:
        """Called once a process, with the weights of the start, also when a run is resumed."""

    def __call__(self, policy: Any, share: Share) -> tuple[list[float], Cost]:
        """A value for each prompt of the share; the metric is their mean over all processes."""


@dataclass(frozen=True)
class Mix:
    """A second stream of rows with its own objective, added to each step's gradient (PPO-ptx, CoH)."""

    groups: Sequence[Group]
    objective: Sequence[TermSpec]
    batch_size: int


@dataclass(frozen=True)
class Schedule:
    """What would otherwise be an `if` in the loop.

    Attributes:
        rounds: calls of `source.collect` that share the budget; None: as many as it has room for, each of `epochs`
            passes over its rows.
        epochs: passes over the rows of a round; None leaves it to the budget.
        pass_rounds: tells in how many rounds every prompt is asked once, an epoch of the budget where `rounds` is None;
            called when the run begins, since the model's context decides which prompts are asked.
        replay: most samples that a round learns from, drawn from its own and those of all rounds before; None: its own.
        ema: decay of an average of the weights over steps, which is what is measured and kept; None keeps none.
        restart: each round learns from the weights of the start anew, with a learning rate of its own; its samples are
            those of the model that the round before led to: of its best evaluation by `select`, or its last where there
            was none. For a fixed number of rounds.
        select: metric and direction ("min" or "max") that choose the checkpoint to export.
    """

    rounds: int | None = 1
    epochs: int | None = None
    pass_rounds: Callable[[], int] = lambda: 1
    replay: int | None = None
    ema: float | None = None
    restart: bool = False
    select: tuple[str, str] = ("eval_loss", "min")


@dataclass(frozen=True)
class Head:
    """A scalar read from the last hidden state.

    Attributes:
        bias: whether the linear map has one; reward heads never do.
        detach: keep the head's gradient out of the trunk.
        squash: None, or "negative_sigmoid" for values in (-1, 0).
        is_drawn: start from N(0, 1 / (hidden size + 1)), drawn from the run's seed, not from zeros.
    """

    bias: bool = True
    detach: bool = True
    squash: str | None = None
    is_drawn: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a method file's `build` is given: the feedback and the way to tokenise it; `held_out` is never trained."""

    feedback: Sequence[Any]
    text: Any
    seed: int = 0
    held_out: Sequence[Any] = ()


@dataclass(frozen=True)
class Method:
    """One way to learn from feedback.

    Attributes:
        targets: samples -> groups; pure.
        statistics: means over the whole step, made without a gradient before it; terms read them by name.
        heads: scalar heads the objective reads, by name.
        measures: metrics beside the losses, at every evaluation.
        inference: what generation needs afterwards, written to heedful.json (see `checkpoint.export`).
        has_dropout: whether the model drops out while it learns, where its configuration says so; not where
            log-probabilities are held against frozen ones, or scores against each other.
        how: the model card's section on use, of what does not just generate.
        critic: folder of the reward model that a value network of its own starts as; None where there is none.
        rates: peak learning rates of groups of parameters that have their own (see `Learner`).
        asks_start: whether the source asks the model as it was at the start (`Policy.start`).
        judges: the version of each scorer that is asked while it learns, by name; a run is not resumed with another.
    """

    source: Source
    targets: Callable[[Sequence[Any]], Sequence[Group]]
    objective: Sequence[TermSpec]
    statistics: Sequence[TermSpec] = ()
    heads: Mapping[str, Head] = field(default_factory=dict)
    mixes: Sequence[Mix] = ()
    measures: Sequence[Measure] = ()
    schedule: Schedule = Schedule()
    inference: Mapping[str, Any] = field(default_factory=dict)
    has_dropout: bool = True
    how: str = ""
    critic: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    asks_start: bool = False
    judges: Mapping[str, str] = field(default_factory=dict)


def anchored(objective: Sequence[TermSpec]) -> str | None:
    """The stream of the tokens where an objective reads the KL from the start; None where it reads none."""
    return next((spec.inputs["mask"] for spec in objective if "start_kl" in spec.reads), None)


__all__ = [
    "WHOLE",
    "Cost",
    "Head",
    "Inputs",
    "Measure",
    "Method",
    "Mix",
    "Outputs",
    "Sampler",
    "Schedule",
    "Share",
    "Source",
    "Term",
    "TermSpec",
    "anchored",
    "term",
]
