"""exact_match: what counts as the same answer."""

from decimal import Decimal

import pytest

from heedful.errors import DataError
from heedful.scorers import Item, load_scorer
from heedful.scorers.exact_match import normalise


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("42", "42"),
        (" Paris.\n", "paris"),
        ("New   York", "new york"),
        ("6 * 7 = 42, so\n#### 42", "working ... #### 42"),
        ("$1,234.50", "1234.5"),
        ("-3", "-3.0"),
        ("−3", "−3"),  # a Unicode minus is a word, the same word on both sides
        ("50%", "50"),
        ("ﬁne", "fine"),  # NFKC opens the ligature
        ("STRASSE", "straße"),
        (".5", "0.50"),
    ],
)
def test_the_same_answer(response, answer):
    assert load_scorer("exact_match").score(Item("", response, answer)).value == 1.0


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("43", "42"),
        ("The answer is 42", "42"),  # no working is searched for an answer
        ("12,34", "1234"),  # no grouping by thousands
        ("", "0"),
        (".", "0"),
        ("1 234", "1234"),
        ("#### 42\n#### 41", "42"),  # the last mark counts
    ],
)
def test_another_answer(response, answer):
    assert load_scorer("exact_match").score(Item("", response, answer)).value == 0.0


def test_numbers_and_words():
    assert normalise("1,000") == Decimal(1000)
    assert normalise("1,000 apples") == "1,000 apples"


def test_an_item_without_an_answer_is_named():
    with pytest.raises(DataError, match=r"q7.*answer"):
        load_scorer("exact_match").score(Item("", "42", id="q7"))
