"""Weights and rewards of segments, on their tokens."""

import math

import pytest
from tiny_text import check_rows, make_text, scored

from heedful.errors import DataError
from heedful.targets.weight import exponential_weights, segment_rewards

FEEDBACK = [scored(("ab", -1.0), ("c", 0.0))]


def weights(feedback, beta):
    return exponential_weights(feedback, text=make_text(), beta=beta)[0].branches[0].streams["weight"]


def test_a_token_weighs_the_exponential_of_its_segments_score_and_eos_weighs_one():
    text = make_text()
    check_rows(
        exponential_weights(FEEDBACK, text=text, beta=1 / math.log(2)),
        text,
        """
        token   BOS  a    b    c  EOS
        mask    .    1    1    1  1
        weight  .    0.5  0.5  1  1
        """,
    )


def test_there_is_no_constant_factor_as_in_the_released_code():
    assert weights(FEEDBACK, 0.1)[2] == 1.0  # the released recipe gives exp(0.5 / 0.1) = 148


def test_a_huge_beta_makes_all_weights_one():
    assert weights(FEEDBACK, 1e12) == pytest.approx([1.0] * 4, abs=1e-11)


def test_a_tiny_beta_leaves_only_the_tokens_without_a_fault():
    assert weights(FEEDBACK, 1e-6) == [0.0, 0.0, 1.0, 1.0]


def test_one_changed_score_changes_its_own_tokens_only():
    changed = weights([scored(("a", 0), ("b", -1), ("c", 0))], 1.0)
    assert [w != 1 for w in changed] == [False, True, False, False]


def test_a_constant_on_all_scores_multiplies_all_weights_but_that_of_eos():
    shifted = weights([scored(("ab", -0.7), ("c", 0.3))], 0.5)
    assert [a / b for a, b in zip(shifted, weights(FEEDBACK, 0.5))] == pytest.approx([math.exp(0.6)] * 3 + [1.0])


def test_a_weight_that_overflows_is_an_error_that_names_the_record():
    with pytest.raises(DataError, match=r"record a: exp\(score / beta\) = exp\(7 / 0\.01\).*method\.beta"):
        weights([scored(("a", 7.0))], 0.01)


def test_awrs_reward_is_the_segments_score_on_each_token_and_zero_on_eos():
    text = make_text()
    check_rows(
        segment_rewards([scored(("ab", -1.0), ("c", 0.5))], text=text),
        text,
        """
        token   BOS  a   b   c    EOS
        mask    .    1   1   1    1
        reward  .    -1  -1  0.5  0
        """,
    )


def test_a_score_of_zero_is_still_read():
    text = make_text()
    (group,) = segment_rewards([scored(("a", 0.0))], text=text)
    assert group.branches[0].streams["mask"] == [1.0, 1.0]
