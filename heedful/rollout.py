"""A response as the policy drew it: its tokens, and numbers of each that frozen models gave."""

from collections.abc import Sequence
from dataclasses import dataclass

from heedful.errors import DataError
from heedful.records import Feedback

KL_COEF = "kl_coef"  # key of a record's metadata: what a nat of KL from the start cost in its round
DRAWS = "num_draws"  # key of a record's metadata: how many responses were drawn, empty ones too
ROLLOUTS = "rollouts"  # key of a record's metadata: what was drawn, as objects with the fields of `Rollout`


@dataclass(frozen=True)
class Rollout:
    """One response.

    Attributes:
        tokens: EOS among them where it ended.
        logp: natural logs at the policy that drew, temperature 1 and the whole vocabulary.
        ref_logp: those at the start.
        value: the value head before each token; empty where there is none.
        reward: of the judge, higher is better.
        is_cut: it did not end by itself.
    """

    tokens: Sequence[int]
    logp: Sequence[float]
    ref_logp: Sequence[float]
    value: Sequence[float]
    reward: float
    is_cut: bool

    def scored(self, missing_eos: float | None) -> float:
        """The reward; of a response that was cut `missing_eos`, where it is given (Ziegler et al. 2019)."""
        return missing_eos if self.is_cut and missing_eos is not None else self.reward


def rollouts_of(record: Feedback) -> list[Rollout]:
    """The responses of a record as they were drawn.

    Raises:
        DataError: somebody else wrote them.
    """
    if ROLLOUTS not in record.metadata:
        raise DataError("its responses were not drawn from the policy", where=record.id)
    return [Rollout(**numbers) for numbers in record.metadata[ROLLOUTS]]
