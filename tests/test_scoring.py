"""Every response of some records gets a scorer's number."""

import pytest

from heedful import score
from heedful.errors import DataError
from heedful.records import Feedback, Message, Response, Score


class Length:
    """Scores a response by its length, and remembers what it was shown."""

    name, version, needs = "length", "1", frozenset[str]()

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def score(self, item) -> Score:
        self.seen.append((item.id, item.prompt, item.response))
        return Score(self.name, float(len(item.response)), self.version)


def responses(*texts: str, **more) -> tuple[Response, ...]:
    return tuple(Response(text, **more) for text in texts)


def test_numbers_come_back_in_the_order_of_the_records():
    records = [Feedback("p", responses("a", "bbb"), id="x"), Feedback("q", responses("cc"), id="y")]
    scored = score(records, Length(), workers=1)
    assert [[r.scores[0].value for r in record.responses] for record in scored] == [[1, 3], [2]]


def test_the_records_given_are_left_as_they_were():
    records = [Feedback("p", responses("a"), id="x")]
    score(records, Length(), workers=1)
    assert records[0].responses[0].scores == ()


def test_an_item_is_named_by_its_record_and_place_and_a_conversation_is_text():
    scorer = Length()
    score([Feedback((Message("user", "hi"),), responses("a", "b"), id="x")], scorer, workers=1)
    places = ("record x: responses[0]", "record x: responses[1]")
    assert scorer.seen == [(places[0], "user: hi", "a"), (places[1], "user: hi", "b")]


def test_the_numbers_of_other_scorers_stay():
    old = (Score("length", 99.0), Score("other", 5.0))
    (scored,) = score([Feedback("p", responses("a", scores=old), id="x")], Length(), workers=1)
    assert {one.scorer: one.value for one in scored.responses[0].scores} == {"other": 5.0, "length": 1.0}


def test_nothing_to_score_is_an_error():
    with pytest.raises(DataError, match="no response to score in 1 records"):
        score([Feedback("p", (), id="x")], Length())
