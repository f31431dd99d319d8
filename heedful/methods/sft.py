"""SFT: supervised finetuning on demonstrations (InstructGPT step 1, Ouyang et al. 2022, section 3.5, arXiv:2203.02155).

source      fixed demonstrations; where a record has none, its best judged response
targets     the prompt is masked, the response and its EOS are trained
objective   nll, mean over response tokens
Run: heedful train sft --feedback pep8 --out runs/sft
"""

from functools import partial
from typing import Any

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.relabel import demonstrations

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"demonstrations", "imitable"})


class Config(Strict):
    """SFT has no settings of its own."""


def build(config: Config, inputs: Inputs) -> Method:
    """SFT as a source, targets and an objective."""
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(demonstrations, text=inputs.text),
        objective=[term(nll, per="mask")],
    )
