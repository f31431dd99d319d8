"""What bad input gets: the file, line and field, what was found, what is allowed; exit code 2; nothing half-written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from small_feedback import record

GOOD = record(0)


def with_response(**fields) -> dict:
    return {"prompt": "p", "responses": [{"text": "a", **fields}]}


FILES = {  # lines of the file -> parts of the message
    "corrupted JSON on line 3": (
        [GOOD, GOOD, '{"prompt": "p", "responses": ['],
        ["f.jsonl:3:31: invalid JSON", "found the end", "a JSON object", "cut short"],
    ),
    "a row that is a list": ([GOOD, [1, 2]], ["f.jsonl:2", "found a list of 2", "an object", "write {"]),
    "a misspelt field": (
        [with_response(critque="x")],
        ["f.jsonl:1", "responses[0]", 'unknown field "critque"', "did you mean `critique`?"],
    ),
    "rank 0": ([with_response(rank=0)], ["f.jsonl:1", "responses[0].rank", "found 0", "from 1 up", "1 is the best"]),
    "NaN as score": (
        ['{"prompt": "p", "responses": [{"text": "a", "score": NaN}]}'],
        ["f.jsonl:1:54: responses[0].score: found NaN: expected a finite number", "leave the field out"],
    ),
    "score as text": (
        [with_response(score="7")],
        ["f.jsonl:1", "responses[0].score", 'found the text "7"', "a number", "remove the quotes"],
    ),
    "an empty response": (
        [{"prompt": "p", "responses": [{"text": ""}]}],
        ["f.jsonl:1", "responses[0].text", "found an empty text", "at least one character", "leave it out"],
    ),
    "a record without what the method needs": (
        [{"prompt": "p", "responses": [{"text": "a"}]}],
        ["cannot learn from", "rwr", "no response has a `score`"],
    ),
    "an empty file": ([], ["f.jsonl", "no rows in it", "at least one record", "a record is {"]),
    "a prompt longer than the context": (
        [{"prompt": "p" * 70, "responses": [{"text": "a", "score": 1}]}] * 3,
        [
            "no training row is left (prompt leaves no room for a response: 3)",
            "the longest has 73 tokens (record f.jsonl:3): expected at most 64",
            "--set max_length=73",
        ],
    ),
    "no response token left after truncation": (
        [{"prompt": "p" * 63, "responses": [{"text": "a", "score": 1}]}] * 3,
        ["no training row is left", "prompt leaves no room for a response: 3", "longest has 66 tokens", "max_length"],
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(heedful, model, case):
    rows, parts = FILES[case]
    file = heedful.write("f.jsonl", *rows)
    found = heedful("train", "rwr", "-f", file, "-m", model, "-o", "run", code=2)
    for part in parts:
        assert part in found.err
    assert "Traceback" not in found.err and found.out == ""
    assert found.err.count("\n") == 1
    assert [path.name for path in heedful.folder.iterdir()] == ["f.jsonl"]


NAMES = {  # arguments -> parts of the message
    "a method": (["train", "stf"], ["unknown method 'stf'", "did you mean 'sft'?"]),
    "a setting": (["train", "sft", "--set", "optim.lrr=1"], ["unknown setting 'optim.lrr'", "did you mean 'lr'?"]),
    "a setting of the method": (
        ["train", "rwr", "--set", "method.betta=1"],
        ["unknown setting 'betta'", "did you mean 'beta'?"],
    ),
    "a value": (
        ["train", "sft", "--set", "optim.lr=-1"],
        ["sft: optim.lr: found -1: expected a number above 0 (the default is 0.0005)"],
    ),
    "an assignment": (["train", "sft", "--set", "optim.lr"], ["--set", "cannot read 'optim.lr'", "a.b=value"]),
    "two budgets": (
        ["train", "sft", "--set", "budget.steps=1", "--set", "budget.tokens=1"],
        ["budget: found tokens and steps: expected one of tokens, steps, epochs, seconds (set the others to null)"],
    ),
    "a recipe": (["train", "conditional", "pep8/conditionl"], ["unknown recipe", "did you mean 'pep8/conditional'?"]),
    "a map": (["train", "sft", "--map", "promt=q"], ["--map", "promt", "did you mean `prompt`?"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_does_not_exist_gets_a_suggestion(heedful, model, feedback, case):
    arguments, parts = NAMES[case]
    found = heedful(*arguments, "-f", feedback, "-m", model, "-o", "run", code=2)
    for part in parts:
        assert part in found.err
    assert not (heedful.folder / "run").exists()


def test_a_file_that_is_not_there_gets_a_suggestion(heedful, model, feedback):
    found = heedful("train", "sft", "-f", "feedbak.jsonl", "-m", model, code=2)
    assert "feedbak.jsonl: no such file" in found.err and "did you mean feedback.jsonl?" in found.err


def test_a_model_that_is_not_there_is_said(heedful, feedback):
    found = heedful("train", "sft", "-f", feedback, "-m", "nowhere/model", "-o", "run", code=2)
    assert "nowhere/model" in found.err
    assert not (heedful.folder / "run").exists()


def test_pickle_only_weights_are_refused(heedful, model, feedback):
    folder = heedful.folder / "pickled"
    shutil.copytree(model, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    found = heedful("train", "sft", "-f", feedback, "-m", folder, "-o", "run", code=2)
    assert "pickle" in found.err and "expected *.safetensors" in found.err
    assert not (heedful.folder / "run").exists()


def test_a_run_folder_in_use_names_the_process(heedful, model, feedback):
    from heedful.runs import Run

    heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", "--set", "budget.steps=1")
    (heedful.folder / "run/DONE").unlink()
    with Run.open("run").lock():
        arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run", "--set", "budget.steps=1", "--resume"]
        found = heedful(*arguments, code=2)
    assert f"in use by process {os.getpid()}" in found.err


def test_other_settings_than_those_of_the_run_are_listed(heedful, model, feedback):
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run"]
    heedful(*arguments, "--set", "budget.steps=1")
    found = heedful(*arguments, "--set", "budget.steps=2", "--resume", code=2)
    assert "budget.steps: 1 -> 2" in found.err


def test_a_full_disk_while_saving_leaves_what_was_saved(heedful, model, feedback, monkeypatch):
    from heedful import checkpoint

    saved, real = [], checkpoint.save_file

    def full(tensors, path, *more):
        if len(saved) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        saved.append(path)
        return real(tensors, path, *more)

    steps = ["--set", "budget.steps=4", "--set", "save_every=2", "--set", "validation=0"]
    arguments = ["train", "sft", "-f", feedback, "-m", model, "-o", "run", *steps]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        assert "no space" in heedful(*arguments, code=2).err
    assert checkpoint.steps("run") == [2]
    heedful(*arguments, "--resume")


def test_a_loss_that_is_not_finite_stops_with_the_records(heedful, model, feedback):
    options = ["--set", "optim.lr=1e30", "--set", "optim.warmup=0", "--set", "budget.steps=5", "--set", "batch_size=2"]
    found = heedful("train", "sft", "-f", feedback, "-m", model, "-o", "run", *options, code=2)
    assert "not finite" in found.err and "records r" in found.err
    assert not (heedful.folder / "run/model").exists()


def test_a_prompt_longer_than_the_context_cannot_be_sampled(heedful, model):
    found = heedful("sample", model, "-p", "short", "-p", "p" * 70, "--max-tokens", 4, "-q", code=2)
    assert "prompt 1" in found.err and "71 prompt tokens" in found.err and "at most 64" in found.err


JUDGING = {  # method, and what makes its rounds small
    "ppo": ["method.num_prompts=4"],
    "rest_em": ["method.num_samples=2"],
    "hir": ["method.num_samples=2"],
}


def judged(heedful, model, method, *rows, judge, tokens=6) -> str:
    """What is said of a training by a judge that is refused; nothing is left of it."""
    file = heedful.write("f.jsonl", *rows)
    changes = [*JUDGING[method], f"method.judge=tiny_judge:{judge}", f"method.max_tokens={tokens}", "budget.steps=1"]
    options = [part for change in changes for part in ("--set", change)]
    found = heedful("train", method, "-f", file, "-m", model, "-o", "run", "-q", *options, code=2)
    assert "Traceback" not in found.err and found.out == ""
    assert [path.name for path in heedful.folder.iterdir()] == ["f.jsonl"]
    return found.err


def asking(number: int, prompt: str = "say", **more) -> dict:
    return {"id": f"r{number}", "prompt": f"{prompt} {number}: ", **more}


@pytest.mark.parametrize("method", JUDGING)
@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("failing", "tiny_judge:failing failed: RuntimeError: it broke"),
        ("not_a_number", "tiny_judge:not_a_number returned nan: expected a finite number"),
    ],
)
def test_a_judge_that_gives_no_number_names_the_line_and_the_record(heedful, model, method, judge, said):
    found = judged(heedful, model, method, *map(asking, range(8)), judge=judge)
    place = re.search(r"error: \S*f\.jsonl:(\d) \(record r(\d)\), response 0: " + re.escape(said), found)
    assert place and int(place[1]) == int(place[2]) + 1


@pytest.mark.parametrize("method", JUDGING)
def test_a_checker_without_an_answer_is_refused_with_its_line(heedful, model, method):
    rows = [asking(n, **({} if n == 3 else {"answer": "7"})) for n in range(8)]
    found = judged(heedful, model, method, *rows, judge="right")
    assert "f.jsonl:4 (record r3): no `answer`, which the judge, tiny_judge:right, needs (give each prompt its" in found


@pytest.mark.parametrize("method", JUDGING)
def test_prompts_that_leave_no_room_for_a_response_are_named_with_what_would_do(heedful, model, method):
    rows = [asking(n, prompt="p" * 70) for n in range(8)]
    found = judged(heedful, model, method, *rows, judge="early")
    assert "no prompt leaves room for 6 tokens: the shortest has " in found
    assert "f.jsonl:1 (record r0): expected 64 tokens together (shorter prompts, or a model with a longer" in found


def test_a_response_that_is_too_long_gets_a_length_that_fits(heedful, model):
    found = judged(heedful, model, "ppo", *map(asking, range(8)), judge="early", tokens=200)
    assert (
        "the shortest has 8, that of" in found and "expected 64 tokens together (--set method.max_tokens=56)" in found
    )


def test_a_round_without_a_response_that_is_good_enough_is_a_clear_stop(heedful, model):
    found = judged(heedful, model, "rest_em", *map(asking, range(8)), judge="constant")
    assert "reaches method.threshold 1: the best scores 0.5 (lower method.threshold" in found


def test_a_folder_that_is_no_run_has_no_report(heedful):
    assert "not a run folder" in heedful("report", ".", code=2).err
    assert list(heedful.folder.iterdir()) == []


@pytest.mark.slow
def test_a_home_that_cannot_be_written_does_no_harm(heedful, model, feedback):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_HOME", "XDG_"))}
    command = [sys.executable, "-m", "heedful", "train", "sft", "-f", str(feedback), "-m", str(model), "-o", "run"]
    command += ["--set", "budget.steps=1", "--json"]
    done = subprocess.run(
        command, env=environment | {"HOME": "/dev/null"}, capture_output=True, text=True, cwd=heedful.folder
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "run/model"
