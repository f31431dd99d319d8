"""A model is asked as its method needs, and its answers are records."""

from pathlib import Path

import pytest
from models import tiny
from tiny_text import letters

from heedful import Sampling, inference, sample
from heedful.errors import DataError
from heedful.export import export
from heedful.inference import Needs, needs_of
from heedful.models import load, load_tokenizer
from heedful.records import Feedback, Response
from heedful.sampling import generate
from heedful.text import BAD, GOOD, Text

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A model without heedful.json."""
    folder = tmp_path_factory.mktemp("plain")
    tiny("llama").save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> Path:
    """An exported model that is asked with the good token, and never draws either."""
    text = Text(letters(), max_length=2)
    text.add_control_tokens()
    info = {"method": "conditional", "prefix": [text.good_id], "suppress": [text.good_id, text.bad_id]}
    return export(tiny("llama"), text.tokenizer, tmp_path_factory.mktemp("runs") / "model", info)


def test_a_model_of_somebody_else_needs_nothing(plain):
    assert needs_of(plain) == Needs()


def test_an_exported_model_says_what_it_needs(conditional):
    good, bad = load_tokenizer(conditional).convert_tokens_to_ids([GOOD, BAD])
    assert needs_of(conditional) == Needs(prefix=(good,), suppress=(good, bad))


def test_answers_are_those_of_generate_on_the_prompt_with_the_prefix(conditional):
    (record,) = sample(conditional, ["ab"], sampling=Sampling(max_tokens=8, temperature=0))
    lm, text, needs = load(conditional).lm, Text(load_tokenizer(conditional), max_length=2), needs_of(conditional)
    prompt = [*text.encode_prompt("ab"), *needs.prefix]
    settings = Sampling(max_tokens=8, temperature=0, banned=needs.suppress)
    ((expected,),) = generate(lm, text, [prompt], settings)
    assert record.responses[0].text == expected.text


def test_a_record_keeps_its_name_and_loses_its_responses(plain):
    asked = Feedback("ab", (Response("old"),), id="x", answer="42")
    (record,) = sample(plain, [asked], k=2, sampling=Sampling(max_tokens=3))
    assert (record.id, record.answer, record.prompt) == ("x", "42", "ab")
    assert len(record.responses) == 2 and all(response.text != "old" for response in record.responses)
    assert {response.author for response in record.responses} == {str(plain)}


def test_a_response_that_was_cut_says_so(plain):
    records = sample(plain, ["ab"], k=4, sampling=Sampling(max_tokens=3, min_tokens=3))
    assert all(response.truncated for response in records[0].responses)


def test_best_of_n_is_the_best_of_the_same_draws(plain):
    settings = Sampling(max_tokens=12)
    (every,) = sample(plain, ["ab"], k=5, sampling=settings, seed=3)
    (best,) = sample(plain, ["ab"], k=5, sampling=settings, seed=3, best_by="pep8_chars")
    (kept,) = best.responses
    assert kept.text in [response.text for response in every.responses]
    assert kept.scores[0].scorer == "pep8_chars"


class Narrow:
    """A scorer whose context ends after ten characters of a prompt; it was never asked."""

    name, version, needs = "narrow", "1", frozenset()

    def leaves_room(self, item):
        return len(item.prompt) < 10

    def score(self, item):
        raise AssertionError("asked")


def test_a_prompt_too_long_for_the_scorer_is_refused_before_anything_is_drawn(plain, monkeypatch):
    monkeypatch.setattr("heedful.inference.generate", lambda *args, **how: pytest.fail("drawn"))
    with pytest.raises(DataError, match="leaves no room for a response in the context of the scorer, narrow"):
        sample(plain, ["ab", "a" * 20], k=2, best_by=Narrow())


@pytest.mark.parametrize("prompt", ["ab", Feedback("ab", (Response("old"),))])
def test_a_prompt_that_is_not_in_a_list_is_refused(plain, prompt):
    with pytest.raises(DataError, match=r"prompts: found (a text|one record): expected a list of prompts"):
        sample(plain, prompt)


def test_no_prompt_is_an_error(plain):
    with pytest.raises(DataError, match="no prompt"):
        sample(plain, [])


def test_a_model_is_asked_on_the_best_device(plain, monkeypatch):
    asked = []
    monkeypatch.setattr(inference, "best_device", lambda: "the best")
    monkeypatch.setattr(inference, "load", lambda model, device: asked.append(device) or load(model))
    sample(plain, ["say: "], sampling=Sampling(max_tokens=2))
    assert asked == ["the best"]
