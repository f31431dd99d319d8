"""Targets that weigh tokens by the reward of their segment."""

import math
from collections.abc import Sequence

from heedful.batch import Group
from heedful.errors import DataError
from heedful.records import Feedback, Segment, place_of
from heedful.targets.segments import Marked, compile_rows
from heedful.text import Text

LARGEST_EXPONENT = 80.0  # exp(88.7) is the last that fp32 holds


def exponential_weights(feedback: Sequence[Feedback], *, text: Text, beta: float) -> list[Group]:
    """Stream `weight` = exp(R / beta) on a segment's tokens: reward-weighted regression. EOS has weight 1 (reward 0).

    The released code of Korbak et al. 2023 runs this through AWR with an untrained value of -0.5, which multiplies
    every weight by exp(0.5 / beta); here it is the paper's form.

    Raises:
        DataError: a weight is beyond what fp32 holds.
    """

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        if segment.score / beta > LARGEST_EXPONENT:
            raise DataError(
                f"exp(score / beta) = exp({segment.score:g} / {beta:g}) is too large a weight",
                where=place_of(record),
                hint="raise method.beta, or shift the scores so that the best is near 0",
            )
        return Marked([], {"mask": 1.0, "weight": math.exp(segment.score / beta)})

    return compile_rows(feedback, text, mark, eos={"mask": 1.0, "weight": 1.0})


def segment_rewards(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """Stream `reward` = the segment's score on each of its tokens, EOS 0: what AWR's value head regresses on."""

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        return Marked([], {"mask": 1.0, "reward": segment.score})

    return compile_rows(feedback, text, mark, eos={"mask": 1.0, "reward": 0.0})
