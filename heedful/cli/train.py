"""`heedful train`: one method on one feedback file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from heedful.cli.options import (
    AsJson,
    Limit,
    Map,
    Model,
    Quiet,
    Resume,
    Set,
    SkipBad,
    model_or_base,
    say_if_new,
    say_left_out,
)
from heedful.cli.output import show
from heedful.cli.progress import Progress


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="`heedful methods` lists them.")],
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="A YAML file, or what ships: hh, tldr, qa, pep8, reasoning."),
    ] = None,
    *,
    feedback: Annotated[
        str, typer.Option("--feedback", "-f", metavar="FILE", help="What to learn from: a file, pep8 or reasoning.")
    ],
    model: Model = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="RUN", help="Run folder. [runs/METHOD]")] = None,
    resume: Resume = False,
    changes: Set = None,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", metavar="MIRROR", help="Show metrics in tensorboard or wandb too; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do: rows, tokens, memory, time. Writes nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a model with one method.

    The result is a plain Hugging Face folder, RUN/model. `--feedback pep8` is what METHOD learns from in that
    embedded task, and needs no file; settings and model are then the task's, with RECIPE and --set laid over them.
    """
    from heedful.cli.recipes import settings
    from heedful.tasks.named import feedback_for, settings_for, start_for

    _check_method(method)
    asked = settings(recipe, method, changes or [], settings_for(method, feedback))
    records = feedback_for(method, feedback, map=map or None, limit=limit, skip_bad=skip_bad)
    say_left_out(records)
    base = model_or_base(model or start_for(feedback))
    if dry_run:
        show(_plan(method, base, records, asked), plan_lines, as_json=as_json)
        raise typer.Exit
    from heedful import train as run_training

    folder = out or Path("runs") / method
    if resume:
        say_if_new(folder)
    with Progress(quiet=quiet) as progress:
        run = run_training(
            method,
            model=base,
            feedback=records,
            out=folder,
            settings=asked,
            resume=resume,
            progress=progress.training(method),
            mirrors=track or (),
        )
    kept = ("ledger", "metrics", "selected_step", "rows_lost")
    found = {"run": str(run.path), "model": str(run.model_path)} | {name: run.manifest[name] for name in kept}
    show(found, _lines, as_json=as_json)


def _check_method(name: str) -> None:
    """Before a large file is read for nothing."""
    from heedful import METHODS
    from heedful.config import unknown

    if name not in METHODS:
        raise unknown(name, "method", list(METHODS))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from heedful.wording import count, duration

    cost = found["ledger"]
    yield f"{count(cost['train_tokens'])} tokens in {duration(cost['seconds'])}"
    for name, value in found["metrics"].items():
        if name.startswith("eval_"):
            yield f"{name.removeprefix('eval_')} {value:.4g} on the validation split"
    yield f"the model is that of step {found['selected_step']}"
    for reason, lost in found["rows_lost"].items():
        yield f"{reason}: {lost}"
    yield found["model"]


def _plan(method: str, model: str, records: Any, asked: dict[str, Any]) -> dict[str, Any]:
    from heedful import estimate
    from heedful.training import dry_run, prepare

    prepared = prepare(method, model=model, feedback=records, settings=asked)
    found = dry_run(prepared)
    return found | (estimate.measure(prepared)._asdict() if "rows" in found else {})


def plan_lines(found: dict[str, Any]) -> Iterator[str]:
    """What a training would do."""
    from heedful.disk import show_size
    from heedful.wording import budget, count, duration, plural

    part = (
        f", {count(trained)} of them trained" if (trained := found["trained_parameters"]) < found["parameters"] else ""
    )
    yield f"{found['method']} on {count(found['parameters'])} parameters{part}, for {budget(found['budget'])}"
    yield f"{plural(found['records'], 'record')} to train on, {found['validation_records']:,} held out for validation"
    if "rows" not in found:
        yield "its rows are made of what the model answers, so that nothing is known of them and of their cost before"
        return
    yield f"{plural(found['rows'], 'row')} with {plural(found['responses'], 'response')}"
    yield f"{plural(found['tokens_per_epoch'], 'token')} an epoch, {found['longest_row']:,} in the longest row"
    for reason, lost in found["lost"].items():
        yield f"  {reason}: {lost} ({_share(reason, lost, found)})"
    yield f"about {show_size(found['memory_bytes'])} of memory and {duration(found['seconds'])} on this machine"


def _share(reason: str, lost: int, found: dict[str, Any]) -> str:
    """Of all pairs or records, what was lost among them; "(kept)" was not."""
    of_pairs = reason.startswith("pair")
    kept = found["pairs"] if of_pairs else found["records"] + found["validation_records"]
    whole = kept if reason.endswith("(kept)") else kept + lost
    return f"{lost / whole:.1%} of the {'pairs' if of_pairs else 'records'}"
