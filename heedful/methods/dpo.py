"""DPO: direct preference optimisation, and its hinge and IPO forms (Rafailov et al. 2023, arXiv:2305.18290).

source      fixed comparisons
targets     all responses to a prompt as one group with its strict pairs; log-probabilities of the start beside them
objective   a loss on the log-ratio gap of each pair, mean over pairs
Deviations: K ranked responses are one group with all their pairs, encoded once, where other trainers have K(K-1)/2 rows
of two; the start model is the reference, and its log-probabilities are made once.
Run: heedful train dpo --model MODEL --feedback FILE --out runs/dpo
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.method import Inputs, Method, TermSpec, term
from heedful.objectives.comparison import (
    comparison_accuracy,
    comparison_gap,
    dpo_hinge,
    dpo_sigmoid,
    ipo,
    ipo_per_token,
)
from heedful.sources.fixed import fixed
from heedful.targets.pair import compared_responses

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {"optim": {"lr": 1e-6, "weight_decay": 0.0}, "batch_size": 64}  # the paper's, by TRL's docs
FEEDBACK = frozenset({"pairs"})
MEASURED = [  # of the log-ratios to the start
    term(comparison_accuracy, per="pair_weight", coef=0.0, name="accuracy", streams={"reward": "log_ratio"}),
    term(comparison_gap, per="pair_weight", coef=0.0, name="gap", streams={"reward": "log_ratio"}),
]


class Config(Strict):
    """Which loss, and how far from the start."""

    loss: Literal["sigmoid", "hinge", "ipo", "ipo_per_token"] = "sigmoid"
    beta: float = Field(0.1, gt=0)  # per nat of log-ratio, for IPO tau; TRL's default, the paper's for most tasks
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)  # share of labels taken to be wrong; sigmoid only (cDPO)

    @model_validator(mode="after")
    def _smoothed_only_where_it_is_read(self):
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(
                f"found label_smoothing {self.label_smoothing:g} with loss {self.loss}: only sigmoid has it"
            )
        return self


def build(config: Config, inputs: Inputs) -> Method:
    """DPO as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(compared_responses, text=inputs.text, weigh_prompts=False),
        objective=[_loss(config), *MEASURED],
        has_dropout=False,
    )


def _loss(config: Config) -> TermSpec:
    if config.loss == "sigmoid":
        return term(dpo_sigmoid, per="pair_weight", beta=config.beta, label_smoothing=config.label_smoothing)
    if config.loss == "hinge":
        return term(dpo_hinge, per="pair_weight", beta=config.beta)
    return term(ipo if config.loss == "ipo" else ipo_per_token, per="pair_weight", tau=config.beta)
