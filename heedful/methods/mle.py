"""MLE: maximum likelihood on all text, whatever was said of it; the baseline of pretraining with human preferences.

source      fixed corpus
targets     every token is trained, EOS included
objective   nll, mean over tokens (Korbak et al. 2023, section 3, arXiv:2302.08582)
Run: heedful train mle --feedback pep8 --out runs/mle
"""

from functools import partial
from typing import Any

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.relabel import everything

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"documents", "responses"})  # any one of these is enough


class Config(Strict):
    """MLE has no settings of its own."""


def build(config: Config, inputs: Inputs) -> Method:
    """MLE as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(everything, text=inputs.text),
        objective=[term(nll, per="mask")],
    )
