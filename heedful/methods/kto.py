"""KTO: learn from responses that were called good or bad, one at a time (Ethayarajh et al. 2024, arXiv:2402.01306).

source      fixed labels; where a record has none, its pairs: who won all is good, who lost all is bad
targets     the labelled responses to a prompt, and one to another prompt; log-probabilities of the start beside them
objective   1 - sigmoid of the distance to the mean log-ratio z0, a statistic of the whole step
Deviations: z0 is the mean over the prompts of a step, each with one response of another prompt that is fixed from the
start (the paper and TRL take those of the same batch), so that no order of rows changes it.
Run: heedful train kto --model MODEL --feedback FILE --out runs/kto
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.comparison import kto, mismatched_log_ratio
from heedful.sources.fixed import fixed
from heedful.targets.pair import labelled_responses, labels_of

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {"optim": {"lr": 1e-6, "weight_decay": 0.0}, "batch_size": 64}  # TRL's; it allows 16 to 128
FEEDBACK = frozenset({"labels", "pairs"})
BALANCE = (1.0, 4 / 3)  # of what good and bad examples weigh together; the paper's advice


class Config(Strict):
    """How far from the start, and what good and bad examples weigh."""

    beta: float = Field(0.1, gt=0)  # per nat of log-ratio; the paper's and TRL's default
    desirable_weight: float = Field(1.0, ge=0)  # lambda_D; keep lambda_D n_D / (lambda_U n_U) between 1 and 4/3
    undesirable_weight: float = Field(1.0, ge=0)  # lambda_U


def build(config: Config, inputs: Inputs) -> Method:
    """KTO as a source, targets and an objective."""
    _warn_of_imbalance(config, inputs.feedback)
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(labelled_responses, text=inputs.text, seed=inputs.seed),
        objective=[
            term(
                kto,
                per="example",
                beta=config.beta,
                desirable_weight=config.desirable_weight,
                undesirable_weight=config.undesirable_weight,
            )
        ],
        statistics=[term(mismatched_log_ratio, per="mismatched", name="kl")],
        has_dropout=False,
    )


def _warn_of_imbalance(config: Config, feedback: Sequence[Any]) -> None:
    """Where one kind of label far outweighs the other the model unlearns, or learns, everything it is shown."""
    labels = Counter(label for record in feedback for label in labels_of(record).values())
    good, bad = config.desirable_weight * labels[1.0], config.undesirable_weight * labels[-1.0]
    if good and bad and not BALANCE[0] * 0.9 <= good / bad <= BALANCE[1] * 1.1:
        weight = config.undesirable_weight * labels[-1.0] / labels[1.0]
        warnings.warn(
            f"{labels[1.0]} good responses weigh {good / bad:.2g} times {labels[-1.0]} bad ones; the paper keeps this "
            f"between 1 and 4/3: --set method.desirable_weight={weight:.2g}",
            stacklevel=2,
        )
