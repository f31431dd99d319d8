"""KTO: learn from responses that were called good or bad, one at a time (Ethayarajh et al. 2024, arXiv:2402.01306).

source      fixed labels; where a record has none, its pairs: who won all is good, who lost all is bad
targets     the labelled responses to a prompt, and one to another prompt; log-probabilities of the start beside them
objective   1 - sigmoid of the distance to the mean log-ratio z0, a statistic of the whole step
Deviations: z0 is the mean over the prompts of a step, each with one response of another prompt that is fixed from the
start (the paper and TRL take those of the same batch), so that no order of rows changes it.
Run: heedful train kto --model MODEL --feedback FILE --out runs/kto
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.comparison import kto, mismatched_log_ratio
from heedful.sources.fixed import fixed
from heedful.targets.pair import labelled_responses

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {"optim": {"lr": 1e-6, "weight_decay": 0.0}, "batch_size": 64}  # TRL's; it allows 16 to 128
FEEDBACK = frozenset({"labels", "pairs"})


class Config(Strict):
    """How far from the start, and what good and bad examples weigh."""

    beta: float = Field(0.1, gt=0)  # per nat of log-ratio; the paper's and TRL's default
    desirable_weight: float = Field(1.0, ge=0)  # lambda_D; keep lambda_D n_D / (lambda_U n_U) between 1 and 4/3
    undesirable_weight: float = Field(1.0, ge=0)  # lambda_U


def build(config: Config, inputs: Inputs) -> Method:
    """KTO as a source, targets and an objective."""
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
    )
