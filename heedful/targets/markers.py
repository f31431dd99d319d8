"""What stands before an answer and says how good it is: families of phrases, each with its source.

A marker is a line of its own. The released code of Chain of Hindsight joins phrase and answer with a space, which many
tokenizers make a token by itself where the phrase stands alone at inference; after a line's end an answer has the same
tokens as in every other method, and a prompt may end as it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from heedful.text import Text


@dataclass(frozen=True)
class Family:
    """Phrases for one kind of text.

    Attributes:
        pairs: (good, bad); a chain draws one of them, and the first is asked with.
        source: where the words are from.
        comment: what begins each line of a critique.
    """

    pairs: tuple[tuple[str, str], ...]
    source: str
    comment: str = ""


FAMILIES: Mapping[str, Family] = {
    "answer": Family(
        (("A helpful answer:", "An unhelpful answer:"),),
        "released code of Liu et al. 2023, the defaults of its pack script; one pair for all tasks, as paper v6",
    ),
    "summary": Family((("A good summary:", "A bad summary:"),), "ours"),
    "code": Family((("# style: good", "# style: bad"),), "ours; a comment, so that the text stays code", comment="# "),
    "varied": Family(
        (
            ("A helpful answer:", "An unhelpful answer:"),
            ("People preferred this answer:", "People did not prefer this answer:"),
            ("This answer is right and to the point:", "This answer is wrong or beside the point:"),
            ("What a careful expert would say:", "What a careless beginner would say:"),
            ("This answer was rated high:", "This answer was rated low:"),
            ("The better of two answers:", "The worse of two answers:"),
        ),
        "the first from the released code, the others ours (the code has six to twelve auxiliary pairs, other words)",
    ),
}


def marker(text: Text, phrase: str) -> list[int]:
    """Its tokens, the same wherever it stands; none for an empty phrase."""
    return list(_ids(text, phrase)) if phrase else []


@lru_cache(maxsize=256)  # a third of the time of making chains
def _ids(text: Text, phrase: str) -> tuple[int, ...]:
    return tuple(text.encode(f"\n{phrase}\n", continues=True))


def spoken(family: Family, critique: str) -> str:
    """A critique as the phrase of a marker."""
    return "\n".join(family.comment + line for line in critique.strip().splitlines())
