"""Measure one model on a task, as a comparison measures each of its rows."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from heedful.comparison import metrics_of
from heedful.inference import needs_of
from heedful.results import Metric
from heedful.tasks import Subject, Task
from heedful.tasks.named import load_task


def evaluate(
    model: str | Path, task: Task | str | Path, *, seed: int = 0, progress: Callable[[str], None] | None = None
) -> dict[str, Metric]:
    """The task's metrics of a model, with intervals over prompts; no win rate, which needs a rival.

    Args:
        model: folder or Hub name; a model that heedful exported is asked as its method needs.
        task: a task, or the name or feedback file of one, of which the selection split is read.
        progress: called with what is being done.
    Raises:
        RunError: phf-pep8, whose base only a comparison has.
    """
    if isinstance(task, (str, Path)):
        task = load_task(str(task), split="selection")
    subject = Subject(model, **asdict(needs_of(model)))
    found = metrics_of(task, task.evaluate(subject, seed=seed, progress=progress))
    return {name: metric for name, metric in found.items() if name != "win_rate"}
