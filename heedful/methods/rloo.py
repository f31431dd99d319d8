"""RLOO: follow the reward of the policy's own samples, each held against the others to its prompt (Ahmadian et al.
2024, "Back to Basics", arXiv:2402.14740).

source      rounds: several responses to each prompt at temperature 1, scored; log-probabilities of the start
targets     the score less kl_coef * (log p_old - log p_start), less the mean of the others'; one for a whole response
objective   clipped surrogate with one ratio for a response, mean over responses
No value model. Deviations: see docs/methods/rloo.md.
Run: heedful train rloo --model MODEL --feedback FILE --set method.judge=runs/reward_model --out runs/rloo
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.policy_gradient import approx_kl, clipped_sequence_surrogate
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import readable
from heedful.sources.rollouts import KL, rollouts
from heedful.targets.advantage import sequence_advantages

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {
    "optim": {"lr": 1e-6, "weight_decay": 0.0, "decay": "constant", "warmup": 0.0},
    "batch_size": 128,
}
FEEDBACK = frozenset({"pairs"})


class Config(Strict):
    """What rewards, how far the policy may go, and how many responses hold each other in check."""

    judge: str = "reward_model"  # the folder of one, or any scorer of one response
    num_prompts: int = Field(128, ge=1)  # of a round
    num_samples: int = Field(4, ge=2)  # k, of each prompt; the paper's are 2 and 4
    max_tokens: int = Field(128, ge=1)  # of a response
    kl_coef: float = Field(0.03, ge=0)  # beta, units of reward a nat; the paper's
    clip: float = Field(0.2, gt=0)  # half-width of the ratio's interval; TRL's, nothing in a round's first step
    missing_eos: float | None = None  # score of a response that was cut
    inner_epochs: int = Field(1, ge=1)  # passes over a round


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where there is somebody to judge; a reward model is trained from comparisons."""
    return FEEDBACK if config.judge in NEEDS["judge"] else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """RLOO as a source, targets and an objective."""
    source = rollouts(
        inputs,
        config.judge,
        num_prompts=config.num_prompts,
        num_samples=config.num_samples,
        max_tokens=config.max_tokens,
        kl=KL(config.kl_coef),
    )
    targets = partial(sequence_advantages, text=inputs.text, missing_eos=config.missing_eos)
    held_out = readable(one_per_prompt(inputs.held_out), source.judge)
    return Method(
        source=source,
        targets=targets,
        objective=[
            term(clipped_sequence_surrogate, per="example", clip=config.clip),
            term(approx_kl, per="mask", coef=0.0),
        ],
        measures=[MeanScore(source.judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(
            rounds=None, epochs=config.inner_epochs, pass_rounds=source.pass_rounds, select=("judge_score", "max")
        ),
        asks_start=True,
        has_dropout=False,
        judges={config.judge: source.judge.version},
    )
