"""The command line: one file per verb, each a thin skin over a function of the package.

Here and at the top of the verbs' files nothing heavy is imported, so that `heedful --help` answers at once.
"""

from typing import Annotated

import typer

from heedful.cli import compare, data, doctor, eval, methods, report, sample, score, train
from heedful.cli.group import Group

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("score")(score.score)
app.command("eval")(eval.evaluate)
app.command("report")(report.report)
app.command("methods")(methods.methods)
app.command("doctor")(doctor.doctor)

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a feedback file, or split it.")
data_app.command("inspect")(data.inspect)
data_app.command("split")(data.split)
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
