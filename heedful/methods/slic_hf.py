"""SLiC-HF: calibrate the likelihood of responses with comparisons (Zhao et al. 2023, arXiv:2305.10425).

source      fixed comparisons ("direct" in the paper)
targets     all responses to a prompt as one group with its strict pairs, and the response that is imitated beside
objective   hinge on the gap of summed log-probabilities, mean over pairs, + nll_coef * nll of the imitated response
No reference model is kept: the nll holds the policy where it was.
Deviations: the paper gives no lambda and no reduction of the nll; here it is the mean over tokens. Start from an SFT
model. All pairs of a ranking are used.
Run: heedful train slic_hf --model MODEL --feedback FILE --out runs/slic_hf
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.calibration import rank_hinge
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.pair import pairs_with_reference
from heedful.targets.relabel import best_judged, imitated_response

NEEDS: dict[str, str] = {}
TRAINING: dict[str, Any] = {  # the paper's rate and batch; the rest it does not state
    "optim": {"lr": 1e-5, "weight_decay": 0.0, "decay": "constant"},
    "batch_size": 32,
}
FEEDBACK = frozenset({"pairs"})
REFERENCES = {"demonstration": imitated_response, "best": best_judged}


class Config(Strict):
    """How much likelier the better response should be, and what holds the rest in place."""

    margin: float = Field(1.0, ge=0)  # delta, nats of a whole response; the paper's; RSO finds 20 better
    nll_coef: float = Field(0.1, ge=0)  # lambda, of the mean over the imitated tokens; no source names one
    reference: Literal["demonstration", "best"] = "demonstration"  # or the best compared, where a record has none


def build(config: Config, inputs: Inputs) -> Method:
    """SLiC-HF as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(pairs_with_reference, text=inputs.text, reference=REFERENCES[config.reference]),
        objective=[
            term(rank_hinge, per="pair_weight", margin=config.margin),
            term(nll, per="reference", coef=config.nll_coef, streams={"mask": "reference"}),
        ],
    )
