"""RAFT: imitate the best of several of the policy's own samples, again and again (Dong et al. 2023, arXiv:2304.06767).

source      rounds: several responses to each of some prompts at temperature 1, scored; log-probabilities of the start
targets     the response of each prompt with the highest score less kl_coef * (log p_old - log p_start)
objective   nll, mean over response tokens; the next round goes on from there
Deviations: see docs/methods/raft.md.
Run: heedful train raft --model MODEL --feedback FILE --set method.judge=runs/reward_model --out runs/raft
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import readable
from heedful.sources.rollouts import KL, rollouts
from heedful.targets.keep import best_samples

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {"optim": {"lr": 2e-5, "weight_decay": 0.0, "decay": "constant", "warmup": 0.0}}
FEEDBACK = frozenset({"pairs"})


class Config(Strict):
    """What rewards, how many draws the best is one of, and how far the policy may go."""

    judge: str = "reward_model"  # the folder of one, or any scorer of one response
    num_prompts: int = Field(512, ge=1)  # b, of a round; the paper's is 2,048
    num_samples: int = Field(8, ge=1)  # K, of each prompt, of which one is kept; the paper's are 8, 16 and 32
    max_tokens: int = Field(128, ge=1)  # of a response; the paper's
    kl_coef: float = Field(0.0, ge=0)  # beta, units of reward a nat; the paper's, where it has one, is of this form
    missing_eos: float | None = None  # score of a response that was cut
    inner_epochs: int = Field(1, ge=1)  # passes over what a round keeps


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where there is somebody to judge; a reward model is trained from comparisons."""
    return FEEDBACK if config.judge in NEEDS["judge"] else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """RAFT as a source, targets and an objective."""
    source = rollouts(
        inputs,
        config.judge,
        num_prompts=config.num_prompts,
        num_samples=config.num_samples,
        max_tokens=config.max_tokens,
        kl=KL(config.kl_coef),
    )
    held_out = readable(one_per_prompt(inputs.held_out), source.judge)
    return Method(
        source=source,
        targets=partial(best_samples, text=inputs.text, missing_eos=config.missing_eos),
        objective=[term(nll, per="mask")],
        measures=[MeanScore(source.judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(
            rounds=None, epochs=config.inner_epochs, pass_rounds=source.pass_rounds, select=("judge_score", "max")
        ),
        asks_start=True,
        judges={config.judge: source.judge.version},
    )
