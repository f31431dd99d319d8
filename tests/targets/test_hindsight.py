"""HIR's rows as they are read, token by token: what each verdict, window and context makes of a response."""

import random

import pytest
from models import PAD
from tiny_text import check_rows, make_text

from heedful.errors import DataError
from heedful.records import Feedback, Response
from heedful.targets.hindsight import (
    INSTRUCTIONS,
    Instructions,
    Layout,
    hindsight,
    instructions,
    relabelled,
    window,
)

TEXT = make_text()
WORDS = instructions(("P", "N"), TEXT)
TWO_WAY = Layout(WORDS, contrast="two_way")
GOOD, BAD = Response("xy", label="good"), Response("zw", label="bad")


def rows(*responses, layout=TWO_WAY, text=TEXT, prompt="q", seed=0, **record):
    return hindsight([Feedback(prompt, responses, id="r", **record)], text=text, layout=layout, seed=seed)


# Instructions


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_an_instruction_is_a_line_of_its_own(name):
    words = instructions(name, TEXT)
    assert [TEXT.decode(ids) for ids in words] == [f"\n{phrase}\n" for phrase in INSTRUCTIONS[name]]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("is_good", [True, False])
def test_relabelled_once_an_instruction_is_followed_and_relabelled_again_it_stays(asked, is_good):
    own = relabelled(asked, is_good)
    assert own == is_good and relabelled(own, is_good) == own


# Whole outputs


def test_an_output_stands_behind_the_instruction_that_it_fulfils_and_behind_the_opposite_one():
    groups = rows(GOOD, BAD)
    check_rows(
        groups,
        TEXT,
        """
        token     BOS q \\n P \\n x y EOS
        imitated  .   . 0  0 0  1 1 1
        mask      .   . 0  0 0  1 1 1

        token     BOS q \\n N \\n x y EOS
        imitated  .   . 0  0 0  0 0 0
        mask      .   . 0  0 0  1 1 1

        token     BOS q \\n N \\n z w EOS
        imitated  .   . 0  0 0  1 1 1
        mask      .   . 0  0 0  1 1 1

        token     BOS q \\n P \\n z w EOS
        imitated  .   . 0  0 0  0 0 0
        mask      .   . 0  0 0  1 1 1
        """,
    )
    assert [(group.id, group.pairs) for group in groups] == [("r", ((0, 1, 1.0), (2, 3, 1.0)))]


def test_a_question_is_read_once_for_all_answers_of_its_record_and_no_other():
    """Rounds that are replayed ask a question again under the same id."""
    records = [Feedback("q", responses, id="r") for responses in ((GOOD, BAD), (BAD, GOOD), (GOOD,))]
    layout = Layout(WORDS, contrast="two_way", windows=1)
    groups = hindsight(records, text=TEXT, layout=layout, seed=0)
    assert [(group.id, len(group.branches)) for group in groups] == [("r", 4), ("r", 4), ("r", 2)]
    assert groups[2].branches == groups[0].branches[:2]
    n_way = Layout(WORDS, contrast="n_way", num_contexts=2)
    assert [group.id for group in hindsight(records[:1], text=TEXT, layout=n_way, seed=0)] == ["r#0", "r#1"]


def test_without_a_contrast_it_stands_behind_its_own_alone():
    check_rows(
        rows(BAD, layout=Layout(WORDS)),
        TEXT,
        """
        token     BOS q \\n N \\n z w EOS
        imitated  .   . 0  0 0  1 1 1
        """,
    )


def test_of_an_encoder_decoder_the_instruction_is_the_decoders():
    text = make_text(bos_token=None, start_id=PAD)
    check_rows(
        rows(GOOD, text=text, layout=Layout(instructions(("P", "N"), text))),
        text,
        """
        token     q EOS PAD \\n P \\n x y EOS
        imitated  . .   .   0  0 0  1 1 1
        """,
    )


def test_a_response_that_was_cut_has_no_eos_and_one_that_is_too_long_loses_its_end():
    (group,) = rows(Response("xy", label="good", truncated=True), layout=Layout(WORDS))
    assert group.branches[0].tokens[-1] == TEXT.encode("y")[0]
    text = make_text(max_length=8)
    (group,) = rows(Response("xyzw", label="good"), text=text, layout=Layout(instructions(("P", "NNN"), text)))
    assert group.branches[0].tokens[-1] == text.encode("x")[0]  # the longer instruction leaves room for one
    assert text.drops.counts == {"response cut to the context (kept)": 1}


def test_who_was_not_judged_and_what_was_shown_is_passed_over():
    shown = Response("shown", label="good", demonstration=True)
    assert rows(Response("none"), GOOD, shown) == rows(GOOD)
    with pytest.raises(DataError, match="no training row is left"):
        rows(Response("none"))


def test_verdicts_that_are_all_equal_are_worth_a_warning():
    with pytest.warns(UserWarning, match="all responses of a round are bad: only one instruction is imitated"):
        (group,) = rows(BAD, Response("zz", label="bad"))
    assert len(group.pairs) == 2


# Filtered imitation


def test_filtered_imitation_keeps_good_outputs_behind_the_positive_instruction():
    text = make_text()
    check_rows(
        rows(GOOD, BAD, text=text, layout=Layout(WORDS, good_only=True)),
        text,
        """
        token     BOS q \\n P \\n x y EOS
        imitated  .   . 0  0 0  1 1 1
        """,
    )
    assert text.drops.counts == {"bad response": 1}


def test_filtered_imitation_of_nothing_stops():
    with pytest.raises(DataError, match="none of 1 responses is good: nothing is left to imitate"):
        rows(BAD, layout=Layout(WORDS, good_only=True))


# Balance


def test_balanced_good_and_bad_outputs_weigh_the_same_in_all():
    bad = [Response(letter, label="bad") for letter in "abc"]
    (group,) = rows(GOOD, *bad, layout=Layout(WORDS, contrast="two_way", balance=True))
    assert [pair.weight for pair in group.pairs] == pytest.approx([2.0, 2 / 3, 2 / 3, 2 / 3])
    assert group.branches[0].streams["imitated"][-3:] == [2.0] * 3


def test_balance_of_one_kind_changes_nothing():
    with pytest.warns(UserWarning, match="all responses of a round are good"):
        (group,) = rows(GOOD, layout=Layout(WORDS, contrast="two_way", balance=True))
    assert group.pairs[0].weight == 1.0


# Windows


def test_windows_of_ten_tokens_are_those_of_the_code():
    rng = random.Random(0)
    found = {window(10, rng) for _ in range(2000)}
    assert {start for start, _ in found} == {0, 2, 4, 6}
    assert all(stop > start and (stop - start) % 2 == 1 and stop <= 10 for start, stop in found)
    assert {window(length, rng) for length in (1, 2, 3) for _ in range(9)} == {(0, 1), (0, 2), (0, 3)}


def windows(response, *, seed=0, number=1, **record):
    (group,) = rows(response, layout=Layout(WORDS, windows=number), seed=seed, **record)
    return group.branches[1:]


def test_a_window_is_read_from_the_start_and_learned_from_its_own():
    text = "abcdefghi"
    response = Response(text, label="bad")
    seen = set()
    for seed in range(40):
        for branch in windows(response, seed=seed):
            learned = branch.streams["imitated"]
            start, stop = learned.index(1.0) - 3, len(learned) - 3
            assert learned == [0.0] * (3 + start) + [1.0] * (stop - start)
            assert list(branch.tokens[3:]) == TEXT.encode_response(text)[:stop]
            assert tuple(branch.tokens[:3]) == WORDS.negative  # the verdict of the whole
            seen.add((start, stop))
    assert len(seen) > 10


def test_windows_follow_from_seed_round_and_record_and_nothing_else():
    response = Response("abcdefghi", label="bad")
    alone = windows(response, metadata={"round": 3})
    (beside,) = rows(response, GOOD, layout=Layout(WORDS, windows=1), metadata={"round": 3})
    assert beside.branches[1:2] == alone and len(beside.branches) == 3
    drawn = [windows(response, metadata={"round": n})[:1] for n in range(12)]
    assert len({str(one) for one in drawn}) > 1


def find(response, stop, **record):
    """The window of a response up to a token, whichever seed draws it."""
    for seed in range(500):
        for branch in windows(response, seed=seed, number=4, **record):
            body = list(branch.tokens[3:])
            end = body[:-1] if body[-1] == TEXT.eos_id else body
            if len(end) == stop:
                return tuple(branch.tokens[:3]), TEXT.decode(body), body[-1] == TEXT.eos_id
    pytest.fail("no seed draws it")


def test_a_wrong_output_that_began_with_the_answer_is_right_up_to_there_and_ends():
    wrong = Response("A. b c d", label="bad")
    assert find(wrong, 1, answer="a.") == (WORDS.positive, "A", True)


def test_what_occurs_in_the_answer_is_right_and_does_not_end():
    wrong = Response("abcdefghi", label="bad")
    assert find(wrong, 3, answer="Z ABC.z") == (WORDS.positive, "abc", False)
    assert find(wrong, 5, answer="Z ABC.z") == (WORDS.negative, "abcde", False)


def test_without_an_answer_a_window_has_the_verdict_of_the_whole():
    assert find(Response("abcdefghi", label="bad"), 3)[0] == WORDS.negative
    assert find(Response("abcdefghi", label="good"), 3, answer="nothing of it")[0] == WORDS.positive


# n-way


def n_way(number, records, *, balance=False):
    layout = Layout(WORDS, contrast="n_way", num_contexts=number, balance=balance)
    return hindsight(records, text=TEXT, layout=layout, seed=0)


RECORDS = [Feedback(f"q{n}", (Response(f"x{n}", label="good" if n % 2 else "bad"),), id=f"r{n}") for n in range(5)]


def test_an_output_stands_behind_several_questions_with_their_instructions():
    check_rows(
        n_way(2, RECORDS[:2]),
        TEXT,
        """
        token     BOS q 0 \\n N \\n x 0 EOS
        imitated  .   . 0 0  0 0  1 1 1
        mask      .   . 0 0  0 0  1 1 1

        token     BOS q 1 \\n P \\n x 0 EOS
        imitated  .   . 0 0  0 0  0 0 0
        mask      .   . 0 0  0 0  1 1 1

        token     BOS q 1 \\n P \\n x 1 EOS
        imitated  .   . 0 0  0 0  1 1 1
        mask      .   . 0 0  0 0  1 1 1

        token     BOS q 0 \\n N \\n x 1 EOS
        imitated  .   . 0 0  0 0  0 0 0
        mask      .   . 0 0  0 0  1 1 1
        """,
    )


def test_contexts_are_different_and_the_own_one_comes_first():
    for group in n_way(4, RECORDS):
        assert [branch.fields["example"] for branch in group.branches] == [1.0, 0.0, 0.0, 0.0]
        assert len({tuple(branch.tokens) for branch in group.branches}) == 4
    assert [len(group.branches) for group in n_way(99, RECORDS)] == [5] * 5
    assert n_way(3, RECORDS) == n_way(3, RECORDS)


# Critiques


def test_a_critique_is_the_instruction_that_its_response_follows():
    layout = Layout(Instructions(*WORDS), contrast="two_way", critiques=True)
    one, other = Response("x", critique="too short"), Response("yy", critique="fine")
    (group,) = rows(one, other, GOOD, layout=layout)
    said = [TEXT.decode(branch.tokens).split("\n")[1] for branch in group.branches]
    first, second = "Follow this description: too short", "Follow this description: fine"
    assert said == [first, second, second, first, "P", "N"]
    (alone,) = rows(one, layout=layout)
    assert TEXT.decode(alone.branches[1].tokens).startswith("\nP\n")
