"""FARL: imitate the policy's own good answers and no others, the baseline of HIR (Zhang et al. 2023, arXiv:2302.05206).

source      rounds: answers drawn behind the positive instruction at temperature 1, each judged good or bad
targets     the good ones behind that instruction
objective   nll with smoothed labels
With `smoothing` 0 it is SFT on rejection-sampled answers; hir without contrast, entropy and windows learns from the bad
ones as well. Deviations: see docs/methods/farl.md.
Run: heedful train farl --model MODEL --feedback FILE --set method.judge=exact_match --out runs/farl
"""

from typing import Any

from heedful.method import Inputs, Method
from heedful.methods import hir
from heedful.methods.hir import FEEDBACK as FEEDBACK
from heedful.methods.hir import NEEDS as NEEDS
from heedful.methods.hir import Drawing, drawing, supervised
from heedful.methods.hir import feedback as feedback
from heedful.targets.hindsight import Layout, instructions

# HIR's but for the batch: where `exact_match` judges one answer to a prompt is right, and 64 prompts are Table 7's 64.
TRAINING: dict[str, Any] = hir.TRAINING | {"batch_size": 64}


class Config(Drawing):
    """Who judges, what is asked, and how a round is made; the values of `hir`, as in the paper."""


def build(config: Config, inputs: Inputs) -> Method:
    """FARL as a source, targets and an objective."""
    words = instructions(config.own_instructions or config.instructions, inputs.text)
    layout = Layout(words, is_whole=config.smoothing > 0, good_only=True)
    return drawing(config, inputs, words, layout, supervised(config.smoothing, layout))
