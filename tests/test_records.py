"""The record: what it takes in, what it refuses and how it says so."""

import json

import pytest
from hypothesis import given, settings
from strategies import records

from heedful.errors import DataError
from heedful.records import (
    Comparison,
    Feedback,
    Message,
    Response,
    Score,
    Segment,
    from_json,
    is_all_tied,
    judged_pairs,
    place_of,
    prompt_text,
    score_of,
    strict_pairs,
    to_json,
)


def refuse(row) -> str:
    """The message that `row` is refused with."""
    with pytest.raises(DataError) as caught:
        from_json(row, "a.jsonl:3")
    return str(caught.value)


def answers(*responses, **fields):
    """A row with these responses, each a dict of fields or a plain text."""
    items = [{"text": r} if isinstance(r, str) else {"text": "a"} | r for r in responses]
    return {"prompt": "p", "responses": items} | fields


def feedback(*responses, **fields) -> Feedback:
    """The record of such a row."""
    return from_json(answers(*responses, **fields))


@settings(max_examples=30, deadline=None)
@given(records())
def test_every_record_survives_a_round_trip_through_json_text(record):
    assert from_json(json.loads(json.dumps(to_json(record)))) == record


def test_a_record_knows_its_line_for_messages_alone():
    own, unnamed = (from_json(answers("a", id=id), "d/a.jsonl:3") for id in ("r7", "a.jsonl:3"))
    assert place_of(own) == "d/a.jsonl:3 (record r7)" and place_of(unnamed, 0) == "d/a.jsonl:3: responses[0]"
    assert place_of(from_json(answers("a", id="r7"))) == "record r7"
    assert own == from_json(answers("a", id="r7")) and "where" not in to_json(own) and "jsonl:3" not in repr(own)


def test_defaults_are_not_written():
    assert to_json(feedback("a")) == {"prompt": "p", "responses": [{"text": "a"}]}


def test_a_record_that_is_written_with_lists_is_the_same():
    response = Response("ab", segments=[Segment("ab", 1.0)], scores=[Score("s", 1.0)], flags=["f"])
    record = Feedback([Message("user", "hi")], [response], comparisons=[Comparison(0, 0, 0.0)])
    assert record.responses == (response,) and response.flags == ("f",) and hash(response)
    assert record.prompt == (Message("user", "hi"),)
    assert to_json(Feedback("p", [Response("x")])) == {"prompt": "p", "responses": [{"text": "x"}]}
    assert to_json(record)["comparisons"] == [{"better": 0, "worse": 0, "strength": 0.0}]


def test_null_is_the_same_as_absent():
    assert feedback({"rank": None, "scores": None}, labeler=None) == feedback("a")


def test_a_prompt_alone_is_a_record():
    assert from_json({"prompt": "p", "answer": "7"}) == Feedback("p", (), answer="7")


def test_an_empty_prompt_is_a_pretraining_document():
    assert from_json({"prompt": "", "responses": [{"text": "a"}]}).prompt == ""


def test_a_conversation_becomes_messages():
    record = from_json({"prompt": [{"role": "user", "content": "hi"}], "responses": []})
    assert record.prompt == (Message("user", "hi"),)
    assert prompt_text(record.prompt) == "user: hi"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "a.jsonl:3: found a list of 1: expected an object"),
        (7, "a.jsonl:3: found 7: expected an object"),
        (None, "a.jsonl:3: found null: expected an object"),
        ({"responses": []}, "a.jsonl:3: no `prompt`"),
        ({"prompt": None}, "a.jsonl:3: no `prompt`"),
        ({"prompt": ""}, "a.jsonl:3: neither a prompt nor a response"),
        ({"prompt": []}, "a.jsonl:3: prompt: found a list of 0"),
        ({"prompt": [{"role": "usr", "content": ""}]}, 'a.jsonl:3: prompt[0].role: found the text "usr"'),
        (answers(""), "a.jsonl:3: responses[0].text: found an empty text"),
        (answers("a", {"text": 7}), "a.jsonl:3: responses[1].text: found 7: expected text"),
        ({"prompt": "p", "responses": ["a"]}, 'a.jsonl:3: responses[0]: found the text "a"'),
        ({"prompt": "p", "responses": [{"rank": 1}]}, "a.jsonl:3: responses[0]: no `text`"),
        (answers({"rank": 0}), "a.jsonl:3: responses[0].rank: found 0: expected a whole number from 1 up"),
        (answers({"rank": 1.5}), "a.jsonl:3: responses[0].rank: found 1.5"),
        (answers({"rank": True}), "a.jsonl:3: responses[0].rank: found true"),
        (answers({"rank": 10**5000}), "responses[0].rank: found a whole number of more than 60 digits"),
        (answers({"rank": 1}, "b"), "a.jsonl:3: responses[1].rank: no rank, though other responses have one"),
        (answers({"score": "7"}), 'a.jsonl:3: responses[0].score: found the text "7"'),
        (answers({"score": float("nan")}), "a.jsonl:3: responses[0].score: found nan: expected a finite number"),
        (answers({"score": float("-inf")}), "a.jsonl:3: responses[0].score: found -inf"),
        (answers({"score": 10**400}), "responses[0].score: found a whole number of more than 60 digits"),
        (answers({"score": False}), "a.jsonl:3: responses[0].score: found false"),
        (answers({"label": "Good"}), 'a.jsonl:3: responses[0].label: found the text "Good"'),
        (answers({"label": True}), "a.jsonl:3: responses[0].label: found true"),
        (answers({"flags": "rude"}), "a.jsonl:3: responses[0].flags: found the text"),
        (answers({"demonstration": 1}), "a.jsonl:3: responses[0].demonstration: found 1"),
        (answers({"scores": [{"value": 1}]}), "a.jsonl:3: responses[0].scores[0]: no `scorer`"),
        (answers("a", comparisons=[{"better": 0, "worse": 1}]), "comparisons[0].worse: found 1: expected an index"),
        (answers("a", comparisons=[{"better": 0, "worse": 0}]), "comparisons[0]: compares response 0 with itself"),
        (answers("a", comparisons=[{"better": -1, "worse": 0}]), "comparisons[0].better: found -1"),
        (answers("a", "b", comparisons=[{"better": 0, "worse": 1, "strength": -1}]), "comparisons[0].strength"),
        (answers("a", seconds=-1), "a.jsonl:3: seconds: found -1"),
        (answers("a", metadata=[]), "a.jsonl:3: metadata: found a list of 0"),
        (answers("a", answer=72), "a.jsonl:3: answer: found 72: expected text (put it in quotes)"),
    ],
)
def test_a_bad_record_is_refused_with_line_field_and_what_was_found(row, message):
    assert message in refuse(row)


def test_a_misspelt_field_gets_a_suggestion():
    assert "did you mean `prompt`?" in refuse({"promt": "p", "responses": []})
    assert "responses[0]: unknown field" in refuse(answers({"lable": "good"}))
    assert "did you mean `label`?" in refuse(answers({"lable": "good"}))


def test_a_huge_wrong_value_does_not_flood_the_message():
    assert len(refuse(answers({"label": "x" * 10**6}))) < 300
    assert len(refuse({"x" * 10**6: 1})) < 400


def test_a_wrong_text_cannot_move_the_cursor():
    assert "\x1b" not in refuse(answers({"label": "\x1b[2J"}))


def test_segments_join_to_the_text():
    halves = [{"text": "a ", "score": 0}, {"text": "b", "score": -1}]
    assert feedback({"text": "a b", "segments": halves}).responses[0].segments[1].score == -1
    assert "they part at character 1" in refuse(answers({"text": "ab", "segments": halves}))


def test_an_unranked_demonstration_may_stand_beside_ranked_responses():
    assert strict_pairs(feedback({"rank": 1}, {"rank": 2}, {"demonstration": True})) == [(0, 1)]


def test_equal_ranks_give_no_pair_and_gaps_mean_nothing():
    gapped, dense = (feedback(*[{"rank": rank} for rank in ranks]) for ranks in ([1, 1, 3], [1, 1, 2]))
    assert strict_pairs(gapped) == strict_pairs(dense) == [(0, 2), (1, 2)]


def test_comparisons_count_before_ranks_and_ranks_before_scores():
    both = feedback({"rank": 1, "score": 0}, {"rank": 2, "score": 1})
    assert strict_pairs(both) == [(0, 1)]
    three = feedback({"rank": 1}, {"rank": 2}, comparisons=[{"better": 1, "worse": 0}])
    assert strict_pairs(three) == [(1, 0)]


def test_scores_give_pairs_and_a_higher_one_is_better():
    assert strict_pairs(feedback({"score": -2}, {"score": -1})) == [(1, 0)]


def test_good_beats_bad_and_two_good_ones_were_not_compared():
    assert strict_pairs(feedback({"label": "bad"}, {"label": "good"})) == [(1, 0)]
    assert judged_pairs(feedback({"label": "good"}, {"label": "good"})) == ()


def test_a_tie_is_compared_but_not_strict():
    tied = feedback("a", "b", comparisons=[{"better": 0, "worse": 1, "strength": 0}])
    assert judged_pairs(tied) == (Comparison(0, 1, 0.0),)
    assert strict_pairs(tied) == [] and is_all_tied(tied)


def test_a_lone_response_is_neither_compared_nor_tied():
    alone = feedback({"rank": 1})
    assert judged_pairs(alone) == () and not is_all_tied(alone)


def test_the_only_scorer_stands_in_for_a_missing_score():
    scores = [{"scorer": "pep8", "value": -3}, {"scorer": "length", "value": 5}]
    assert score_of(feedback({"scores": scores[:1]}).responses[0]) == -3
    assert score_of(feedback({"scores": scores}).responses[0]) is None
    assert score_of(Response("a", score=1.0)) == 1
