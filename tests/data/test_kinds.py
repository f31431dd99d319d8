"""Kinds of feedback: what a record holds, and the sentence for what is missing."""

import pytest

from heedful.data.kinds import KINDS, count_kinds, kinds_of, missing, usable
from heedful.methods import sft
from heedful.records import from_json


def record(*responses, **fields):
    return from_json({"prompt": "p", "responses": [{"text": "a"} | r for r in responses]} | fields)


@pytest.mark.parametrize(
    ("feedback", "kinds"),
    [
        (record(), {"prompts"}),
        (record(answer="7"), {"prompts", "answers"}),
        (record({}), {"prompts", "responses"}),
        (record({}, prompt=""), {"documents", "responses"}),
        (record({"demonstration": True}), {"prompts", "responses", "demonstrations"}),
        (record({"score": 1}), {"prompts", "responses", "scores", "imitable"}),
        (record({"scores": [{"scorer": "s", "value": 0}]}), {"prompts", "responses", "scores", "imitable"}),
        (record({"score": 1}, {"score": 2}), {"prompts", "responses", "scores", "pairs", "imitable"}),
        (record({"label": "good"}), {"prompts", "responses", "labels", "imitable"}),
        (record({"label": "bad"}), {"prompts", "responses", "labels"}),
        (record({"label": "bad", "score": 1}), {"prompts", "responses", "labels", "scores"}),
        (record({"rank": 1}, {"rank": 1}), {"prompts", "responses"}),
        (
            record({"rank": 1}, {"rank": 1}, {"rank": 2}),
            {"prompts", "responses", "pairs", "rankings", "imitable"},
        ),
        (record({"segments": [{"text": "a", "score": 0}]}), {"prompts", "responses", "segments"}),
        (record({"critique": "c", "refinement": "r"}), {"prompts", "responses", "critiques", "refinements"}),
    ],
)
def test_a_record_holds_these_kinds(feedback, kinds):
    assert kinds_of(feedback) == kinds


def test_sft_cannot_learn_where_every_response_is_labelled_bad():
    bad = record({"label": "bad", "score": 1}, {"label": "bad", "score": 2})
    assert 'without being labelled "bad"' in missing(sft.FEEDBACK, count_kinds([bad]))
    assert missing(sft.FEEDBACK, count_kinds([bad, record({"label": "good"})])) is None


def test_counts_name_every_kind():
    assert set(count_kinds([])) == set(KINDS) and count_kinds([record({})] * 2)["responses"] == 2


def test_any_one_kind_is_enough():
    counts = count_kinds([record({"label": "good"})])
    assert missing({"scores", "labels"}, counts) is None


def test_what_is_missing_is_one_sentence_for_each_alternative():
    counts = count_kinds([record({})])
    assert missing({"segments", "scores"}, counts) == "no response has a `score`; no response has scored `segments`"


def test_kinds_needed_together_are_a_tuple():
    needs = [("prompts", "answers")]
    assert missing(needs, count_kinds([record(answer="7")])) is None
    assert missing(needs, count_kinds([record()])) == "no record has an `answer` to check against"
    assert missing([("demonstrations", "documents")], count_kinds([record({"demonstration": True})])) == (
        "no record has an empty `prompt` (a document)"
    )


def test_what_is_needed_together_may_stand_in_different_records():
    shown, document = record({"demonstration": True}), record({}, prompt="")
    needs = [("demonstrations", "documents")]
    assert missing(needs, count_kinds([shown, document])) is None
    assert usable([shown, record({}), document], needs) == [shown, document]


def test_usable_records_keep_their_order():
    first, second = record({"label": "good"}), record({"score": 1})
    assert usable([first, record({}), second], {"scores", "labels"}) == [first, second]


def test_an_unknown_kind_is_a_mistake_of_ours():
    with pytest.raises(AssertionError, match="unknown kind"):
        missing({"ratings"}, count_kinds([]))
