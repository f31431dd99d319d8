"""How far from its start a policy went, and what it was worth there."""

import math
from itertools import combinations
from statistics import fmean

import pytest

from heedful.records import Feedback, Response, to_json
from heedful.rollout import KL_COEF, ROLLOUTS
from heedful.runs import Run
from heedful.tasks import Evaluation
from heedful.tasks.pep8.course import course_of, course_of_best, course_to

CLEAN, DIRTY = "a = 1\nb = 2\nc = 3\nd = 4\ne = 5\n", "a=1\nb=2\nc=3\nd=4\ne=5\n"


def test_the_best_of_k_is_the_mean_over_all_choices_of_k():
    judged, golds = [[0.3, 0.1, 0.9, 0.5]], [[1.0, 2.0, 3.0, 4.0]]
    found = {point["samples"]: point for point in course_of_best(judged, golds)}
    assert set(found) == {1, 2, 4}
    for k, point in found.items():
        picks = [max(choice, key=judged[0].__getitem__) for choice in combinations(range(4), k)]
        assert point["proxy"] == pytest.approx(fmean(judged[0][pick] for pick in picks))
        assert point["gold"] == pytest.approx(fmean(golds[0][pick] for pick in picks))
        assert point["kl"] == pytest.approx(math.log(k) - (k - 1) / k)


def drawn(text, reward, gap, n):
    numbers = {"tokens": [5, 6], "logp": [-1.0, -1.0], "ref_logp": [-1.0, -1.0 - gap], "value": [], "is_cut": True}
    metadata = {ROLLOUTS: [numbers | {"reward": reward}], KL_COEF: 0.1}
    return to_json(Feedback("x = 0\n", (Response(text, truncated=True),), id=f"r{n}", metadata=metadata))


def test_of_a_run_each_round_is_a_point(tmp_path):
    run = Run.create(tmp_path / "run", command=[], config={})
    run.write_round(0, [drawn(DIRTY, -1.0, 0.0, n) for n in range(2)])
    run.write_round(1, [drawn(CLEAN, 0.5, 2.0, n) for n in range(2)])
    first, second = course_of(run.path)
    assert (first["kl"], first["proxy"], first["gold"]) == pytest.approx((0.0, -1.0, -1.0))
    assert (second["kl"], second["proxy"], second["gold"], second["round"]) == pytest.approx((2.0, 0.5, 0.0, 1))


def test_rounds_without_numbers_of_rollouts_are_no_course(tmp_path):
    run = Run.create(tmp_path / "run", command=[], config={})
    run.write_round(0, [to_json(Feedback("q", (Response("a"),), id="r"))])
    assert course_of(run.path) == course_of(None) == []


def test_where_a_learned_reward_measured_both_ends_the_course_has_two_points():
    found = Evaluation(per_prompt={"p": {"kl_to_base": 4.0}}, samples=[{"gold": -0.2, "reward": 1.5}])
    base = [{"gold": -0.5, "reward": 0.5}]
    assert course_to(found, base) == [
        {"kl": 0.0, "proxy": 0.5, "gold": -0.5},
        {"kl": 4.0, "proxy": 1.5, "gold": -0.2},
    ]
    assert course_to(found, ()) == course_to(found, [{"gold": -0.5}]) == []
