"""BIG-Bench Hard as it is published, asked of any model."""

import json
from pathlib import Path

import pytest
from models import tiny
from tiny_text import letters

from heedful import evaluate
from heedful.data import load_feedback
from heedful.errors import ConfigError, DataError
from heedful.sampling import Sample
from heedful.tasks import Subject
from heedful.tasks.named import load_task
from heedful.tasks.reasoning import bbh
from heedful.tasks.reasoning.families import FAMILIES

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "bbh" / "examples.jsonl.gz"
ROWS = [
    {"task": "word_sorting", "input": "Sort: b a", "target": "a b"},
    {"task": "object_counting", "input": "How many?", "target": "3"},
    {"task": "snarks", "input": "Which is sarcastic?", "target": "(A)"},
    {"task": "word_sorting", "input": "Sort: " + "b a " * 100, "target": "a b"},
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", max_position_embeddings=200).save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_file_of_it_is_a_task_of_the_questions_that_are_asked(file, model):
    task = load_task(str(file), model=model)
    assert task.name == "bbh" and [record.answer for record in task.records] == ["3", "a b", "a b"]
    assert task.records[1].prompt == "Sort: b a\nAnswer:" and set(task.metrics) == {
        *("accuracy", "word_sorting", "object_counting", "length")
    }


def test_answers_are_right_where_they_are_the_target(file, model, monkeypatch):
    def draw(lm, text, prompts, settings, *, seed):
        assert settings.stop == ("\n",) and settings.temperature == 0
        return [[Sample((1,), (0.0,), answer, False)] for answer in (" four", " a b.")]

    monkeypatch.setattr(bbh, "generate", draw)
    task = load_task(str(file), model=model)
    with pytest.warns(UserWarning, match="1 of 3 questions leave no room for an answer in 200 tokens"):
        found = task.evaluate(Subject(model), seed=0)
    assert [values["accuracy"] for values in found.per_prompt.values()] == [0.0, 1.0]


def test_any_model_is_measured_on_it(file, model):
    with pytest.warns(UserWarning, match="left out"):
        metrics = evaluate(model, load_task(str(file), model=model))
    assert metrics["accuracy"].n == 2 and metrics["word_sorting"].n == 1


def test_as_many_are_asked_as_were_wanted_where_the_first_leave_no_room(tmp_path, model):
    path = tmp_path / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [ROWS[3], ROWS[0]]))
    with pytest.warns(UserWarning, match="1 of 2 questions leave no room for an answer in 200 tokens: left out"):
        metrics = evaluate(model, load_task(str(path), model=model, num_prompts=1))
    assert metrics["accuracy"].n == 1


def test_nothing_is_trained_on_it(file, model):
    with pytest.raises(ConfigError, match="authors ask that none is trained on it"):
        load_task(str(file), model=model).feedback("sft")


def test_a_file_without_the_tasks_that_are_asked_is_refused(tmp_path, model):
    path = tmp_path / "snarks.jsonl"
    path.write_text(json.dumps(ROWS[2]) + "\n")
    with pytest.raises(DataError, match="no record of 1 is of a task that is asked"):
        load_task(str(path), model=model)


@pytest.mark.skipif(not SHARED.is_file(), reason=f"needs BIG-Bench Hard in {SHARED.parent}, which is absent")
def test_the_published_file_has_questions_of_all_twelve(model):
    task = bbh.BigBenchHard(load_feedback(SHARED), model=model)
    assert {record.metadata["task"] for record in task.records} == set(FAMILIES) and len(task.records) > 2000
