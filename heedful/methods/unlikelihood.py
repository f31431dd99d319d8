"""Unlikelihood: imitate good segments, push bad ones away (Korbak et al. 2023, section 3; Welleck et al. 2020,
arXiv:1908.04319).

source      fixed scored corpus
targets     each token marked aligned or misaligned by its segment's score
objective   nll on aligned tokens + alpha * unlikelihood on misaligned ones, both over all tokens
Deviation: a threshold of 0 is a threshold. In the released code it counts as none, and the PII and PEP8 recipes
become nearly MLE.
Run: heedful train unlikelihood --feedback pep8 --out runs/unlikelihood
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import nll, unlikelihood
from heedful.sources.fixed import fixed
from heedful.targets.relabel import bad_segments
from heedful.targets.segments import threshold_or_median

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"segments", "scores", "labels", "pairs", "rankings"})


class Config(Strict):
    """When a segment is bad, and how hard it is pushed."""

    threshold: float | None = None  # segment score from which a segment is good, 0 included; None: the median
    alpha: float = Field(1.0, ge=0)  # weight of the unlikelihood term; toxicity and PII recipes (PEP8: 0.01)


def build(config: Config, inputs: Inputs) -> Method:
    """Unlikelihood training as a source, targets and an objective."""
    bound = threshold_or_median(config.threshold, inputs.feedback)
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(bad_segments, text=inputs.text, threshold=bound),
        objective=[
            term(nll, per="token", streams={"mask": "aligned"}),
            term(unlikelihood, per="token", coef=config.alpha, streams={"mask": "misaligned"}),
        ],
    )
