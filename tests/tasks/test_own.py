"""A feedback file of the user's as a task: what is measured on it, and what makes two comparisons the same."""

import json

import pytest
from models import tiny
from tiny_text import letters

from heedful.data import load_feedback
from heedful.errors import RunError
from heedful.models import load
from heedful.tasks import Subject, own
from heedful.tasks.own import OwnFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A character a token, a context of 400."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama", max_position_embeddings=400).save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture
def task(model, tmp_path):
    """What `OwnFile` makes of rows."""

    def make(rows, **options):
        file = tmp_path / "own.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return OwnFile(load_feedback(file), **{"model": model, **options})

    return make


def demonstrations(num, prompt="say {}: "):
    return [
        {"prompt": prompt.format(n), "responses": [{"text": f"good {n}", "demonstration": True}]} for n in range(num)
    ]


def test_a_subject_is_asked_on_the_best_device(task, monkeypatch):
    asked = []
    monkeypatch.setattr(own, "best_device", lambda: "the best")
    monkeypatch.setattr(own, "load", lambda model, device: asked.append(device) or load(model))
    small = task(demonstrations(40), num_prompts=1)
    small.evaluate(Subject(small.base), seed=0)
    assert asked == ["the best"]


def test_other_weights_under_the_same_name_are_another_comparison(task, model, tmp_path):
    folder = tmp_path / "model"
    tiny("llama", max_position_embeddings=400).save_pretrained(folder)
    letters().save_pretrained(folder)
    before = task(demonstrations(40), model=folder).describe()
    assert before["model"] == str(folder)
    tiny("llama", max_position_embeddings=400, seed=1).save_pretrained(folder)
    assert task(demonstrations(40), model=folder).describe() != before
    assert task(demonstrations(40), model=model).describe()["weights"] == before["weights"]


def test_a_judge_that_was_edited_is_another_judge(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "judge_of_own.py"
    source.write_text("def longer(prompt, response):\n    return len(response)\n")
    small = task(demonstrations(40), judge="judge_of_own:longer")
    assert small.describe()["judge"] == {"name": "judge_of_own:longer", "version": small.judge.version}
    assert task(demonstrations(40)).describe()["judge"] is None


def test_a_hub_name_is_known_by_its_commit(task, tmp_path, monkeypatch):
    name, cache = "0123456789" * 4, tmp_path / "models--someone--model"
    for path, text in (("refs/main", name), (f"snapshots/{name}/config.json", "{}")):
        (cache / path).parent.mkdir(parents=True)
        (cache / path).write_text(text)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert task(demonstrations(40), model="someone/model").describe()["weights"] == {"commit": name}
    with pytest.raises(RunError, match="no/such: cannot load a causal language model"):
        task(demonstrations(40), model="no/such").describe()


def test_every_method_is_measured_on_the_same_prompts(task, monkeypatch):
    monkeypatch.setattr(own, "RESPONSE_TOKENS", 4)
    prompts = ["say {}: " + "x" * n for n in (100, 374, 379)] + ["say {}: " + "x\n" * 190]
    rows = [row for number, prompt in enumerate(prompts) for row in demonstrations(10, f"{number} {prompt}")]
    small = task(rows)
    with pytest.warns(UserWarning, match="held-out responses are not read and .* of .* prompts not answered"):
        plain = small.evaluate(Subject(small.base), seed=0)
    answered = {sample["prompt_id"] for sample in plain.samples}
    read = {id for id, values in plain.per_prompt.items() if "bits_per_byte" in values}
    assert answered and read and len(answered) < len(small.held_out) > len(read)
    for subject in (Subject(small.base, prefix=(5,)), Subject(small.base, line_prefix=5)):
        found = small.evaluate(subject, seed=0, base_samples=plain.samples)
        assert {sample["prompt_id"] for sample in found.samples} == answered
        assert {id for id, values in found.per_prompt.items() if "bits_per_byte" in values} == read


def test_the_turns_of_a_conversation_are_a_group(task):
    rows = demonstrations(40)
    rows += [
        row | {"id": f"c{n}#{turn}", "metadata": {"conversation": f"c{n}"}}
        for n in range(20)
        for turn, row in enumerate(demonstrations(2, f"hello {n}, {{}}: "))
    ]
    small = task(rows)
    found = small.evaluate(Subject(small.base), seed=0)
    groups = {id: values["group"] for id, values in found.per_prompt.items() if "group" in values}
    assert groups == {id: id.split("#")[0] for id in found.per_prompt if "#" in id}
    assert 0 < len(groups) < len(found.per_prompt)
