"""What a comparison runs on: feedback for each method, references, and an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from heedful.records import Feedback

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Subject:
    """A model and how to ask it.

    Attributes:
        prefix, line_prefix, suppress, worse_prefix: as in heedful.json: ids where the response begins, before each
            line, never drawn, and before a response that is to be bettered.
        num_samples: more than 1 takes the best of so many.
        judge: folder of the reward model that says which is best; the gold scorer where there is none.
        run: folder of the run that trained it, whose rounds say how it got there; None where there is none.
    """

    model: str | Path
    prefix: Sequence[int] = ()
    line_prefix: int | None = None
    suppress: Sequence[int] = ()
    worse_prefix: Sequence[int] = ()
    num_samples: int = 1
    judge: Path | None = None
    run: Path | None = None


@dataclass(frozen=True)
class Reference:
    """A row that is not one of the compared methods.

    Attributes:
        run: folder of its training, where `prepare` made it and its cost counts.
    """

    method: str
    variant: str
    tier: int | None
    subject: Subject
    run: Path | None = None


@dataclass(frozen=True)
class MetricKind:
    """Unit of a metric, and which way is better."""

    unit: str
    direction: Direction


@dataclass
class Evaluation:
    """What was measured of one subject with one seed.

    Attributes:
        per_prompt: values by prompt or document id; "group" names what prompts share that are not independent.
        totals: metrics that are one number for all prompts (guards over all responses).
        degenerate: why the row must not be ranked, or nothing.
        course: how far from the start each point of the way was, and what it was worth: `kl` in nats a response,
            `proxy`, what was optimised, and the primary metric, by name; from the start on.
        ledger: sampled_tokens, scorer_calls and flops, where answering takes more than one sample a prompt.
    """

    per_prompt: dict[str, dict[str, Any]] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    degenerate: str = ""
    course: list[dict[str, float]] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A comparison's subject matter."""

    name: str
    base: str | Path  # the model that rows are measured against
    start: str | Path  # the model that methods are trained from
    split: str  # the prompts that answers are measured on: "test", or "selection" to choose settings by

    @property
    def metrics(self) -> Mapping[str, MetricKind]:
        """What `evaluate` can measure."""

    @property
    def methods(self) -> Sequence[str]:
        """Those compared where none are asked for."""

    @property
    def every(self) -> Sequence[str]:
        """All there are, variants (`sft/labelers`) included; each has feedback and settings by its name."""

    @property
    def budget(self) -> Mapping[str, float]:
        """Of each method, where none is asked for."""

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """Make what the rows need, once, in the folder of the comparison; a resumed one finds it there."""

    def feedback(self, name: str) -> Sequence[Feedback]:
        """What the method learns from."""

    def settings(self, name: str) -> Mapping[str, Any]:
        """The recipe of the method on this task."""

    def beginning(self, name: str) -> str | None:
        """The method that trains the model a method begins with, of those in `every`; None: it begins with `start`."""

    def references(self) -> Sequence[Reference]:
        """The rows that are not of the compared methods, the base first."""

    def evaluate(
        self,
        subject: Subject,
        *,
        seed: int,
        base_samples: Sequence[Mapping[str, Any]] | None = None,
        reward: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """Measure a subject; against the base's samples, where it has been measured; and by a learned reward, the
        folder of whose model is `reward`."""

    def describe(self) -> Mapping[str, Any]:
        """Data files and their sha256, for the manifest."""
