"""The reward model of InstructGPT: a number for a response, learned from rankings (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5).

source      fixed rankings or comparisons
targets     all responses to a prompt as one group with its strict pairs; a tie gives none
objective   Bradley-Terry on the rewards, mean over the pairs of a prompt, then over prompts
The reward is a linear map without bias of the state at a response's last token, drawn from N(0, 1 / (d + 1)). After
training it is shifted so that demonstrations have 0 on average; see reward.py.
Deviations: the mean is over the pairs that do not tie, where the paper prints C(K, 2). `loss: plackett_luce` is the
likelihood of whole rankings instead. Start from an SFT model.
Run: heedful train reward_model --model MODEL --feedback FILE --out runs/reward_model
"""

from functools import partial
from typing import Any, Literal

from heedful.config import Strict
from heedful.method import Head, Inputs, Method, term
from heedful.objectives.comparison import bradley_terry, comparison_accuracy, plackett_luce
from heedful.sources.fixed import fixed
from heedful.targets.rank import paired_responses, ranked_responses

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {  # the paper's, appendix C.2; it states no decay of weights
    "optim": {"lr": 9e-6, "betas": (0.9, 0.95), "weight_decay": 0.0, "decay": "cosine", "final": 0.1},
    "batch_size": 64,
}
FEEDBACK = frozenset({"pairs"})
HEAD = Head(bias=False, detach=False, is_drawn=True)


class Config(Strict):
    """How rankings are read."""

    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"  # the paper's: every pair of a ranking


def build(config: Config, inputs: Inputs) -> Method:
    """The reward model as a source, targets and an objective; accuracy is logged beside it."""
    inputs.text.require_pad_token()  # the exported model pads batches
    is_pairwise = config.loss == "bradley_terry"
    loss = term(bradley_terry, per="pair_weight") if is_pairwise else term(plackett_luce, per="prompt")
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(paired_responses if is_pairwise else ranked_responses, text=inputs.text),
        objective=[loss, term(comparison_accuracy, per="pair_weight", coef=0.0, name="accuracy")],
        heads={"reward": HEAD},
        has_dropout=False,
    )
