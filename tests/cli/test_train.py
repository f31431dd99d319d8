"""`heedful train` end to end on a tiny model: what it writes, prints and resumes."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from heedful.checkpoint import steps
from heedful.tasks.named import feedback_for

SHORT = ["--set", "budget.steps=3", "--set", "batch_size=4", "--set", "dtype=float32"]


def test_a_training_leaves_a_model_that_can_be_asked(heedful, model, feedback):
    found = heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", *SHORT, "--json").json
    assert found["model"] == "run/model"
    assert found["ledger"]["train_tokens"] > 0
    answers = heedful("sample", "run/model", "-p", "say 1: ", "-o", "answers.jsonl", "--max-tokens", 5, "-q")
    assert answers.out == "answers.jsonl\n"
    assert json.loads((heedful.folder / "answers.jsonl").read_text())["prompt"] == "say 1: "


def test_the_manifest_holds_the_settings_as_they_were_resolved(heedful, model, feedback):
    heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", *SHORT)
    config = json.loads((heedful.folder / "run/manifest.json").read_text())["config"]
    assert config["budget"]["steps"] == 3
    assert config["batch_size"] == 4
    assert config["optim"]["lr"] == 5e-4


def test_the_manifest_holds_the_hash_of_the_file_and_another_file_is_refused(heedful, model, feedback):
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run", *SHORT]
    heedful(*arguments)
    data = json.loads((heedful.folder / "run/manifest.json").read_text())["data"]["feedback"]
    assert data["rows"] == 8 and data["sha256"] == hashlib.sha256(feedback.read_bytes()).hexdigest()
    (heedful.folder / "run/DONE").unlink()
    feedback.write_text(feedback.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "feedback has changed since the run began" in heedful(*arguments, "--resume", code=2).err


def test_a_finished_run_is_not_trained_again(heedful, model, feedback):
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run", *SHORT]
    heedful(*arguments)
    before = (heedful.folder / "run/metrics.jsonl").read_bytes()
    heedful(*arguments, "--resume")
    assert (heedful.folder / "run/metrics.jsonl").read_bytes() == before
    assert "continue it with --resume" in heedful(*arguments, code=2).err


def test_to_resume_where_nothing_is_begins_a_run_and_says_so(heedful, model, feedback):
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "rnu", *SHORT, "-q", "--resume"]
    assert "nothing to resume in rnu: a new run\n" in heedful(*arguments).err
    assert (heedful.folder / "rnu/DONE").exists()
    assert "nothing to resume" not in heedful(*arguments).err


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(heedful, model, feedback):
    found = heedful("train", "rwr", "-f", feedback, "-m", model, "--dry-run", "--json").json
    assert found["records"] + found["validation_records"] == 8
    assert found["responses"] == 2 * found["rows"]
    assert found["tokens_per_epoch"] > 0 and found["memory_bytes"] > 0 and found["seconds"] > 0
    assert [path.name for path in heedful.folder.iterdir()] == ["feedback.jsonl"]


def test_a_dry_run_counts_what_is_lost_by_reason(heedful, model):
    long = {"prompt": "p" * 70, "responses": [{"text": "x", "demonstration": True}]}
    good = [{"prompt": f"p{n}", "responses": [{"text": "x", "demonstration": True}]} for n in range(3)]
    file = heedful.write("f.jsonl", *good, long)
    found = heedful("train", "sft", "-f", file, "-m", model, "--dry-run", "--set", "validation=0").out
    assert "prompt leaves no room for a response: 1" in found
    assert "3 rows" in found


def test_records_that_teach_a_method_nothing_are_counted(heedful, model):
    pairs = [{"prompt": f"p{n}", "responses": [{"text": "x", "rank": 1}, {"text": "y", "rank": 2}]} for n in range(3)]
    tied = [{"prompt": f"t{n}", "responses": [{"text": "x", "rank": 1}, {"text": "y", "rank": 1}]} for n in range(2)]
    alone = {"prompt": "k", "responses": [{"text": "x", "rank": 1}]}
    file = heedful.write("f.jsonl", *pairs, *tied, alone)
    found = heedful("train", "reward_model", "-f", file, "-m", model, "--dry-run", "--set", "validation=0").out
    assert "record without what the method learns from: 3 (50.0% of the records)" in found


def test_the_share_of_pairs_that_say_nothing_is_shown(heedful, model):
    pairs = [
        {"prompt": f"p{n}", "responses": [{"text": "x", "rank": 1}, {"text": y, "rank": 2}]}
        for n, y in enumerate("xyzw")
    ]
    file = heedful.write("f.jsonl", *pairs)
    found = heedful("train", "dpo", "-f", file, "-m", model, "--dry-run", "--set", "validation=0").out
    assert "pair of equal responses: 1 (25.0% of the pairs)" in found


def test_a_judge_without_held_out_prompts_chooses_nothing_and_that_is_said(heedful, model):
    shown = [{"prompt": f"p{n}", "responses": [{"text": "x", "demonstration": True}]} for n in range(3)]
    file = heedful.write("f.jsonl", *shown)
    changes = ["--set", "validation=0", "--set", "budget.steps=1", "--set", "method.judge=tiny_judge:early"]
    found = heedful("train", "sft", "-f", file, "-m", model, "-o", "run", *changes)
    assert "no record is held out: there is no judge_score, and the last checkpoint will be kept" in found.err


def test_a_recipe_is_a_file_and_set_goes_over_it(heedful, model, feedback):
    recipe = heedful.folder / "mine.yaml"
    recipe.write_text("batch_size: 2\noptim: {lr: 1e-3, warmup: 0}\nbudget: {steps: 1}\n", encoding="utf-8")
    heedful("train", "sft", recipe, "-f", feedback, "-m", model, "-o", "run", "--set", "optim.lr=1e-5")
    config = json.loads((heedful.folder / "run/manifest.json").read_text())["config"]
    assert (config["batch_size"], config["optim"]["lr"], config["optim"]["warmup"]) == (2, 1e-5, 0)


def test_the_embedded_feedback_needs_no_file_and_brings_its_settings(heedful, model):
    changes = ["--limit", 2, "--set", "budget.steps=1", "--set", "validation=0", "--set", "batch_size=4"]
    heedful("train", "conditional", "--feedback", "pep8", "-m", model, *changes)
    config = json.loads((heedful.folder / "runs/conditional/manifest.json").read_text())["config"]
    assert config["optim"]["betas"] == [0.9, 0.95] and config["max_length"] == 512 and config["batch_size"] == 4
    assert config["method"]["threshold"] == 0.0 and config["method"]["lines"] is True


def test_the_embedded_feedback_is_that_of_the_method():
    assert len(feedback_for("sft", "pep8", limit=2)) == 2
    assert feedback_for("sft", "pep8", limit=2)[0].responses[0].demonstration
    assert feedback_for("rwr", "pep8", limit=2)[0].responses[0].segments


def test_a_recipe_goes_over_the_settings_of_the_embedded_feedback(heedful, model):
    recipe = heedful.folder / "mine.yaml"
    recipe.write_text("optim: {warmup: 0}\nbudget: {steps: 1}\nvalidation: 0\n", encoding="utf-8")
    heedful("train", "mle", recipe, "-f", "pep8", "--limit", 1, "-m", model, "-o", "run")
    optim = json.loads((heedful.folder / "run/manifest.json").read_text())["config"]["optim"]
    assert (optim["warmup"], optim["betas"]) == (0, [0.9, 0.95])


def test_the_embedded_feedback_needs_no_map(heedful):
    found = heedful("train", "mle", "-f", "pep8", "--map", "prompt=q", code=2).err
    assert "pep8: --map goes with a feedback file (pep8 brings its own)" in found


def test_limit_and_map_read_any_file(heedful, model):
    file = heedful.write("own.jsonl", *({"q": f"{n}? ", "a": "yes"} for n in range(9)))
    options = ["--map", "prompt=q", "--map", "responses[0].text=a", "--limit", 6, "--dry-run", "--json"]
    found = heedful("train", "sft", "-f", file, "-m", model, *options).json
    assert found["records"] + found["validation_records"] == 6


def test_ctrl_c_saves_exits_130_and_resume_ends_like_a_run_without_it(heedful, model, feedback, monkeypatch):
    from heedful.cli.progress import Progress

    arguments = ["train", "sft", "-f", feedback, "-m", model, *SHORT]
    heedful(*arguments, "-o", "whole")

    def interrupt(event):
        if event["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "training", lambda self, name: interrupt)
        assert "stopped" in heedful(*arguments, "-o", "cut", code=130).err
    assert not (heedful.folder / "cut/DONE").exists()
    heedful(*arguments, "-o", "cut", "--resume")
    weights = [(heedful.folder / run / "model/model.safetensors").read_bytes() for run in ("whole", "cut")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("mirror", ["tensorboard"])
def test_a_mirror_that_is_not_installed_is_one_warning(heedful, model, feedback, mirror, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run", *SHORT, "--track", mirror]
    assert "tensorboard is off" in heedful(*arguments).err
    assert (heedful.folder / "run/DONE").exists()


@pytest.mark.slow
def test_a_process_that_gets_ctrl_c_saves_and_exits_130(heedful, model, feedback):
    options = ["--set", "budget.steps=100000", "--set", "batch_size=4", "--set", "validation=0"]
    command = [sys.executable, "-m", "heedful", "train", "sft", "-f", str(feedback), "-m", str(model), "-o", "run"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    log, deadline = heedful.folder / "run/metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and log.read_bytes().count(b"\n") > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "saving after this step" in message and "continue with --resume" in message
    assert "Traceback" not in message
    assert steps("run")


def test_the_settings_of_a_run_start_another(heedful, model, feedback):
    heedful("train", "rwr", "-f", feedback, "-m", model, "-o", "one", *SHORT, "--set", "method.beta=3")
    settings = yaml.safe_load((heedful.folder / "one/config.yaml").read_text())
    assert settings["method"] == {"beta": 3.0} and settings["optim"]["lr"] == 5e-4
    heedful("train", "rwr", "one/config.yaml", "-f", feedback, "-m", model, "-o", "two")
    one, two = ((heedful.folder / name / "model/model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_defaults_of_the_method_are_settings_too_and_so_is_the_method(heedful, model, feedback):
    arguments = ["-f", feedback, "-m", model, "-o", "run", *SHORT, "--json"]
    heedful("train", "rwr", *arguments)
    manifest = json.loads((heedful.folder / "run/manifest.json").read_text())
    assert manifest["config"]["method"] == {"beta": 10.0}
    assert manifest["subject"].items() >= {"method_name": "rwr", "model": str(model)}.items()
    (heedful.folder / "run/DONE").unlink()
    assert 'method_name: "rwr" -> "mle"' in heedful("train", "mle", *arguments, "--resume", code=2).err


def test_a_model_that_is_not_there_leaves_no_folder(heedful, feedback):
    heedful("train", "sft", "-f", feedback, "-m", "no/such/model", "-o", "run", *SHORT, code=2)
    assert not (heedful.folder / "run").exists()


def test_a_finished_run_is_not_that_of_other_feedback(heedful, model, feedback):
    arguments = ["-m", model, "-o", "run", *SHORT]
    heedful("train", "sft", "-f", feedback, *arguments)
    other = heedful.write("other.jsonl", *({"prompt": f"ask {n}: ", "completion": "no"} for n in range(8)))
    assert "feedback: " in heedful("train", "sft", "-f", other, *arguments, "--resume", code=2).err
    assert "feedback: " in heedful("train", "sft", "-f", feedback, "--limit", 5, *arguments, "--resume", code=2).err
