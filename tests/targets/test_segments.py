"""From judgements to one number a segment, and from segments to tokens with streams."""

import pytest
from tiny_text import check_rows, make_text, scored

from heedful.errors import DataError
from heedful.records import Comparison, Feedback, Message, Response, Score, Segment
from heedful.targets.segments import (
    Marked,
    all_segments,
    compile_rows,
    mean_score,
    reward_of,
    segments_of,
    threshold_or_median,
)

EOS = {"mask": 1.0, "score": 0.0}


def as_is(record, index, segment):
    """Each token carries its segment's score."""
    return Marked([], {"mask": 1.0, "score": segment.score})


def record(*responses, prompt="P", **options):
    return Feedback(prompt, tuple(responses), id="a", **options)


def rewards(feedback):
    return [reward_of(feedback, index) for index in range(len(feedback.responses))]


# One number a response


def test_a_score_is_the_reward_before_anything_else():
    assert rewards(record(Response("x", score=-0.5, label="good", rank=2), Response("y", score=0.0, rank=1))) == [
        -0.5,
        0,
    ]


def test_a_single_scorers_value_counts_as_the_score():
    assert rewards(record(Response("x", scores=(Score("pep8_lines", -0.25),)))) == [-0.25]


def test_a_label_is_one_or_zero():
    assert rewards(record(Response("x", label="good"), Response("y", label="bad"))) == [1.0, 0.0]


def test_a_ranked_response_gets_its_share_of_won_comparisons():
    ranked = record(Response("x", rank=2), Response("y", rank=1), Response("z", rank=3), Response("w", rank=3))
    assert rewards(ranked) == pytest.approx([2 / 3, 1.0, 0.0, 0.0])  # the tie of z and w counts for neither


def test_a_response_that_only_tied_gets_a_half():
    assert rewards(record(Response("x"), Response("y"), comparisons=(Comparison(0, 1, 0.0),))) == [0.5, 0.5]


def test_a_response_nobody_judged_has_no_reward():
    assert rewards(record(Response("x"))) == [None]
    assert rewards(record(Response("x"), Response("y"), Response("z"), comparisons=(Comparison(1, 0),))) == [0, 1, None]


# Segments


def test_a_response_without_segments_is_one_segment():
    assert segments_of(record(Response("x y", score=-1.0)), 0) == (Segment("x y", -1.0),)
    assert segments_of(record(Response("x y")), 0) == ()


def test_the_score_of_a_response_is_the_mean_over_its_segments_not_its_characters():
    assert mean_score(scored(("long text", -1.0), ("x", 0.0)), 0) == -0.5
    assert mean_score(record(Response("x")), 0) is None


def test_a_threshold_of_zero_is_a_threshold_and_none_is_the_median():
    feedback = [scored(("a", -9.0), ("b", -2.0), ("c", -1.0))]
    assert threshold_or_median(0.0, feedback) == 0.0
    assert threshold_or_median(None, feedback) == -2.0
    with pytest.raises(DataError, match="no response has a score"):
        threshold_or_median(None, [record(Response("x"))])


def test_where_most_are_labelled_bad_the_median_is_not_good():
    labels = ["bad"] * 7 + ["good"] * 3
    assert threshold_or_median(None, [record(Response("x", label=label)) for label in labels]) == 1.0
    with pytest.raises(DataError, match=r"all 2 scores are 0, so that none is good or bad \(give method.threshold\)"):
        threshold_or_median(None, [record(Response("x", label="bad"))] * 2)


def test_segments_join_to_their_document():
    feedback = [scored(("one.  ", 0), ("Two\n", -1), (" three", 0))]
    assert "".join(segment.text for segment in all_segments(feedback)) == feedback[0].responses[0].text
    text = make_text()
    (group,) = compile_rows(feedback, text, as_is, eos=EOS)
    assert text.decode(group.branches[0].tokens) == "one.  Two\n three"


# Rows


def test_a_document_begins_with_the_root_and_ends_in_one_eos_without_a_score():
    text = make_text()
    check_rows(
        compile_rows([scored(("ab", -0.5), ("c", 2))], text, as_is, eos=EOS),
        text,
        """
        token  BOS  a     b     c  EOS
        mask   .    1     1     1  1
        score  .    -0.5  -0.5  2  0
        """,
    )


def test_a_prompt_carries_nothing_and_its_responses_are_one_group():
    text = make_text()
    feedback = record(Response("x", score=1.0), Response("yz", score=2.0, truncated=True))
    groups = compile_rows([feedback], text, as_is, eos=EOS)
    assert len(groups) == 1
    check_rows(
        groups,
        text,
        """
        token  BOS  P  x  EOS
        mask   .    .  1  1
        score  .    .  1  0

        token  BOS  P  y  z
        mask   .    .  1  1
        score  .    .  2  2
        """,
    )


def test_a_score_belongs_to_its_own_tokens_so_one_change_moves_one_position():
    text = make_text()
    before, after = (
        compile_rows([scored(("a", 0), ("b", score), ("c", 0))], text, as_is, eos=EOS)[0].branches[0].streams["score"]
        for score in (0.0, -1.0)
    )
    assert [a != b for a, b in zip(before, after)] == [False, True, False, False]  # b, not its neighbours


def test_each_segment_is_tokenised_apart():
    text = make_text(merges=[("a", "b")])
    check_rows(
        compile_rows([scored(("ab", 1), ("a", 2), ("b", 3))], text, as_is, eos=EOS),
        text,
        """
        token  BOS  ab  a  b  EOS
        mask   .    1   1  1  1
        score  .    1   2  3  0
        """,
    )


def test_prefix_tokens_carry_what_their_segment_carries():
    text = make_text(control=True)

    def mark(record, index, segment):
        return Marked([text.good_id], {"mask": 1.0, "score": segment.score})

    check_rows(
        compile_rows([scored(("ab", 3))], text, mark, eos=EOS),
        text,
        """
        token  BOS  +  a  b  EOS
        mask   .    1  1  1  1
        score  .    3  3  3  0
        """,
    )


def test_a_long_document_becomes_rows_that_lose_no_token():
    text = make_text(max_length=4)
    groups = compile_rows([scored(("abc", 1), ("defg", 2))], text, as_is, eos=EOS)
    assert [group.id for group in groups] == ["a", "a:3", "a:6"]
    check_rows(
        groups,
        text,
        """
        token  BOS  a  b  c
        mask   .    1  1  1
        score  .    1  1  1

        token  BOS  d  e  f
        mask   .    1  1  1
        score  .    2  2  2

        token  BOS  g  EOS
        mask   .    1  1
        score  .    2  0
        """,
    )


def test_a_row_that_begins_within_a_segment_begins_with_its_prefix():
    text = make_text(max_length=4, control=True)

    def mark(record, index, segment):
        return Marked([text.good_id if segment.score > 0 else text.bad_id], {"mask": 1.0})

    groups = compile_rows([scored(("abcde", 1), ("f", 0))], text, mark, eos={"mask": 1.0})
    check_rows(
        groups,
        text,
        """
        token  BOS  +  a  b
        mask   .    1  1  1

        token  BOS  +  c  d
        mask   .    1  1  1

        token  BOS  +  e  -
        mask   .    1  1  1

        token  BOS  -  f  EOS
        mask   .    1  1  1
        """,
    )


def test_two_documents_of_one_record_keep_different_names():
    text = make_text()
    two = record(Response("x", score=1.0), Response("y", score=2.0), prompt="")
    assert [group.id for group in compile_rows([two], text, as_is, eos=EOS)] == ["a#0", "a#1"]


def test_a_response_nobody_judged_is_left_out_and_counted():
    text = make_text()
    groups = compile_rows([record(Response("x", score=1.0), Response("y"))], text, as_is, eos=EOS)
    assert [len(group.branches) for group in groups] == [1]
    assert text.drops.counts == {"response that nobody judged": 1}


def test_nothing_to_train_on_is_an_error_that_says_why():
    with pytest.raises(DataError, match="nobody judged: 2"):
        compile_rows([record(Response("x"), Response("y"))], make_text(), as_is, eos=EOS)


def test_a_conversation_is_rendered_by_the_models_template():
    text = make_text()
    text.tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}"
    )
    feedback = record(Response("x", score=1.0), prompt=(Message("user", "hi"),))
    check_rows(
        compile_rows([feedback], text, as_is, eos=EOS),
        text,
        """
        token  BOS  u  :  h  i  a  :  x  EOS
        mask   .    .  .  .  .  .  .  1  1
        score  .    .  .  .  .  .  .  1  0
        """,
    )
