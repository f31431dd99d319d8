"""What a judge is worth on the task."""

import pytest

from heedful.records import Feedback, Response
from heedful.scorers import ScoreCache, load_scorer
from heedful.tasks.pep8 import judging
from heedful.tasks.pep8.task import PEP8

CLEAN, SPACED, TRAILING = "x = f(1)\ny = 2\n", "x = f( 1 )\ny = 2\n", "x = f(1) \ny = 2\n"


def records(num):
    return [
        Feedback(f"a = {n}\n", (Response(SPACED), Response(CLEAN), Response(TRAILING)), id=f"m.py:{n}")
        for n in range(num)
    ]


def test_the_gold_scorer_prefers_fewer_findings_of_each_kind(monkeypatch):
    monkeypatch.setattr(judging, "FEWEST", 4)
    found = judging.by_finding(load_scorer("pep8_chars"), records(3), ScoreCache())
    assert list(found) == ["E201", "E202", "W291"]  # two of three pairs differ in each; E201 and E202 come together
    assert found["E201"].n == 3 and found["W291"].value == pytest.approx(0.5)  # against two findings, then against none


def test_findings_in_few_pairs_say_nothing():
    assert judging.by_finding(load_scorer("pep8_chars"), records(2), ScoreCache()) == {}


@pytest.mark.slow
def test_the_gold_score_is_never_wrong_and_people_are_as_noisy_as_the_papers():
    found = judging.judge_the_judge(load_scorer("pep8_lines"), PEP8(split="selection", num_prompts=12))
    assert found["gold"]["accuracy"]["value"] == 1.0
    assert 0.6 < found["people"]["ceiling"]["value"] < 0.95 and found["people"]["accuracy"]["value"] < 0.95
