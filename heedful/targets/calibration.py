"""Targets of SLiC's losses: which responses are compared, and their places and scores among those to a prompt."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations

from heedful.batch import Group
from heedful.records import Feedback, score_of
from heedful.targets.pair import pairs_with_reference, preferred_pairs
from heedful.text import Text

Pairs = Callable[[Feedback, Text], Sequence[tuple[int, int]]]
Fields = Callable[[Sequence[Group]], list[Group]]


def calibration_groups(
    feedback: Sequence[Feedback],
    *,
    text: Text,
    reference: Callable[[Feedback], int | None],
    is_scored: bool,
    fields: Fields | None,
    most: int | None,
    seed: int,
) -> list[Group]:
    """As `pairs_with_reference`, from preferences or from scores.

    Args:
        is_scored: scores alone say which of two is better, and each response has its `score` as a field.
        fields: what adds fields that a loss reads beside, or puts them in the score's place.
        most: pairs of a prompt, drawn from the seed; None takes all.
    """
    pairs: Pairs = scored_pairs if is_scored else preferred_pairs
    if most is not None:
        pairs = partial(drawn_pairs, pairs=pairs, most=most, seed=seed)
    groups = pairs_with_reference(feedback, text=text, reference=reference, pairs=pairs, is_scored=is_scored)
    return fields(groups) if fields else groups


def scored_pairs(record: Feedback, text: Text) -> list[tuple[int, int]]:
    """Every two responses of which one has the higher score, whatever else was said of them; counted where none has."""
    scores = [score_of(response) for response in record.responses]
    known = [(index, score) for index, score in enumerate(scores) if score is not None]
    pairs = [(a, b) for (a, mine), (b, other) in permutations(known, 2) if mine > other]
    if not pairs:
        text.drops.count("prompt without two different scores")
    return pairs


def drawn_pairs(record: Feedback, text: Text, *, pairs: Pairs, most: int, seed: int) -> list[tuple[int, int]]:
    """At most so many of the pairs, drawn from the seed and the record's id: SLiC-HF's m pairs of a scored list."""
    every = list(pairs(record, text))
    return random.Random(f"{seed}:{record.id}").sample(every, min(most, len(every)))


def with_places(groups: Sequence[Group]) -> list[Group]:
    """The field `place` of each response: how many of those to its prompt are better, by score."""
    return [_with_places(group) for group in groups]


def with_candidates(groups: Sequence[Group]) -> list[Group]:
    """The fields `candidate`, 1 where a response is compared, and `prompt`, which sums to 1 over a prompt's."""
    return [_with_candidates(group) for group in groups]


def _with_places(group: Group) -> Group:
    scores = [branch.fields["score"] for branch in group.branches if branch.streams["mask"][0]]
    places = [sum(other > branch.fields["score"] for other in scores) for branch in group.branches]
    branches = [replace(b, fields={"place": float(place)}) for b, place in zip(group.branches, places)]
    return replace(group, branches=tuple(branches))


def _with_candidates(group: Group) -> Group:
    branches = [
        replace(b, fields={**b.fields, "candidate": b.streams["mask"][0], "prompt": float(n == 0)})
        for n, b in enumerate(group.branches)
    ]
    return replace(group, branches=tuple(branches))
