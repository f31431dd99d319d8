"""`heedful sample`: what a model answers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import SCORER, AsJson, Limit, Map, Quiet, Seed, model_or_base, read_feedback
from heedful.cli.output import show
from heedful.cli.progress import Progress


def sample(
    model: Annotated[str | None, typer.Argument(help="Folder or Hub name of a model. [the embedded base]")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", metavar="TEXT", help="A prompt; may be repeated.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option("--prompts", metavar="FILE", help="A file with prompts, in any shape heedful reads.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="K", help="Responses to each prompt.")] = 1,
    best_of: Annotated[
        int | None, typer.Option("--best-of", min=1, metavar="N", help="Draw N, keep the best by --best-by.")
    ] = None,
    best_by: Annotated[str | None, typer.Option("--best-by", metavar="SCORER", help=f"Judges them: {SCORER}.")] = None,
    refine: Annotated[
        int, typer.Option("--refine", min=0, metavar="N", help="Give each response back and ask for a better, N times.")
    ] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="Longest response.")] = 128,
    temperature: Annotated[float, typer.Option("--temperature", "-t", metavar="T", help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", metavar="P", help="Draw from this much probability.")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", help="Draw from so many tokens; 0: all.")] = 0,
    stop: Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="End a response here.")] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write records here, for `score` and `train`.")
    ] = None,
    map: Map = None,
    limit: Limit = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Have a model answer prompts.

    They are given with --prompt, in a file with --prompts, or one on standard input, which is read to its end.
    """
    if (best_of is None) != (best_by is None):
        raise typer.BadParameter("--best-of and --best-by go together")
    asked = _prompts(prompt, prompts, map, limit)
    from heedful import Sampling
    from heedful import sample as draw
    from heedful.records import to_json

    settings = Sampling(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, stop=tuple(stop or ())
    )
    with Progress(quiet=quiet) as progress:
        count = best_of or k
        records = draw(
            model_or_base(model),
            asked,
            k=count,
            sampling=settings,
            best_by=best_by,
            refine=refine,
            seed=seed,
            progress=progress.drawing(len(asked) * count * (refine + 1)),
        )
    if out is not None:
        _write(out, records)
    elif as_json:
        show([to_json(record) for record in records], list, as_json=True)
    else:
        _show(records)


def _prompts(texts: list[str] | None, file: str | None, map: list[str] | None, limit: int | None):
    if texts and file:
        raise typer.BadParameter("--prompt and --prompts exclude each other")
    if file:
        return read_feedback(file, map, limit, skip_bad=False)
    return texts or [_from_stdin()]


def _from_stdin() -> str:
    """One prompt, line breaks and all. A person at a terminal is told what it waits for."""
    if sys.stdin is None:
        from heedful.errors import ConfigError

        raise ConfigError("there is no prompt, and standard input is closed", hint="use --prompt or --prompts")
    stdin = typer.get_text_stream("stdin")
    if stdin.isatty():
        typer.echo("reading a prompt from standard input, up to Ctrl-D (or use --prompt)", err=True)
    return stdin.read()


def _write(out: Path, records) -> None:
    """Records that can be read back: an empty response is none."""
    from heedful.data import write_feedback
    from heedful.inference import without_empty

    kept = [without_empty(record) for record in records]
    empty = sum(len(record.responses) for record in records) - sum(len(record.responses) for record in kept)
    if empty:
        typer.echo(f"{empty} empty responses left out", err=True)
    write_feedback(out, kept)
    typer.echo(out)


def _show(records) -> None:
    """The texts; what could act on the terminal is named. One text alone stands alone."""
    from heedful.visible import visible

    texts = [
        (record.id + _turn(record, n), response) for record in records for n, response in enumerate(record.responses)
    ]
    for number, (name, response) in enumerate(texts):
        if len(texts) > 1:
            score = f"  {response.scores[0].scorer} {response.scores[0].value:.4g}" if response.scores else ""
            typer.echo(("\n" if number else "") + f"--- {visible(name)}{score}")
        typer.echo(visible(response.text))


def _turn(record, n: int) -> str:
    """Which turn of a refinement a response is, and how much of it the one before had."""
    from heedful.inference import REFINE

    if REFINE not in record.metadata:
        return ""
    copied = record.metadata[REFINE]["copy_rate"][n]
    return f"  turn {record.metadata[REFINE]['turn'][n]}" + ("" if copied is None else f"  copied {copied:.2f}")
