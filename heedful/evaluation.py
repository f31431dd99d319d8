"""Measure one model on a task, as a comparison measures each of its rows."""

from collections.abc import Callable
from pathlib import Path

from heedful.compare import metrics_of
from heedful.inference import needs_of
from heedful.results import Metric
from heedful.tasks import Subject, Task


def evaluate(
    model: str | Path, task: Task, *, seed: int = 0, progress: Callable[[str], None] | None = None
) -> dict[str, Metric]:
    """The task's metrics of a model, with intervals over prompts.

    Args:
        model: folder or Hub name; a model that heedful exported is asked as its method needs.
        progress: called with what is being done.
    """
    needs = needs_of(model)
    subject = Subject(model, needs.prefix, needs.line_prefix, needs.suppress)
    return metrics_of(task, task.evaluate(subject, seed=seed, progress=progress))
