"""How commands fail: one message on stderr, an exit code, no traceback without --debug."""

import errno
import warnings

import pytest
import typer
from typer.testing import CliRunner

from heedful.cli.group import Group
from heedful.errors import ConfigError, Stopped

HEEDFUL_FILE = "/somewhere/heedful/loop.py"


def run(error: BaseException, *arguments: str):
    """A command that raises."""
    app = typer.Typer(cls=Group)

    @app.callback()
    def options(debug: bool = False) -> None: ...

    @app.command()
    def verb() -> None:
        raise error

    return CliRunner().invoke(app, [*arguments, "verb"])


def test_an_error_of_the_user_is_one_message_and_exit_code_2():
    result = run(
        ConfigError("unknown setting 'lrr'", where="recipe.yaml", allowed="one of lr", hint="did you mean 'lr'?")
    )
    assert result.exit_code == 2
    assert result.stderr == "error: recipe.yaml: unknown setting 'lrr': expected one of lr (did you mean 'lr'?)\n"
    assert result.stdout == ""


@pytest.mark.parametrize("place", [0, 1])
def test_debug_shows_the_traceback_wherever_it_stands(place):
    app = typer.Typer(cls=Group)

    @app.callback()
    def options(debug: bool = False) -> None: ...

    @app.command()
    def verb() -> None:
        raise ConfigError("wrong")

    arguments = ["verb"]
    arguments.insert(place, "--debug")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr and result.stderr.endswith("error: wrong\n")


@pytest.mark.parametrize("code", [130, 143])
def test_a_training_that_was_stopped_exits_as_its_signal_says(code):
    result = run(Stopped(code))
    assert result.exit_code == code
    assert result.stderr == "stopped; everything up to the last step is saved (continue with --resume)\n"


def test_ctrl_c_exits_130_without_a_traceback():
    result = run(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_error_of_the_system_names_its_file():
    result = run(OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    assert (result.exit_code, result.stderr) == (2, "error: runs/x: No space left on device\n")


def test_a_bug_is_a_sentence_and_exit_code_1():
    result = run(KeyError("x"))
    assert result.exit_code == 1
    assert result.stderr == "error: KeyError: 'x' (this is a bug in heedful; --debug shows where)\n"


def test_what_a_file_holds_cannot_act_on_the_terminal():
    assert "\x1b" not in run(ConfigError("found \x1b[31mred")).stderr


def test_a_reader_that_closes_the_pipe_is_no_error():
    assert run(BrokenPipeError(errno.EPIPE, "Broken pipe")).stderr == ""


def test_a_misspelt_verb_gets_a_suggestion(heedful):
    assert "Did you mean 'train'" in heedful("trian", code=2).err


def test_a_misspelt_option_gets_a_suggestion(heedful):
    assert "--feedback" in heedful("train", "sft", "--feedbak", "x", code=2).err


def test_own_warnings_are_one_line_and_those_of_libraries_are_silent():
    app = typer.Typer(cls=Group)

    @app.callback()
    def options(debug: bool = False) -> None: ...

    @app.command()
    def verb() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit("a checkpoint is passed over", UserWarning, HEEDFUL_FILE, 1)
            warnings.warn_explicit("internals of torch", UserWarning, "/site-packages/torch/x.py", 1)

    assert CliRunner().invoke(app, ["verb"]).stderr == "warning: a checkpoint is passed over\n"
