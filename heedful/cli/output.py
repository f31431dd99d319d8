"""Results on stdout: JSON for programs, lines for people."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

WIDTH = 120  # of a table that goes into a file or a pipe


def show(value: Any, lines: Callable[[Any], Iterable[str]], *, as_json: bool) -> None:
    """One JSON document, numbers that are not finite spelled out; or the lines made of the value."""
    from heedful.disk import to_json

    if as_json:
        typer.echo(to_json(value, indent=2))
    else:
        for line in lines(value):
            typer.echo(line)


def show_table(folder: Path) -> None:
    """The table of a comparison; nothing for a single training."""
    from rich.console import Console

    from heedful import results
    from heedful.terminal import ComparisonTable

    if (folder / results.FILE).is_file():
        width = None if sys.stdout.isatty() else WIDTH
        Console(highlight=False, width=width).print(ComparisonTable(results.load(folder)))
