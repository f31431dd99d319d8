"""What is wrong with a run that learns from its own samples, read from its curves: what was seen, since which step, the
usual causes, what to change.

Thresholds are wide on purpose: a sentence is for what a person who looked at the curve would not call noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

Line = Mapping[str, float]  # of metrics.jsonl

NEGATIVE_KL = -0.1  # nats a response; the estimate is an average of log-ratios and may be a little below 0 by chance
FIRST_RATIO = 1e-4  # half the squared log-ratio of a token; rounding in fp32 gives 1e-9
MISMATCH = 0.2  # nats at one token; fp32 gives 1e-5, half precision some hundredths
DRIFT = 1.5  # lengths of the last quarter over those of the first, or the other way round
COLLAPSE = 0.3  # share of the entropy that is left
CLIPPED = 0.3  # of the tokens of a step
FEWEST = 4  # rounds, or nothing is said of a course


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        saw: what the curve does, with its numbers.
        since: the first step at which it did.
        causes, change: the usual ones, in words.
    """

    name: str
    saw: str
    since: int
    causes: str
    change: str


def diagnose(metrics: Sequence[Line]) -> list[Finding]:
    """What the lines of a run's metrics.jsonl tell, the most basic first; nothing where it drew no samples."""
    rounds = [line for line in metrics if "round" in line]
    found = []
    for check, names in CHECKS.items():
        having = [line for line in rounds if all(name in line for name in names)]
        if having and (finding := check(having, metrics)) is not None:
            found.append(finding)
    return found


def _equal_rewards(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    since = _from(rounds, lambda line: line["reward_std"] == 0, least=1)
    if since is None:
        return None
    return Finding(
        "equal rewards",
        f"all responses of a round have the reward {since['reward']:g}",
        int(since["step"]),
        "the scorer gives one number whatever it reads; every answer is wrong, or every answer is right",
        "score a few responses with `heedful score`; take easier prompts, or a scorer with more than two values",
    )


def _one_verdict(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    since = _from(rounds, lambda line: line["accuracy"] in (0, 1), least=1)
    if since is None:
        return None
    which = "right" if since["accuracy"] else "wrong"
    return Finding(
        "one verdict",
        f"all answers of a round are {which}",
        int(since["step"]),
        "the threshold is out of reach, or below everything; the instruction is not understood; questions are too hard",
        "move method.threshold; word method.own_instructions as the model knows them; start from a better model",
    )


def _negative_kl(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    since = _from(rounds, lambda line: line["kl_to_start"] < NEGATIVE_KL, least=2)
    if since is None:
        return None
    return Finding(
        "negative KL",
        f"the KL from the start is {since['kl_to_start']:.2f} nats a response, which no KL can be",
        int(since["step"]),
        "samples are not drawn from the distribution that is scored: another temperature, tokens that are never drawn "
        "but have probability, dropout, or an end of response that is counted on one side only",
        "compare `logp_mismatch`; draw at temperature 1 without top-k or top-p",
    )


def _first_ratio(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    steps = [after for before, after in pairwise(metrics) if "round" in before and "approx_kl" in after]
    since = _from(steps, lambda line: line["approx_kl"] > FIRST_RATIO, least=1)
    if since is None:
        return None
    return Finding(
        "the first ratio is not 1",
        f"approx_kl is {since['approx_kl']:.1e} in the first step of a round, before anything was learned from it",
        int(since["step"]),
        "sampler and trainer compute other log-probabilities: precision, dropout, padding or an attention mask",
        "set dtype to float32 and see whether it goes away; report it if it does not",
    )


def _mismatch(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    since = _from(rounds, lambda line: line["logp_mismatch"] > MISMATCH, least=1)
    if since is None:
        return None
    return Finding(
        "sampler and trainer disagree",
        f"log-probabilities of a drawn token differ by up to {since['logp_mismatch']:.2f} nats",
        int(since["step"]),
        "half precision on a model with large logits, or a kernel that is wrong on one side",
        "set dtype to float32",
    )


def _never_ends(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    since = _from(rounds, lambda line: line["ended"] == 0, least=2)
    if since is None or rounds[-1]["ended"] > 0:
        return None
    return Finding(
        "no response ends",
        f"every response is cut at {since['response_tokens']:.0f} tokens",
        int(since["step"]),
        "max_tokens is shorter than an answer; the model was never taught to end (pad and EOS are one token); nothing "
        "rewards an end",
        "raise method.max_tokens; set method.missing_eos to a score that is clearly low; nothing, where responses are "
        "meant to be cut",
    )


def _saturated(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    if len(rounds) < 3 * FEWEST:
        return None
    third = len(rounds) // 3
    first, middle, last = rounds[:third], rounds[third : 2 * third], rounds[2 * third :]
    reward, kl = ([_mean(part, name) for part in (first, middle, last)] for name in ("reward", "kl_to_start"))
    rose, rises = reward[1] - reward[0], reward[2] - reward[1]
    if rises > 0.1 * abs(rose) or kl[2] < 1.3 * kl[1] or kl[2] < 1:
        return None
    return Finding(
        "the reward has stopped rising",
        f"it is {reward[1]:.3f} in the middle third of the run and {reward[2]:.3f} in the last, while the KL goes from "
        f"{kl[1]:.1f} to {kl[2]:.1f} nats",
        int(last[0]["step"]),
        "the reward is as high as it gets, or the policy moves without being told where",
        "stop here, or raise kl_coef; look at samples: with a learned reward this is where it is exploited",
    )


def _length_drift(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    if len(rounds) < FEWEST:
        return None
    quarter = max(1, len(rounds) // 4)
    before, after = _mean(rounds[:quarter], "response_tokens"), _mean(rounds[-quarter:], "response_tokens")
    if 1 / DRIFT < after / before < DRIFT:
        return None
    since = next(r for r in rounds if not 1 / DRIFT < r["response_tokens"] / before < DRIFT)
    return Finding(
        "length drift",
        f"responses have gone from {before:.0f} to {after:.0f} tokens",
        int(since["step"]),
        "the reward prefers longer or shorter responses, as learned rewards do; whitened rewards make them shorter",
        "compare the reward of short and long responses of equal quality; set missing_eos; whiten_rewards=false",
    )


def _collapsed(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    first = rounds[0]["entropy"]
    since = _from(rounds, lambda line: line["entropy"] < COLLAPSE * first, least=1)
    if since is None:
        return None
    return Finding(
        "the entropy has collapsed",
        f"from {first:.2f} to {rounds[-1]['entropy']:.2f} nats a token",
        int(since["step"]),
        "the policy says the same whatever it is asked: the rate is too high or the KL costs too little",
        "lower optim.lr, raise kl_coef; draw more responses a prompt",
    )


def _clipped(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    steps = [line for line in metrics if "clip_fraction" in line and "learning_rate" in line]
    since = _from(steps, lambda line: line["clip_fraction"] > CLIPPED, least=1)
    if since is None:
        return None
    return Finding(
        "steps are too long",
        f"{since['clip_fraction']:.0%} of the tokens of a step are outside of the clip",
        int(since["step"]),
        "the updates of a round go far from the policy that drew it",
        "lower optim.lr or method.inner_epochs, or take larger steps (batch_size)",
    )


def _value(rounds: Sequence[Line], metrics: Sequence[Line]) -> Finding | None:
    late = rounds[len(rounds) // 2 :]
    if len(late) < FEWEST or any(line["explained_variance"] >= 0 for line in late):
        return None
    return Finding(
        "the values explain nothing",
        f"explained_variance is {late[-1]['explained_variance']:.2f}: worse than one number for all",
        int(late[0]["step"]),
        "a value head that begins with zeros learns too slowly, or its clip is narrow beside the rewards; with lambda "
        "below 1 the first tokens of a long response then have no credit",
        "raise method.value_lr, method.lam (to 1) or method.value_clip; a critic that starts as the reward model",
    )


Check = Callable[[Sequence[Line], Sequence[Line]], Finding | None]
CHECKS: Mapping[Check, Sequence[str]] = {  # with what it reads of a round
    _equal_rewards: ("reward", "reward_std"),
    _one_verdict: ("accuracy",),
    _first_ratio: (),
    _mismatch: ("logp_mismatch",),
    _negative_kl: ("kl_to_start",),
    _never_ends: ("ended", "response_tokens"),
    _clipped: (),
    _collapsed: ("entropy",),
    _length_drift: ("response_tokens",),
    _saturated: ("reward", "kl_to_start"),
    _value: ("explained_variance",),
}


def _from(lines: Sequence[Line], is_bad: Callable[[Line], bool], *, least: int) -> Line | None:
    """The first of `least` lines in a row that are bad."""
    for start in range(len(lines) - least + 1):
        if all(map(is_bad, lines[start : start + least])):
            return lines[start]
    return None


def _mean(lines: Sequence[Line], name: str) -> float:
    return fmean(line[name] for line in lines)
