"""The command line: one file per verb, each a thin skin over a function of the package.

Here and at the top of the verbs' files nothing heavy is imported, so that `heedful --help` answers at once.
"""

from typing import Annotated

import typer

from heedful.cli.compare import compare
from heedful.cli.data import inspect, split
from heedful.cli.doctor import doctor
from heedful.cli.eval import evaluate
from heedful.cli.group import Group
from heedful.cli.methods import methods
from heedful.cli.report import report
from heedful.cli.sample import sample
from heedful.cli.score import score
from heedful.cli.train import train

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("compare")(compare)
app.command("train")(train)
app.command("sample")(sample)
app.command("score")(score)
app.command("eval")(evaluate)
app.command("report")(report)
app.command("methods")(methods)
app.command("doctor")(doctor)

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a feedback file, or split it.")
data_app.command("inspect")(inspect)
data_app.command("split")(split)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"heedful {version('heedful')}")
        raise typer.Exit


@app.callback()
def heedful(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Teach language models from human feedback: one file in, any method, a fair comparison out."""


def main() -> None:
    """What `heedful` runs."""
    app(prog_name="heedful")
