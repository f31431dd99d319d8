"""`heedful score`: a number for every response in a file."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from heedful.cli.data import File
from heedful.cli.options import SCORER, AsJson, Limit, Map, Quiet, SkipBad, read_feedback
from heedful.cli.output import show
from heedful.cli.progress import Progress


def score(
    file: File,
    scorer: Annotated[str, typer.Option("--with", metavar="SCORER", help=f"Scores responses: {SCORER}.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the scored records here.")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", metavar="FILE", help="Keeps scores between calls.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes. [as many as pay]")
    ] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="Score every segment, with a reward model: what it adds to the reward.")
    ] = False,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score every response in a file, or every segment of one."""
    from heedful import load_scorer
    from heedful import score as score_records
    from heedful.data import write_feedback
    from heedful.scoring import score_segments

    judge = load_scorer(scorer)
    records = read_feedback(file, map, limit, skip_bad)
    with Progress(quiet=quiet) as progress:
        if segments:
            scored = score_segments(records, judge)
        else:
            scored = score_records(records, judge, workers=workers, cache=cache, progress=progress.counter("scored"))
    if out is not None:
        write_feedback(out, scored)
    responses = [response for record in scored for response in record.responses]
    if segments:
        values = [segment.score for response in responses for segment in response.segments]
    else:
        values = [one.value for response in responses for one in response.scores if one.scorer == judge.name]
    show(_summary(judge, values, out, "segments" if segments else "responses"), _lines, as_json=as_json)


def _summary(judge: Any, values: list[float], out: Path | None, scored: str) -> dict[str, Any]:
    from heedful.data.inspect import quantiles

    repeated = sum(count for count in Counter(values).values() if count > 1)
    found = {"scorer": judge.name, "version": judge.version, "score": quantiles(values), "repeated": repeated}
    return found | {"scored": scored, "out": None if out is None else str(out)}


def _lines(found: dict[str, Any]) -> Iterator[str]:
    spread = dict(found["score"])
    num = f"{spread.pop('num')} {found['scored']}"
    yield f"{found['scorer']} {found['version']}: {num}, {found['repeated']} with a score others have too"
    yield "  ".join(f"{name} {value:.4g}" for name, value in spread.items())
    if found["out"]:
        yield found["out"]
