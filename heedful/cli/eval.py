"""`heedful eval`: a model measured as `compare` measures it, or a scorer against what people preferred; no training."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from heedful.cli.options import SCORER, AsJson, Limit, Map, Quiet, Seed, SkipBad, model_or_base, read_feedback
from heedful.cli.output import show
from heedful.cli.progress import Progress

TASK = "pep8"  # where none is named
NAMES = {  # of the metrics of a scorer, in the order they are shown
    "accuracy": "prefers what people prefer",
    "always_longer": "  so does the longer response",
    "above_longer": "  the difference",
    "accuracy_if_longer": "  where they prefer the longer",
    "accuracy_if_shorter": "  where they prefer the shorter",
    "ceiling": "  one labeler and the majority of the others",
    "log_loss": "log-loss (0.693: knows nothing)",
    "chooses_longer": "scores the longer higher",
    "length_correlation": "rank correlation of score and length",
    "tie_share": "ties among the comparisons",
    "knows_ties": "  margin above that of a tie (50%: chance)",
}


def evaluate(
    model: Annotated[str | None, typer.Argument(help="Folder or Hub name of a model. [the embedded base]")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            metavar="TASK",
            help="pep8, reasoning, a file of BIG-Bench Hard, or a feedback file of your own. [pep8]",
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="SCORER", help=f"Judges answers to your own prompts: {SCORER}.")
    ] = None,
    num_prompts: Annotated[
        int | None, typer.Option("--num-prompts", min=1, metavar="N", help="Evaluate on the first so many only.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option("--with", metavar="SCORER", help=f"Measure a scorer, not a model: {SCORER}.")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option("--feedback", "-f", metavar="FILE", help="The comparisons that --with is measured on.")
    ] = None,
    seed: Seed = 0,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure one model on a task, or one scorer on people's comparisons.

    A model on the task's selection split: the test split is read by `compare` alone, which notes each reading. A
    scorer, such as a reward model, on all of a feedback file that it has not learned from: `heedful data split` makes
    one.
    """
    if (scorer is None) != (feedback is None):
        raise typer.BadParameter("--with and --feedback go together")
    if scorer is not None and feedback is not None:
        options = {"MODEL": model, "--task": task, "--judge": judge, "--num-prompts": num_prompts}
        if given := [name for name, value in options.items() if value is not None]:
            raise typer.BadParameter(f"--with measures a scorer, {given[0]} is for a model")
        _evaluate_scorer(scorer, read_feedback(feedback, map, limit, skip_bad), quiet=quiet, as_json=as_json)
        return
    from heedful import evaluate as measure
    from heedful.tasks.named import TASKS, load_task, start_for

    name = task or TASK
    asked = model_or_base(model or start_for(name))
    subject = load_task(
        name,
        model=None if name in TASKS else asked,
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


def _evaluate_scorer(scorer: str, records: Any, *, quiet: bool, as_json: bool) -> None:
    from heedful import evaluate_scorer

    with Progress(quiet=quiet) as progress:
        found = evaluate_scorer(scorer, records, progress=progress.counter("scored"))
    metrics = {name: found.metrics[name].model_dump() for name in NAMES if name in found.metrics}
    shown = {"scorer": found.scorer, "file": records.path, "counts": found.counts, "left_out": found.left_out}
    show(shown | {"metrics": metrics}, _agreement, as_json=as_json)


def _agreement(found: dict[str, Any]) -> Iterator[str]:
    from heedful.wording import between, number, plural, signed

    counts = found["counts"]
    read = f"{plural(counts['pairs'], 'pair')} and {plural(counts['ties'], 'tie')}"
    yield f"{found['scorer']['name']} {found['scorer']['version']}: {read} of {plural(counts['prompts'], 'prompt')}"
    for reason, count in found["left_out"].items():
        yield f"  left out: {reason}: {count}"
    for name, one in found["metrics"].items():
        is_difference = name == "above_longer"
        value = (signed if is_difference else number)(one["value"], one["unit"])
        interval = between(one["low"], one["high"], one["unit"], sign=is_difference)
        yield f"{NAMES[name]:<46}{value:>9}  {interval}".rstrip()
