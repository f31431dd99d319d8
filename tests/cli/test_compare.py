"""`heedful compare` on a feedback file, and what it is told."""

import json
import signal
from pathlib import Path

import pytest
from small_feedback import record

from heedful import comparison
from heedful.cli.compare import read_budget, read_seeds
from heedful.errors import ConfigError

SMALL = ["--budget", "tokens=400", "--set", "batch_size=4", "--set", "dtype=float32", "-q"]


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory) -> Path:
    """A two-layer model of 112 characters with room for a response."""
    from models import tiny
    from tiny_text import letters

    folder = tmp_path_factory.mktemp("wide")
    tiny("llama", max_position_embeddings=400).save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture
def own(heedful) -> Path:
    return heedful.write("own.jsonl", *map(record, range(40)))


def test_an_own_file_gives_a_table_a_page_and_results(heedful, wide_model, own):
    found = heedful("compare", own, "-m", wide_model, "--methods", "sft,rwr", *SMALL).out
    assert "sft" in found and "rwr" in found
    assert found.rstrip().endswith("runs/own/report.html")
    results = json.loads((heedful.folder / "runs/own/results.json").read_text())
    assert [row["method"] for row in results["rows"]] == ["base", "sft", "rwr"]
    assert {row["status"] for row in results["rows"]} == {"done"}
    assert {row["ledger"]["train_tokens"] >= 400 for row in results["rows"][1:]} == {True}
    assert {"pref_accuracy", "bits_per_byte"} <= set(results["rows"][1]["metrics"])


def test_to_resume_where_nothing_is_begins_a_comparison_and_says_so(heedful, wide_model, own):
    arguments = ["compare", own, "-m", wide_model, "--methods", "mle", *SMALL, "--resume"]
    assert "nothing to resume in runs/own: a new run\n" in heedful(*arguments).err
    assert (heedful.folder / "runs/own/results.json").exists()


def test_a_model_with_an_encoder_is_compared_and_answers_like_any_other(heedful, tmp_path_factory, own):
    from models import tiny
    from tiny_text import letters

    folder = tmp_path_factory.mktemp("t5")
    tiny("t5").save_pretrained(folder)
    letters(bos_token=None).save_pretrained(folder)
    found = heedful("compare", own, "-m", folder, "--methods", "sft,slic_hf,conditional", *SMALL, "--json").json
    assert [row["status"] for row in found["rows"]] == ["done"] * 4
    assert {"pref_accuracy", "bits_per_byte", "length"} <= set(found["rows"][2]["metrics"])
    (model,) = (heedful.folder / "runs/own").rglob("slic_hf*/model")
    assert heedful("sample", model, "-p", "x", "--max-tokens", 3, "-q").out


def test_without_methods_all_that_the_file_can_feed_are_compared(heedful, wide_model):
    rows = [{"prompt": f"say {n}: ", "responses": [{"text": f"good {n}", "demonstration": True}]} for n in range(40)]
    found = heedful("compare", heedful.write("d.jsonl", *rows), "-m", wide_model, *SMALL, "--json").json
    assert [row["method"] for row in found["rows"]] == ["base", "mle", "sft"]


def test_a_comparison_that_was_stopped_goes_on_and_ends_the_same(heedful, wide_model, own, monkeypatch):
    from heedful.cli.progress import Progress

    arguments = ["compare", own, "-m", wide_model, "--methods", "sft,mle", *SMALL, "--json"]
    whole = heedful(*arguments, "-o", "whole").json

    def interrupt(self, event):
        if event["row"] == "mle-s0" and event["stage"] == "train" and event["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "comparing", interrupt)
        heedful(*arguments, "-o", "cut", code=130)
    rows = json.loads((heedful.folder / "cut/results.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["base", "sft"]
    found = heedful(*arguments, "-o", "cut", "--resume").json
    assert "nothing to resume" not in heedful.err
    assert [row["metrics"] for row in found["rows"]] == [row["metrics"] for row in whole["rows"]]


def test_a_setting_that_some_methods_lack_is_refused_with_who_has_it(heedful, wide_model, own):
    arguments = ["compare", own, "-m", wide_model, "--methods", "sft,rwr,dpo,kto", *SMALL]
    found = heedful(*arguments, "--set", "method.beta=1", code=2).err
    assert found == (
        "error: --set method.beta: not a setting of sft: expected a setting of every method that is compared "
        "(--methods rwr,dpo,kto compares those that have it)\n"
    )
    assert "did you mean 'beta'?" in heedful(*arguments, "--set", "method.btea=1", code=2).err
    assert not (heedful.folder / "runs").exists()


def test_a_folder_with_a_comparison_is_not_overwritten(heedful, wide_model, own):
    arguments = ["compare", own, "-m", wide_model, "--methods", "sft", *SMALL]
    heedful(*arguments)
    assert "continue it with --resume" in heedful(*arguments, code=2).err
    assert "sft" in heedful(*arguments, "--resume").out


def test_a_judge_gives_win_rates_and_best_of_n(heedful, wide_model, own):
    (heedful.folder / "judge_scorer.py").write_text("def longer(prompt, response):\n    return len(response)\n")
    options = ["--judge", "judge_scorer:longer", "--methods", "sft", "--num-prompts", 3, *SMALL, "--json"]
    found = heedful("compare", own, "-m", wide_model, *options).json
    rows = {row["method"]: row["metrics"] for row in found["rows"]}
    assert rows["best_of_n"]["win_rate"]["value"] >= 0.5
    assert rows["sft"]["judge_score"]["n"] == 3


FLAKY = """
from pathlib import Path

def longer(prompt, response):
    if not Path("called").exists():
        Path("called").touch()
        raise RuntimeError("service is down")
    return len(response)
"""


def test_where_the_base_failed_nothing_is_measured_against_it_until_it_is_there(heedful, wide_model, own):
    (heedful.folder / "flaky_scorer.py").write_text(FLAKY)
    options = ["--judge", "flaky_scorer:longer", "--methods", "sft", "--num-prompts", 3, *SMALL, "--json"]
    found = heedful("compare", own, "-m", wide_model, *options, code=1).json
    rows = {row["method"]: row for row in found["rows"]}
    assert rows["base"]["status"] == "failed" and "service is down" in rows["base"]["error"]
    assert "judge_score" in rows["sft"]["metrics"] and "win_rate" not in rows["sft"]["metrics"]
    found = heedful("compare", own, "-m", wide_model, *options, "--resume").json
    rows = {row["method"]: row["metrics"] for row in found["rows"]}
    assert rows["base"]["win_rate"]["value"] == 0.5
    assert "win_rate" in rows["sft"] and "win_rate" in rows["best_of_n"]


def test_a_model_is_measured_on_an_own_file_without_training(heedful, wide_model, own):
    found = heedful("eval", wide_model, "--task", own, "-q", "--json").json
    assert found["task"] == "own"
    assert "bits_per_byte" in found["metrics"]
    assert "Bits per byte" in heedful("eval", wide_model, "--task", own, "-q").out
    assert [path.name for path in heedful.folder.iterdir()] == ["own.jsonl"]


def test_a_task_that_trains_its_own_base_cannot_measure_a_model(heedful, wide_model):
    for model in ([], [wide_model]):
        found = heedful("eval", *model, "--task", "phf-pep8", "-q", code=2).err
        assert "phf-pep8: no base to measure against" in found and "--task pep8" in found


WRONG = {
    "a task": (["pep9"], ["unknown task 'pep9'", "did you mean 'pep8'?"]),
    "a method": (["own.jsonl", "--methods", "sft,rwrr"], ["unknown method 'rwrr'", "did you mean 'rwr'?"]),
    "a judge": (["own.jsonl", "--judge", "pep8_line"], ["unknown scorer 'pep8_line'", "did you mean 'pep8_lines'?"]),
    "a budget": (["own.jsonl", "--budget", "token=3"], ["unknown budget 'token'", "did you mean 'tokens'?"]),
    "two budgets": (["own.jsonl", "--budget", "tokens=3,seconds=4"], ["one budget of training"]),
    "seeds": (["own.jsonl", "--seeds", "many"], ["--seeds", "cannot read 'many'", "how many (3), or which (0,5,7)"]),
    "a model for a task that brings its own": (["pep8", "--model", "x"], ["--model goes with a feedback file"]),
    "a setting": (["own.jsonl", "--set", "optim.lrr=1"], ["unknown setting 'optim.lrr'", "did you mean 'lr'?"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_exist_is_said_before_anything_is_written(heedful, wide_model, own, case):
    arguments, parts = WRONG[case]
    model = [] if arguments[0] == "pep8" else ["-m", wide_model]
    found = heedful("compare", *arguments, *model, "-q", code=2)
    for part in parts:
        assert part in found.err
    assert not (heedful.folder / "runs").exists()


def test_a_file_that_no_method_can_learn_from_is_refused(heedful, wide_model):
    file = heedful.write("p.jsonl", *({"prompt": f"p{n}"} for n in range(40)))
    assert "p.jsonl" in heedful("compare", file, "-m", wide_model, "-q", code=2).err
    assert not (heedful.folder / "runs").exists()


def test_documents_longer_than_the_context_are_ranked_by_bits_per_byte(heedful, wide_model):
    file = heedful.write("long.jsonl", *({"prompt": "", "responses": [{"text": f"{n} " * 250}]} for n in range(40)))
    arguments = ["compare", file, "-m", wide_model, "--methods", "mle", *SMALL]
    table = heedful(*arguments).out
    assert "Bits/byte" in table
    found = json.loads((heedful.folder / "runs/long/results.json").read_text())
    assert {entry["metric"] for entry in found["summary"]} >= {"bits_per_byte"}


def test_what_fails_for_every_method_is_said_before_anything_is_written(heedful, wide_model, own):
    found = heedful("compare", own, "-m", wide_model, "--judge", "exact_match", "-q", code=2).err
    assert "own.jsonl: exact_match needs `answer`" in found and "--map answer=COLUMN" in found
    talk = [record(n, prompt=[{"role": "user", "content": f"say {n}"}]) for n in range(40)]
    found = heedful("compare", heedful.write("talk.jsonl", *talk), "-m", wide_model, "-q", code=2).err
    assert "no chat template" in found
    assert not (heedful.folder / "runs").exists()


def test_a_comparison_goes_on_with_the_same_file_by_another_path(heedful, wide_model, own):
    options = ["-m", wide_model, "--methods", "sft", *SMALL]
    heedful("compare", own.name, *options)
    assert "sft" in heedful("compare", own, *options, "--resume").out


def test_seeds_are_how_many_or_which():
    assert read_seeds("3") == [0, 1, 2]
    assert read_seeds("0,5,7") == [0, 5, 7]
    assert read_seeds("5,") == [5]


@pytest.mark.parametrize("text", ["", "0", "-1", "1,1", "a", "1.5"])
def test_seeds_that_make_no_sense_are_refused(text):
    with pytest.raises(ConfigError, match="--seeds"):
        read_seeds(text)


def test_a_budget_is_read_by_name():
    assert read_budget(["tokens=200_000", "labels=1e3"]) == {"tokens": 200_000, "labels": 1000}
    assert read_budget(["tokens=5,labels=2"]) == {"tokens": 5, "labels": 2}
    assert read_budget(["seconds=1.5"]) == {"seconds": 1.5}


@pytest.mark.parametrize(
    "part", ["tokens", "tokens=", "tokens=many", "tokens=0", "tokens=-5", "tokens=nan", "tokens=inf"]
)
def test_a_budget_that_is_no_number_above_0_is_refused(part):
    with pytest.raises(ConfigError, match="a number above 0"):
        read_budget([part])


def test_a_budget_of_labels_is_counted_as_the_ledger_counts_them(heedful, wide_model, own):
    arguments = ["compare", own, "-m", wide_model, "--methods", "sft", "--budget", "labels=11", *SMALL, "--json"]
    assert heedful(*arguments).json["rows"][1]["ledger"]["labels"] == 10  # two a record
    found = heedful(*arguments, "--budget", "labels=1", "-o", "none", code=1).json["rows"][1]
    assert found["error"].endswith("--budget labels: found 1: expected 2 or more, for one record")


def test_a_budget_of_seconds_ends_in_time(heedful, wide_model, own):
    options = ["--budget", "seconds=0.5", *SMALL[2:], "--json"]
    (row,) = heedful("compare", own, "-m", wide_model, "--methods", "sft", *options).json["rows"][1:]
    assert row["status"] == "done" and 0.5 <= row["ledger"]["seconds"] < 5


def test_a_document_is_cut_to_a_budget_of_labels(heedful, wide_model):
    def document(number):
        lines = [{"text": f"x{number} = {n}\n", "score": -float(n % 2)} for n in range(30)]
        text = "".join(line["text"] for line in lines)
        return {"prompt": "", "responses": [{"text": text, "segments": lines}], "id": f"d{number}"}

    file = heedful.write("documents.jsonl", *map(document, range(60)))
    options = ["--methods", "rwr,mle", "--budget", "labels=40", *SMALL, "--json"]
    found = heedful("compare", file, "-m", wide_model, *options).json["rows"]
    labels = {row["method"]: row["ledger"]["labels"] for row in found}
    assert labels == {"base": 0, "rwr": 40, "mle": 0}  # a whole document and ten lines of another; MLE reads none


def test_what_is_the_same_for_all_methods_is_no_setting_of_theirs(heedful, wide_model, own):
    arguments = ["compare", own, "-m", wide_model, "--methods", "sft"]
    assert "--seeds" in heedful(*arguments, "--set", "seed=3", code=2).err
    assert "--budget" in heedful(*arguments, "--set", "budget.steps=3", code=2).err


def test_a_method_that_breaks_is_a_row_and_the_rest_stands(heedful, wide_model, own, monkeypatch):
    real = comparison.train

    def broken(name, **options):
        if name == "mle":
            raise KeyError("a bug")
        return real(name, **options)

    monkeypatch.setattr(comparison, "train", broken)
    options = ["--methods", "mle,sft", *SMALL, "--json"]
    rows = {row["method"]: row for row in heedful("compare", own, "-m", wide_model, *options, code=1).json["rows"]}
    assert rows["mle"]["status"] == "failed" and "KeyError" in rows["mle"]["error"]
    assert rows["sft"]["status"] == "done"


@pytest.mark.parametrize("methods", ["sft,sft", ""])
def test_methods_are_named_once_each(heedful, wide_model, own, methods):
    assert "expected each method once" in heedful("compare", own, "-m", wide_model, "--methods", methods, code=2).err
    assert not (heedful.folder / "runs").exists()
