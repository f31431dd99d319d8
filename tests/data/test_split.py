"""Splits: nothing that belongs together is torn apart, and nothing is lost without being counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data import split_feedback
from heedful.data.split import normalised, opening
from heedful.errors import ConfigError, DataError
from heedful.records import Feedback, Message, Response, from_json

WORDS = st.lists(st.sampled_from(["why", "is", "the", "sky", "Blue?", "é"]), min_size=1, max_size=4).map(" ".join)
RECORD = st.builds(
    lambda prompt, user, labeler: Feedback(prompt, (Response("a"),), user=user, labeler=labeler),
    WORDS,
    st.sampled_from(["u1", "u2", "u3"]),
    st.sampled_from(["l1", "l2"]),
)


def asked(*prompts, **fields):
    return [Feedback(prompt, (Response("a"),), id=str(n), **fields) for n, prompt in enumerate(prompts)]


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORD, max_size=12), st.sampled_from(["prompt", "user", "labeler"]), st.integers(0, 9))
def test_no_two_parts_share_a_unit_and_every_record_is_accounted_for(records, by, seed):
    split = split_feedback(records, by=by, seed=seed, shares={"a": 0.5, "b": 0.5})
    keys = [{normalised(r.prompt) if by == "prompt" else getattr(r, by) for r in part} for part in split.parts.values()]
    assert not keys[0] & keys[1]
    assert sum(split.counts.values()) == len(records)


def test_a_split_depends_on_the_seed_and_not_on_the_other_records():
    records = asked(*(f"question number {n}" for n in range(200)))
    whole = split_feedback(records).parts["train"]
    assert split_feedback(records[50:]).parts["train"] == [r for r in whole if int(r.id) >= 50]
    assert split_feedback(records, seed=1).parts["train"] != whole


def test_parts_have_about_their_shares():
    counts = split_feedback(asked(*(f"question number {n}" for n in range(2000)))).counts
    assert counts["train"] == pytest.approx(1600, abs=80) and counts["test"] == pytest.approx(200, abs=60)


def test_judgements_of_one_prompt_stay_together_however_it_is_spelt():
    split = split_feedback(asked("Why?", "why", "WHY ?!"))
    assert sorted(split.counts.values()) == [0, 0, 0, 0, 3]


def test_dialogues_that_open_alike_stay_together():
    first = "\n\nHuman: Tell me all about the sky.\n\nAssistant: It"
    others = [f"{first} is {n}.\n\nHuman: And {n}?\n\nAssistant:" for n in range(30)]
    assert 30 in split_feedback(asked(*others), prefix=0).counts.values()


def test_the_opening_is_the_first_turn_of_the_user():
    (text,) = asked("\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: Ah.\n\nAssistant:")
    chat = Feedback((Message("system", "s"), Message("user", "Why?"), Message("assistant", "So.")), ())
    assert normalised(opening(text)) == normalised(opening(chat)) == "why"
    assert opening(from_json({"prompt": "", "responses": [{"text": "A document."}]})) == "A document."


def test_a_prompt_that_another_begins_with_is_its_duplicate():
    start = "Tell me everything you know about the sky"
    split = split_feedback(asked(start + " and the sea", start, start + "."))
    assert split.counts["prefix_duplicates"] == 1
    assert {r.id for part in split.parts.values() for r in part} == {"1", "2"}


def test_a_short_beginning_makes_no_duplicate():
    assert split_feedback(asked("Hello", "Hello there, how do I fly a kite?")).counts["prefix_duplicates"] == 0


def test_a_long_shared_prefix_makes_a_duplicate_and_a_larger_one_does_not():
    template = "word " * 100
    records = asked(template + "one", template + "two")
    assert split_feedback(records).counts["prefix_duplicates"] == 1
    assert split_feedback(records, prefix=600).counts["prefix_duplicates"] == 0
    assert split_feedback(records, prefix=0).counts["prefix_duplicates"] == 0


def test_the_turns_of_one_conversation_are_no_duplicates_of_each_other():
    start = "Tell me everything you know about the sky"
    talk = asked(start, start + " and then some more", metadata={"conversation": "c"})
    split = split_feedback(talk)
    assert split.counts["prefix_duplicates"] == 0


def test_a_user_has_at_most_so_many_prompts_each_with_all_its_records():
    records = asked(*(f"question number {n // 2}" for n in range(20)), user="u")
    split = split_feedback(records + asked("another of nobody"), max_per_user=3)
    assert split.counts["over_the_cap"] == 14
    assert sum(len(part) for part in split.parts.values()) == 7


def test_splitting_by_user_needs_a_user():
    with pytest.raises(DataError, match=r"record 0: no `user` to split by"):
        split_feedback(asked("q"), by="user")


def test_shares_sum_to_one():
    with pytest.raises(ConfigError, match="shares from 0 up that sum to 1"):
        split_feedback(asked("q"), shares={"train": 0.5})
    with pytest.raises(ConfigError, match='"prompt", "user" or "labeler"'):
        split_feedback(asked("q"), by="answer")


def test_normalising_is_the_same_for_ascii_and_the_rest():
    assert normalised("It's A_test, ok?") == normalised("It’s A_test, ok？") == "it s a test ok"
