"""`heedful eval`: a model measured as `compare` measures it, without training anything."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from heedful.cli.options import SCORER, AsJson, Limit, Map, Quiet, Seed, SkipBad, model_or_base
from heedful.cli.output import show
from heedful.cli.progress import Progress


def evaluate(
    model: Annotated[str | None, typer.Argument(help="Folder or Hub name of a model. [the embedded base]")] = None,
    task: Annotated[
        str, typer.Option("--task", "-t", metavar="TASK", help="pep8, or a feedback file of your own.")
    ] = "pep8",
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="SCORER", help=f"Judges answers to your own prompts: {SCORER}.")
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option("--num-prompts", min=1, metavar="N", help="Evaluate on the first so many only.")
    ] = None,
    seed: Seed = 0,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure one model on a task.

    On its selection split: the test split is read by `compare` alone, which notes each reading.
    """
    from heedful import evaluate as measure
    from heedful.tasks.named import TASKS, load_task

    asked = model_or_base(model)
    subject = load_task(
        task,
        model=None if task in TASKS else asked,
        judge=judge,
        num_prompts=num_prompts,
        split="selection",
        map=map or None,
        limit=limit,
        skip_bad=skip_bad,
    )
    with Progress(quiet=quiet) as progress:
        progress.say(f"{subject.name}: preparing", restart=True)
        metrics = measure(asked, subject, seed=seed, progress=lambda stage: progress.say(f"{subject.name}: {stage}"))
    found = {"model": asked, "task": subject.name, "seed": seed}
    show(found | {"metrics": {name: one.model_dump() for name, one in metrics.items()}}, _lines, as_json=as_json)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from heedful.wording import between, number, title

    for name, one in found["metrics"].items():
        interval = between(one["low"], one["high"], one["unit"])
        better = {"higher": "higher is better", "lower": "lower is better"}.get(one["direction"], "")
        amount = f"n={one['n']}" if one["n"] else ""
        yield f"{title(name):<28}{number(one['value'], one['unit']):>9}  {interval:<18}{amount:<8}{better}".rstrip()
