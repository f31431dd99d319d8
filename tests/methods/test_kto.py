"""KTO: what it says of labels that are mostly of one kind."""

import warnings

import pytest
from tiny_methods import build

from heedful.records import Feedback, Response


def labelled(good, bad):
    responses = [Response(f"a{n}", label="good") for n in range(good)] + [
        Response(f"b{n}", label="bad") for n in range(bad)
    ]
    return [Feedback("q", tuple(responses), id="r0"), Feedback("p", (Response("c", label="good"),), id="r1")]


def test_labels_mostly_of_one_kind_are_told_with_the_weight_that_balances_them():
    with pytest.warns(UserWarning, match=r"2 good responses weigh 0.22 times 9 bad ones.*desirable_weight=4.5"):
        build("kto", labelled(1, 9))


@pytest.mark.parametrize(("good", "bad", "weight"), [(1, 9, 4.5), (1, 9, 6.0), (3, 3, 1.0), (3, 0, 1.0)])
def test_balanced_labels_and_those_of_one_kind_are_not(good, bad, weight):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("kto", labelled(good, bad), desirable_weight=weight)
