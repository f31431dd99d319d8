"""ReST-EM: learn from the samples that are right, from the start anew each round (Singh et al. 2024, arXiv:2312.06585).

source      rounds: samples of the best checkpoint of the last round, scored (E-step)
targets     keep those at or above a threshold, at most so many different ones of a prompt
objective   nll, mean over response tokens, from the weights of the start (M-step)
Deviations: see docs/methods/rest_em.md.
Run: heedful train rest_em --model MODEL --feedback FILE --out runs/rest_em
"""

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.records import Feedback
from heedful.rollout import DRAWS
from heedful.sampling import Sampling
from heedful.sources.policy import LOGP, TOKENS, PolicySamples, one_per_prompt
from heedful.sources.ranking import load_pointwise, readable, scored
from heedful.targets.keep import above, drawn_scores, kept_samples

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {"optim": {"lr": 1e-5, "weight_decay": 0.0}}  # the paper gives none
FEEDBACK = frozenset({"answers"})


class Config(Strict):
    """What is drawn, and what of it is good enough."""

    judge: str = "exact_match"  # the paper's on MATH; any scorer of one response, or the folder of a reward model
    rounds: int = Field(2, ge=1)  # the paper's best on MATH has 2 or 3, on APPS 1; each restarts from the start
    num_samples: int = Field(32, ge=1)  # of each prompt; the paper's on MATH, 64 on APPS
    temperature: float = Field(0.7, gt=0)  # the paper's
    top_k: int = Field(40, ge=0)  # the paper's; 0 keeps all tokens
    max_tokens: int = Field(128, ge=1)  # of a response
    threshold: float = 1.0  # the least score that is learned from; the paper's reward is 0 or 1
    cap: int | None = Field(10, ge=1)  # most responses of a prompt that are learned from; the paper's; none: all
    distinct: bool = True  # equal responses count once; not said in the paper


def feedback(config: Config) -> frozenset[str]:
    """Answers for the judge that reads them, comparisons where one is to be trained, else prompts alone."""
    known = {"exact_match": FEEDBACK} | dict.fromkeys(NEEDS["judge"], frozenset({"pairs"}))
    return known[config.judge] if config.judge in known else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """ReST-EM as a source, targets and an objective; selected by the mean score of greedy answers."""
    judge = load_pointwise(config.judge)
    keep: dict[str, Any] = {"threshold": config.threshold, "at_most": config.cap, "distinct": config.distinct}
    source = PolicySamples(
        readable(one_per_prompt(inputs.feedback), judge),
        inputs.text,
        Sampling(max_tokens=config.max_tokens, temperature=config.temperature, top_k=config.top_k),
        config.num_samples,
        partial(scored, judge=judge),
        seed=inputs.seed,
        distinct=False,
        watch=partial(watched, **keep),
    )
    held_out = readable(one_per_prompt(inputs.held_out), judge)
    greedy = MeanScore(judge, held_out, inputs.text, config.max_tokens, inputs.seed, temperature=0.0)
    return Method(
        source=source,
        targets=partial(kept_samples, text=inputs.text, **keep),
        objective=[term(nll, per="mask")],
        measures=[greedy],
        schedule=Schedule(rounds=config.rounds, restart=True, select=("judge_score", "max")),
        judges={config.judge: judge.version},
    )


def watched(records: Sequence[Feedback], *, threshold: float, at_most: int | None, distinct: bool) -> dict[str, float]:
    """What to watch of a round: the mean score, the share of draws that pass and of prompts that have one that does,
    how many are learned from, and the log-likelihood of a drawn token with its sign changed: an estimate of the
    entropy, at the temperature of the draws, before top-k."""
    asked = [record for record in records if record.metadata[DRAWS]]
    passed = [len(above(record, threshold=threshold, distinct=False)) for record in asked]
    kept = [len(above(record, threshold=threshold, at_most=at_most, distinct=distinct)) for record in asked]
    scores = [score for record in asked for score in drawn_scores(record)]
    return {
        "score": fmean(scores) if scores else 0.0,
        "pass_rate": sum(passed) / sum(record.metadata[DRAWS] for record in asked),
        "solved": fmean(num > 0 for num in passed),
        "kept": sum(kept),
        "entropy": -sum(record.metadata[LOGP] for record in asked) / sum(record.metadata[TOKENS] for record in asked),
    }
