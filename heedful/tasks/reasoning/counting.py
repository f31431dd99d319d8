"""Object counting: things I have, of two kinds; how many are of one kind? The answer is a number."""

from random import Random

from heedful.tasks.reasoning.question import Question, article, listing
from heedful.tasks.reasoning.things import ANIMALS, FRUITS, FURNITURE, INSTRUMENTS, NUMBERS, plural

KINDS = {"fruits": FRUITS, "animals": ANIMALS, "musical instruments": INSTRUMENTS, "pieces of furniture": FURNITURE}
NUM_THINGS = (2, 3, 4, 5)
MOST_OF_ONE = 3


def counting(rng: Random, ask: Random) -> Question:
    """A question of two to five things, some of them of another kind."""
    kinds = rng.sample(list(KINDS), 2)
    size = rng.choice(NUM_THINGS)
    which = [int(rng.random() < 0.3) for _ in range(size)]
    counts = [rng.choice((1, 1, *range(1, MOST_OF_ONE + 1))) for _ in range(size)]
    pools = [rng.sample(KINDS[kind], size) for kind in kinds]
    nouns = [pools[kind].pop() for kind in which]
    things = [article(noun) if count == 1 else f"{NUMBERS[count]} {plural(noun)}" for noun, count in zip(nouns, counts)]
    asked = int(ask.random() < 0.2)
    total = sum(count for kind, count in zip(which, counts) if kind == asked)
    text = f"I have {listing(things)}. How many {kinds[asked]} do I have?"
    key = "".join(f"{'+' if kind == asked else '-'}{count}" for kind, count in zip(which, counts))
    wrong = tuple(str(value) for value in range(max(0, total - 2), total + 3) if value != total)
    return Question(text, str(total), wrong, str(size), f"counting/{key}", NUM_THINGS[-1] * MOST_OF_ONE + 1)
