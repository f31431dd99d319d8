"""PPO: follow the reward of the policy's own samples, held near the start by a KL (InstructGPT step 3, Ouyang et al.
2022, section 3.5 and eq. 2, arXiv:2203.02155; Schulman et al. 2017, arXiv:1707.06347).

source      rounds: responses to prompts at temperature 1, scored; log-probabilities of the start, values
targets     the score at the last token less kl_coef * (log p_old - log p_start) at each; GAE; whitened over the round
objective   clipped surrogate + vf_coef * clipped value + ptx_coef * nll of documents (PPO-ptx)
Deviations: see docs/methods/ppo.md.
Run: heedful train ppo --model MODEL --feedback FILE --set method.judge=runs/reward_model --out runs/ppo
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from heedful.config import Strict
from heedful.errors import ConfigError
from heedful.measures import MeanScore
from heedful.method import Head, Inputs, Method, Mix, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.objectives.policy_gradient import approx_kl, clip_fraction, clipped_surrogate, clipped_value
from heedful.scorers import RewardModelScorer, Scorer
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import readable
from heedful.sources.rollouts import KL, rollouts
from heedful.targets.advantage import token_advantages
from heedful.targets.pretraining import Documents, documents_of

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {  # the paper's betas, Ziegler's eps; a constant rate after a short rise
    "optim": {"lr": 1e-5, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.0, "decay": "constant", "warmup": 0.02},
    "batch_size": 64,
}
FEEDBACK = frozenset({"pairs"})
HEAD = Head(detach=False)  # on the shared trunk, zeros at the start (Ziegler et al. 2019)


class Config(Strict):
    """What rewards, how far the policy may go, and how a round is cut into steps."""

    judge: str = "reward_model"  # the folder of one, or any scorer of one response
    num_prompts: int = Field(512, ge=1)  # of a round; the paper's
    num_samples: int = Field(1, ge=1)  # responses to each prompt; the paper's
    max_tokens: int = Field(128, ge=1)  # of a response; the paper's is 1,024
    kl_coef: float = Field(0.02, ge=0)  # beta, units of reward a nat; the paper's
    kl_target: float | None = Field(None, gt=0)  # nats a response that beta adapts to hold; None, the paper's: it stays
    kl_horizon: int = Field(10_000, ge=1)  # responses over which it adapts; lm-human-preferences
    gamma: float = Field(1.0, ge=0, le=1)  # no discount; the paper's
    lam: float = Field(0.95, ge=0, le=1)  # lambda of GAE; Stiennon et al. 2020
    clip: float = Field(0.2, gt=0)  # half-width of the ratio's interval; the paper's
    value_clip: float = Field(0.2, gt=0)  # units of reward; lm-human-preferences
    vf_coef: float = Field(0.1, ge=0)  # as there
    critic: Literal["reward_model", "shared"] | None = None  # a network of its own that starts as the judge, the
    # paper's, or a head on the policy's trunk; None: the former where the judge is a reward model
    value_lr: float | None = Field(None, gt=0)  # peak rate of the critic or head; None: the policy's; the paper's: 9e-6
    whiten: bool = True  # advantages, over the tokens of a round
    whiten_rewards: bool = False  # as there by default; N+ finds it shortens responses
    missing_eos: float | None = None  # score of a response that was cut; -1 in Ziegler et al. 2019
    inner_epochs: int = Field(1, ge=1)  # passes over a round; the paper's
    ema: float | None = Field(0.992, gt=0, lt=1)  # of the weights that are measured and kept; the paper's
    ptx_coef: float = Field(0.0, ge=0)  # gamma of eq. 2, of the mean over document tokens; 27.8 in the paper: PPO-ptx
    ptx_rows: int = Field(512, ge=1)  # documents a step: 8 for each rollout of a batch of 64, the paper's


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where there is somebody to judge; a reward model is trained from comparisons."""
    return FEEDBACK if config.judge in NEEDS["judge"] else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """PPO as a source, targets and an objective; with `ptx_coef` documents are mixed in."""
    source = rollouts(
        inputs,
        config.judge,
        num_prompts=config.num_prompts,
        num_samples=config.num_samples,
        max_tokens=config.max_tokens,
        kl=KL(config.kl_coef, config.kl_target, config.kl_horizon),
        has_value=True,
    )
    critic = _critic(config, source.judge)
    held_out = readable(one_per_prompt(inputs.held_out), source.judge)
    targets = partial(
        token_advantages,
        text=inputs.text,
        gamma=config.gamma,
        lam=config.lam,
        whiten=config.whiten,
        whiten_rewards=config.whiten_rewards,
        missing_eos=config.missing_eos,
    )
    objective = [
        term(clipped_surrogate, per="mask", clip=config.clip),
        term(clipped_value, per="mask", coef=config.vf_coef, clip=config.value_clip),
        term(clip_fraction, per="mask", coef=0.0, clip=config.clip),
        term(approx_kl, per="mask", coef=0.0),
    ]
    return Method(
        source=source,
        targets=targets,
        objective=objective,
        heads={} if critic else {"value": HEAD},
        critic=critic,
        rates={"value": config.value_lr} if config.value_lr else {},
        mixes=_pretraining(config, inputs),
        measures=[MeanScore(source.judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(
            rounds=None,
            epochs=config.inner_epochs,
            pass_rounds=source.pass_rounds,
            ema=config.ema,
            select=("judge_score", "max"),
        ),
        asks_start=True,
        has_dropout=False,
        judges={config.judge: source.judge.version},
    )


def _critic(config: Config, judge: Scorer) -> str | None:
    """The folder of the reward model that becomes a value network of its own; None for a head on the policy.

    Raises:
        ConfigError: one is asked for, and the judge is none.
    """
    if isinstance(judge, RewardModelScorer):
        return None if config.critic == "shared" else str(judge.path)
    if config.critic == "reward_model":
        found = f"found reward_model, and the judge is {config.judge}"
        raise ConfigError(found, where="method.critic", allowed="shared, or a reward model for a judge")
    return None


def _pretraining(config: Config, inputs: Inputs) -> list[Mix]:
    """What makes it PPO-ptx."""
    if not config.ptx_coef:
        return []
    documents = documents_of(inputs.feedback, "ptx_coef", config.ptx_coef)
    objective = [term(nll, per="mask", coef=config.ptx_coef, name="ptx_nll")]
    return [Mix(Documents(documents, inputs.text), objective, config.ptx_rows)]
