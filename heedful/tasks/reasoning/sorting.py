"""Word sorting: a list of words in alphabetical order. The answer is the list."""

from math import factorial
from random import Random

from heedful.tasks.reasoning.question import Question, shuffled
from heedful.tasks.reasoning.things import ANIMALS, FRUITS, FURNITURE, INSTRUMENTS, ITEMS

WORDS = sorted({*FRUITS, *ANIMALS, *INSTRUMENTS, *FURNITURE, *ITEMS})
SIZES = (3, 4, 5, 6)


def sorting(rng: Random, ask: Random) -> Question:
    """A question of three to six words."""
    words = sorted(rng.sample(WORDS, rng.choice(SIZES)))
    order = shuffled(range(len(words)), rng)
    given = " ".join(words[n] for n in order)
    text = f"Sort the following words alphabetically: List: {given}"
    wrong = [[*words[:n], words[n + 1], words[n], *words[n + 2 :]] for n in range(len(words) - 1)]
    slips = tuple(" ".join(one) for one in wrong)
    return Question(text, " ".join(words), slips, given, f"sorting/{''.join(map(str, order))}", factorial(len(words)))
