"""A feedback file of the user's as a task: what is measured on it, and what makes two comparisons the same."""

import json
import math

import pytest
from models import tiny
from tiny_text import letters, make_text

from heedful.batch import Branch, Group
from heedful.data import load_feedback
from heedful.errors import ConfigError, DataError, RunError
from heedful.evals.likelihood import read_tokens
from heedful.evals.rouge import rouge_l
from heedful.models import load, load_tokenizer
from heedful.records import Feedback, Response
from heedful.scorers import Item
from heedful.tasks import Subject, own
from heedful.tasks.own import OwnFile
from heedful.text import Text, with_line_prefix
from heedful.training import train

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
    with pytest.raises(RunError, match="no/such: cannot load a language model"):
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


def documents(num, length):
    return [{"prompt": "", "responses": [{"text": f"{n} begins " + "x y\n" * (length // 4)}]} for n in range(num)]


def test_a_document_longer_than_the_context_is_read_whole_and_alike_by_every_method(task):
    small = task(documents(40, 1000))
    sizes = {record.id: len(record.responses[0].text.encode()) for record in small.held_out}
    for subject in (Subject(small.base), Subject(small.base, prefix=(5,)), Subject(small.base, line_prefix=5)):
        found = small.evaluate(subject, seed=0)
        assert {id: values["bits_per_byte"][1] for id, values in found.per_prompt.items()} == sizes


@pytest.mark.parametrize("lines", [False, True])
def test_rows_of_a_document_hold_every_token_once_and_fit_with_control_tokens(lines):
    text = make_text(max_length=12)
    ids = text.encode("ab\ncde\n\nfghij\n" * 5 if lines else "abcdefgh" * 5)
    rows = own._chunks(text, *with_line_prefix(ids, text, text.bos_id))
    assert [id for row in rows for id in row] == ids
    assert max(1 + len(with_line_prefix(row, text, 5)[0]) for row in rows) <= 12
    assert max(1 + 1 + len(row) for row in rows) <= 12


def test_bits_of_a_document_in_two_rows_are_those_of_both(task, model):
    small = task(documents(40, 480), num_prompts=1)
    (values,) = small.evaluate(Subject(model), seed=0).per_prompt.values()
    policy, text = load(model), Text(load_tokenizer(model), max_length=400)
    ids = text.encode_response(small.held_out[0].responses[0].text, continues=False)
    rows = own._chunks(text, *with_line_prefix(ids, text, text.bos_id))
    assert len(rows) == 2
    groups = [Group("", (text.bos_id,), (Branch(row, {"mask": [1.0] * len(row)}),)) for row in rows]
    nats = -sum(reading.logp.double().sum().item() for reading in read_tokens(policy, groups))
    assert values["bits_per_byte"][0] == pytest.approx(nats / math.log(2))


def test_a_document_begins_as_in_training(task, monkeypatch):
    began = []
    real = Text.encode_response

    def encode_response(self, *pieces, continues=True, **options):
        began.append(continues)
        return real(self, *pieces, continues=continues, **options)

    monkeypatch.setattr(Text, "encode_response", encode_response)
    small = task(documents(40, 20), num_prompts=1)
    small.prepare(None, {}, print)
    assert began == [False]


def test_nothing_that_fits_the_context_is_said_before_training(task):
    small = task(demonstrations(40, "say {}: " + "x" * 400))
    with pytest.raises(DataError, match=r"context of 400 tokens: no held-out response fits it .*longer context"):
        small.prepare(None, {}, print)
    judged = task(demonstrations(40, "say {}: " + "x" * 300), judge="pep8_lines")
    with pytest.raises(DataError, match="no held-out prompt leaves room for an answer"):
        judged.prepare(None, {}, print)


def test_bits_per_byte_leave_out_what_is_labelled_bad(task):
    def labelled(num, *labels):
        responses = [{"text": f"{label} {num}", "label": label} for label in labels]
        return {"prompt": f"say {num}: ", "responses": responses}

    rows = [labelled(n, "bad") if n % 2 else labelled(n, "bad", "good") for n in range(60)]
    small = task(rows)
    found = small.evaluate(Subject(small.base), seed=0)
    read = {id for id, values in found.per_prompt.items() if "bits_per_byte" in values}
    assert read == {record.id for record in small.held_out if len(record.responses) == 2}
    assert 0 < len(read) < len(small.held_out)
    bad = [labelled(n, "bad") for n in range(60)]
    assert "bits_per_byte" not in task(bad, judge="pep8_lines").metrics
    with pytest.raises(DataError, match=r"own\.jsonl: all .* bad responses only.*--judge"):
        task(bad)


def test_equal_ids_are_told_apart(task):
    rows = [row | {"id": "same"} for row in demonstrations(40)] + [row | {"id": "same"} for row in documents(40, 20)]
    rows += [row | {"id": "same#2"} for row in demonstrations(20, "and {}: ")]
    small = task(rows)
    ids = [record.id for record in small.held_out]
    assert len(set(ids)) == len(ids) and {"same", "same#2", "same#3"} < set(ids)
    assert next(record.id for record in small.held_out if record.prompt[:3] == "and") == "same#2"
    assert sum(record.prompt == "" for record in small.held_out) > 1
    assert set(small.evaluate(Subject(small.base), seed=0).per_prompt) == set(ids)


@pytest.fixture(scope="module")
def rankers(model, tmp_path_factory):
    """Runs of both forms, hardly trained."""
    rows = [Feedback(f"say {n}: ", (Response("xy", rank=1), Response("uvw", rank=2)), id=str(n)) for n in range(8)]
    settings = {"budget": {"steps": 3}, "optim": {"lr": 3e-3}, "dtype": "float32"}
    out = tmp_path_factory.mktemp("rankers")
    return {
        form: train(
            "ranker", model=model, feedback=rows, out=out / form, settings=settings | {"method": {"form": form}}
        )
        for form in ("pairwise", "pointwise")
    }


@pytest.mark.parametrize("form", ["pairwise", "pointwise"])
def test_a_ranker_judges_answers_against_those_of_the_base(task, model, rankers, tmp_path, monkeypatch, form):
    monkeypatch.setattr(own, "RESPONSE_TOKENS", 6)
    tiny("llama", max_position_embeddings=400, seed=1).save_pretrained(tmp_path / "other")
    letters().save_pretrained(tmp_path / "other")
    small = task(demonstrations(40), judge=str(rankers[form].path), num_prompts=4)
    base = small.evaluate(Subject(small.base), seed=0)
    assert {values["win_rate"] for values in base.per_prompt.values()} == {0.5}
    found = small.evaluate(Subject(tmp_path / "other"), seed=0, base_samples=base.samples)
    for mine, theirs in zip(found.samples, base.samples, strict=True):
        values = found.per_prompt[mine["prompt_id"]]
        pair = [Item(mine["prompt"], row["response"], truncated=row["truncated"]) for row in (mine, theirs)]
        if form == "pairwise":
            (chance,) = small.judge.preferences([tuple(pair)])
            assert values["judge_score"] == pytest.approx(chance, abs=1e-6)
            assert values["win_rate"] == float(chance > 0.5)
        else:
            one, other = (score.value for score in small.judge.score_batch(pair))
            assert values["judge_score"] == pytest.approx(one, abs=1e-6) and values["win_rate"] == float(one > other)
    best = small.evaluate(Subject(small.base, num_samples=4), seed=0, base_samples=base.samples)
    assert best.ledger["scorer_calls"] == {"ranker": {"pairwise": 4 * 6, "pointwise": 4 * 4}[form]}
    parameters = sum(weight.numel() for weight in load(small.base).parameters())
    assert best.ledger["flops"] == 2 * parameters * best.ledger["sampled_tokens"] > 0
    mean = sum(values["judge_score"] for values in best.per_prompt.values()) / 4
    assert mean >= (0.5 if form == "pairwise" else sum(v["judge_score"] for v in base.per_prompt.values()) / 4)


def test_a_judge_that_fails_names_the_line_of_the_prompt(task):
    small = task([row | {"id": f"r{n}"} for n, row in enumerate(demonstrations(40))], judge="tiny_judge:failing")
    with pytest.raises(DataError, match=r"own\.jsonl:(\d+) \(record r\d+\): tiny_judge:failing failed"):
        small.evaluate(Subject(small.base), seed=0)


def test_what_a_judge_needs_is_asked_for_first(task):
    with pytest.raises(DataError, match=r"own\.jsonl: exact_match needs `answer`, which .*--map answer=COLUMN"):
        task(demonstrations(40), judge="exact_match")
    assert task([row | {"answer": "4"} for row in demonstrations(40)], judge="exact_match").judge


def test_conversations_want_a_chat_template_first(task):
    rows = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in demonstrations(40)]
    with pytest.raises(ConfigError, match="the model has no chat template"):
        task(rows)


def test_a_file_is_known_by_its_bytes_not_by_its_path(task, tmp_path, monkeypatch):
    before = task(demonstrations(40)).describe()
    monkeypatch.chdir(tmp_path)
    again = OwnFile(load_feedback("own.jsonl"), model=before["model"])
    assert again.describe() == before
    assert task(demonstrations(41)).describe() != before


def test_answers_are_held_against_demonstrations_where_there_are_any(task):
    small = task(demonstrations(40))
    found = small.evaluate(Subject(small.base), seed=0)
    answers = {sample["prompt_id"]: sample["response"] for sample in found.samples}
    references = {record.id: record.responses[0].text for record in small.held_out}
    scores = {id: values["rouge_l"] for id, values in found.per_prompt.items() if "rouge_l" in values}
    assert scores == {id: rouge_l(answer, references[id]) for id, answer in answers.items()} != {}
    compared = [
        {"prompt": f"say {n}: ", "responses": [{"text": "a", "rank": 1}, {"text": "b", "rank": 2}]} for n in range(40)
    ]
    assert "rouge_l" in small.metrics and "rouge_l" not in task(compared).metrics
