"""The twelve tasks by name, and the questions of a split.

Run: python -m heedful.tasks.reasoning.families     (prints one question of each)
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random

from heedful.tasks.reasoning.colours import colours
from heedful.tasks.reasoning.counting import counting
from heedful.tasks.reasoning.dates import dates
from heedful.tasks.reasoning.deduction import deduction
from heedful.tasks.reasoning.penguins import penguins
from heedful.tasks.reasoning.question import Question, split_of
from heedful.tasks.reasoning.shapes import shapes
from heedful.tasks.reasoning.sorting import sorting
from heedful.tasks.reasoning.tracking import tracking

Generator = Callable[[Random, Random], Question]  # what there is, and what is asked of it, are drawn apart

FAMILIES: Mapping[str, Generator] = {  # named as in BIG-Bench Hard
    "logical_deduction_three_objects": partial(deduction, size=3),
    "logical_deduction_five_objects": partial(deduction, size=5),
    "logical_deduction_seven_objects": partial(deduction, size=7),
    "tracking_shuffled_objects_three_objects": partial(tracking, size=3),
    "tracking_shuffled_objects_five_objects": partial(tracking, size=5),
    "tracking_shuffled_objects_seven_objects": partial(tracking, size=7),
    "object_counting": counting,
    "date_understanding": dates,
    "penguins_in_a_table": penguins,
    "geometric_shapes": shapes,
    "reasoning_about_colored_objects": colours,
    "word_sorting": sorting,
}


def questions(task: str, split: str, *, seed: object = 0) -> Iterator[Question]:
    """Questions of a task without end, all of structures of a split; the same for the same seed, none asked twice."""
    rng = Random(f"{task}/{split}/{seed}")
    asked = set()
    while True:
        question = FAMILIES[task](rng, rng)
        if split_of(question.structure) == split and question.text not in asked:
            asked.add(question.text)
            yield question


def siblings(task: str, split: str, *, number: int, seed: object = 0) -> Iterator[list[Question]]:
    """Up to so many different questions of one scene, of structures of a split; scenes without end."""
    rng = Random(f"{task}/{split}/siblings/{seed}")
    while True:
        scene = rng.random()
        asked = [FAMILIES[task](Random(scene), rng) for _ in range(2 * number)]
        several = {one.text: one for one in asked if split_of(one.structure) == split}
        if several:
            yield list(several.values())[:number]


def main() -> None:
    """The command line of this module."""
    for task in FAMILIES:
        question = next(questions(task, "train"))
        print(f"== {task}\n{question.text}\n-> {question.answer}    {question.structure}\n")


if __name__ == "__main__":
    main()
