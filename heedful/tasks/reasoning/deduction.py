"""Logical deduction: objects in a row and clues that leave one order; which object is at a place?

Some objects are pinned by a clue to their place; the others, in the places that are left, are tied to each other by
clues about neighbours in that order. So n - 1 clues leave exactly one order.
"""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from heedful.tasks.reasoning.question import Question, choice, shuffled
from heedful.tasks.reasoning.things import BIRDS, FRUITS, PEOPLE

NUM_TIED = {3: (2, 3), 5: (2, 3), 7: (2, 3)}  # of how many objects; the rest are pinned
WORDS = {3: "three", 5: "five", 7: "seven"}
ORDINALS = ("first", "second", "third", "fourth")


def deduction(rng: Random, ask: Random, size: int) -> Question:
    """A question of `size` objects."""
    order = shuffled(range(size), rng)  # order[place] = object, in the order they are named
    num_tied = rng.choice(NUM_TIED[size])
    tied = sorted(rng.sample(range(size), num_tied))  # places
    pins = [("pin", order[place], place) for place in range(size) if place not in tied]
    ties = [
        ("before", order[a], order[b]) if rng.random() < 0.5 else ("after", order[b], order[a])
        for a, b in pairwise(tied)
    ]
    clues = shuffled(pins + ties, rng)
    theme = rng.choice((_birds, _fruits, _race))
    opening, names, say = theme(rng, size)
    asked = ask.randrange(size)
    text = f"{opening} {' '.join(f'{say(clue, names)}.' for clue in clues)} Which is {place_name(asked, size, theme)}?"
    key = ";".join(f"{kind[0]}{a}{b}" for kind, a, b in clues)
    return choice(text, names, order[asked], "deduction", size, key, asked)


def _birds(rng: Random, size: int):
    return f"There are {WORDS[size]} birds on a branch.", rng.sample(BIRDS, size), _say_in_row


def _fruits(rng: Random, size: int):
    return f"There are {WORDS[size]} fruits on a shelf.", rng.sample(FRUITS, size), _say_in_row


def _race(rng: Random, size: int):
    return f"There were {WORDS[size]} runners in a race.", rng.sample(PEOPLE, size), _say_of_race


def place_name(place: int, size: int, theme) -> str:
    """`the second from the left`; of a race, `second`."""
    if theme is _race:
        return "last" if place == size - 1 else (*ORDINALS, "fifth", "sixth")[place]
    if place in (0, size - 1):
        return "the rightmost" if place else "the leftmost"
    side, number = ("left", place) if place <= size // 2 else ("right", size - 1 - place)
    return f"the {ORDINALS[number]} from the {side}"


def _say_in_row(clue: tuple[str, int, int], names: Sequence[str]) -> str:
    kind, a, b = clue
    if kind == "pin":
        return f"The {names[a]} is {place_name(b, len(names), None)}"
    return f"The {names[a]} is to the {'left' if kind == 'before' else 'right'} of the {names[b]}"


def _say_of_race(clue: tuple[str, int, int], names: Sequence[str]) -> str:
    kind, a, b = clue
    if kind == "pin":
        return f"{names[a]} finished {place_name(b, len(names), _race)}"
    return f"{names[a]} finished {'above' if kind == 'before' else 'below'} {names[b]}"
