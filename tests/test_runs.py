"""A run folder refuses what would spoil it, loses nothing, and says what made its numbers."""

import json
import math
import os
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
import torch
import yaml
from faults import Killed, every_fault

from heedful import runs
from heedful.errors import RunError
from heedful.runs import Run

CONFIG = {"lr": 1e-6, "optim": {"betas": (0.9, 0.95), "clip": math.inf}, "seed": 3, "name": None}
COMMAND = ["heedful", "train", "sft"]
numbers = count()


def create(path, **changes):
    return Run.create(path, command=COMMAND, config=CONFIG | changes, seed=3)


def resume(path, **options):
    changes = {key: options.pop(key) for key in list(options) if key in CONFIG}
    return Run.resume(path, command=[*COMMAND, "--resume"], config=CONFIG | changes, **options)


# Starting


def test_a_new_run_has_its_folders_and_says_what_made_it(tmp_path):
    run = create(tmp_path / "deep" / "run")
    assert sorted(path.name for path in run.path.iterdir() if path.name != ".lock") == [
        "checkpoints",
        "config.yaml",
        "manifest.json",
        "rounds",
    ]
    manifest = run.manifest
    assert manifest["command"] == COMMAND and manifest["seeds"] == {"run": 3}
    assert manifest["config_sha256"] == runs.config_hash(CONFIG)
    assert manifest["environment"]["packages"]["torch"].startswith(torch.__version__.split("+")[0])
    assert manifest["environment"]["threads"]["torch"] == torch.get_num_threads()
    assert manifest["environment"]["hardware"]["cores"] >= 1
    assert yaml.safe_load((run.path / "config.yaml").read_text())["optim"] == {"betas": [0.9, 0.95], "clip": math.inf}
    assert Run.open(run.path).config["optim"]["clip"] == math.inf


def test_manifest_and_config_are_strict(tmp_path):
    run = create(tmp_path / "run")

    def refuse(name):
        raise AssertionError(name)

    json.loads((run.path / "manifest.json").read_text(), parse_constant=refuse)
    assert yaml.safe_load((run.path / "config.yaml").read_text())["lr"] == 1e-6  # not the text "1e-06"


def test_a_folder_with_a_run_is_refused(tmp_path):
    create(tmp_path)
    with pytest.raises(RunError, match=r"already holds an unfinished run .*--resume, or choose another folder"):
        create(tmp_path)
    Run.open(tmp_path).finish()
    with pytest.raises(RunError, match=f"already holds a finished run of `{' '.join(COMMAND)}`"):
        create(tmp_path)


def test_a_folder_with_somebodys_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"not empty: it holds thesis\.tex"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_is_no_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)
    create(tmp_path / "run").note(schema=99)
    with pytest.raises(RunError, match=r"schema 99: expected schema 1"):
        Run.open(tmp_path / "run")


def test_a_damaged_manifest_is_a_clear_error(tmp_path):
    run = create(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema": 1')
    with pytest.raises(RunError, match="the manifest cannot be read"):
        Run.open(run.path)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX modes")
def test_a_folder_without_permission_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):  # root may write anywhere, so the system's answer is given for it
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(RunError, match="cannot write here"):
        create(tmp_path / "run")


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="does not exist"):
        create(tmp_path / "file" / "run")


def test_a_kill_while_a_run_is_made_can_be_made_good(tmp_path):
    def check(path, fault):
        assert isinstance(fault, Killed)
        run = Run.start(path, command=COMMAND, config=CONFIG, seed=3, resume=True)
        assert run.config["lr"] == 1e-6
        assert not list(path.glob("*.tmp-*"))

    every_fault(lambda: tmp_path / str(next(numbers)), create, check)


def test_git_state_never_fails(tmp_path, monkeypatch):
    assert runs.git_state(tmp_path) is None or "commit" in runs.git_state(tmp_path)
    assert runs.git_state(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", "")
    assert runs.git_state(".") is None


def test_git_state_is_commit_and_whether_files_changed(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    assert runs.git_state(tmp_path)["changed"] is False
    (tmp_path / "a").write_text("2")
    state = runs.git_state(tmp_path)
    assert state["changed"] is True and len(state["commit"]) == 40


# Resuming


def test_resuming_under_the_same_settings_is_recorded(tmp_path):
    create(tmp_path)
    run = resume(tmp_path)
    (entry,) = run.manifest["resumed"]
    assert entry["environment_changes"] == []
    assert entry["command"] == [*COMMAND, "--resume"]


def test_changed_settings_are_listed_and_refused(tmp_path):
    create(tmp_path)
    with pytest.raises(RunError) as caught:
        resume(tmp_path, lr=1e-5, optim={"betas": (0.9, 0.99), "clip": math.inf})
    assert "lr: 1e-06 -> 1e-05" in str(caught.value)
    assert "optim.betas: [0.9, 0.95] -> [0.9, 0.99]" in str(caught.value)
    assert "clip" not in str(caught.value)
    assert Run.open(tmp_path).manifest["resumed"] == []


def test_settings_that_come_and_go_are_changes():
    assert runs.config_changes({"a": {"b": 1}}, {"a": {"c": 1}}) == ["a.b: 1 -> (none)", "a.c: (none) -> 1"]
    assert runs.config_changes({"a": {}}, {"a": {}}) == []
    assert runs.config_changes({"a": math.nan}, {"a": math.nan}) == []


def test_the_hash_of_settings_ignores_order_and_sees_values():
    assert runs.config_hash({"a": 1, "b": {"c": 2}}) == runs.config_hash({"b": {"c": 2}, "a": 1})
    assert runs.config_hash({"a": 1}) != runs.config_hash({"a": 1.5})


def test_changed_data_is_refused(tmp_path):
    run = create(tmp_path / "run")
    data = tmp_path / "feedback.jsonl"
    data.write_text("{}\n")
    found = run.record_data("feedback", data, rows=1)
    assert run.manifest["data"]["feedback"] == {"path": str(data), "sha256": found, "rows": 1}
    run.record_data("feedback", data, rows=1)
    data.write_text("{}\n{}\n")
    with pytest.raises(RunError, match="feedback has changed since the run began"):
        run.record_data("feedback", data, rows=2)
    assert run.manifest["data"]["feedback"]["rows"] == 1


def test_a_run_in_use_cannot_be_resumed(tmp_path):
    run = create(tmp_path)
    with run.lock(), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        resume(tmp_path)


# Logging


def test_metrics_come_back_as_logged_and_the_file_is_strict_json(tmp_path):
    run = create(tmp_path)
    run.log(step=1, loss=0.5, text="NaN in a sentence", flag=True)
    run.log(step=np.int64(2), loss=math.nan, grad=math.inf, **{"eval/gold": torch.tensor(-0.25)})
    first, second = run.metrics()
    assert first == {"step": 1, "loss": 0.5, "text": "NaN in a sentence", "flag": True}
    assert math.isnan(second["loss"]) and second["grad"] == math.inf and second["eval/gold"] == -0.25
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[1], parse_constant=pytest.fail)["loss"] == "NaN"


def test_samples_keep_their_text(tmp_path):
    run = create(tmp_path)
    texts = ["NaN", "a\nb\u2028c", "\ud800", "<script>"]
    run.log_samples([{"step": 1, "response": text} for text in texts])
    assert [row["response"] for row in run.samples()] == texts


def test_a_run_without_logs_has_none(tmp_path):
    run = create(tmp_path)
    assert run.metrics() == [] and run.samples() == [] and run.offsets() == {"metrics.jsonl": 0, "samples.jsonl": 0}


def test_cutting_returns_to_the_checkpoint(tmp_path):
    run = create(tmp_path)
    run.log(step=1)
    run.log_samples([{"text": "one"}])
    offsets = run.offsets()
    run.log(step=2)
    run.log_samples([{"text": "two"}])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')  # a kill mid-line
    run.cut(offsets)
    assert run.metrics() == [{"step": 1}] and run.samples() == [{"text": "one"}]
    run.cut({})
    assert run.metrics() == [] and run.samples() == []


def test_lost_lines_are_an_error(tmp_path):
    run = create(tmp_path)
    run.log(step=1)
    offsets = run.offsets()
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="lines are lost: it has 0 bytes, the checkpoint saw 12"):
        run.cut(offsets)


def test_mirrors_see_every_line(tmp_path):
    class Mirror:
        def __init__(self):
            self.seen, self.is_closed = [], False

        def log(self, metrics):
            self.seen.append(metrics)

        def close(self):
            self.is_closed = True

    run = create(tmp_path)
    run.mirrors = [Mirror()]
    run.log(step=1, loss=0.5)
    run.finish()
    assert run.mirrors[0].seen == [{"step": 1, "loss": 0.5}] and run.mirrors[0].is_closed


# Notes and rounds


def test_notes_merge_into_the_manifest(tmp_path):
    run = create(tmp_path)
    run.note(ledger={"tokens": 5, "labels": 1})
    run.note(ledger={"tokens": 9}, best=3)
    assert run.manifest["ledger"] == {"tokens": 9, "labels": 1} and run.manifest["best"] == 3


def test_every_reading_of_the_test_split_is_on_record(tmp_path):
    run = create(tmp_path)
    run.read_test("test", rows=100)
    Run.open(tmp_path).read_test("test", rows=100)
    readings = run.manifest["test_readings"]
    assert [reading["split"] for reading in readings] == ["test", "test"]
    assert all(reading["time"] and reading["command"] and reading["rows"] == 100 for reading in readings)


def test_processes_that_write_notes_at_once_lose_none(tmp_path):
    create(tmp_path)
    script = "import sys; from heedful.runs import Run\nfor _ in range(20): Run.open(sys.argv[1]).read_test('test')"
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert len(Run.open(tmp_path).manifest["test_readings"]) == 40


def test_a_kill_during_a_note_leaves_the_old_manifest_or_the_new(tmp_path):
    def prepare():
        return create(tmp_path / str(next(numbers)))

    def check(run, fault):
        assert Run.open(run.path).manifest.get("best") in (None, 7)

    every_fault(prepare, lambda run: run.note(best=7), check)


def test_a_round_comes_back_to_the_bit(tmp_path):
    run = create(tmp_path)
    rows = [{"text": "a\u2028b", "logp": [-0.1, float(np.float32(0.1)), -math.inf]}, {"text": "", "logp": []}]
    assert run.read_round(3) is None
    run.write_round(3, rows)
    assert run.read_round(3) == rows


def test_finishing_marks_the_run(tmp_path):
    run = create(tmp_path)
    assert not run.is_done
    run.finish(best=5)
    assert run.is_done and run.manifest["best"] == 5 and run.manifest["finished"]


def test_run_folders_are_read_without_torch(tmp_path):
    create(tmp_path).log(step=1)
    script = (
        "import sys; from heedful.runs import Run; from heedful import mirrors, signals\n"
        "assert len(Run.open(sys.argv[1]).metrics()) == 1; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
