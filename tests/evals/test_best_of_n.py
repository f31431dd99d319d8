"""How far best-of-n moves, against the enumeration of all draws."""

import math
from itertools import product

import numpy as np
import pytest

from heedful.errors import DataError
from heedful.evals.best_of_n import best_of_n_kl, kl_bound


def enumerated_kl(p, scores, n):
    """KL of the text that best-of-n picks, the first of equals, from all sequences of n draws."""
    picked = [0.0] * len(p)
    for draws in product(range(len(p)), repeat=n):
        best = max(range(n), key=lambda place: scores[draws[place]])
        picked[draws[best]] += math.prod(p[text] for text in draws)
    return sum(q * math.log(q / mass) for q, mass in zip(picked, p) if q)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("counts", "scores"),
    [([5, 3, 2], [0.0, 1.0, 2.0]), ([4, 3, 2, 1], [0.0, 1.0, 1.0, 0.0]), ([2, 2, 3, 3], [1.0, 1.0, 1.0, 1.0])],
)
def test_of_scores_that_all_occur_more_than_once_it_is_that_of_all_draws(counts, scores, n):
    p = [count / sum(counts) for count in counts]
    drawn = [score for count, score in zip(counts, scores) for _ in range(2 * count)]
    assert best_of_n_kl(drawn, n) == pytest.approx(enumerated_kl(p, scores, n), abs=1e-12)


@pytest.mark.parametrize(("n", "nats"), [(2, 0.193147), (4, 0.636294), (8, 1.204442), (16, 1.835089), (64, 3.174508)])
def test_without_ties_it_is_the_bound(n, nats):
    scores = np.random.default_rng(0).permutation(100).tolist()
    assert kl_bound(n) == pytest.approx(nats, abs=1e-6)
    assert best_of_n_kl(scores, n) == pytest.approx(nats, abs=1e-6)


def test_two_classes_by_hand():
    """Half of the draws pass: best-of-2 passes in 3 of 4, and KL = 3/4 log(3/2) + 1/4 log(1/2)."""
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert best_of_n_kl([0.0, 1.0, 1.0, 0.0], 2) == pytest.approx(expected)
    assert expected < kl_bound(2)


def test_equal_scores_choose_nothing():
    assert best_of_n_kl([0.3] * 16, 16) == 0.0


def test_it_is_between_nothing_and_the_bound():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, rng.integers(1, 20), 16).tolist()
        assert -1e-12 <= best_of_n_kl(scores, 16) <= kl_bound(16) + 1e-12


def test_neither_order_nor_scale_of_scores_changes_it():
    scores = [0.0, 2.0, 1.0, 2.0, 0.5, 0.0]
    assert best_of_n_kl(scores[::-1], 3) == best_of_n_kl([math.exp(score) for score in scores], 3)


def test_with_one_draw_nothing_moves():
    assert best_of_n_kl([0.1, 0.2, 0.2], 1) == pytest.approx(0.0)


def test_many_draws_lead_to_the_law_of_the_policy():
    rng = np.random.default_rng(0)
    p, scores = [0.5, 0.3, 0.15, 0.05], [0.0, 1.0, 2.0, 3.0]
    drawn = rng.choice(scores, 20_000, p=p).tolist()
    assert best_of_n_kl(drawn, 4) == pytest.approx(enumerated_kl(p, scores, 4), abs=0.02)


def test_fewer_draws_than_n_are_refused():
    with pytest.raises(DataError, match="found 3 scores for best-of-4"):
        best_of_n_kl([0.0, 1.0, 2.0], 4)
