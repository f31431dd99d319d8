"""What the page reads. Anything but results.json may be missing or damaged: that is a problem to show, not an end."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful import results as schema
from heedful.disk import read_lines
from heedful.errors import HeedfulError
from heedful.results import Results, Row
from heedful.runs import DONE, MANIFEST, METRICS, SAMPLES, Run

Lines = list[dict[str, Any]]


@dataclass
class Folder:
    """A comparison, or a single training run, with what could be read of it.

    Attributes:
        results: of a comparison; None for a single run.
        manifest: of the folder, empty without one.
        metrics: logged lines by row name (`dpo-s0`), or under "" for a single run.
        courses: by row name, how far from the start each point of its way was, and what it was worth.
        samples: responses on the evaluation prompts by row name, or those of the single run under "".
        problems: what is missing or damaged, in sentences.
    """

    path: Path
    results: Results | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Lines] = field(default_factory=dict)
    samples: dict[str, Lines] = field(default_factory=dict)
    courses: dict[str, Lines] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the run of this folder finished."""
        return (self.path / DONE).is_file()


def read_folder(path: str | Path) -> Folder:
    """Everything the report shows of a folder.

    Raises:
        RunError: it is neither a comparison nor a run, or its results.json cannot be used.
    """
    folder = Folder(Path(path))
    if (folder.path / schema.FILE).is_file():
        folder.results = schema.load(folder.path)
        for row in folder.results.rows:
            _read_row(folder, row)
        if (folder.path / MANIFEST).is_file():
            folder.manifest = _tried(folder, lambda: Run(folder.path).manifest) or {}
            folder.problems += [str(one) for one in folder.manifest.get("problems", [])]
        else:
            folder.problems.append("manifest.json is missing: what made these numbers is not recorded")
    else:
        run = Run.open(folder.path)
        folder.manifest = run.manifest
        folder.metrics[""] = _tried(folder, run.metrics) or []
        folder.samples[""] = _tried(folder, run.samples) or []
    return folder


def _read_row(folder: Folder, row: Row) -> None:
    if row.run is not None:
        run = Run(folder.path / row.run)
        folder.metrics[row.name] = _tried(folder, run.metrics) or []
        if not (run.path / METRICS).is_file():
            folder.problems.append(f"{row.run}/{METRICS} is missing: no learning curve of {row.name}")
    if row.is_measured:
        folder.samples[row.name] = _tried(folder, lambda: read_lines(_samples_path(folder.path, row))) or []
        course = folder.path / "course" / f"{row.name}.jsonl"
        folder.courses[row.name] = (_tried(folder, lambda: read_lines(course)) or []) if course.is_file() else []


def _samples_path(folder: Path, row: Row) -> Path:
    """`samples/<name>.jsonl`, or what the run itself logged."""
    path = folder / "samples" / f"{row.name}.jsonl"
    return path if path.is_file() or row.run is None else folder / row.run / SAMPLES


def _tried(folder: Folder, read: Callable[[], Any]) -> Any:
    """What could be read, or None; errors and warnings become problems."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read()
        except (HeedfulError, OSError, ValueError) as error:
            folder.problems.append(str(error))
            found = None
    folder.problems += [str(warning.message) for warning in caught]
    return found
