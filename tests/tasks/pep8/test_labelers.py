"""Simulated labelers: what they say, how far they agree, and that they are the same people every time."""

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataError
from heedful.records import Comparison, Feedback, from_json, to_json
from heedful.tasks.pep8 import labelers
from heedful.tasks.pep8.labelers import (
    TIE,
    Labeler,
    agreement,
    calibrate,
    critique,
    expected_agreement,
    gumbel,
    judge,
    oracle,
    pairs,
    panel,
    preference,
    ranks,
    rating,
    refine,
    tastes,
    tied,
)

PROMPT = "def total(rows):\n    count = 0\n"
CLEAN = "    a = f(1)\n    b = f(2)\n    c = f(3)\n    d = f(4)\n    return a, b, c, d\n"  # gold 0
ONE_BAD = CLEAN.replace("a = f(1)", "a=f(1)")  # -1/5
TWO_BAD = ONE_BAD.replace("b = f(2)", "b = f( 2)")  # -2/5
SHORT = "    return count\n"  # -4/5
FOUR = [TWO_BAD, CLEAN, SHORT, ONE_BAD]
EVEN = panel()[0]
CERTAIN = Labeler("certain", temperature=1e-6)


def bodies(seed, count=4):
    """Responses of ten lines each of which is bad with one probability for all: gold about minus that."""
    rng = random.Random(seed)
    share = rng.uniform(0, 0.6)
    return [
        "".join(f"    v{i} = f({i})\n" if rng.random() > share else f"    v{i}=f({i})\n" for i in range(10))
        for _ in range(count)
    ]


SAMPLES = [(PROMPT, bodies(seed)) for seed in range(200)]


def test_a_labeler_without_noise_ranks_by_the_gold_score():
    feedback = judge(PROMPT, FOUR, CERTAIN, seed=0, id="r1", refinements=False)
    assert [response.rank for response in feedback.responses] == [3, 1, 4, 2]
    assert {(pair.better, pair.worse) for pair in feedback.comparisons} == {
        (1, 3),
        (1, 0),
        (1, 2),
        (3, 0),
        (3, 2),
        (0, 2),
    }
    assert [response.score for response in feedback.responses] == [
        4.0,
        7.0,
        1.0,
        5.0,
    ]  # 7 - 6 * (0.4, 0, 0.8, 0.2) / 0.75
    assert [response.label for response in feedback.responses] == ["bad", "good", "bad", "good"]


def test_equal_texts_are_tied_whatever_the_noise():
    feedback = judge(
        PROMPT, [CLEAN, ONE_BAD, CLEAN], Labeler("wild", temperature=5.0), seed=0, id="r1", refinements=False
    )
    assert feedback.responses[0] == feedback.responses[2]
    assert Comparison(0, 2, 0.0) in feedback.comparisons


def test_a_judgement_depends_on_seed_id_labeler_and_text_alone():
    def said(responses=FOUR, labeler=EVEN, seed=0, id="r1"):
        feedback = judge(PROMPT, responses, labeler, seed=seed, id=id, refinements=False)
        return {response.text: (response.rank, response.score) for response in feedback.responses}

    assert said() == said(FOUR[::-1])
    assert len({str(sorted(said(seed=seed).items())) for seed in range(20)}) > 1
    assert len({str(sorted(said(id=str(i)).items())) for i in range(20)}) > 1


def test_gumbel_noise_has_mean_zero_and_variance_pi_squared_over_six():
    draws = [gumbel(0, str(i)) for i in range(20000)]
    assert fmean(draws) == pytest.approx(0.0, abs=0.03)
    assert fmean(draw**2 for draw in draws) == pytest.approx(math.pi**2 / 6, rel=0.05)


def test_preferences_follow_bradley_terry_with_ties():
    """Gold 0 against -1/5 at T = 0.2: a gap of 1 nat, less and more the tie."""
    labeler = Labeler("even", temperature=0.2)
    wins = ties = 0
    for i in range(2000):
        first, second = ranks(
            tied([0.0 + 0.2 * gumbel(i, "a"), -0.2 + 0.2 * gumbel(i, "b")], labeler.tie * labeler.temperature)
        )
        wins, ties = wins + (first < second), ties + (first == second)
    win, lose = preference(0.2, labeler)
    assert win == pytest.approx(1 / (1 + math.exp(TIE - 1)))
    assert lose == pytest.approx(1 / (1 + math.exp(TIE + 1)))
    assert wins / 2000 == pytest.approx(win, abs=0.03)
    assert ties / 2000 == pytest.approx(1 - win - lose, abs=0.02)


def test_the_panel_agrees_in_73_percent_of_decided_pairs():
    """Calibrated on these responses, and measured on judgements with their noise."""
    temperature = calibrate(SAMPLES, panel())
    people = panel(temperature)
    assert expected_agreement(SAMPLES, people) == pytest.approx(0.73, abs=1e-4)
    judged = [
        judge(prompt, responses, labeler, seed=0, id=str(i), refinements=False)
        for i, (prompt, responses) in enumerate(SAMPLES)
        for labeler in people
    ]
    assert agreement(judged) == pytest.approx(0.73, abs=0.03)
    ties = fmean(pair.strength == 0 for one in judged for pair in one.comparisons)
    assert 0.05 < ties < 0.25


def test_agreement_is_a_coin_toss_in_heat_and_certain_in_cold_where_the_gold_score_differs():
    hot = [replace(one, temperature=1e3, brevity=0.0) for one in panel()]
    cold = [replace(one, temperature=1e-4, brevity=0.0) for one in panel()]
    assert expected_agreement(SAMPLES[:20], hot) == pytest.approx(0.5, abs=0.01)
    assert expected_agreement([(PROMPT, FOUR)], cold) == pytest.approx(1.0)
    assert expected_agreement([(PROMPT, [CLEAN, CLEAN.replace("f(1)", "g(1)")])], cold) == pytest.approx(0.5)


def test_agreement_by_hand():
    def says(*comparisons):
        return Feedback(PROMPT, (), id="r1", comparisons=comparisons)

    a = says(Comparison(0, 1), Comparison(0, 2), Comparison(1, 2, 0.0))
    b = says(Comparison(1, 0), Comparison(0, 2), Comparison(1, 2))
    assert agreement([a, b]) == 1 / 2  # on 0 and 2; not on 0 and 1; of 1 and 2 only one decided
    assert agreement([a]) is None
    assert agreement([a, replace(b, id="r2")]) is None


def test_the_brief_labeler_prefers_the_shorter_of_two_equals():
    padded = CLEAN.replace("a, b, c, d", "f(a, b, c, d, a, b, c, d, a, b, c, d)")
    even, *_, brief = panel()
    assert tastes(PROMPT, [CLEAN, padded], even) == [0.0, 0.0]
    short, long = tastes(PROMPT, [CLEAN, padded], brief)
    assert short - long == pytest.approx(0.1 * (len(padded) - len(CLEAN)) / 100)


def test_strict_and_lenient_people_rate_differently_and_prefer_alike():
    said = {
        leniency: judge(PROMPT, FOUR, replace(CERTAIN, leniency=leniency), seed=0, id="r1", refinements=False)
        for leniency in (-0.1, 0.1)
    }
    strict, lenient = said.values()
    assert strict.comparisons == lenient.comparisons
    assert [response.label for response in strict.responses].count("good") == 1
    assert [response.label for response in lenient.responses].count("good") == 2
    assert all(a.score <= b.score for a, b in zip(strict.responses, lenient.responses))


@pytest.mark.parametrize(("value", "stars"), [(0.3, 7), (0.0, 7), (-0.125, 6), (-0.375, 4), (-0.75, 1), (-2.0, 1)])
def test_the_scale_has_seven_steps(value, stars):
    assert rating(value) == stars


def test_ties_join_the_best_of_their_group():
    assert tied([0.0, -0.1, -0.2, -0.3], 0.1) == pytest.approx([-0.05, -0.05, -0.25, -0.25])
    assert tied([-0.2, 0.0], 0.1) == [-0.2, 0.0]


def test_ranks_and_pairs_of_tied_values():
    assert ranks([0.5, 0.7, 0.5]) == [2, 1, 2]
    assert pairs([0.5, 0.7, 0.5]) == (Comparison(1, 0), Comparison(0, 2, 0.0), Comparison(1, 2))


def test_critiques_are_pycodestyles_words_by_line():
    assert critique(PROMPT, TWO_BAD) == "line 1: missing whitespace around operator; line 2: whitespace after '('"
    assert critique(PROMPT, CLEAN) is None
    assert critique(PROMPT, SHORT) == "only 1 lines that say something new"
    assert critique(PROMPT, CLEAN.replace(" = ", "=")).endswith("; and 1 more")


def test_refinements_mend_the_response_and_leave_the_prompt():
    assert refine(PROMPT, TWO_BAD) == CLEAN
    assert refine("def total(rows):\n    count=0\n", TWO_BAD) == CLEAN
    assert refine("        x=1\n", "    y=2\n") == "    y = 2\n"  # a prompt from within blocks


def test_what_cannot_be_bettered_has_no_refinement(monkeypatch):
    assert refine(PROMPT, CLEAN) is None
    assert refine(PROMPT, "    x = )\n") is None

    def fails(context, response):
        raise IndexError

    monkeypatch.setattr(labelers, "run_autopep8", fails)
    refine.cache_clear()
    assert refine(PROMPT, TWO_BAD) is None
    refine.cache_clear()


def test_refining_gives_up_after_a_while(monkeypatch):
    def endless(context, response):
        while True:
            pass

    monkeypatch.setattr(labelers, "run_autopep8", endless)
    monkeypatch.setattr(labelers, "REFINE_SECONDS", 0.05)
    refine.cache_clear()
    assert refine(PROMPT, TWO_BAD) is None
    refine.cache_clear()


def test_the_oracle_says_the_truth_and_only_the_oracle():
    truth = oracle(PROMPT, [*FOUR, CLEAN], id="r1")
    assert [response.rank for response in truth.responses] == [4, 1, 5, 3, 1]
    assert [response.scores[0].value for response in truth.responses] == pytest.approx([-0.4, 0.0, -0.8, -0.2, 0.0])
    assert truth.labeler == "oracle"
    assert not any(response.scores for response in judge(PROMPT, FOUR, CERTAIN, seed=0, id="r1").responses)


def test_a_judgement_is_a_valid_record():
    for feedback in (judge(PROMPT, FOUR, panel()[0], seed=0, id="r1"), oracle(PROMPT, FOUR, id="r1")):
        assert from_json(to_json(feedback)) == feedback


def test_an_empty_response_cannot_be_judged():
    with pytest.raises(DataError, match=r"r1: responses\[1\]: nothing to judge"):
        judge(PROMPT, [CLEAN, ""], CERTAIN, seed=0, id="r1")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=4), st.integers(0, 99))
def test_what_is_said_of_any_texts_never_contradicts_itself(responses, seed):
    feedback = judge("x = 1\n", responses, panel()[3], seed=seed, id="r", refinements=False)
    said = feedback.responses
    for pair in feedback.comparisons:
        better, worse = said[pair.better], said[pair.worse]
        assert (better.rank < worse.rank) == (pair.strength > 0)
        assert better.score >= worse.score
        assert (better.label, worse.label) != ("bad", "good")
