"""A model is given its own response back and asked for a better one."""

import json
from pathlib import Path

import pytest
from models import tiny
from tiny_text import letters

from heedful import Feedback, Sampling, sample
from heedful.errors import ConfigError
from heedful.export import export
from heedful.inference import copy_rate, needs_of, without_empty
from heedful.models import load, load_tokenizer
from heedful.records import Response
from heedful.sampling import generate
from heedful.targets.markers import FAMILIES, marker
from heedful.text import Text

pytestmark = pytest.mark.usefixtures("one_thread")

GREEDY = Sampling(max_tokens=6, temperature=0)


@pytest.fixture(scope="module")
def hindsight(tmp_path_factory) -> Path:
    """An exported model with a good and a bad marker."""
    text = Text(letters(), max_length=2)
    good, bad = (marker(text, phrase) for phrase in FAMILIES["answer"].pairs[0])
    info = {"method": "chain_of_hindsight", "prefix": good, "worse_prefix": bad}
    return export(tiny("llama"), text.tokenizer, tmp_path_factory.mktemp("runs") / "model", info)


def test_each_turn_follows_the_last_response_as_in_a_chain_of_two(hindsight):
    (record,) = sample(hindsight, ["ab"], sampling=GREEDY, refine=2)
    lm, text, needs = load(hindsight).lm, Text(load_tokenizer(hindsight), max_length=2), needs_of(hindsight)
    prompt = text.encode_prompt("ab")
    ((before,),) = generate(lm, text, [[*prompt, *needs.prefix]], GREEDY)
    texts = [before.text]
    for _ in range(2):
        ((before,),) = generate(lm, text, [[*prompt, *needs.worse_prefix, *before.tokens, *needs.prefix]], GREEDY)
        texts.append(before.text)
    assert [response.text for response in record.responses] == texts
    assert record.metadata["refine"]["turn"] == [0, 1, 2]


def test_the_first_turn_is_what_sampling_gives_without_refinement(hindsight):
    settings, prompts = Sampling(max_tokens=6), ["ab", "cd"]
    plain = sample(hindsight, prompts, k=2, sampling=settings)
    refined = sample(hindsight, prompts, k=2, sampling=settings, refine=1)
    for one, two in zip(plain, refined, strict=True):
        assert two.responses[:2] == one.responses and len(two.responses) == 4
        told = two.metadata["refine"]
        assert told["turn"] == [0, 0, 1, 1]
        assert told["copy_rate"][:2] == [None, None]
        pairs = zip(two.responses[:2], two.responses[2:], strict=True)
        assert told["copy_rate"][2:] == [copy_rate(a.text, b.text) for a, b in pairs]
        assert "refine" not in one.metadata


def test_turns_are_drawn_anew_and_repeat_with_the_seed(hindsight):
    draws = [sample(hindsight, ["ab"], sampling=Sampling(max_tokens=9), refine=1, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_progress_counts_all_turns(hindsight):
    told = []
    sample(
        hindsight, ["ab", "cd"], sampling=GREEDY, refine=2, progress=lambda done, tokens: told.append((done, tokens))
    )
    assert told == sorted(told)
    assert told[-1][0] == 6


@pytest.mark.parametrize(
    ("before", "after", "rate"),
    [("abcdef", "xbcdy", 0.6), ("abc", "abc", 1.0), ("abc", "xyz", 0.0), ("abc", "", 0.0), ("", "abc", 0.0)],
)
def test_copy_rate_is_the_longest_common_stretch_as_a_share_of_the_new_text(before, after, rate):
    assert copy_rate(before, after) == rate


def test_an_empty_response_goes_with_what_was_noted_of_it():
    told = {"turn": [0, 1, 2], "copy_rate": [None, 0.0, 0.5]}
    record = Feedback("q", (Response("a"), Response(""), Response("b")), metadata={"refine": told, "own": 1})
    kept = without_empty(record)
    assert [response.text for response in kept.responses] == ["a", "b"]
    assert kept.metadata == {"refine": {"turn": [0, 2], "copy_rate": [None, 0.5]}, "own": 1}


def test_what_was_noted_of_earlier_responses_is_left_out(hindsight):
    (first,) = sample(hindsight, ["ab"], sampling=GREEDY, refine=1)
    (again,) = sample(hindsight, [first], sampling=GREEDY)
    assert "refine" not in again.metadata


def test_a_model_that_did_not_learn_to_refine_is_refused(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has not learned to better a response"):
        sample(tmp_path, ["ab"], refine=1)


def test_refine_and_best_by_exclude_each_other(hindsight):
    with pytest.raises(ConfigError, match="exclude each other"):
        sample(hindsight, ["ab"], k=2, refine=1, best_by="pep8_chars")
    with pytest.raises(ConfigError, match="0 or more turns"):
        sample(hindsight, ["ab"], refine=-1)


def test_the_command_writes_every_turn(hindsight, tmp_path, capsys):
    from heedful.cli import app

    out = tmp_path / "out.jsonl"
    options = [str(hindsight), "-p", "ab", "--refine", "2", "--max-tokens", "5", "-t", "0", "-q"]
    app(["sample", *options, "-o", str(out)], standalone_mode=False)
    (row,) = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert len(row["responses"]) == len(row["metadata"]["refine"]["copy_rate"])
    app(["sample", *options], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "--- p0  turn 0\n" in shown and "--- p0  turn 2  copied " in shown
