"""How samples are judged: by a tournament of a judge that compares, or by scores."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from heedful.errors import ConfigError, DataError
from heedful.records import Comparison, Feedback, place_of
from heedful.scorers import Comparer, Item, Scorer, item_of, leaves_room, load_scorer, num_calls, score_all
from heedful.sources.policy import CALLS


def load_pointwise(judge: str) -> Scorer:
    """A judge who scores a response by itself.

    Raises:
        ConfigError: it compares.
    """
    scorer = load_scorer(judge)
    if isinstance(scorer, Comparer):
        raise ConfigError(
            f"found {scorer.name} {judge}, which scores no response by itself",
            where="method.judge",
            allowed="a reward model, a pointwise ranker, or another scorer of one response",
        )
    return scorer


def readable(records: Sequence[Feedback], judge: Scorer) -> list[Feedback]:
    """Those whose prompt leaves the judge room for responses: known before any is drawn. The others are counted.

    Raises:
        DataError: one lacks a field that the judge needs, such as `answer`. Or there are records, and none is left.
    """
    for record in records:
        for field in sorted(judge.needs):
            if getattr(record, field) is None:
                raise DataError(
                    f"no `{field}`, which the judge, {judge.name}, needs",
                    where=place_of(record),
                    hint=f"give each prompt its `{field}`, or take another judge: --set method.judge=runs/reward_model",
                )
    read = [record for record in records if leaves_room(judge, record)]
    if records and not read:
        raise DataError(
            f"no prompt leaves room for a response in the context of the judge, {judge.name}: the first is that of "
            f"{place_of(records[0])}",
            hint="shorter prompts, or a judge with a longer context",
        )
    if len(read) < len(records):
        lost = len(records) - len(read)
        warnings.warn(f"{lost} of {len(records)} prompts left out: too long for the judge, {judge.name}", stacklevel=2)
    return read


def tournament(records: Sequence[Feedback], judge: Scorer) -> list[Feedback]:
    """Single elimination among the responses of each record; every match is a comparison.

    SLiC-HF (Zhao et al. 2023, arXiv:2305.10425): neighbours meet, then the winners, so that m responses take m - 1
    calls and give m - 1 comparisons. Ours: where their number is odd the last waits, and meets the first winner next; a
    draw is a comparison of strength 0, and the one named first goes on. Demonstrations do not play.
    """
    assert isinstance(judge, Comparer), "a match needs a judge that compares"
    left = [candidates(record) for record in records]
    played: list[list[Comparison]] = [[] for _ in records]
    while matches := [(n, a, b) for n, alive in enumerate(left) for a, b in zip(alive[::2], alive[1::2])]:
        chances = judge.preferences([(_item(records[n], a), _item(records[n], b)) for n, a, b in matches])
        left = [alive[len(alive) // 2 * 2 :] for alive in left]
        for (n, a, b), chance in zip(matches, chances, strict=True):
            better, worse = (a, b) if chance >= 0.5 else (b, a)
            played[n].append(Comparison(better, worse, float(chance != 0.5)))
            left[n].append(better)
    return [replace(_noted(record, judge, len(own)), comparisons=tuple(own)) for record, own in zip(records, played)]


def scored(records: Sequence[Feedback], judge: Scorer) -> list[Feedback]:
    """The judge's score on each response but demonstrations, higher is better.

    A judge that compares is asked about every two responses of a record; one that stands alone then stays without.
    """
    least = 2 if isinstance(judge, Comparer) else 1
    asked = [found if len(found := candidates(record)) >= least else [] for record in records]
    items = [_item(record, index) for record, indices in zip(records, asked) for index in indices]
    scores = iter(score_all(judge, items))
    judged = []
    for record, indices in zip(records, asked):
        values = {index: next(scores) for index in indices}
        responses = tuple(replace(r, scores=(values[n],)) if n in values else r for n, r in enumerate(record.responses))
        judged.append(replace(_noted(record, judge, num_calls(judge, [len(indices)])), responses=responses))
    return judged


def candidates(record: Feedback) -> list[int]:
    """Indices of the responses that were drawn."""
    return [index for index, response in enumerate(record.responses) if not response.demonstration]


def _item(record: Feedback, index: int) -> Item:
    return item_of(record, record.responses[index], f"{place_of(record)}, response {index}")


def _noted(record: Feedback, judge: Scorer, calls: int) -> Feedback:
    """Who judged, and how often it was asked."""
    metadata = {**record.metadata, CALLS: {judge.name: calls}}
    return replace(record, labeler=f"{judge.name} {judge.version}", metadata=metadata)
