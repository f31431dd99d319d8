"""The reasoning task as a comparison sees it; a small model of random weights in the place of the base."""

import json

import pytest

from heedful.comparison import compare
from heedful.config import read_yaml
from heedful.methods import METHODS
from heedful.sampling import Sample
from heedful.tasks import Subject
from heedful.tasks.named import feedback_for, load_task, settings_for, start_for
from heedful.tasks.reasoning import base
from heedful.tasks.reasoning import task as reasoning
from heedful.tasks.reasoning.assets import ASSETS
from heedful.tasks.reasoning.families import FAMILIES
from heedful.tasks.reasoning.question import Question
from heedful.tasks.reasoning.task import Reasoning, has_right_form, verdicts
from heedful.training import read_settings

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
COUNTED = ["word_sorting", "object_counting"]
FREE, CHOICE = (
    Question("How many?", "3", ("2",), "2", "how", 9),
    Question("?\nOptions:\n- a\n- b", "a", ("b",), "a", "", 2),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    shape = base.SHAPE | SMALL | {"num_key_value_heads": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SHAPE", shape)
        return base.initialise(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def task(model):
    return Reasoning(split="selection", base=model, num_prompts=24, counted=COUNTED)


@pytest.fixture(scope="module")
def evaluation(task):
    return task.evaluate(Subject(task.base), seed=0)


def test_the_first_questions_are_of_all_tasks(task):
    assert [one.task for one in task.asked] == [*FAMILIES, *FAMILIES]
    assert len({one.id for one in task.asked}) == 24


def test_every_question_is_measured_and_only_counted_tasks_make_the_accuracy(task, evaluation):
    for one in task.asked:
        values = evaluation.per_prompt[one.id]
        assert {one.task, "right_form", "kl_to_base", "length", "group"} <= set(values)
        assert ("accuracy" in values) == ("accuracy_sampled" in values) == (one.task in COUNTED)
        assert values["group"] == one.question.structure and values["kl_to_base"] == pytest.approx(0, abs=1e-5)


def test_every_measured_number_is_a_metric(task, evaluation):
    measured = {name for values in evaluation.per_prompt.values() for name in values} - {"group"}
    assert measured <= set(task.metrics)


def test_best_of_n_is_right_where_any_sample_is(task, monkeypatch):
    right = {one.id: one.question.answer for one in task.asked}

    def draw(policy, text, asked, subject, *, k, temperature, seed):
        return [[Sample((1,), (0.0,), f" {text}", False) for text in ("x", right[one.id])] for one in asked]

    monkeypatch.setattr(reasoning, "_draw", draw)
    found = task.evaluate(Subject(task.base, num_samples=2), seed=0)
    assert all(values[one.task] == 1.0 for one in task.asked for values in [found.per_prompt[one.id]])
    assert found.ledger["scorer_calls"] == {"exact_match": 48} and found.ledger["sampled_tokens"] == 48


def test_a_verdict_is_of_the_whole_answer(task):
    one = task.asked[0]
    answers = [one.question.answer, one.question.wrong[0], f"{one.question.answer} it is"]
    samples = [Sample((1,), (0.0,), f" {text}", False) for text in answers]
    assert verdicts([one] * 3, samples) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("question", "response", "expected"),
    [
        (FREE, " 7", True),
        (FREE, " many", False),
        (CHOICE, " b", True),
        (CHOICE, " c", False),
        (Question("Sort: b a", "a b", ("b a",), "b a", "s", 2), " b a", True),
        (Question("Sort: b a", "a b", ("b a",), "b a", "s", 2), " b", False),
    ],
)
def test_an_answer_has_the_right_form_or_not(question, response, expected):
    assert has_right_form(question, response) is expected


def test_demonstrations_and_prompts_are_the_same_questions(task, monkeypatch):
    monkeypatch.setattr(reasoning, "NUM_TRAIN", 3)
    small = Reasoning(split="selection", base=task.base, counted=COUNTED)
    told, asked = small.feedback("sft"), small.feedback("ppo")
    assert [record.prompt for record in told] == [record.prompt for record in asked] and len(told) == 36
    assert all(record.responses for record in told) and not any(record.responses for record in asked)


def test_every_recipe_is_of_a_method_and_can_be_read():
    task = load_task("reasoning", split="selection")
    names = {path.stem for path in reasoning.RECIPES.glob("*.yaml")} - {"common"}
    assert names == set(task.every) and set(task.methods) <= names <= set(METHODS)
    for name in names:
        read_settings(name, task.settings(name))


def test_a_method_with_a_recipe_is_compared_and_one_without_is_not(task, tmp_path, monkeypatch):
    monkeypatch.setattr(reasoning, "RECIPES", tmp_path)
    (tmp_path / "hir.yaml").write_text("optim: {lr: 1.0e-4}\n")
    assert task.methods == task.every == ["hir"]


def test_what_is_asked_is_described_by_its_hash(task):
    again = Reasoning(split="selection", base=task.base, num_prompts=24, counted=COUNTED)
    fewer = Reasoning(split="selection", base=task.base, num_prompts=12, counted=COUNTED)
    assert task.describe() == again.describe() and task.describe()["questions"] != fewer.describe()["questions"]


def test_its_name_stands_for_feedback_settings_and_a_model():
    assert len(feedback_for("sft", "reasoning", limit=5)) == 5
    assert settings_for("sft", "reasoning")["batch_size"] == read_yaml(reasoning.RECIPES / "common.yaml")["batch_size"]
    assert start_for("reasoning") == str(ASSETS / "base") and start_for("some.jsonl") is None


def test_sft_and_ppo_are_compared_end_to_end(task, tmp_path, monkeypatch):
    monkeypatch.setattr(reasoning, "NUM_TRAIN", 8)
    small = Reasoning(split="selection", base=task.base, num_prompts=12, counted=COUNTED)
    found = compare(
        small,
        methods=["sft", "ppo"],
        out=tmp_path / "run",
        budget={"tokens": 1500},
        settings={"eval_every": 1000, "validation": 0.0, "probes": 0},
    )
    rows = {row.method: row for row in found.rows}
    assert {name: (row.status, row.tier, row.error) for name, row in rows.items() if row.status != "done"} == {}
    assert [rows[name].tier for name in ("base", "best_of_n", "sft", "ppo")] == [None, 3, 1, 3]
    assert found.primary == "accuracy"
    json.loads((tmp_path / "run" / "results.json").read_text())
