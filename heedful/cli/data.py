"""`heedful data`: look into a feedback file, or split it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from heedful.cli.options import AsJson, Limit, Map, Model, Seed, SkipBad, read_feedback
from heedful.cli.output import show

File = Annotated[
    str, typer.Argument(metavar="FILE", help="JSON lines, CSV, Parquet (.gz too), or owner/name on the Hub.")
]


By = Literal["prompt", "user", "labeler"]
BY: tuple[By, ...] = ("prompt", "user", "labeler")


def inspect(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="As elsewhere, or pep8 or reasoning: what an embedded task has."),
    ],
    model: Model = None,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Say what is in a file, and which methods it can feed.

    The tokens and the mask of one example are those of --model.
    """
    from heedful import inspect_feedback
    from heedful.data import render
    from heedful.tasks.named import feedback_for

    records = feedback_for("mle", file, map=map or None, limit=limit, skip_bad=skip_bad)
    show(inspect_feedback(records, model), lambda found: [render(found).rstrip("\n")], as_json=as_json)


def split(
    file: File,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the parts go, one file each.")],
    by: Annotated[
        str, typer.Option("--by", metavar="[prompt|user|labeler]", help="What no two parts share.")
    ] = "prompt",
    shares: Annotated[
        str, typer.Option("--shares", help="Parts and their shares.")
    ] = "train=0.8,validation=0.1,test=0.1",
    max_per_user: Annotated[int, typer.Option("--max-per-user", min=0, help="Most prompts of one user; 0: all.")] = 200,
    prefix: Annotated[
        int,
        typer.Option("--prefix", min=0, help="Prompts that begin with the same so many characters are one; 0: never."),
    ] = 300,
    seed: Seed = 0,
    map: Map = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Split a file into parts that share no prompt.

    Or no user, or no labeler. Of prompts that begin alike, one is kept.
    """
    from heedful import split_feedback
    from heedful.data import write_feedback
    from heedful.disk import discarding, safe_name

    unit = _by(by)
    parts = {safe_name(name, what="part"): share for name, share in _shares(shares).items()}
    records = read_feedback(file, map, limit, skip_bad)
    found = split_feedback(records, by=unit, shares=parts, seed=seed, max_per_user=max_per_user or None, prefix=prefix)
    paths = {name: out / f"{name}.jsonl" for name in found.parts}
    _refuse_existing(paths.values())
    with ExitStack() as unfinished:
        for path in paths.values() if out.exists() else [out]:
            unfinished.enter_context(discarding(path))
        out.mkdir(parents=True, exist_ok=True)
        for name, part in found.parts.items():
            write_feedback(paths[name], part)
    counts = {"counts": dict(found.counts), "files": {name: str(path) for name, path in paths.items()}}
    show(counts, _lines, as_json=as_json)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for name, count in found["counts"].items():
        yield f"{count:>8}  {found['files'].get(name, name.replace('_', ' ') + ' left out')}"


def _by(name: str) -> By:
    from heedful.config import unknown

    for known in BY:
        if name == known:
            return known
    raise unknown(name, "value", BY, where="--by")


def _shares(text: str) -> dict[str, float]:
    from heedful.errors import ConfigError

    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError:
        raise ConfigError(
            f"cannot read {text!r}", where="--shares", allowed="parts such as train=0.9,test=0.1"
        ) from None


def _refuse_existing(paths: Iterable[Path]) -> None:
    from heedful.errors import RunError

    for path in paths:
        if path.exists():
            raise RunError("the file is there already", where=str(path), hint="choose another --out")
