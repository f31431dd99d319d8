"""The benchmarks run: each once, tiny, to its line of JSON. What they measure then means nothing."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", minversion="1.16", reason="needs `pip install trl==1.16.*`")

BENCH = Path(__file__).parents[1] / "bench"
TINY = ["--size", "tiny", "--vocabulary", "64", "--steps", "1", "--warmup", "1", "--batch-size", "4"]
RUNS = {
    "sft": TINY,
    "reward_pairs": [*TINY, "--in-order"],
    "reward_k4": TINY,
    "pairs": [*TINY, "--memory", "--defaults"],
    "matmul": TINY,
    "overhead": TINY,
    "crossover": TINY,
    "growth": [*TINY, "--prompts", "30", "--ks", "2"],
    "preprocessing": ["--pairs", "4", "--rounds", "1"],
    "ppo": [*TINY, "--prompts", "24", "--response", "4", "--in-order"],
    "comparison": ["--methods", "sft", "--budget", "500", "--prompts", "1"],
}
SIDE_BY_SIDE = ("sft", "reward_pairs", "reward_k4", "pairs")


def run(name, arguments, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    runpy.run_path(str(BENCH / f"{name}.py"), run_name="__main__")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('{"workload"')]
    return json.loads(lines[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_ends_with_its_line_of_json(name, monkeypatch, capsys, one_thread):
    found = run(name, RUNS[name], monkeypatch, capsys)
    assert found["workload"] == name
    assert {"machine", "versions", "command", "threads", "note"} <= set(found)
    if name in SIDE_BY_SIDE:
        named = {"ratio", "ratio_plain", "ours", "theirs", "memory_ratio", "loss_difference"}
        assert named <= set(found)
        assert max(found["loss_difference"], found["loss_difference_plain"]) < 1e-4  # all three train on the same


@pytest.mark.slow
def test_ppo_computes_what_trl_did(monkeypatch, capsys, one_thread):
    found = run("ppo", [*RUNS["ppo"], "--ks", "1", "4", "--steps", "3"], monkeypatch, capsys)
    assert [(one["k"], one["values"]) for one in found["updates"]] == [
        (k, values) for k in (1, 4) for values in ("shared trunk", "a network of its own")
    ]
    assert found["loss_difference"] < 1e-5


@pytest.mark.slow
def test_slic_computes_what_trl_does(monkeypatch, capsys, one_thread):
    found = run("pairs", [*TINY, "--loss", "slic"], monkeypatch, capsys)
    assert found["workload"] == "pairs_slic"
    assert found["loss_difference"] < 1e-3 * found["loss"][0]  # a sum over some hundred nats


def test_the_makefile_runs_every_benchmark():
    made = (BENCH.parent / "Makefile").read_text(encoding="utf-8")
    listed = made.partition("BENCHES ?= ")[2].partition("\n")[0].split()
    assert sorted(listed) == sorted(RUNS)
