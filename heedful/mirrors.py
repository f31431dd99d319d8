"""Mirrors of the logged metrics in TensorBoard and Weights & Biases. metrics.jsonl stays the record.

A mirror never stops a training: a missing package, a full disk or a lost connection is one warning, and the mirror is
off for the rest of the run. Both packages come with `pip install heedful[track]`.
"""

import hashlib
import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from heedful.errors import ConfigError

Log = Callable[[Mapping[str, float], int], None]
Close = Callable[[], None]


class SoftMirror:
    """A tracker that may fail: the first error is a warning, and nothing is sent after it."""

    def __init__(self, name: str, log: Log, close: Close):
        self.name = name
        self._log, self._close = log, close
        self.is_on = True
        self.step = 0

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Send the numbers of one line, at its "step"."""
        self.step = int(metrics.get("step", self.step))
        self._softly(lambda: self._log(_numbers(metrics), self.step))

    def close(self) -> None:
        """Send what waits and let go."""
        self._softly(self._close)
        self.is_on = False

    def _softly(self, call: Callable[[], None]) -> None:
        if not self.is_on:
            return
        try:
            call()
        except Exception as error:  # whatever a tracker raises, the training is worth more
            self.is_on = False
            warnings.warn(f"{self.name} is off from here on: {error}", stacklevel=4)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite and non-finite numbers of a line; texts, flags and lists stay in metrics.jsonl."""
    pairs = metrics.items()
    return {key: float(value) for key, value in pairs if isinstance(value, Real) and not isinstance(value, bool)}


def _tensorboard(folder: Path, config: Mapping[str, Any], step: int) -> tuple[Log, Close]:
    writer = importlib.import_module("tensorboardX").SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def log(numbers: Mapping[str, float], step: int) -> None:
        for key, value in numbers.items():
            if math.isfinite(value):  # tensorboardX warns at each one that is not
                writer.add_scalar(key, value, step)
        writer.flush()

    return log, writer.close


def _wandb(folder: Path, config: Mapping[str, Any], step: int) -> tuple[Log, Close]:
    wandb = importlib.import_module("wandb")
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]  # resuming goes on with the same run
    run = wandb.init(project="heedful", id=name, name=folder.name, dir=str(folder), config=dict(config), resume="allow")
    return lambda numbers, step: run.log(dict(numbers), step=step), run.finish


MIRRORS = {"tensorboard": _tensorboard, "wandb": _wandb}


def start(
    names: Iterable[str], folder: Path | str, *, config: Mapping[str, Any] | None = None, step: int = 0
) -> list[SoftMirror]:
    """The mirrors of these names that can be started; each that cannot is one warning.

    Args:
        names: of "tensorboard", "wandb".
        folder: the run folder; both write below it.
        step: first step that will be logged, 0 unless resumed.
    Raises:
        ConfigError: no mirror has that name.
    """
    mirrors = []
    for name in names:
        if name not in MIRRORS:
            raise ConfigError(f"unknown mirror {name!r}", allowed=" or ".join(sorted(MIRRORS)))
        try:
            log, close = MIRRORS[name](Path(folder), config or {}, step)
        except Exception as error:  # not installed, no network, no disk: train on
            hint = "; pip install heedful[track]" if isinstance(error, ImportError) else ""
            warnings.warn(f"{name} is off: {error}{hint}", stacklevel=2)
        else:
            mirrors.append(SoftMirror(name, log, close))
    return mirrors
