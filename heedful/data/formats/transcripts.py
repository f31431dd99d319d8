"""Whole dialogues as one string: hh-rlhf's `chosen`/`rejected`, and the `text`/`score` lists of its mirrors.

    hh-rlhf     "\\n\\nHuman: ...\\n\\nAssistant: ..."       https://github.com/anthropics/hh-rlhf
    DSP         {"text": [a, b], "score": [1.0, 0.0]}      https://github.com/Linear95/DSP (hh, WebGPT and others)

The prompt is what the dialogues begin with, up to and with the last turn marker of the assistant that they share:
prompt and answer joined are the dialogue again, to the character. Without a marker it ends before the last white space
they share, never inside a word. Scores are of one judge for one prompt, so they become comparisons, whose strength
is their distance; equal ones are ties.

Known defects of hh-rlhf: a few pairs with an empty answer, or of two different dialogues (dropped, counted); answers
that go on with a turn of the human's (kept as they are; `inspect` counts them); the preferred text always comes first.
"""

import os
import re
from collections.abc import Sequence
from itertools import combinations

from heedful.data.formats.base import Format, Row, Unusable, compare, is_list, items

ASSISTANT = re.compile(
    r"(?:\A|\n)(?:#{1,3} ?)?(?:Assistant|ASSISTANT):\n?|<\|im_start\|>assistant\n|<\|assistant\|>\n?"
)
HUMAN = re.compile(r"(?:\A|\n)(?:#{1,3} ?)?(?:Human|HUMAN|User|USER):|<\|im_start\|>user\n|<\|user\|>")


def split_dialogues(texts: Sequence[str]) -> tuple[str, list[str]]:
    """The prompt that the texts share, and what each has after it."""
    common = os.path.commonprefix(list(texts))  # noqa: RUF071  (by character is what is wanted)
    markers = [match.end() for match in ASSISTANT.finditer(common)]
    if not markers and any(ASSISTANT.search(text) and HUMAN.search(text) for text in texts):
        raise Unusable("dialogues that share no turn of the human")
    spaces = [match.start() for match in re.finditer(r"\s", common)] if not markers else []
    end = (markers or spaces or [0])[-1]
    return common[:end], [text[end:] for text in texts]


def pair_of_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Prompt and answers of two texts that begin alike."""
    prompt, answers = split_dialogues((chosen, rejected))
    _refuse_empty(answers)
    return prompt, answers[0], answers[1]


def read_scored(row: Row) -> Row:
    dialogues = items(row, "text", str)
    scores = items(row, "score", (int, float), size=len(dialogues))
    prompt, answers = split_dialogues(dialogues)
    _refuse_empty(answers)
    pairs = combinations(enumerate(scores), 2)
    return {
        "prompt": prompt,
        "responses": [{"text": answer} for answer in answers],
        "comparisons": [compare(*a, *b) for a, b in pairs],
    }


def _refuse_empty(answers: Sequence[str]) -> None:
    if not all(answer.strip() for answer in answers):
        raise Unusable("an empty answer")


SCORED = Format(
    "scored dialogues",
    "text, score (lists)",
    lambda row: is_list(row, "text") and is_list(row, "score"),
    read_scored,
    frozenset({"text", "score"}),
)
