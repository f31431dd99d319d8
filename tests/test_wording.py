"""Numbers as people read them."""

import math

import pytest

from heedful import wording


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (-0.1654, "", "−0.165"),
        (-0.0001, "", "0.000"),
        (123.456, "", "123.5"),
        (1_234_567, "", "1.2M"),
        (0.612, "share", "61.2%"),
        (None, "", "–"),
        (math.nan, "", "–"),
    ],
)
def test_a_value(value, unit, shown):
    assert wording.number(value, unit) == shown


def test_a_difference_has_its_sign_and_shares_are_points():
    assert wording.signed(0.11) == "+0.110"
    assert wording.signed(-0.11) == "−0.110"
    assert wording.signed(0.156, "share") == "+15.6 pts"
    assert wording.between(-0.05, 0.25, "share", sign=True) == "[−5.0, +25.0]"


def test_no_interval_is_no_text():
    assert wording.between(None, 1.0) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (950, "950"), (999_990, "1.0M"), (12_400, "12.4k"), (3e9, "3.0G")]
)
def test_a_count(value, shown):
    assert wording.count(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.84, "0.8 s"), (42, "42 s"), (204, "3.4 min"), (7560, "2.1 h")])
def test_a_duration(seconds, shown):
    assert wording.duration(seconds) == shown


def test_a_budget_names_each_limit():
    assert wording.budget({"tokens": 600_000, "seconds": 60}) == "600.0k tokens, 60 s"
    assert wording.budget({"epochs": 1}) == "1 epoch"
    assert wording.budget({}) == "no limit"


def test_an_unknown_metric_is_named_by_its_key():
    assert wording.title("my_own_metric") == "My own metric"
