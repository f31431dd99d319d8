"""GRPO: follow the reward of the policy's own samples, in units of how much those to one prompt differ (Shao et al.
2024, DeepSeekMath, arXiv:2402.03300).

source      rounds: a group of responses to each prompt at temperature 1, scored; log-probabilities of the start
targets     the score less the group's mean, by its deviation, on every token of the response
objective   clipped surrogate, mean over the tokens of a response, then over responses, + kl_coef * k3
`form: unbiased` has neither the division by length nor that by the deviation (Dr. GRPO, Liu et al. 2025,
arXiv:2503.20783), and `kl: reward` takes the KL from the reward, where it belongs to what is maximised.
Run: heedful train grpo --model MODEL --feedback FILE --set method.judge=runs/reward_model --out runs/grpo
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, TermSpec, term
from heedful.objectives.policy_gradient import approx_kl, clip_fraction, clipped_surrogate, kl_k3
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import readable
from heedful.sources.rollouts import KL, rollouts
from heedful.targets.advantage import group_advantages

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {
    "optim": {"lr": 1e-6, "weight_decay": 0.0, "decay": "constant", "warmup": 0.0},
    "batch_size": 16,
}
FEEDBACK = frozenset({"pairs"})


class Config(Strict):
    """What rewards, how a group is read, and how far the policy may go."""

    judge: str = "reward_model"  # the folder of one, or any scorer of one response
    form: Literal["published", "unbiased"] = "published"
    num_prompts: int = Field(16, ge=1)  # of a round; the paper's 1,024 responses
    num_samples: int = Field(64, ge=2)  # G, of each prompt; the paper's
    max_tokens: int = Field(128, ge=1)  # of a response; the paper's is 1,024
    kl: Literal["loss", "reward"] = "loss"  # k3 in the loss, as published, or k1 in the reward
    kl_coef: float = Field(0.04, ge=0)  # beta; the paper's
    clip: float = Field(0.2, gt=0)  # half-width of the ratio's interval
    missing_eos: float | None = None  # score of a response that was cut
    inner_epochs: int = Field(1, ge=1)  # passes over a round; the paper's


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where there is somebody to judge; a reward model is trained from comparisons."""
    return FEEDBACK if config.judge in NEEDS["judge"] else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """GRPO as a source, targets and an objective."""
    source = rollouts(
        inputs,
        config.judge,
        num_prompts=config.num_prompts,
        num_samples=config.num_samples,
        max_tokens=config.max_tokens,
        kl=KL(config.kl_coef if config.kl == "reward" else 0.0),
    )
    is_published, in_loss = config.form == "published", config.kl == "loss" and config.kl_coef > 0
    targets = partial(
        group_advantages,
        text=inputs.text,
        scale=is_published,
        length=None if is_published else config.max_tokens,
        has_reference=in_loss,
        missing_eos=config.missing_eos,
    )
    held_out = readable(one_per_prompt(inputs.held_out), source.judge)
    return Method(
        source=source,
        targets=targets,
        objective=_objective(config, in_loss),
        measures=[MeanScore(source.judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(
            rounds=None, epochs=config.inner_epochs, pass_rounds=source.pass_rounds, select=("judge_score", "max")
        ),
        asks_start=True,
        has_dropout=False,
        judges={config.judge: source.judge.version},
    )


def _objective(config: Config, in_loss: bool) -> list[TermSpec]:
    weighed: dict[str, Any] = {"per": "example", "streams": {"mask": "weight"}}
    return [
        term(clipped_surrogate, clip=config.clip, **weighed),
        *([term(kl_k3, coef=config.kl_coef, **weighed)] if in_loss else []),
        term(clip_fraction, per="mask", coef=0.0, clip=config.clip),
        term(approx_kl, per="mask", coef=0.0),
    ]
