"""A question with a checkable answer, what a careless person would answer, and the split its structure belongs to.

A *structure* is what a question asks to be thought, without the names of things: which objects change places, not whose
they are. Its hash decides the split, so that train, selection and test never share one, whatever is drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

SPLITS = {"train": 80, "selection": 10, "test": 10}  # percent of structures
OPTIONS, DASH = "\nOptions:", "\n- "


@dataclass(frozen=True)
class Question:
    """One question of a task.

    Attributes:
        text: what is asked, with the options where there are any.
        answer: the right one: an option in words, or free text.
        wrong: other answers in the right form, all wrong: the other options, or slips in free text.
        habit: what is said without thinking, by chance right: the first option, how many things are named, the list as
            it is.
        structure: what is asked without the names; see above.
        num_answers: how many answers in the right form there are, so that chance is one in so many.
    """

    text: str
    answer: str
    wrong: tuple[str, ...]
    habit: str
    structure: str
    num_answers: int

    @property
    def prompt(self) -> str:
        """How it is put to a model, which answers with a space and the answer."""
        return f"{self.text}\nAnswer:"

    @property
    def options(self) -> str:
        """The options as they are shown; none of free text."""
        return self.text.partition(OPTIONS)[2]


def split_of(structure: str) -> str:
    """The split of a structure: a function of it alone."""
    place = int.from_bytes(hashlib.sha256(structure.encode()).digest()[:4], "big") % 100
    for name, share in SPLITS.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("shares sum to 100")


def choice(text: str, options: Sequence[str], right: int, *structure: object) -> Question:
    """A multiple choice whose option number `right` is right; options must differ.

    The answer is the option in words, as in those tasks of BIG-Bench Hard that list theirs with dashes. With letters
    for answers a model of this size has to learn first which letter stands for what: in a trial 37,000 such questions
    of all tasks left `date_understanding` at chance, and 9,500 answered in words taught it 60%.
    """
    assert len(set(options)) == len(options), options
    wrong = tuple(option for n, option in enumerate(options) if n != right)
    shown = "".join(f"{DASH}{option}" for option in options)
    key = "/".join(map(str, structure))
    return Question(f"{text}{OPTIONS}{shown}", options[right], wrong, options[0], key, len(options))


def listing(parts: Sequence[str]) -> str:
    """`a, b, and c`."""
    return f"{', '.join(parts[:-1])}, and {parts[-1]}" if len(parts) > 2 else " and ".join(parts)


def article(noun: str) -> str:
    """`an apple`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def shuffled(values: Sequence, rng: Random) -> list:
    """The values in a random order."""
    return rng.sample(list(values), len(values))
