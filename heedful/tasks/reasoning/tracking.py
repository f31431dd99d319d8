"""Tracking shuffled objects: people hold objects and swap them; who has what at the end?

As in BIG-bench the options are the objects in the order in which they were given out.
"""

from itertools import combinations
from random import Random

from heedful.tasks.reasoning.question import Question, choice, listing
from heedful.tasks.reasoning.things import DRINKS, NOVELS, PEOPLE

NUM_SWAPS = {3: (1, 2, 3), 5: (1, 2, 3), 7: (1, 2, 3)}  # by how many people there are
OPENINGS = ("First, ", *["Then, "] * 9)


def tracking(rng: Random, ask: Random, size: int) -> Question:
    """A question of `size` people and objects."""
    pairs = list(combinations(range(size), 2))
    swaps = [rng.choice(pairs) for _ in range(rng.choice(NUM_SWAPS[size]))]
    people = sorted(rng.sample(PEOPLE, size))
    objects = rng.sample(rng.choice((DRINKS, NOVELS)), size)
    given = listing([f"{person} has {thing}" for person, thing in zip(people, objects)])
    said = [f"{people[a]} and {people[b]} swap." for a, b in (rng.sample(pair, 2) for pair in swaps)]
    steps = " ".join(opening + one for opening, one in zip(OPENINGS, said))
    asked = ask.randrange(size)
    text = f"{given}. {steps} At the end, {people[asked]} has"
    key = "".join(f"{a}{b}" for a, b in swaps)
    return choice(text, objects, after(swaps, size)[asked], "tracking", size, key, asked)


def after(swaps: list[tuple[int, int]], size: int) -> list[int]:
    """Whose object each person has in the end."""
    held = list(range(size))
    for a, b in swaps:
        held[a], held[b] = held[b], held[a]
    return held
