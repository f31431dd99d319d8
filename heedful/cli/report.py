"""`heedful report`: a folder becomes one page."""

from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import AsJson, Quiet
from heedful.cli.output import show, show_table


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a comparison or a training.")],
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make the page of a comparison or a training.

    It is report.html in the folder, from what is there.
    """
    from heedful import build_report

    page = build_report(run)
    if not quiet and not as_json:
        show_table(run)
    show({"report": str(page)}, lambda found: [found["report"]], as_json=as_json)
