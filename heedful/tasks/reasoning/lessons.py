"""Questions as feedback records: with the right answer to imitate, with an answer that may be wrong, or to be asked."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from random import Random

from heedful.records import Feedback, Response
from heedful.tasks.reasoning.families import FAMILIES, questions, siblings
from heedful.tasks.reasoning.question import OPTIONS, Question

MOST_ASKED = {  # of one scene in a drill; the other tasks have little more to ask of theirs
    **{f"logical_deduction_{size}_objects": 7 for size in ("three", "five", "seven")},
    **{f"tracking_shuffled_objects_{size}_objects": 7 for size in ("three", "five", "seven")},
    "object_counting": 2,
    "date_understanding": 2,
    "penguins_in_a_table": 5,
    "reasoning_about_colored_objects": 5,
}

Answers = Callable[[Question], str | None]


def right(question: Question) -> str:
    """The right answer."""
    return question.answer


def careless(question: Question, *, rng: Random, noise: float) -> str:
    """A wrong answer with probability `noise`, else the right one. A wrong one is said out of habit; where the habit
    happens to be right, it is any other."""
    if rng.random() >= noise:
        return question.answer
    return question.habit if question.habit != question.answer else rng.choice(question.wrong)


def unanswered(question: Question) -> None:
    """No answer: a prompt, and what to check its answers against."""


def lesson(question: Question, id: str, given: str | None) -> Feedback:
    """A record of one question; `answer` is the right one, whatever was given."""
    responses = () if given is None else (Response(f" {given}", demonstration=True),)
    task, _, _ = id.rpartition(":")
    return Feedback(
        question.prompt, responses, id=id, answer=question.answer, source="reasoning", metadata={"task": task}
    )


def lessons(number: int, *, answers: Answers, split: str = "train", seed: object = 0) -> list[Feedback]:
    """So many questions of each task of a split, answered; the same for the same seed."""
    return [
        lesson(question, f"{task}:{n}", answers(question))
        for task in FAMILIES
        for n, question in enumerate(islice(questions(task, split, seed=seed), number))
    ]


def drill(several: Sequence[Question], id: str) -> Feedback:
    """A record of a scene and several right answers: the first question is the prompt, the others follow its answer in
    the response, without the scene; options are shown where they change."""
    first, *others = several
    text, shown = f" {first.answer}", first.options
    for one in others:
        asked = one.text.partition(OPTIONS)[0].rpartition(". ")[2]
        changed = f"{OPTIONS}{one.options}" if one.options != shown else ""
        text, shown = f"{text}\n{asked}{changed}\nAnswer: {one.answer}", one.options
    return Feedback(first.prompt, (Response(text, demonstration=True),), id=id, source="reasoning")


def drills(number: int, *, seed: object, tasks: Iterable[str] = FAMILIES) -> list[Feedback]:
    """So many scenes of each task of train structures, each with several questions answered right."""
    return [
        drill(several, f"{task}:{n}")
        for task in tasks
        for n, several in enumerate(islice(siblings(task, "train", number=MOST_ASKED.get(task, 1), seed=seed), number))
    ]


def noisy_lessons(number: int, *, noise: float, seed: object) -> Sequence[Feedback]:
    """Train questions with careless answers."""
    return lessons(number, answers=partial(careless, rng=Random(f"noise/{seed}"), noise=noise), seed=seed)
