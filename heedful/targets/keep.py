"""Targets that keep some of a round's samples, those that score well, and imitate them."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

from heedful.batch import Branch, Group
from heedful.errors import DataError, NothingLeft
from heedful.records import Feedback, score_of
from heedful.rollout import DRAWS, rollouts_of
from heedful.targets.advantage import response_rewards
from heedful.targets.relabel import everything
from heedful.text import Text


def above(record: Feedback, *, threshold: float, at_most: int | None = None, distinct: bool = True) -> tuple[int, ...]:
    """Indices of the responses that are kept, the first drawn first: those with a score of `threshold` or more.

    Demonstrations were not drawn, and are never kept.

    Args:
        at_most: so many of a prompt, or easy prompts are most of what is learned; None keeps all.
        distinct: of equal texts the first alone.
    """
    kept: dict[object, int] = {}
    for index, response in enumerate(record.responses):
        score = score_of(response)
        if not response.demonstration and score is not None and score >= threshold:
            kept.setdefault(response.text if distinct else index, index)
    return tuple(kept.values())[:at_most]


def best_of_each(scores: Sequence[float]) -> int:
    """The index of the highest; of equals the first, which the draws alone decide.

    So the text that is kept is that of best-of-n: where no two scores are equal it has the probability

        P_n(y) = F(y)^n - F(y-)^n

    F(y) being the policy's probability of a score no higher than that of y, F(y-) of a lower one; and among texts of
    one score that of the policy.
    """
    return max(range(len(scores)), key=scores.__getitem__)


# Rows


def kept_samples(
    records: Sequence[Feedback], *, text: Text, threshold: float, at_most: int | None, distinct: bool
) -> list[Group]:
    """ReST-EM's rows: what a prompt's samples have `above` the threshold, the prompt masked.

    Raises:
        NothingLeft: says how much was drawn and how good the best was. DataError: somebody else wrote the responses,
            whose scores may be on another scale.
    """
    for record in records:
        if DRAWS not in record.metadata:
            raise DataError("its responses were not drawn from the policy", where=record.id)
    kept = [(record, above(record, threshold=threshold, at_most=at_most, distinct=distinct)) for record in records]
    scores = [score for record in records for score in drawn_scores(record)]
    if not any(indices for _, indices in kept):
        raise NothingLeft(
            f"none of the {len(scores)} scored responses to {len(records)} prompts reaches method.threshold "
            f"{threshold:g}: the best scores {max(scores, default=math.nan):g}",
            hint="lower method.threshold, raise method.num_samples, or start from a model that answers better",
        )
    _warn_where_all_are_equal(scores)
    rows = [
        replace(record, responses=tuple(record.responses[n] for n in indices)) for record, indices in kept if indices
    ]
    return everything(rows, text=text)


def best_samples(records: Sequence[Feedback], *, text: Text, missing_eos: float | None) -> list[Group]:
    """RAFT's rows: of each prompt the one response with the highest reward, as it was drawn.

        reward = score - kl_coef * (log p_old(y) - log p_start(y))

    Stream: `mask`.

    Args:
        missing_eos: see `Rollout.scored`.
    """
    groups, scores = [], []
    for record in records:
        several = rollouts_of(record)
        own = response_rewards(record, several, missing_eos)
        best = several[best_of_each(own)]
        branch = Branch(tuple(best.tokens), {"mask": [1.0] * len(best.tokens)})
        groups.append(Group(record.id, tuple(text.encode_prompt(record.prompt)), (branch,)))
        scores += own
    _warn_where_all_are_equal(scores)
    return groups


def drawn_scores(record: Feedback) -> list[float]:
    """The scores of the responses that were drawn."""
    every = [score_of(response) for response in record.responses if not response.demonstration]
    return [score for score in every if score is not None]


def _warn_where_all_are_equal(scores: Sequence[float]) -> None:
    if len(scores) > 1 and min(scores) == max(scores):
        what = (
            f"all {len(scores)} responses of the round score {scores[0]:g}: the model learns to repeat its own samples"
        )
        warnings.warn(what, stacklevel=3)
