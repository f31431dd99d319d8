"""Tasks by name: the embedded one, or a feedback file of the user's."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from heedful.config import unknown
from heedful.data import FeedbackFile, load_feedback
from heedful.errors import ConfigError
from heedful.tasks import Task

TASKS = {"pep8": "heedful.tasks.pep8.task:PEP8", "phf-pep8": "heedful.tasks.pep8.scratch:PHFPEP8"}
SHIPPED = "pep8"  # the task whose feedback ships, so that its name stands for a feedback file


def load_task(
    name: str,
    *,
    model: str | Path | None = None,
    judge: str | None = None,
    num_prompts: int | None = None,
    split: str = "test",
    map: Iterable[str] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
) -> Task:
    """A task by name, or the task that a feedback file is.

    Args:
        name: of `TASKS`, or a path.
        model: what is trained on a file; the embedded base if none.
        judge: scores responses to a file's held-out prompts, by name or `module:function`.
        num_prompts: evaluate on the first so many only.
        split: "test", or "selection" to choose settings by.
    """
    if name in TASKS:
        own = {"--model": model, "--judge": judge, "--map": map, "--limit": limit, "--skip-bad": skip_bad}
        _refuse_given(name, own)
        module, _, kind = TASKS[name].partition(":")
        return getattr(import_module(module), kind)(split=split, num_prompts=num_prompts)
    if not Path(name).exists() and not any(mark in name for mark in "./"):
        raise unknown(name, "task", [*TASKS, "a feedback file"])
    file = load_feedback(name, map=map, limit=limit, on_bad_row="skip" if skip_bad else "error")
    return _own(file, model, judge, num_prompts, split)


def feedback_for(
    method: str, name: str, *, map: Iterable[str] | None = None, limit: int | None = None, skip_bad: bool = False
) -> FeedbackFile:
    """A feedback file by its path; or by the name of the embedded task, what the method learns from there."""
    if name != SHIPPED:
        return load_feedback(name, map=map, limit=limit, on_bad_row="skip" if skip_bad else "error")
    _refuse_given(name, {"--map": map, "--skip-bad": skip_bad})
    records = _shipped().feedback(method)[:limit]
    return FeedbackFile(records, path=name, format=name, sha256="", num_rows=len(records))


def settings_for(method: str, name: str) -> Mapping[str, Any]:
    """The recipe that goes with `feedback_for`: the embedded task's, and none for a file."""
    return _shipped().settings(method) if name == SHIPPED else {}


def _shipped() -> Task:
    return load_task(SHIPPED, split="selection")  # nobody who trains needs the test split's text


def _refuse_given(name: str, options: Mapping[str, Any]) -> None:
    if given := [option for option, value in options.items() if value]:
        raise ConfigError(f"{given[0]} goes with a feedback file", where=name, hint=f"{name} brings its own")


def _own(file: FeedbackFile, model, judge, num_prompts, split) -> Task:
    from heedful.tasks.own import OwnFile

    return OwnFile(file, model=model, judge=judge, num_prompts=num_prompts, split=split)
