"""Reasoning about coloured objects: things in a row, each of one colour; what colour is one, or its neighbour, and how
many have a colour?"""

from random import Random

from heedful.tasks.reasoning.question import Question, article, choice, listing
from heedful.tasks.reasoning.things import COLOURS, ITEMS, NUMBERS

PLACES = ("table", "desk", "floor", "nightstand")
SIZES = (3, 4, 5)
NUM_OPTIONS = 5


def colours(rng: Random, ask: Random) -> Question:
    """A question of three to five objects."""
    size = rng.choice(SIZES)
    pattern = _pattern(rng, size)
    names = rng.sample(COLOURS, NUM_OPTIONS)
    own = [names[n] for n in pattern]
    items = rng.sample(ITEMS, size)
    things = listing([f"{article(colour)} {item}" for colour, item in zip(own, items)])
    text = f"On the {rng.choice(PLACES)}, I see {things} in a row."
    asked, options, right, about = ask.choice((_colour, _neighbour, _number))(ask, own, items, names)
    return choice(f"{text} {asked}", options, right, "colours", "".join(map(str, pattern)), *about)


def _pattern(rng: Random, size: int) -> list[int]:
    """Which objects share a colour: each has a new one, or with probability 0.4 an earlier one."""
    pattern = [0]
    for _ in range(size - 1):
        pattern.append(rng.choice(pattern) if rng.random() < 0.4 else max(pattern) + 1)
    return pattern


def _colour(rng: Random, own: list[str], items: list[str], names: list[str]):
    place, options = rng.randrange(len(items)), sorted(names)
    return f"What color is the {items[place]}?", options, options.index(own[place]), ("colour", place)


def _neighbour(rng: Random, own: list[str], items: list[str], names: list[str]):
    side, step = rng.choice((("right", 1), ("left", -1)))
    place = rng.randrange(len(items) - 1) + (step < 0)
    asked = f"What color is the thing directly to the {side} of the {items[place]}?"
    options = sorted(names)
    return asked, options, options.index(own[place + step]), (side, place)


def _number(rng: Random, own: list[str], items: list[str], names: list[str]):
    colour = rng.choice(own)
    return (
        f"How many things are {colour}?",
        NUMBERS[: len(items) + 1],
        own.count(colour),
        ("number", own.index(colour)),
    )
