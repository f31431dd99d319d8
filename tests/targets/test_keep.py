"""Which samples are kept: those above a threshold, at most so many, or the best of each prompt."""

import math

import pytest
from tiny_text import check_rows, make_text

from heedful.errors import DataError
from heedful.records import Feedback, Response
from heedful.rollout import DRAWS, KL_COEF, ROLLOUTS
from heedful.targets.keep import above, best_of_each, best_samples, kept_samples

pytestmark = pytest.mark.filterwarnings("error")
ALL = {"threshold": 1.0, "at_most": None, "distinct": False}


def record(*scored, id="a", prompt="q"):
    responses = tuple(Response(text, score=score) for text, score in scored)
    return Feedback(prompt, responses, id=id, metadata={DRAWS: len(scored)})


def drawn(*rewards, prompt="q", ratio=0.0, cut=(), id="a", kl_coef=0.0):
    """Rollouts "a", "b", ... with these rewards; the later, the further from the start."""
    text = make_text()
    rollouts = [
        {
            "tokens": text.encode_response("abcdef"[n], finished=n not in cut),
            "logp": [-1.0, -1.0],
            "ref_logp": [-1.0 - ratio * n, -1.0],
            "value": [],
            "reward": reward,
            "is_cut": n in cut,
        }
        for n, reward in enumerate(rewards)
    ]
    return Feedback(prompt, (), id=id, metadata={ROLLOUTS: rollouts, KL_COEF: kl_coef})


# The threshold


def test_a_score_at_the_threshold_is_kept_and_one_below_is_not():
    assert above(record(("a", 1.0), ("b", 0.999), ("c", 2.0)), threshold=1.0) == (0, 2)


def test_the_cap_keeps_those_that_were_drawn_first():
    assert above(record(("a", 1), ("b", 0), ("c", 1), ("d", 1)), threshold=1.0, at_most=2) == (0, 2)


def test_equal_responses_are_kept_once_before_the_cap_counts():
    one = record(("a", 1), ("a", 1), ("b", 1))
    assert above(one, threshold=1.0, at_most=2) == (0, 2)
    assert above(one, threshold=1.0, at_most=2, distinct=False) == (0, 1)


def test_nobody_imitates_a_demonstration_or_what_was_not_scored():
    shown = Feedback("q", (Response("a", score=1.0, demonstration=True), Response("b")), id="a")
    assert above(shown, threshold=0.0) == ()


def test_rows_have_what_is_kept_behind_a_masked_prompt():
    text = make_text()
    records = [record(("ab", 1), ("c", 0), ("d", 1)), record(("e", 0), id="b")]
    check_rows(kept_samples(records, text=text, **ALL), text, """
        token  BOS  q  a  b  EOS
        mask   .    .  1  1  1

        token  BOS  q  d  EOS
        mask   .    .  1  1
    """)  # fmt: skip


def test_responses_below_the_threshold_change_nothing():
    text = make_text()
    with_bad = kept_samples([record(("a", 1), ("b", 0))], text=text, **ALL)
    assert with_bad == kept_samples([record(("a", 1.0))], text=text, **ALL)


def test_a_round_without_a_good_response_says_how_far_it_is():
    said = "none of the 2 scored responses to 1 prompts reaches method.threshold 1: the best scores 0.25"
    with pytest.raises(DataError, match=said):
        kept_samples([record(("a", 0.25), ("b", 0.0))], text=make_text(), **ALL)
    with pytest.raises(DataError, match="none of the 0 scored"):
        kept_samples([record()], text=make_text(), **ALL)


def test_what_people_wrote_is_on_another_scale():
    written = Feedback("q", (Response("a", score=7.0),), id="r1")
    with pytest.raises(DataError, match="r1: its responses were not drawn from the policy"):
        kept_samples([written], text=make_text(), **ALL)


@pytest.mark.filterwarnings("default")
def test_equal_scores_are_a_warning():
    with pytest.warns(UserWarning, match="all 2 responses of the round score 1"):
        kept_samples([record(("a", 1), ("b", 1))], text=make_text(), **ALL)
    with pytest.warns(UserWarning, match="all 3 responses of the round score 0.5"):
        assert len(best_samples([drawn(0.5, 0.5, 0.5)], text=make_text(), missing_eos=None)) == 1


# The best


def test_the_first_of_the_best_is_kept():
    assert best_of_each([0.0, 2.0, 1.0, 2.0]) == 1


def test_the_row_of_the_best_is_as_it_was_drawn():
    text = make_text()
    groups = best_samples([drawn(0.0, 1.0), drawn(1.0, 0.0, id="b")], text=text, missing_eos=None)
    check_rows(groups, text, """
        token  BOS  q  b  EOS
        mask   .    .  1  1

        token  BOS  q  a  EOS
        mask   .    .  1  1
    """)  # fmt: skip


def test_the_kl_is_taken_from_the_score():
    """Scores 0, 0.4, 1.0 with log-ratios 0, 2, 4 nats: at 0.1 a nat 0, 0.2, 0.6, at 0.3 a nat 0, -0.2, -0.2."""

    def kept(kl_coef):
        (group,) = best_samples([drawn(0.0, 0.4, 1.0, ratio=2.0, kl_coef=kl_coef)], text=make_text(), missing_eos=None)
        return make_text().decode(group.branches[0].tokens)

    assert [kept(0.0), kept(0.1), kept(0.3)] == ["c", "c", "a"]


def test_a_response_that_was_cut_has_the_score_it_is_given():
    (group,) = best_samples([drawn(0.0, 1.0, cut=(1,))], text=make_text(), missing_eos=-1.0)
    assert make_text().decode(group.branches[0].tokens) == "a"


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_best_of_uniform_rewards_is_their_expected_maximum(number):
    """K / (K + 1), by enumeration of all draws from ten equally likely rewards: exact, less 1/20 of a step."""
    grid = [(n + 0.5) / 10 for n in range(10)]
    rows = [[grid[(place // 10**k) % 10] for k in range(number)] for place in range(10**number)]
    mean = math.fsum(row[best_of_each(row)] for row in rows) / len(rows)
    assert mean == pytest.approx(number / (number + 1), abs=0.006)
