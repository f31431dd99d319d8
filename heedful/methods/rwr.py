"""RWR: weigh text by its exponentiated reward (Korbak et al. 2023, section 3; Peters and Schaal 2007).

source      fixed scored corpus
targets     weight exp(R / beta) on each token of a segment with score R
objective   weighted nll over all tokens
Deviation: the released code adds a constant factor exp(0.5 / beta) by running it through an untrained value head.
At the paper's beta of 10 the weights of per-character scores differ by less than 1%: it can hardly differ from MLE.
Run: heedful train rwr --feedback pep8 --out runs/rwr
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import weighted_nll
from heedful.sources.fixed import fixed
from heedful.targets.weight import exponential_weights

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"segments", "scores", "labels", "pairs", "rankings"})


class Config(Strict):
    """How sharply reward counts."""

    beta: float = Field(10.0, gt=0)  # temperature, in units of score; all three recipes


def build(config: Config, inputs: Inputs) -> Method:
    """Reward-weighted regression as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(exponential_weights, text=inputs.text, beta=config.beta),
        objective=[term(weighted_nll, per="mask")],
    )
