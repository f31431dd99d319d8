"""Questions as feedback records, and the answers that the base learns from."""

from collections import Counter
from random import Random

import pytest

from heedful.tasks.reasoning.families import FAMILIES, questions, siblings
from heedful.tasks.reasoning.lessons import careless, drill, drills, lessons, noisy_lessons, right, unanswered
from heedful.tasks.reasoning.question import Question

QUESTION = Question("Which?\nOptions:\n- a\n- b\n- c", "b", ("a", "c"), "a", "which", 3)


def test_a_lesson_is_a_demonstration_with_the_answer_for_a_checker():
    (first, *_) = found = lessons(2, answers=right)
    assert len(found) == 2 * len(FAMILIES) and len({record.id for record in found}) == len(found)
    assert first.prompt.endswith("\nAnswer:") and first.responses[0].demonstration
    assert first.responses[0].text == f" {first.answer}" and first.metadata == {"task": next(iter(FAMILIES))}


def test_a_question_without_an_answer_is_a_prompt_with_what_to_check_against():
    told, asked = lessons(2, answers=right), lessons(2, answers=unanswered)
    assert [record.prompt for record in asked] == [record.prompt for record in told]
    assert all(record.responses == () and record.answer for record in asked)


@pytest.mark.parametrize(("noise", "expected"), [(0.0, {"b"}), (1.0, {"a"})])
def test_noise_is_the_share_of_wrong_answers_which_follow_the_habit(noise, expected):
    rng = Random(0)
    assert {careless(QUESTION, rng=rng, noise=noise) for _ in range(50)} == expected


def test_where_the_habit_is_right_a_wrong_answer_is_any_other():
    lucky = Question(QUESTION.text, "a", ("b", "c"), "a", "which", 3)
    rng = Random(0)
    assert set(Counter(careless(lucky, rng=rng, noise=1.0) for _ in range(50))) == {"b", "c"}


def test_half_of_the_answers_of_noisy_lessons_are_wrong():
    found = noisy_lessons(40, noise=0.5, seed="test")
    wrong = sum(record.responses[0].text != f" {record.answer}" for record in found)
    assert 0.4 < wrong / len(found) < 0.6


def test_a_drill_asks_on_without_the_scene():
    several = next(siblings("tracking_shuffled_objects_three_objects", "train", number=3))
    record = drill(several, "x")
    asked = [question.text.partition("\n")[0].rpartition(". ")[2] for question in several]
    assert record.prompt == several[0].prompt
    assert record.responses[0].text == f" {several[0].answer}" + "".join(
        f"\n{line}\nAnswer: {question.answer}" for line, question in zip(asked[1:], several[1:])
    )


def test_a_drill_shows_options_where_they_change():
    record = drill([QUESTION, Question("Which?\nOptions:\n- d\n- e", "e", ("d",), "d", "which", 2)], "x")
    assert record.responses[0].text == " b\nWhich?\nOptions:\n- d\n- e\nAnswer: e"


def test_drills_are_of_every_task_and_the_same_for_the_same_seed():
    first, again = drills(2, seed="a"), drills(2, seed="a")
    assert first == again and first != drills(2, seed="b")
    assert {record.id.rpartition(":")[0] for record in first} == set(FAMILIES)


def test_no_lesson_is_of_a_structure_that_is_held_out():
    told = {record.prompt for record in lessons(300, answers=right)}
    for task in FAMILIES:
        held_out = questions(task, "test")
        assert not told & {next(held_out).prompt for _ in range(100)}
