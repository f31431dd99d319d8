"""Which text is trained and what stands before it: tiny text in, exact tokens and streams out."""

import math

import pytest
from tiny_text import check_rows, like_llama2, make_text, scored

from heedful.errors import DataError
from heedful.records import Comparison, Feedback, Response, Segment
from heedful.targets.relabel import (
    bad_segments,
    best_documents,
    best_response,
    control_tokens,
    demonstrations,
    everything,
    threshold_or_quantile,
)
from heedful.text import Text, with_line_prefix

INF = math.inf


def record(*responses, prompt="P", id="a", **options):
    return Feedback(prompt, tuple(responses), id=id, **options)


def marked(feedback, text, *, threshold=0.0, drop=0.0, lines=False, seed=0):
    return control_tokens(feedback, text=text, threshold=threshold, drop=drop, lines=lines, seed=seed)


def tokens_of(groups, text):
    return ["".join(text.tokenizer.convert_ids_to_tokens(group.branches[0].tokens)) for group in groups]


# Everything: MLE


def test_mle_trains_every_token_of_a_document_and_its_eos():
    text = make_text()
    check_rows(
        everything([scored(("ab", -1.0), ("c", 0.0))], text=text),
        text,
        """
        token  BOS  a  b  c  EOS
        mask   .    1  1  1  1
        """,
    )


def test_mle_trains_every_response_whatever_was_said_of_it_and_no_prompt():
    text = make_text()
    check_rows(
        everything([record(Response("x", label="good"), Response("y", label="bad", truncated=True))], text=text),
        text,
        """
        token  BOS  P  x  EOS
        mask   .    .  1  1

        token  BOS  P  y
        mask   .    .  1
        """,
    )


def test_mle_sees_the_tokens_that_the_other_methods_see_of_a_scored_document():
    text = make_text(merges=[("a", "b")], control=True)
    feedback = [scored(("xa", -1.0), ("b", 0.0))]
    plain = everything(feedback, text=text)
    assert plain == marked(feedback, text, drop=1.0)
    assert plain[0].branches[0].tokens == bad_segments(feedback, text=text, threshold=0.0)[0].branches[0].tokens


@pytest.mark.parametrize("prompt", ["", "b"])
def test_mle_continues_a_text_as_the_other_methods_do_where_every_text_would_begin_with_a_space(prompt):
    text = Text(like_llama2(), max_length=64)
    feedback = [scored(("a", -1.0), ("a", 0.0), prompt=prompt)]
    (plain,), (other,) = everything(feedback, text=text), bad_segments(feedback, text=text, threshold=0.0)
    assert plain.branches[0].tokens == other.branches[0].tokens
    assert "".join(text.tokenizer.convert_ids_to_tokens(plain.branches[0].tokens)) == (
        "aa</s>" if prompt else "▁aa</s>"  # the beginning of a document is the tokenizer's own
    )


# Demonstrations: SFT


def test_sft_masks_the_prompt_and_trains_the_response_and_its_eos():
    text = make_text()
    check_rows(
        demonstrations([record(Response("ggg", demonstration=True))], text=text),
        text,
        """
        token  BOS  P  g  g  g  EOS
        mask   .    .  1  1  1  1
        """,
    )


@pytest.mark.parametrize(
    ("responses", "chosen"),
    [
        ([Response("x", score=9.0), Response("y", demonstration=True)], 1),
        ([Response("x", rank=2), Response("y", rank=1)], 1),
        ([Response("x", score=-1.0), Response("y", score=-2.0)], 0),
        ([Response("x", label="bad"), Response("y", label="good")], 1),
        ([Response("x", score=9.0, label="bad"), Response("y", score=1.0, label="good")], 1),
        ([Response("x", label="bad"), Response("y", score=-1.0)], 1),  # a bad label is worth 0, which is more
        ([Response("x", label="bad"), Response("y")], 0),  # and is not imitated
        ([Response("x", score=1.0), Response("y", score=1.0)], 0),  # the first of equals
        ([Response("x"), Response("y", score=-5.0)], 1),  # judged badly is still more than not judged
        ([Response("x")], 0),
    ],
)
def test_sft_imitates_the_demonstration_else_the_best_judged_else_the_only_one(responses, chosen):
    assert best_response(record(*responses)) == chosen


def test_scores_that_a_program_added_do_not_outweigh_what_people_preferred():
    scored_by_program = [Response("x", score=1.0), Response("y", score=5.0)]
    assert best_response(record(*scored_by_program, comparisons=(Comparison(0, 1),))) == 0
    ranked = [Response("x", rank=1, score=1.0), Response("y", rank=2, score=5.0)]
    assert best_response(record(*ranked)) == 0
    labelled = [Response("x", label="good"), Response("y", label="good")]
    assert best_response(record(*labelled, comparisons=(Comparison(1, 0),))) == 1
    three = [Response("x"), Response("y"), Response("z")]
    assert best_response(record(*three, comparisons=(Comparison(2, 0), Comparison(2, 1), Comparison(0, 1)))) == 2


def test_sft_never_imitates_a_response_that_is_labelled_bad():
    text = make_text()
    feedback = [record(Response("x", label="bad"), id="a"), record(Response("y", label="good"), id="b")]
    assert [group.id for group in demonstrations(feedback, text=text)] == ["b"]
    assert text.drops.counts == {"prompt with bad responses only": 1}


# Control tokens: conditional


def test_a_control_token_stands_before_each_segment_and_is_trained_like_the_text():
    text = make_text(control=True)
    check_rows(
        marked([scored(("ab", 0.0), ("cd", -1.0), ("e", 0.0))], text),
        text,
        """
        token  BOS  +  a  b  -  c  d  +  e  EOS
        mask   .    1  1  1  1  1  1  1  1  1
        """,
    )


def test_a_control_token_follows_the_prompt_of_a_prompted_record():
    text = make_text(control=True)
    check_rows(
        marked([record(Response("gg", score=1.0), Response("b", score=-1.0))], text),
        text,
        """
        token  BOS  P  +  g  g  EOS
        mask   .    .  1  1  1  1

        token  BOS  P  -  b  EOS
        mask   .    .  1  1  1
        """,
    )


def test_a_score_equal_to_the_threshold_is_good_at_zero_too():
    text = make_text(control=True)
    assert tokens_of(marked([scored(("a", 0.0), ("b", -1e-9))], text, threshold=0.0), text) == ["<|good|>a<|bad|>b</s>"]
    assert tokens_of(marked([scored(("a", -0.5), ("b", 0.0))], text, threshold=-0.5), text) == [
        "<|good|>a<|good|>b</s>"
    ]


@pytest.mark.parametrize(("threshold", "token"), [(-INF, "<|good|>"), (INF, "<|bad|>")])
def test_an_infinite_threshold_gives_one_token_everywhere(threshold, token):
    text = make_text(control=True)
    assert tokens_of(marked([scored(("a", 0), ("b", -1))], text, threshold=threshold), text) == [
        f"{token}a{token}b</s>"
    ]


MANY = [scored(*((letter, 0.0) for letter in "abcdefghijklmnopqrst"), id=str(n)) for n in range(50)]


def test_a_drop_of_zero_never_drops_and_of_one_always():
    text = make_text(control=True)
    assert all(row.count("<|good|>") == 20 for row in tokens_of(marked(MANY, text, drop=0.0), text))
    assert all("<|" not in row for row in tokens_of(marked(MANY, text, drop=1.0), text))


def test_a_drop_of_a_tenth_drops_about_a_tenth():
    text = make_text(control=True)
    kept = sum(row.count("<|good|>") for row in tokens_of(marked(MANY, text, drop=0.1), text))
    assert abs(kept / 1000 - 0.9) < 3 * math.sqrt(0.1 * 0.9 / 1000)


def test_what_is_dropped_depends_on_the_record_and_the_seed_not_on_the_order():
    text = make_text(control=True)
    once = dict(zip((r.id for r in MANY), tokens_of(marked(MANY, text, drop=0.5), text)))
    backwards = dict(zip((r.id for r in MANY[::-1]), tokens_of(marked(MANY[::-1], text, drop=0.5), text)))
    alone = tokens_of(marked(MANY[7:8], text, drop=0.5), text)
    assert once == backwards
    assert alone == [once["7"]]
    assert len(set(once.values())) == 50  # records draw apart
    assert tokens_of(marked(MANY[7:8], text, drop=0.5, seed=1), text) != alone


def test_the_responses_of_one_record_draw_apart():
    text = make_text(control=True)
    letters = tuple(Segment(letter, 0.0) for letter in "abcdefghijklmnopqrst")
    twins = record(*[Response("abcdefghijklmnopqrst", segments=letters)] * 2, prompt="")
    first, second = tokens_of(marked([twins], text, drop=0.5), text)
    assert first != second


def test_what_is_dropped_does_not_depend_on_the_order_even_where_records_have_no_id():
    text = make_text(control=True)
    nameless = [scored(*((letter, 0.0) for letter in word), id="") for word in ("abcdef", "ghijkl")]
    assert (
        tokens_of(marked(nameless, text, drop=0.5), text)
        == tokens_of(marked(nameless[::-1], text, drop=0.5), text)[::-1]
    )


def test_lines_of_a_prompt_get_the_good_token():
    text = make_text(control=True)
    check_rows(
        marked([scored(("c\n", 0), ("d", -1), prompt="a\nb\n", truncated=True)], text, lines=True),
        text,
        r"""
        token  BOS  +  a  \n  +  b  \n  +  c  \n  -  d
        mask   .    .  .  .   .  .  .   1  1  1   1  1
        """,
    )


def test_with_lines_an_end_after_a_newline_stands_behind_a_good_token_where_generation_puts_one():
    text = make_text(control=True)
    check_rows(
        marked([scored(("a\n", -1), prompt="P\n"), scored(("a", -1), prompt="P\n")], text, lines=True),
        text,
        r"""
        token  BOS  +  P  \n  -  a  \n  +  EOS
        mask   .    .  .  .   1  1  1   1  1

        token  BOS  +  P  \n  -  a  EOS
        mask   .    .  .  .   1  1  1
        """,
    )
    newline, end = text.encode_response("\n")
    assert with_line_prefix([newline, end], text, text.good_id)[0][1:] == [newline, text.good_id, end]


@pytest.mark.parametrize("segments", [[("a\nb", 0)], [("a. ", 0), ("b", 0)], [("a\r", 0), ("b", 0)]])
def test_a_token_per_line_wants_segments_that_are_lines(segments):
    with pytest.raises(DataError, match=r"record a: a scored segment is not one line.*method\.lines"):
        marked([scored(*segments)], make_text(control=True), lines=True)


def test_a_tokenizer_without_control_tokens_gets_them_once():
    text = make_text()
    size = len(text.tokenizer)
    assert text.good_id is None
    with pytest.raises(AssertionError, match="no control tokens"):
        marked([scored(("a", 0))], text)
    text.add_control_tokens()
    text.add_control_tokens()
    assert [text.good_id, text.bad_id] == [size, size + 1]
    assert len(text.tokenizer) == size + 2


# Bad segments: unlikelihood


def test_each_token_is_aligned_or_misaligned_and_eos_takes_no_segments_score():
    text = make_text()
    check_rows(
        bad_segments([scored(("ab", -1.0), ("cd", 0.0))], text=text, threshold=0.0),
        text,
        """
        token       BOS  a  b  c  d  EOS
        aligned     .    0  0  1  1  1
        misaligned  .    1  1  0  0  0
        token       .    1  1  1  1  1
        """,
    )


def test_a_score_equal_to_the_threshold_is_aligned():
    streams = bad_segments([scored(("a", -0.1), ("b", -0.2))], text=make_text(), threshold=-0.1)[0].branches[0].streams
    assert streams["aligned"] == [1.0, 0.0, 1.0]


def test_a_threshold_of_zero_is_not_the_released_codes_weighting_by_the_score():
    streams = bad_segments([scored(("a", 0.0), ("b", -0.025))], text=make_text(), threshold=0.0)[0].branches[0].streams
    assert streams["misaligned"] == [0.0, 1.0, 0.0]  # not 0.025


# Best documents: filtering


def means(*scores):
    return [scored(("x", score - 0.5), ("y", score + 0.5), id=str(score)) for score in scores]


def kept(feedback, threshold):
    return [float(group.id) for group in best_documents(feedback, text=make_text(), threshold=threshold)]


def test_a_document_is_kept_by_its_mean_score_ties_included():
    assert kept(means(-3, -2, -1, 0), -2.0) == [-2, -1, 0]
    assert kept(means(-1, 0, 1), 0.0) == [0, 1]


def test_filtering_at_minus_infinity_is_mle():
    text, feedback = make_text(), means(-3, 0)
    assert best_documents(feedback, text=text, threshold=-INF) == everything(feedback, text=text)


def test_filtering_everything_away_is_an_error_that_names_the_best_score():
    with pytest.raises(DataError, match=r"none of 2 responses.*the best is -1"):
        best_documents(means(-3, -1), text=make_text(), threshold=INF)


def test_each_response_is_kept_by_its_own_score():
    feedback = [record(Response("x", score=1.0), Response("y", score=-1.0), Response("z"))]
    text = make_text()
    check_rows(
        best_documents(feedback, text=text, threshold=0.0),
        text,
        """
        token  BOS  P  x  EOS
        mask   .    .  1  1
        """,
    )
    assert text.drops.counts == {"response below the threshold": 1, "response that nobody judged": 1}


@pytest.mark.parametrize(("quantile", "bound"), [(0.0, -4.0), (0.25, -3.0), (0.5, -2.0), (0.75, -1.0), (0.99, -1.0)])
def test_a_quantile_is_the_share_that_is_dropped(quantile, bound):
    feedback = means(-1, -2, -3, -4)
    assert threshold_or_quantile(None, quantile, feedback) == bound
    assert len(kept(feedback, bound)) == max(1, 4 - int(4 * quantile))


def test_a_threshold_of_zero_beats_the_quantile():
    assert threshold_or_quantile(0.0, 0.5, means(-1, -2)) == 0.0


def test_comparisons_of_dropped_responses_do_not_survive_them():
    pair = record(Response("x", score=0.0), Response("y", score=1.0), comparisons=(Comparison(1, 0),))
    groups = best_documents([pair], text=make_text(), threshold=0.5)
    assert len(groups[0].branches) == 1


def test_the_streams_of_a_segment_do_not_leak_into_the_next():
    feedback = [Feedback("", (Response("ab", segments=(Segment("a", 0.0), Segment("b", -1.0))),), id="a")]
    streams = bad_segments(feedback, text=make_text(), threshold=-0.5)[0].branches[0].streams
    assert list(zip(*streams.values())) == [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0)]
