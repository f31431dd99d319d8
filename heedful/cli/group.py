"""How every command fails: one message on stderr, an exit code, and a traceback only with --debug."""

import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from typer.core import TyperGroup

from heedful.errors import HeedfulError, Stopped

ENVIRONMENT = {  # where it is not set already; read by the libraries when they are imported
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # heedful has its own progress
    "TRANSFORMERS_VERBOSITY": "error",
    # Threads that wait spin by default, and starve whoever has to finish: with one other busy process on 2 cores,
    # training was 2 to 3 times and decoding 4 to 10 times slower without this (torch 2.13, measured 3 times).
    "OMP_WAIT_POLICY": "PASSIVE",
}

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BUG = 1


class Group(TyperGroup):
    """The commands. `--debug` may stand anywhere on the line."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        rest = [argument for argument in args if argument != "--debug"]
        return super().parse_args(ctx, ["--debug", *rest] if len(rest) < len(args) else args)

    def invoke(self, ctx):
        debug = ctx.params["debug"]
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with plain_warnings(debug), messages(debug):
            return super().invoke(ctx)


@contextmanager
def messages(debug: bool) -> Iterator[None]:
    """Turn what a command raises into a message and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED, debug)
    except Stopped as error:
        fail(str(error), error.exit_code, debug)
    except HeedfulError as error:
        fail(f"error: {error}", error.exit_code, debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        fail(f"error: {place}{error.strerror or error}", HeedfulError.exit_code, debug)
    except MemoryError:
        fail("error: out of memory (--set micro_tokens=2048 makes a training smaller)", HeedfulError.exit_code, debug)
    except Exception as error:
        if hasattr(error, "exit_code"):  # a wrong option: typer's own words are good
            raise
        fail(f"error: {type(error).__name__}: {error} (this is a bug in heedful; --debug shows where)", BUG, debug)


def fail(message: str, code: int, debug: bool) -> None:
    """Say it on stderr and leave with the code."""
    from heedful.visible import visible

    if debug:
        traceback.print_exc()
    typer.echo(visible(message), err=True)
    raise typer.Exit(code)


@contextmanager
def plain_warnings(debug: bool) -> Iterator[None]:
    """heedful's own warnings as one line each; those of its libraries only with --debug."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if issubclass(category, UserWarning) and "heedful" in Path(filename).parts:
            typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = show
        yield
