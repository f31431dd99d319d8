"""Options that several verbs share, and what they stand for."""

import os
from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="M", help="Folder or Hub name of a language model. [the embedded base]"),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=COLUMN", help="Read a field from this column; may be repeated: prompt=question"
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Read no more records than this.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Count wrong rows and go on, instead of stopping.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change a setting of the recipe; may be repeated: optim.lr=1e-5"),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="The same seed draws the same numbers.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder; a new one if none is there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
# what --with, --best-by and --judge take
SCORER = "a scorer, a reward model's or ranker's run, or module:function of (prompt, response)"
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def model_or_base(model: str | None) -> str:
    """The model asked for, or the base that ships with heedful.

    Raises:
        RunError: the base is not installed.
    """
    from heedful.errors import RunError
    from heedful.tasks.pep8.assets import ASSETS

    if model is not None:
        return model
    base = ASSETS / "base"
    if not (base / "config.json").is_file():
        raise RunError("the embedded base model is missing", where=str(base), hint="install heedful again, or --model")
    return str(base)


def say_if_new(out: Path) -> None:
    """A line on stderr where --resume finds no run: a script may always pass it, and a mistyped folder shows."""
    from heedful.runs import MANIFEST

    is_main = int(os.environ.get("RANK", 0)) == 0
    if is_main and not (out / MANIFEST).is_file():
        typer.echo(f"nothing to resume in {out}: a new run", err=True)


def read_feedback(path: str, map: list[str] | None, limit: int | None, skip_bad: bool):
    """The records of a file, with a line on stderr for what was left out."""
    from heedful import load_feedback

    file = load_feedback(path, map=map or None, limit=limit, on_bad_row="skip" if skip_bad else "error")
    say_left_out(file)
    return file


def say_left_out(file) -> None:
    """A line on stderr for each reason."""
    for reason, count in {**file.dropped, **file.skipped}.items():
        typer.echo(f"{Path(file.path).name}: {count} rows left out: {reason}", err=True)
