"""`heedful compare`: every method on the same task, at the same budget."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import SCORER, AsJson, Limit, Map, Model, Quiet, Set, SkipBad, say_if_new
from heedful.cli.output import show, show_table
from heedful.cli.progress import Progress

FAILED = 1  # exit code where a row failed; the table stands all the same


def compare(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="pep8, reasoning, phf-pep8, or a feedback file of your own.")
    ],
    model: Model = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B", help="Only these, or all. [the task's own]"),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N", help="How many, or which: 3, or 0,5,7.")] = "1",
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="WHAT=N", help="Of each method: tokens=200000, seconds=60, labels=1000."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="SCORER", help=f"Judges answers: {SCORER}."),
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option("--num-prompts", min=1, metavar="N", help="Evaluate on the first so many only.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="[runs/TASK]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what is done in the folder, and go on; a new one if there is none.")
    ] = False,
    changes: Set = None,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train all methods at one budget, and show who won.

    All are measured against the untouched base; everything is in one page, report.html. TASK is `pep8` or
    `reasoning`, which need no download; `phf-pep8`, pretraining with human preferences from random weights, most of an
    hour for each of six objectives; or a feedback file: its prompts are split, and every method that it can feed is
    trained.
    """
    from heedful import build_report
    from heedful import compare as run_comparison
    from heedful.config import override
    from heedful.tasks.named import load_task

    chosen, limits, drawn = _names(methods), read_budget(budget or []), read_seeds(seeds)
    subject = load_task(
        task, model=model, judge=judge, num_prompts=num_prompts, map=map or None, limit=limit, skip_bad=skip_bad
    )
    folder = out or Path("runs") / subject.name
    if resume:
        say_if_new(folder)
    with Progress(quiet=quiet) as progress:
        progress.say(f"{subject.name}: preparing", restart=True)
        results = run_comparison(
            subject,
            methods=chosen,
            out=folder,
            seeds=drawn,
            budget=limits or None,
            settings=override({}, changes or []),
            resume=resume,
            progress=progress.comparing,
        )
        page = build_report(folder)
    if as_json:
        show(results.model_dump(by_alias=True), list, as_json=True)
    else:
        show_table(folder)
        typer.echo(f"\nThe whole story: {page}")
    if any(row.status == "failed" for row in results.rows):
        raise typer.Exit(FAILED)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def read_seeds(text: str) -> list[int]:
    """`3` is how many, from 0; `0,5,7` and `5,` are which."""
    from heedful.errors import ConfigError

    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    wrong = (
        not numbers
        or min(numbers) < 0
        or max(numbers) >= 2**63
        or len(set(numbers)) < len(numbers)
        or (numbers == [0] and "," not in text)
    )
    if wrong:
        raise ConfigError(f"cannot read {text!r}", where="--seeds", allowed="how many (3), or which (0,5,7)")
    return numbers if "," in text else list(range(numbers[0]))


def read_budget(parts: Sequence[str]) -> dict[str, float]:
    """`tokens=200000`, one or several, by name."""
    from heedful.config import unknown
    from heedful.errors import ConfigError

    known = {"tokens": int, "labels": int, "seconds": float}
    found: dict[str, float] = {}
    for part in (piece for text in parts for piece in text.split(",")):
        name, _, amount = part.partition("=")
        if name not in known:
            raise unknown(name, "budget", list(known), where="--budget")
        try:
            found[name] = known[name](float(amount))
        except (ValueError, OverflowError):
            found[name] = 0
        if not found[name] > 0:
            raise ConfigError(f"cannot read {part!r}", where="--budget", allowed=f"{name}=200000, a number above 0")
    return found
