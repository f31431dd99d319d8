"""The line that says what is going on."""

import time

import pytest

from heedful.cli.progress import Progress, outcome, step
from heedful.results import Metric, Row

EVENT = {"step": 1200, "done": 0.25, "loss": 1.23456, "tokens_per_second": 8765.4, "seconds_left": 42.0}


def test_a_step_shows_speed_and_time_left():
    assert step(EVENT) == "step 1,200 (25%), loss 1.235, 8,765 tokens/s, 42 s left"


def test_a_time_left_that_is_not_known_is_left_out():
    assert step(EVENT | {"seconds_left": float("nan")}) == "step 1,200 (25%), loss 1.235, 8,765 tokens/s"


def test_a_row_of_a_comparison_ends_with_its_number():
    row = Row(method="sft", metrics={"gold": Metric(value=-0.25, unit="score"), "length": Metric(value=9)})
    assert outcome(row) == "done, Gold score −0.250"


def test_a_row_that_failed_ends_with_its_error():
    assert outcome(Row(method="sft", status="failed", error="no row")) == "failed, no row"


def test_a_comparison_names_the_row_and_what_it_does(capsys):
    progress = Progress(quiet=True)
    progress.comparing({"row": "sft-s0", "stage": "start", "number": 2, "of": 9})
    assert progress.line().startswith("[2/9] sft-s0: preparing, 0:0")
    progress.comparing({"row": "sft-s0", "stage": "train", **EVENT})
    assert progress.line().startswith("[2/9] sft-s0: step 1,200 (25%)")
    progress.comparing({"row": "sft-s0", "stage": "sampling"})
    assert progress.line().startswith("[2/9] sft-s0: sampling, ")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_line_is_printed_every_so_often(capsys):
    with Progress(every=0.02) as progress:
        progress.say("working", restart=True)
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert set(lines) == {"working, 0:00"}


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {}])
def test_quiet_and_other_processes_say_nothing(capsys, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Progress(quiet=not environment, every=0.01) as progress:
        progress.say("working")
        progress.leave("done")
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
