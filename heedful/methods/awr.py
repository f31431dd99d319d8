"""AWR: weigh text by how much better it is than expected (Korbak et al. 2023, section 3; Peng et al. 2019,
arXiv:1910.00177).

source      fixed scored corpus
targets     the segment's score as reward on each of its tokens
objective   alpha * advantage-weighted nll + (1 - alpha) * value regression, both over all tokens
Deviations: the value head is linear with a bias and does not pull on the trunk. `value_head: paper` is the released
one, without bias, -sigmoid, not detached: it starts at -0.5 and cannot hold a score outside (-1, 0), such as those of
very short lines.
Run: heedful train awr --feedback pep8 --out runs/awr
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from heedful.config import Strict
from heedful.method import Head, Inputs, Method, term
from heedful.objectives.likelihood import advantage_weighted_nll, value_regression
from heedful.sources.fixed import fixed
from heedful.targets.weight import segment_rewards

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"segments", "scores", "labels", "pairs", "rankings"})

VALUE_HEADS = {
    "linear": Head(bias=True, detach=True),
    "paper": Head(bias=False, detach=False, squash="negative_sigmoid"),
}


class Config(Strict):
    """How sharply advantage counts, and the share of the two losses."""

    beta: float = Field(10.0, gt=0)  # temperature, in units of score; toxicity recipe (PII 0.1, PEP8 1)
    alpha: float = Field(0.5, ge=0, le=1)  # share of the text loss; toxicity and PII recipes (PEP8 0.05)
    max_weight: float = Field(1000.0, gt=0)  # cap on a weight; released code
    value_head: Literal["linear", "paper"] = "linear"


def build(config: Config, inputs: Inputs) -> Method:
    """Advantage-weighted regression as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(segment_rewards, text=inputs.text),
        objective=[
            term(
                advantage_weighted_nll,
                per="mask",
                coef=config.alpha,
                beta=config.beta,
                max_weight=config.max_weight,
            ),
            term(value_regression, per="mask", coef=1 - config.alpha),
        ],
        heads={"value": VALUE_HEADS[config.value_head]},
    )
