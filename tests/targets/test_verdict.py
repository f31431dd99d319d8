"""What a ranker reads: tiny text in, exact text and mask out."""

import pytest
from tiny_text import check_rows, make_text

from heedful.errors import ConfigError, DataError
from heedful.records import Feedback, Message, Response
from heedful.targets.verdict import compared_verdicts, single_verdicts
from heedful.verdict import FORMS, Form, cut

TINY = Form(("x:", ";1:", ";2:", "?"), ("A", "B"))
TINY_SINGLE = Form(("x:", ";1:", "?"), ("Good", "Bad"))


def ranked(*ranks, id="a", prompt="q"):
    return Feedback(prompt, tuple(Response("uvw"[n] * (n + 1), rank=r) for n, r in enumerate(ranks)), id=id)


def compared(feedback, text, *, orders="random", seed=0, form=TINY):
    return compared_verdicts(feedback, text=text, form=form, orders=orders, seed=seed)


def asked(groups, text):
    """The prompts as text."""
    return [text.decode(group.prompt) for group in groups]


def right(groups, text):
    """The verdict that counts, or both with how often."""
    return [
        {text.decode(b.tokens): b.streams["mask"][0] for b in group.branches if b.streams["mask"][0]}
        for group in groups
    ]


def test_both_responses_are_in_the_prompt_and_only_the_right_verdict_is_trained():
    text = make_text()
    groups = compared([ranked(1, 2)], text, orders="both")
    check_rows(
        groups,
        text,
        """
        token   BOS x : q ; 1 : u ; 2 : v v ? A
        mask    .   . . . . . . . . . . . . . 1
        verdict .   . . . . . . . . . . . . . 1

        token   BOS x : q ; 1 : u ; 2 : v v ? B
        mask    .   . . . . . . . . . . . . . 0
        verdict .   . . . . . . . . . . . . . 1

        token   BOS x : q ; 1 : v v ; 2 : u ? A
        mask    .   . . . . . . . . . . . . . 0
        verdict .   . . . . . . . . . . . . . 1

        token   BOS x : q ; 1 : v v ; 2 : u ? B
        mask    .   . . . . . . . . . . . . . 1
        verdict .   . . . . . . . . . . . . . 1
        """,
    )
    assert [group.pairs for group in groups] == [((0, 1, 1.0),), ((1, 0, 1.0),)]


def test_the_layout_of_the_paper():
    text = make_text(max_length=200)
    (group,) = compared([ranked(1, 2)], text, form=FORMS["pairwise"], seed=1)
    shown = "[CONTEXT]\nq\n[RESPONSE A]\n{}\n[RESPONSE B]\n{}\n[BETTER]\n"
    assert asked([group], text)[0] in (shown.format("u", "vv"), shown.format("vv", "u"))
    (one, _) = single_verdicts([ranked(1, 2)], text=text, form=FORMS["pointwise"])
    assert asked([one], text) == ["[CONTEXT]\nq\n[RESPONSE]\nu\n[VERDICT]\n"]


def test_the_order_is_drawn_once_a_pair_whatever_stands_beside_it():
    text, feedback = make_text(), [ranked(1, 2, id=str(n)) for n in range(200)]
    every = asked(compared(feedback, text), text)
    assert asked(compared(feedback[::-1], text), text) == every[::-1]
    assert asked(compared(feedback[7:9], text), text) == every[7:9]
    assert asked(compared(feedback, text, seed=1), text) != every
    assert 70 < sum(question.index("u") < question.index("v") for question in every) < 130


def test_all_strict_pairs_of_a_ranking_are_asked_and_a_tie_is_none():
    text = make_text()
    groups = compared([ranked(2, 1, 1)], text)
    assert {group.id for group in groups} <= {"a#0-1", "a#1-0", "a#0-2", "a#2-0"} and len(groups) == 2


def test_a_response_counts_once_for_each_pair_that_it_won_and_lost():
    text = make_text()
    groups = single_verdicts([ranked(1, 2, 3)], text=text, form=TINY_SINGLE)
    assert asked(groups, text) == ["x:q;1:u?", "x:q;1:vv?", "x:q;1:www?"]
    assert right(groups, text) == [{"G": 2.0}, {"G": 1.0, "B": 1.0}, {"B": 2.0}]
    assert [group.pairs for group in groups] == [((0, 1, 2.0),), ((0, 1, 1.0), (1, 0, 1.0)), ((1, 0, 2.0),)]


def test_a_conversation_is_read_as_text():
    text = make_text()
    prompt = (Message("user", "hi"), Message("assistant", "so"), Message("user", "q"))
    (one, _) = single_verdicts([ranked(1, 2, prompt=prompt)], text=text, form=TINY_SINGLE)
    assert asked([one], text) == ["x:user: hi\n\nassistant: so\n\nuser: q;1:u?"]


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [
        ((3, 4), 7, (3, 4)),
        ((3, 9), 8, (3, 5)),
        ((9, 3), 8, (5, 3)),
        ((9, 8), 8, (4, 4)),
        ((9, 7), 5, (2, 2)),
        ((9,), 4, (4,)),
    ],
)
def test_the_longer_response_is_cut_first_and_both_below_half_of_the_room(lengths, room, kept):
    assert tuple(map(len, cut([[1] * n for n in lengths], room))) == kept


def test_a_long_pair_is_cut_to_the_context_with_room_for_the_verdict():
    text = make_text(max_length=20)
    long = Feedback("q", (Response("u" * 30, rank=1), Response("v" * 30, rank=2)), id="a")
    (group,) = compared([long], text)
    assert len(group.prompt) == 19
    assert sorted(asked([group], text)[0].replace("?", "").split(":")[-2:]) in (["uuuu;2", "vvvv"], ["uuuu", "vvvv;2"])
    assert text.drops.counts == {"response cut to the context (kept)": 2}


def test_what_cannot_be_asked_is_dropped_and_counted():
    text = make_text(max_length=20)
    same = Feedback("q", (Response("u" * 30, rank=1), Response("u" * 31, rank=2)), id="same")
    wide = Feedback("q" * 30, (Response("u", rank=1), Response("v", rank=2)), id="wide")
    assert len(compared([same, wide, ranked(1, 2), ranked(1, 1)], text)) == 1
    assert text.drops.counts["pair of equal responses"] == 1
    assert text.drops.counts["prompt leaves no room for a response"] == 1
    assert text.drops.counts["prompt without a preferred response"] == 1
    with pytest.raises(DataError, match=r"longest has \d+ tokens \(record wide\)"):
        compared([wide], make_text(max_length=20))


def test_verdicts_that_begin_alike_are_refused():
    with pytest.raises(ConfigError, match="begins Aye and All with one token"):
        Form(TINY.parts, ("Aye", "All")).verdict_ids(make_text())


def test_a_form_comes_back_from_json():
    for form in FORMS.values():
        assert Form.from_json({"form": "any", **form.to_json()}) == form


def test_records_that_choose_the_checkpoint_are_asked_in_both_orders():
    text = make_text()
    feedback = [ranked(1, 2, id="trained"), ranked(1, 2, id="held")]
    groups = compared_verdicts(feedback, text=text, form=TINY, orders="random", seed=0, both={"held"})
    assert [group.id.split(":")[0].split("#")[0] for group in groups].count("held") == 2 and len(groups) == 3
