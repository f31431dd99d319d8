"""Filtering: MLE on the documents that score well (Korbak et al. 2023, section 3, arXiv:2302.08582).

source      fixed scored corpus
targets     responses below a threshold, or else a quantile, of their mean segment score are dropped
objective   nll, mean over tokens
At an equal token budget the kept text is seen more often; `epoch` in metrics.jsonl says how often.
Run: heedful train filtering --feedback pep8 --out runs/filtering
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.relabel import best_documents, threshold_or_quantile

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"segments", "scores", "labels", "pairs", "rankings"})


class Config(Strict):
    """What is kept."""

    threshold: float | None = None  # mean segment score from which a response is kept, 0 included; None: use `quantile`
    quantile: float = Field(0.5, ge=0, lt=1)  # share dropped; the released thresholds are described as the median


def build(config: Config, inputs: Inputs) -> Method:
    """Filtering as a source, targets and an objective."""
    bound = threshold_or_quantile(config.threshold, config.quantile, inputs.feedback)
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(best_documents, text=inputs.text, threshold=bound),
        objective=[term(nll, per="mask")],
    )
