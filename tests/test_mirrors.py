"""Mirrors show the metrics, and never stop a training."""

import math
import sys
import types
import warnings

import pytest

from heedful import mirrors
from heedful.errors import ConfigError


class Tracker:
    """Stands for both packages: remembers, or fails."""

    def __init__(self, *args, **kwargs):
        self.started, self.seen, self.is_closed, self.fails = kwargs, [], False, False

    def add_scalar(self, key, value, step):
        if self.fails:
            raise OSError("connection lost")
        self.seen.append((key, value, step))

    def log(self, numbers, step):
        self.seen += [(key, value, step) for key, value in numbers.items()]

    def flush(self):
        pass

    def close(self):
        self.is_closed = True

    finish = close


@pytest.fixture
def trackers(monkeypatch):
    made = []

    def make(*args, **kwargs):
        made.append(Tracker(*args, **kwargs))
        return made[-1]

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=make))
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=make))
    return made


def test_both_mirrors_get_the_numbers_of_a_line_at_its_step(trackers, tmp_path):
    started = mirrors.start(["tensorboard", "wandb"], tmp_path, config={"lr": 0.1}, step=40)
    for mirror in started:
        mirror.log({"step": 41, "loss": 0.5, "note": "text", "flag": True})
        mirror.close()
    tensorboard, wandb = trackers
    assert tensorboard.seen == wandb.seen == [("step", 41.0, 41), ("loss", 0.5, 41)]
    assert tensorboard.started["purge_step"] == 40  # what a killed run logged beyond it goes
    assert wandb.started["config"] == {"lr": 0.1} and wandb.started["resume"] == "allow"
    assert tensorboard.is_closed and wandb.is_closed


def test_tensorboard_is_spared_numbers_that_are_not_finite(trackers, tmp_path):
    (mirror,) = mirrors.start(["tensorboard"], tmp_path)
    mirror.log({"step": 1, "loss": math.nan, "norm": math.inf})
    assert trackers[0].seen == [("step", 1.0, 1)]


def test_a_failing_mirror_warns_once_and_goes_off(trackers, tmp_path):
    (mirror,) = mirrors.start(["tensorboard"], tmp_path)
    trackers[0].fails = True
    with pytest.warns(UserWarning, match="tensorboard is off from here on: connection lost"):
        mirror.log({"step": 1, "loss": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mirror.log({"step": 2, "loss": 0.5})
        mirror.close()


def test_a_missing_package_is_a_warning_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.warns(UserWarning, match=r"tensorboard is off: .*pip install heedful\[track\]"):
        assert mirrors.start(["tensorboard"], tmp_path) == []


def test_an_unknown_mirror_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown mirror 'comet': expected tensorboard or wandb"):
        mirrors.start(["comet"], tmp_path)
