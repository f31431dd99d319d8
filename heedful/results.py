"""results.json: what a comparison found, one row per method, variant and seed. Written by compare, read by all.

The folder of a comparison, which the report reads (every part but results.json may be missing):

    runs/pep8/
      results.json                     this schema
      manifest.json, config.yaml       as in any run folder: command, versions, hardware, data, test readings
      methods/<name>/                  the run folder of a row (`Row.run`): metrics.jsonl gives its curves
      eval/<name>.jsonl                values per prompt (`Row.per_prompt`)
      samples/<name>.jsonl             responses on the evaluation prompts
      report.html                      made from the above by one command

    <name> is `row_name(method, variant, seed)`: dpo-s0, ppo-ptx-s1.
    eval:     {"id": "p17", "seed": 0, "gold": -0.25, "bits_per_byte_clean": [812.5, 410], ...}
              a metric is a number, or [numerator, denominator] for a rate; null where it does not exist; prompts that
              are not independent share a "group", and intervals draw groups whole
    samples:  {"prompt_id": "p17", "prompt": "...", "response": "...", "gold": -0.25, "truncated": true, ...}
    metrics:  {"step": 10, "tokens": 81920, "loss": 2.31, ...} and {"step": 100, "tokens": ..., "eval_gold": ...}

Paths in results.json are relative to its folder. A failed method is a row with its error, never a lost table.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from heedful.config import Strict, parse
from heedful.disk import write_json
from heedful.errors import ConfigError, RunError
from heedful.records import describe

FILE = "results.json"

PRIMARY = ("gold", "accuracy", "win_rate", "pref_accuracy", "bits_per_byte_clean", "bits_per_byte")
"""What methods are ranked by: the first of these that a comparison measured."""

TIERS = {
    1: "Offline labels only",
    2: "A reward learned from the same labels",
    3: "The gold scorer in the loop",
}
"""Tiers use different information, so they are never ranked in one list. No tier: the references."""


class Metric(Strict):
    """One number of one row, with its own interval over prompts where it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = Field(default=0, ge=0)  # prompts or documents behind it
    unit: str = ""
    direction: Literal["higher", "lower", "none"] = "none"  # which is better


class Ledger(Strict):
    """What a row cost. Totals include prerequisites, whose share is repeated apart."""

    labels: int = Field(default=0, ge=0)
    train_tokens: int = Field(default=0, ge=0)  # through forward and backward, a shared prompt once
    frozen_tokens: int = Field(default=0, ge=0)  # forward only: reference and old log-probabilities, rewards
    sampled_tokens: int = Field(default=0, ge=0)
    scorer_calls: dict[str, int] = Field(default_factory=dict)
    flops: float = Field(default=0.0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    peak_memory_bytes: int = Field(default=0, ge=0)
    prerequisites: dict[str, "Ledger"] = Field(default_factory=dict)  # by name, e.g. reward_model

    @property
    def tokens(self) -> int:
        """Every token that went through a model, whatever for."""
        return self.train_tokens + self.frozen_tokens + self.sampled_tokens

    def including(self, prerequisites: Mapping[str, "Ledger"]) -> "Ledger":
        """This ledger with the cost of its prerequisites added, and shown apart.

        They learn from the same labels, so those are not added: the largest number counts.
        """
        parts = [self, *prerequisites.values()]
        scorers = sorted({name for part in parts for name in part.scorer_calls})
        sums = ("train_tokens", "frozen_tokens", "sampled_tokens", "flops", "seconds")
        return Ledger(
            **{name: sum(getattr(part, name) for part in parts) for name in sums},
            labels=max(part.labels for part in parts),
            scorer_calls={name: sum(part.scorer_calls.get(name, 0) for part in parts) for name in scorers},
            peak_memory_bytes=max(part.peak_memory_bytes for part in parts),
            prerequisites=dict(prerequisites),
        )


class Row(Strict):
    """One method, variant and seed.

    status: done; degenerate (a guard fired: measured and shown, never ranked); failed; skipped (the feedback
    cannot feed it). All but the first say why in `error`.
    """

    method: str
    variant: str = ""
    tier: Literal[1, 2, 3] | None = None
    seed: int = 0
    status: Literal["done", "degenerate", "failed", "skipped"] = "done"
    error: str | None = None
    run: str | None = None
    metrics: dict[str, Metric] = Field(default_factory=dict)
    ledger: Ledger = Ledger()
    per_prompt: str | None = None

    @property
    def name(self) -> str:
        """The stem of this row's files."""
        return row_name(self.method, self.variant, self.seed)

    @property
    def is_measured(self) -> bool:
        """Whether its numbers count."""
        return self.status in ("done", "degenerate")

    @field_validator("run", "per_prompt")
    @classmethod
    def _stays_inside(cls, path: str | None) -> str | None:
        if path is not None and (PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts):
            raise ValueError("a path below the folder of results.json")
        return path

    @model_validator(mode="after")
    def _says_why(self):
        if self.status != "done" and not self.error:
            raise ValueError(f"a row that is {self.status} says why in `error`")
        return self


class Pair(Strict):
    """Two methods on the same prompts: shares that sum to 1, and the interval of win + tie / 2 of `a`."""

    a: str  # method, or method/variant
    b: str
    judge: str
    win: float
    tie: float
    loss: float
    low: float | None = None
    high: float | None = None
    n: int


class Difference(Strict):
    """Method minus base, paired by seed and prompt. `p` is Holm-corrected over the methods of one metric."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


class Summary(Strict):
    """One metric of one method over its seeds."""

    method: str
    variant: str = ""
    metric: str
    mean: float
    low: float | None = None
    high: float | None = None
    n: int
    over: Literal["prompts", "seeds"]
    difference_to_base: Difference | None = None


class Results(Strict):
    """All of results.json."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    task: str
    base: str  # the untouched model: path or name
    budget: dict[str, float | int | str] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    pairs: list[Pair] = Field(default_factory=list)
    summary: list[Summary] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_each_row_once(self):
        names = [row.name for row in self.rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rows for {', '.join(twice)}")
        return self

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric some row measured, in order of appearance, with an example for unit and direction."""
        found: dict[str, Metric] = {}
        for row in self.rows:
            for name, metric in row.metrics.items():
                found.setdefault(name, metric)
        return found

    @property
    def primary(self) -> str | None:
        """The one metric methods are ranked by; None where nothing was measured of which more or less is better."""
        measured = [name for name, metric in self.metrics.items() if metric.direction != "none"]
        return next((name for name in PRIMARY if name in measured), next(iter(measured), None))


def row_name(method: str, variant: str, seed: int) -> str:
    """The stem of a row's files: method, variant and seed."""
    return f"{method}-{variant}-s{seed}" if variant else f"{method}-s{seed}"


def label(method: str, variant: str) -> str:
    """How pairs name a method: `ppo/ptx`."""
    return f"{method}/{variant}" if variant else method


def write(folder: str | Path, results: Results) -> Path:
    """Write results.json into the folder, whole or not at all."""
    path = Path(folder) / FILE
    write_json(path, results.model_dump(by_alias=True))
    return path


def load(folder: str | Path) -> Results:
    """Read and check results.json of a folder (or the file itself).

    Raises:
        RunError: it is missing, not JSON, or not of this schema; the message names the field.
    """
    path = Path(folder)
    path = path / FILE if path.is_dir() else path
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read it: {error.strerror}", where=str(path), allowed=f"a folder with {FILE}") from error
    except ValueError as error:
        raise RunError(f"not valid JSON: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise RunError(f"found {describe(values)}", where=str(path), allowed="an object")
    try:
        return parse(Results, values, where=str(path), kind="field")
    except ConfigError as error:
        hint = error.hint or "written by another version?"
        raise RunError(error.what, where=error.where, allowed=error.allowed, hint=hint) from None


def methods_of(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(method, variant) of the rows, each once, in order of appearance."""
    return list(dict.fromkeys((row.method, row.variant) for row in rows))
