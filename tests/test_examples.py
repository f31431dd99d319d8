"""The examples, which take hours: what they set exists, and what they print can be read."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from heedful.config import merge
from heedful.training import read_settings

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def real() -> ModuleType:
    return load("real_comparisons")


def test_the_settings_of_the_english_base_exist():
    assert read_settings("mle", load("english_base").TRAINING)


def test_the_settings_of_the_real_comparisons_exist(real):
    for _, _, recipe in real.SETS.values():
        assert read_settings("reward_model", real.recipe(recipe, "reward_model"))[0].optim.lr == 3e-4
    for method in real.POLICIES:
        assert read_settings(method, merge(real.recipe("tldr", method), real.GENTLE))[0].optim.lr == 1e-4


def test_a_table_has_a_line_for_each_thing_measured_and_one_for_a_failure(real):
    one = {"value": 0.5, "low": 0.25, "high": 0.75}
    names = ("accuracy", "always_longer", "above_longer", "log_loss", "length_correlation")
    measured = {"counts": {"pairs": 7}, "metrics": dict.fromkeys(names, one)}
    answered = ("win_rate", "pref_accuracy", "longer_than_base", "rouge_1", "rouge_2", "rouge_l", "words", "cut")
    base = {"metrics": dict.fromkeys((*answered, "bits_per_byte"), one), "judge_follows_length": 0.75}
    rows = {"base": base, "sft": base, "dpo": {"metrics": {}, "error": "it broke"}}
    apart = {"method": "sft", "metric": "rouge_l", "difference_to_base": {"mean": -0.02, "low": -0.03, "high": 0.01}}
    found = {"reward_models": {"hh": {"on": {"file": measured}}}}
    found["summaries"] = {"rows": rows, "words_of_references": 27.25, "differences_to_base": [apart]}
    lines = real.tables(found).splitlines()
    assert "| hh | file | 7 | 50.0 [25.0, 75.0] | 50.0% | 50.0 [25.0, 75.0] |  | 0.500 | 0.50 |  |  |" in lines
    assert "| dpo | it broke |" in lines and any(line.startswith("| base | 50.0 [25.0, 75.0] |") for line in lines)
    assert any(line.startswith("| sft |") and "| 50.0 | -2.0 [-3.0, 1.0] |" in line for line in lines)
    assert lines[-1].endswith("27.2 words.")


def test_rouge_of_answers_is_that_against_their_own_references(real):
    samples = [
        {"prompt_id": "a", "response": "one two", "truncated": False},
        {"prompt_id": "b", "response": "x", "truncated": True},
    ]
    found = real.texts(samples, {"a": "one two", "b": "y"}, {"a": 6, "b": 1})
    assert found["rouge_2"]["value"] == found["rouge_l"]["value"] == found["cut"]["value"] == 0.5
    assert found["words"]["value"] == 1.5 and found["longer_than_base"]["value"] == 0.5
    assert real.texts([], {}, {}) == {} and real.follows([]) is None
