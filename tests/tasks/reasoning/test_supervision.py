"""Which tasks count, and how much a verdict says."""

import json
import math

import pytest

from heedful.tasks.reasoning import supervision
from heedful.tasks.reasoning.supervision import bits_per_verdict, counted_tasks, describe

FOUND = {
    "tasks": {
        "known": {"chance": 0.25, "base": 0.4, "sampled": 0.5, "gold": 0.9, "answer_bits": 2.0},
        "too_hard": {"chance": 0.2, "base": 0.2, "sampled": 0.25, "gold": 0.89, "answer_bits": math.log2(5)},
    }
}


@pytest.mark.parametrize(
    ("accuracy", "bits"), [(0.5, 1.0), (0.0, 0.0), (1.0, 0.0), (0.25, 0.25 * 2 + 0.75 * math.log2(4 / 3))]
)
def test_a_verdict_says_the_entropy_of_being_right(accuracy, bits):
    assert bits_per_verdict(accuracy) == pytest.approx(bits)


def test_a_task_counts_from_nine_in_ten(tmp_path, monkeypatch):
    (tmp_path / "supervision.json").write_text(json.dumps(FOUND))
    monkeypatch.setattr(supervision, "MEASURED", tmp_path / "supervision.json")
    assert counted_tasks() == ["known"]


def test_the_table_says_who_counts_and_the_bits_of_both_kinds():
    head, known, hard = describe(FOUND)
    assert head.split() == ["task", "chance", "base", "sampled", "gold", "counts", "verdict", "answer"]
    assert known.split() == ["known", "25.0%", "40.0%", "50.0%", "90.0%", "yes", "1.00", "2.00"]
    assert hard.split() == ["too_hard", "20.0%", "20.0%", "25.0%", "89.0%", "no", "0.81", "2.32"]
