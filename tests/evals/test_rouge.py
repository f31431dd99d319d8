"""ROUGE by hand."""

import pytest

from heedful.evals.rouge import rouge_l, rouge_n, words

CANDIDATE, REFERENCE = "the cat was found under the bed", "the cat was under the bed"  # 7 and 6 words


def test_words_are_runs_of_letters_and_digits_in_lower_case():
    assert words("Don't STOP, 3rd-time: é") == ["don", "t", "stop", "3rd", "time"]


def test_rouge_1_counts_a_word_as_often_as_both_have_it():
    assert rouge_n(CANDIDATE, REFERENCE, 1) == pytest.approx(2 * 6 / (7 + 6))
    assert rouge_n("the the the", "the cat", 1) == pytest.approx(2 * 1 / (3 + 2))


def test_rouge_2_counts_pairs_of_words():
    # both: the cat, cat was, under the, the bed; 6 pairs against 5
    assert rouge_n(CANDIDATE, REFERENCE, 2) == pytest.approx(2 * 4 / (6 + 5))


def test_rouge_l_needs_the_order_and_allows_gaps():
    assert rouge_l(CANDIDATE, REFERENCE) == pytest.approx(2 * 6 / (7 + 6))
    assert rouge_l("a b c d", "d a c b") == pytest.approx(2 * 2 / (4 + 4))  # a b, or a c


def test_it_does_not_matter_which_of_the_two_is_the_reference():
    for score in (rouge_l, lambda a, b: rouge_n(a, b, 2)):
        assert score(CANDIDATE, REFERENCE) == score(REFERENCE, CANDIDATE)


@pytest.mark.parametrize("pair", [("", "a"), ("a", ""), ("!", "?"), ("a b", "c d")])
def test_without_a_word_in_common_it_is_0(pair):
    assert rouge_l(*pair) == rouge_n(*pair, 1) == rouge_n(*pair, 2) == 0.0
