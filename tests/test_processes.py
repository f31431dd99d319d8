"""Real processes: two give the numbers of one, and three kills at random moments leave no trace."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from train_all import EVERY, base

from heedful import checkpoint
from heedful.runs import Run

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "OMP_NUM_THREADS": "1"}
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
KILLED = """
import sys
from pathlib import Path
import torch
import train_all
torch.set_num_threads(1)
train_all.train("awr", Path(sys.argv[1]), resume=True, budget={"steps": 250}, save_every=7, eval_every=20)
"""


def run(*command, expect=0):
    done = subprocess.run([sys.executable, *map(str, command)], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == expect, done.stderr[-4000:]


def lines(path):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in Run(path).metrics()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Every method in one process."""
    out = tmp_path_factory.mktemp("alone")
    base(out / "base")
    run(HERE / "train_all.py", out)
    return out


def test_two_processes_give_the_losses_of_one(alone, tmp_path):
    base(tmp_path / "base")
    run(*TWO, HERE / "train_all.py", tmp_path)
    for variant in EVERY:
        assert Run(tmp_path / variant).manifest["environment"]["processes"] == 2
        one, two = lines(alone / variant), lines(tmp_path / variant)
        assert len([line for line in one if "loss" in line]) == 20
        # abs: a gap is a small difference of sums of tens of nats
        assert two == [pytest.approx(line, rel=1e-5, abs=2e-6) for line in one], variant


def test_two_processes_give_the_losses_of_one_with_adapters_too(tmp_path):
    pytest.importorskip("peft", reason="adapters need peft: pip install 'heedful[adapters]'")
    variants = ["conditional", "dpo", "reward_model", "awr"]  # new tokens, a reference, a head alone, a head beside
    for folder, launch in (("one", []), ("two", TWO)):
        base(tmp_path / folder / "base")
        run(*launch, HERE / "train_all.py", tmp_path / folder, *variants, "--lora")
    for variant in variants:
        one, two = lines(tmp_path / "one" / variant), lines(tmp_path / "two" / variant)
        assert len([line for line in one if "loss" in line]) == 20
        assert two == [pytest.approx(line, rel=1e-5, abs=2e-6) for line in one], variant


def test_two_processes_go_on_with_a_run_that_two_began(tmp_path):
    base(tmp_path / "base")
    run(*TWO, HERE / "train_all.py", tmp_path, "mle")
    before = lines(tmp_path / "mle")
    (tmp_path / "mle" / "DONE").unlink()
    run(*TWO, HERE / "train_all.py", tmp_path, "mle", "--resume")
    assert lines(tmp_path / "mle") == before


def start_and_kill(out, rng):
    """Start or go on, let it train for a moment, and kill it; whether it was still running."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    log = out / "awr" / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    while process.poll() is None and not (log.exists() and log.stat().st_size != size):
        time.sleep(0.01)  # until it has trained
    time.sleep(rng.uniform(0, 0.8))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_three_kills_at_random_moments_leave_no_trace(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    base(whole / "base")
    (cut).mkdir()
    (cut / "base").symlink_to(whole / "base")
    run("-c", KILLED, whole)
    kills = sum(start_and_kill(cut, rng) for _ in range(3))
    assert kills == 3, "a run ended before it was killed; make it longer"
    run("-c", KILLED, cut)
    assert lines(cut / "awr") == lines(whole / "awr")
    assert (cut / "awr" / "samples.jsonl").read_bytes() == (whole / "awr" / "samples.jsonl").read_bytes()
    ours, theirs = (checkpoint.load_newest(out / "awr") for out in (cut, whole))
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(value, theirs.tensors[name]) for name, value in ours.tensors.items())
    model = Path("awr") / "model" / "model.safetensors"
    assert (cut / model).read_bytes() == (whole / model).read_bytes()
    assert len(Run(cut / "awr").manifest["resumed"]) == 3
