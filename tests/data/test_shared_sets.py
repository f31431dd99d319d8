"""The published sets themselves, where ../shared/data holds them; their shapes in small are in test_formats.py."""

import gzip
import json
from pathlib import Path

import pytest

from heedful.data import count_kinds, describe_feedback, load_feedback, render, split_feedback

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SETS = {
    "hh_rlhf_harmless/pairs": ("trl preference", {"pairs", "imitable"}),
    "hh_rlhf_helpful/pairs": ("scored dialogues", {"pairs", "imitable"}),
    "tldr_gpt_judged/pairs": ("tldr judged", {"pairs", "demonstrations", "imitable"}),
    "qa_feedback_finegrained/dev_feedback": (
        "finegrained rlhf",
        {"pairs", "rankings", "segments", "refinements", "demonstrations", "imitable"},
    ),
    "webgpt_comparisons/pairs": ("scored dialogues", {"pairs", "imitable"}),
    "halueval_general/general": ("halueval", {"labels", "segments", "imitable"}),
    "defacto_feedback/train": ("defacto", {"labels", "critiques", "refinements", "demonstrations", "imitable"}),
    "defacto_feedback/val": ("defacto", {"labels", "critiques", "refinements", "demonstrations", "imitable"}),
    "defacto_feedback/test": ("defacto", {"labels", "critiques", "refinements", "demonstrations", "imitable"}),
    "gsm8k/train": ("question-answer", {"answers", "demonstrations"}),
    "gsm8k/test": ("question-answer", {"answers", "demonstrations"}),
    "gsm8k/example_model_solutions": (
        "gsm8k solutions",
        {"answers", "labels", "pairs", "rankings", "demonstrations", "imitable"},
    ),
    "bbh/examples": ("bbh", {"answers"}),
    "alpaca_5000/demos": ("alpaca", {"demonstrations"}),
    "pandalm_testset/pairs": ("pandalm", {"pairs", "imitable"}),
}
LABELERS = {"pandalm_testset/pairs": 3}  # records a row

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the data sets in {SHARED}, which is absent")


def path_of(name):
    return SHARED / f"{name}.jsonl.gz"


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_is_read_as_it_is(name):
    shape, kinds = SETS[name]
    file = load_feedback(path_of(name))
    counts = count_kinds(file)
    assert file.format == shape
    assert kinds == {kind for kind, count in counts.items() if count} - {"prompts", "responses"}
    rows = len(file) / LABELERS.get(name, 1)
    assert rows == file.num_rows - sum(file.dropped.values()) and rows > 0.9 * file.num_rows
    assert file.skipped == {}


@pytest.mark.parametrize("name", SETS)
def test_every_record_of_it_can_be_inspected_and_split(name):
    file = load_feedback(path_of(name), limit=300)
    assert "read as" in render(describe_feedback(file))
    assert sum(split_feedback(file).counts.values()) == len(file)


@pytest.mark.parametrize("name", ["hh_rlhf_harmless/pairs", "hh_rlhf_helpful/pairs", "webgpt_comparisons/pairs"])
def test_prompt_and_answer_joined_are_the_dialogue_again(name):
    with gzip.open(path_of(name), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    dialogues = {text for row in rows for text in row.get("text", [row.get("chosen"), row.get("rejected")])}
    for record in load_feedback(path_of(name)):
        assert all(record.prompt + response.text in dialogues for response in record.responses)
        assert record.prompt.rstrip().endswith("Assistant:")
