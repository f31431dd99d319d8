"""`heedful sample`: what a model answers."""

import io
import json
import sys

import pytest
from small_feedback import record

from heedful.cli.sample import _from_stdin
from heedful.errors import ConfigError

SCORER = """
def length(prompt, response):
    return len(response)
"""


def answers(heedful, name: str = "out.jsonl") -> list[dict]:
    return [json.loads(line) for line in (heedful.folder / name).read_text(encoding="utf-8").splitlines()]


def test_one_prompt_gives_its_answer_and_nothing_else(heedful, model):
    first = heedful("sample", model, "-p", "ab", "--max-tokens", 5, "-t", 0, "-q").out
    assert first == heedful("sample", model, "-p", "ab", "--max-tokens", 5, "-t", 0, "-q").out
    assert first.endswith("\n") and len(first) <= 6


def test_the_same_seed_draws_the_same(heedful, model):
    options = ["-p", "ab", "-k", 3, "--max-tokens", 9, "-q"]
    drawn = [heedful("sample", model, *options, "--seed", seed).out for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_prompt_on_stdin_is_read_to_its_end(heedful, model):
    options = ["--max-tokens", 4, "-t", 0, "-q"]
    assert heedful("sample", model, *options, input="a\nb").out == heedful("sample", model, "-p", "a\nb", *options).out


def test_a_terminal_is_told_that_a_prompt_is_read_from_it(heedful, model, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    options = ["sample", model, "--max-tokens", 4, "-t", 0, "-q"]
    assert "standard input" not in heedful(*options, input="ab").err
    drawn = heedful.out
    monkeypatch.setattr("typer.get_text_stream", lambda name: Terminal("ab"))
    assert "reading a prompt from standard input, up to Ctrl-D" in heedful(*options).err
    assert heedful.out == drawn
    assert "standard input" not in heedful(*options, "-p", "ab").err


def test_samples_of_a_file_are_records_of_its_prompts(heedful, model):
    file = heedful.write("prompts.jsonl", record(0), record(1))
    heedful("sample", model, "--prompts", file, "-k", 2, "-o", "out.jsonl", "--max-tokens", 6, "-q")
    rows = answers(heedful)
    assert [row["prompt"] for row in rows] == ["say 0: ", "say 1: "]
    assert [row["id"] for row in rows] == ["r0", "r1"]
    assert all(response["author"] == str(model) for row in rows for response in row["responses"])
    heedful("score", "out.jsonl", "--with", "pep8_chars", "-q")


def test_best_of_n_keeps_the_best_with_its_score(heedful, model):
    (heedful.folder / "long_scorer.py").write_text(SCORER, encoding="utf-8")
    options = ["--max-tokens", 12, "-q", "-o"]
    heedful("sample", model, "-p", "ab", "-k", 6, *options, "all.jsonl")
    heedful("sample", model, "-p", "ab", "--best-of", 6, "--best-by", "long_scorer:length", *options, "best.jsonl")
    (best,) = answers(heedful, "best.jsonl")[0]["responses"]
    longest = max(len(response["text"]) for response in answers(heedful, "all.jsonl")[0]["responses"])
    assert best["scores"][0]["value"] == len(best["text"]) == longest


def test_best_of_needs_a_scorer(heedful, model):
    assert "go together" in heedful("sample", model, "-p", "ab", "--best-of", 3, code=2).err


def test_prompts_are_given_one_way(heedful, model):
    assert "exclude each other" in heedful("sample", model, "-p", "ab", "--prompts", "x.jsonl", code=2).err


def test_a_temperature_below_0_is_refused_before_the_model_is_read(heedful):
    found = heedful("sample", "nowhere", "-p", "ab", "-t", -1, "-q", code=2).err
    assert "temperature is -1.0" in found


def test_a_conversation_needs_a_chat_template(heedful, model):
    file = heedful.write("chat.jsonl", {"prompt": [{"role": "user", "content": "hi"}]})
    assert "no chat template" in heedful("sample", model, "--prompts", file, "-q", code=2).err


def test_a_closed_standard_input_is_no_prompt(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="standard input is closed"):
        _from_stdin()


def test_answers_as_json_are_records(heedful, model):
    found = heedful("sample", model, "-p", "say 1: ", "-p", "say 2: ", "-k", 2, "--max-tokens", 4, "-q", "--json").json
    assert [record["prompt"] for record in found] == ["say 1: ", "say 2: "]
    assert [len(record["responses"]) for record in found] == [2, 2]
