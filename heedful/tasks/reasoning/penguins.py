"""Penguins in a table: name, age, height and weight of a few penguins; who is the oldest, how heavy is one, how many
are older?"""

from random import Random

from heedful.tasks.reasoning.question import Question, choice, shuffled
from heedful.tasks.reasoning.things import PENGUINS

COLUMNS = {"age": range(1, 16), "height (cm)": range(40, 100, 5), "weight (kg)": range(10, 30)}
MOST = ("oldest", "tallest", "heaviest")
LEAST = ("youngest", "shortest", "lightest")
UNITS = ("older than {} years", "taller than {} cm", "heavier than {} kg")
SIZES = (3, 4)


def penguins(rng: Random, ask: Random) -> Question:
    """A question of one column of a table of three or four penguins."""
    size = rng.choice(SIZES)
    names = rng.sample(PENGUINS, size)
    ranks = [shuffled(range(size), rng) for _ in COLUMNS]
    values = [[sorted(rng.sample(pool, size))] for pool in COLUMNS.values()]
    table = [[one[0][rank] for rank in order] for one, order in zip(values, ranks)]
    rows = " ".join(f"{name}, {', '.join(map(str, row))}." for name, *row in zip(names, *table))
    head = f"Here is a table of penguins: name, {', '.join(COLUMNS)}. {rows}"
    column, put = ask.randrange(len(COLUMNS)), ask.choice((_extreme, _value, _number))
    order = "".join(map(str, ranks[column]))
    asked, options, right, about = put(ask, names, table[column], column)
    return choice(f"{head} {asked}", options, right, "penguins", column, order, *about)


def _extreme(rng: Random, names: list[str], values: list[int], column: int):
    words, best = rng.choice(((MOST, max), (LEAST, min)))
    return f"Which penguin is the {words[column]}?", names, values.index(best(values)), (best.__name__,)


def _value(rng: Random, names: list[str], values: list[int], column: int):
    row = rng.randrange(len(names))
    name = list(COLUMNS)[column].partition(" ")[0]
    return f"What is the {name} of {names[row]}?", [str(value) for value in values], row, ("value", row)


def _number(rng: Random, names: list[str], values: list[int], column: int):
    rank = rng.randrange(len(values))
    more = len(values) - 1 - rank
    asked = f"How many penguins are {UNITS[column].format(sorted(values)[rank])}?"
    return asked, [str(n) for n in range(len(values))], more, ("more", rank)
