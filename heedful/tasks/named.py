"""Tasks by name: the embedded ones, or a feedback file of the user's."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from heedful.config import unknown
from heedful.data import FeedbackFile, load_feedback
from heedful.errors import ConfigError
from heedful.tasks import Task

TASKS = {
    "pep8": "heedful.tasks.pep8.task:PEP8",
    "reasoning": "heedful.tasks.reasoning.task:Reasoning",
    "phf-pep8": "heedful.tasks.pep8.scratch:PHFPEP8",
}
SHIPPED = ("pep8", "reasoning")  # the tasks whose feedback ships, so that their names stand for a feedback file


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
    """A feedback file by its path; or by the name of an embedded task, what the method learns from there."""
    if name not in SHIPPED:
        return load_feedback(name, map=map, limit=limit, on_bad_row="skip" if skip_bad else "error")
    _refuse_given(name, {"--map": map, "--skip-bad": skip_bad})
    records = _shipped(name).feedback(method)[:limit]
    return FeedbackFile(records, path=name, format=name, sha256="", num_rows=len(records))


def settings_for(method: str, name: str) -> Mapping[str, Any]:
    """The recipe that goes with `feedback_for`: the embedded task's, and none for a file."""
    return _shipped(name).settings(method) if name in SHIPPED else {}


def start_for(name: str) -> str | None:
    """The model that goes with `feedback_for`: the one that methods start from in the embedded task, none for a
    file."""
    return str(_shipped(name).start) if name in SHIPPED else None


def _shipped(name: str) -> Task:
    return load_task(name, split="selection")  # nobody who trains needs the test split's text


def _refuse_given(name: str, options: Mapping[str, Any]) -> None:
    if given := [option for option, value in options.items() if value]:
        raise ConfigError(f"{given[0]} goes with a feedback file", where=name, hint=f"{name} brings its own")


def _own(file: FeedbackFile, model, judge, num_prompts, split) -> Task:
    from heedful.tasks.own import OwnFile
    from heedful.tasks.reasoning.bbh import FORMAT, BigBenchHard

    if file.format == FORMAT:
        _refuse_given(file.path, {"--judge": judge})
        return BigBenchHard(file, model=model, num_prompts=num_prompts)
    return OwnFile(file, model=model, judge=judge, num_prompts=num_prompts, split=split)
