"""The embedded task as it ships: its files, its prompts, and what an evaluation measures."""

import hashlib
import json

import pytest

from heedful.errors import RunError
from heedful.evals.best_of_n import BOUND, KL, kl_bound
from heedful.models import load
from heedful.scorers.reading import read as read_code
from heedful.scorers.reading import split_rows
from heedful.tasks import Subject
from heedful.tasks.pep8 import task as pep8
from heedful.tasks.pep8.assets import ASSETS, read, write
from heedful.tasks.pep8.task import PEP8, line_scored


@pytest.fixture(scope="module")
def task():
    small = PEP8(split="selection", num_prompts=3)
    documents = read("heldout")
    small.documents = [documents[0], documents[-1]]
    return small


@pytest.fixture(scope="module")
def base_evaluation(task):
    return task.evaluate(Subject(task.base, suppress=task.text.control_ids), seed=0)


def test_every_shipped_file_is_the_one_in_the_manifest():
    sums = json.loads((ASSETS / "manifest.json").read_text())
    assert {"base/model.safetensors", "base_conditional/model.safetensors", "prompts.jsonl.gz"} <= set(sums)
    for name, expected in sums.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == expected, name


def test_what_ships_is_at_most_24_megabytes():
    assert sum(path.stat().st_size for path in ASSETS.parent.rglob("*") if path.is_file()) <= 24 * 2**20


def test_a_changed_asset_is_refused(tmp_path):
    write("prompts", [{"id": "a"}], tmp_path)
    (tmp_path / "prompts.jsonl.gz").write_bytes(b"other")
    with pytest.raises(RunError, match="not the one named"):
        read("prompts", tmp_path)


def test_prompts_end_in_a_newline_and_show_five_lines_within_their_tokens(task):
    for row in read("prompts"):
        assert row["prompt"].endswith("\n")
        assert len(split_rows(row["prompt"])) >= 5
        assert len(task.text.encode(row["prompt"])) <= 192


def test_no_file_gives_prompts_to_two_splits():
    files = {split: set() for split in ("feedback", "selection", "test")}
    for row in read("prompts"):
        files[row["split"]].add(row["id"].rpartition(":")[0])
    assert not files["test"] & files["selection"]
    assert not files["test"] & files["feedback"]
    assert not files["selection"] & files["feedback"]


def test_the_first_prompts_are_of_as_many_files(task):
    files = [pep8.file_of(row["id"]) for row in PEP8().prompts]
    assert len(set(files[:60])) == 60


def test_prompts_of_a_file_are_a_group(task, base_evaluation):
    for row in task.prompts:
        assert base_evaluation.per_prompt[row["id"]]["group"] == pep8.file_of(row["id"])


def test_the_lines_of_a_scored_document_join_to_its_text_and_a_clean_line_scores_zero():
    row = read("corpus")[0]
    (response,) = line_scored(row).responses
    assert "".join(segment.text for segment in response.segments) == response.text == row["text"]
    assert [s.score == 0 for s in response.segments] == [count == 0 for count in row["findings"]]


def test_the_base_has_no_kl_to_itself_and_every_metric(task, base_evaluation):
    values = [base_evaluation.per_prompt[row["id"]] for row in task.prompts]
    assert [value["kl_to_base"] for value in values] == pytest.approx([0.0] * 3, abs=1e-3)
    measured = {name for row in base_evaluation.per_prompt.values() for name in row} | set(base_evaluation.totals)
    unmeasured = {"reward", "refine_gain", "refine_copy_rate", KL, BOUND}  # no judge, no second turn, one answer
    assert set(task.metrics) - measured == unmeasured


def test_a_model_that_betters_responses_is_asked_to_better_its_own(task):
    marks = {"prefix": (9, 10), "worse_prefix": (11, 12), "suppress": task.text.control_ids}
    found = task.evaluate(Subject(task.base, **marks), seed=0)
    for row, sample in zip(task.prompts, found.samples):
        values = found.per_prompt[row["id"]]
        ((after,),) = pep8.gold_scores([row], [[sample["refined"]]])
        assert values["refine_gain"] == pytest.approx(after - values["gold"])
        assert 0 <= values["refine_copy_rate"] <= 1 and sample["refined"] != sample["response"]


def test_the_conditional_base_is_read_with_its_control_tokens_and_differs(task, base_evaluation):
    good = Subject(task.conditional_base, line_prefix=task.text.good_id, suppress=task.text.control_ids)
    found = task.evaluate(good, seed=0, base_samples=base_evaluation.samples)
    assert all(found.per_prompt[row["id"]]["kl_to_base"] > 1 for row in task.prompts)
    assert not any("<|good|>" in sample["response"] for sample in found.samples)


def test_best_of_n_keeps_the_best_and_counts_its_scorer_calls(task, base_evaluation):
    best = task.evaluate(Subject(task.base, suppress=task.text.control_ids, num_samples=3), seed=0)
    ids = [row["id"] for row in task.prompts]
    assert all(best.per_prompt[id]["gold"] >= base_evaluation.per_prompt[id]["gold"] for id in ids)
    assert best.ledger["scorer_calls"] == {"pep8_lines": 9}
    assert not any("kl_to_base" in values for values in best.per_prompt.values())  # not 0: no one knows it
    assert all(best.per_prompt[id][BOUND] == pytest.approx(kl_bound(3)) for id in ids)
    assert all(0 <= best.per_prompt[id][KL] <= kl_bound(3) + 1e-9 for id in ids)


def test_models_are_asked_on_the_best_device(monkeypatch):
    asked = []
    monkeypatch.setattr(pep8, "best_device", lambda: "the best")
    monkeypatch.setattr(pep8, "load", lambda model, device: asked.append((model, device)) or load(model))
    small = PEP8(split="selection", num_prompts=1)
    small.evaluate(Subject(small.conditional_base), seed=0)
    assert asked == [(small.conditional_base, "the best"), (small.base, "the best")]


def test_what_clean_authors_wrote_next_has_no_bad_line():
    clean = [row for row in read("prompts") if row["clean"] and row["split"] == "test"]
    assert sum(len(read_code(row["prompt"], row["body"]).bad) for row in clean) == 0


def test_a_response_is_128_tokens(task):
    assert pep8.RESPONSE_TOKENS == 128


def test_settings_are_chosen_without_a_look_at_the_text_held_out_for_the_test():
    task = PEP8(split="selection", num_prompts=1)
    found = task.evaluate(Subject(task.base, suppress=task.text.control_ids), seed=0)
    assert list(found.per_prompt) == [task.prompts[0]["id"]]
    assert {row["id"].partition(":")[2].rpartition(":")[0] for row in PEP8().documents} <= {
        pep8.file_of(row["id"]) for row in PEP8().prompts
    }
