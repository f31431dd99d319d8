"""Advantages of a round's rollouts: rewards with the KL in them, GAE, leave-one-out and group baselines, whitening.

Lists of floats for one response, or for all of a round: what couples responses is decided before batches are cut. A
token's value is read before the token is seen.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from statistics import fmean, pstdev, stdev

from heedful.batch import Branch, Group
from heedful.records import Feedback
from heedful.rollout import KL_COEF, Rollout, rollouts_of
from heedful.text import Text

FLOOR = 1e-8  # added to a variance before its root, as OpenAI's code has it


def shaped_rewards(score: float, logp: Sequence[float], ref_logp: Sequence[float], *, kl_coef: float) -> list[float]:
    """The reward of each token: minus the KL from the reference, and the score at the last.

        R_t = -beta * (log p_old(y_t) - log p_ref(y_t)) + [t = T] * score

    InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, eq. 2), after Ziegler et al. 2019. They sum to
    score - beta * log(p_old(y) / p_ref(y)). This estimate of the KL (k1) is negative at some tokens, and is to be: as
    a reward it is unbiased.

    Args:
        score: of the whole response, higher is better.
        logp, ref_logp: natural logs of its tokens, EOS among them, of the policy that drew and of the frozen start.
        kl_coef: beta, in units of reward a nat.
    """
    rewards = [-kl_coef * (own - ref) for own, ref in zip(logp, ref_logp, strict=True)]
    rewards[-1] += score
    return rewards


def generalised_advantages(
    rewards: Sequence[float], values: Sequence[float], *, gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """GAE: the advantage of each token, and the return that its value is to predict.

        delta_t = R_t + gamma * V_{t+1} - V_t,   A_t = delta_t + gamma * lambda * A_{t+1},   G_t = A_t + V_t

    Schulman et al. 2016, eq. 16 (arXiv:1506.02438), with V = 0 and A = 0 behind the last token: every response ends
    the episode, one that was cut too.
    """
    following = [*values[1:], 0.0]
    deltas = [r + gamma * after - v for r, v, after in zip(rewards, values, following, strict=True)]
    advantages = list(accumulate(reversed(deltas), lambda after, delta: delta + gamma * lam * after))[::-1]
    return advantages, [a + v for a, v in zip(advantages, values)]


def whitened(rows: Sequence[Sequence[float]], *, keep_mean: bool = False) -> list[list[float]]:
    """Values of all tokens of a round at mean 0 and variance 1; equal ones become 0.

    (z - mean) / sqrt(variance + 1e-8) over trained tokens alone, with the variance of a population, as in
    lm-human-preferences. `keep_mean` adds the mean back, as that code does to rewards.
    """
    every = [value for row in rows for value in row]
    if not every:
        return [list(row) for row in rows]
    mean = fmean(every)
    scale = sqrt(pstdev(every, mean) ** 2 + FLOOR)
    shift = mean if keep_mean else 0.0
    return [[(value - mean) / scale + shift for value in row] for row in rows]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """What each response to a prompt has above the mean of the others; they sum to 0 (RLOO, arXiv:2402.14740).

    A single response has nothing to be compared with: 0.
    """
    others = len(rewards) - 1
    total = sum(rewards)
    return [reward - (total - reward) / others for reward in rewards] if others else [0.0]


def within_group(rewards: Sequence[float], *, scale: bool = True) -> list[float]:
    """What each response to a prompt has above their mean, in standard deviations (GRPO, arXiv:2402.03300, 4.1.2).

        A_i = (r_i - mean r) / (std r + 1e-4)

    The deviation is that of a sample, and its floor TRL's; the paper states neither. Equal rewards give 0.

    Args:
        scale: False leaves the division out (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783): with it prompts whose
            answers hardly differ weigh as much as those that matter.
    """
    mean = fmean(rewards)
    apart = [reward - mean for reward in rewards]
    if not scale or len(rewards) < 2:
        return apart
    deviation = stdev(rewards, mean) + 1e-4
    return [gap / deviation for gap in apart]


# Rows


def token_advantages(
    records: Sequence[Feedback],
    *,
    text: Text,
    gamma: float,
    lam: float,
    whiten: bool,
    whiten_rewards: bool,
    missing_eos: float | None,
) -> list[Group]:
    """PPO's rows: an advantage for each token, and the return that its value is to predict.

    What a nat of KL costs is in the records' metadata. Streams: `mask`, `old_logp`, `advantage`, `old_value`,
    `returns`, the last from advantages that are not whitened.

    Args:
        whiten: advantages, over all tokens of the round.
        whiten_rewards: rewards as well, before, with their mean kept.
        missing_eos: see `Rollout.scored`.
    """
    rounds = [(record, rollouts_of(record)) for record in records]
    every = [one for _, several in rounds for one in several]
    costs = [record.metadata[KL_COEF] for record, several in rounds for _ in several]
    rewards = [
        shaped_rewards(one.scored(missing_eos), one.logp, one.ref_logp, kl_coef=cost)
        for one, cost in zip(every, costs, strict=True)
    ]
    rewards = whitened(rewards, keep_mean=True) if whiten_rewards else rewards
    found = [generalised_advantages(r, one.value, gamma=gamma, lam=lam) for r, one in zip(rewards, every, strict=True)]
    advantages = [own for own, _ in found]
    rows = iter(zip(whitened(advantages) if whiten else advantages, (returns for _, returns in found), strict=True))

    def branch(one: Rollout) -> Branch:
        advantage, returns = next(rows)
        own = {"advantage": advantage, "returns": returns, "old_value": one.value}
        return Branch(tuple(one.tokens), _drawn(one) | own)

    return [_group(record, text, [branch(one) for one in several]) for record, several in rounds]


def sequence_advantages(records: Sequence[Feedback], *, text: Text, missing_eos: float | None) -> list[Group]:
    """RLOO's rows: one advantage for each response, what its reward has above the mean of the others to its prompt.

    The reward is the score less the records' `kl_coef` times the log-ratio to the start. Streams: `mask`,
    `old_logp`. Fields:
    `response_advantage`, and `example`, 1.
    """

    def branches(record: Feedback) -> list[Branch]:
        several = rollouts_of(record)
        rewards = response_rewards(record, several, missing_eos)
        fields = [{"response_advantage": own, "example": 1.0} for own in leave_one_out(rewards)]
        return [Branch(tuple(one.tokens), _drawn(one), own) for one, own in zip(several, fields, strict=True)]

    return [_group(record, text, branches(record)) for record in records]


def group_advantages(
    records: Sequence[Feedback],
    *,
    text: Text,
    scale: bool,
    length: int | None,
    has_reference: bool,
    missing_eos: float | None,
) -> list[Group]:
    """GRPO's rows: each token has the advantage of its response within its group.

    The reward is RLOO's; `kl_coef` is 0 where the KL is in the loss. Streams: `mask`, `weight`, `old_logp`,
    `advantage`, and `ref_logp` where the loss reads it. Field: `example`, 1.

    Args:
        scale: divide by the group's deviation, as published.
        length: what a response's sum over tokens is divided by; None: its own number of tokens, as published, which
            makes a long wrong answer cost less a token than a short one.
    """

    def branches(record: Feedback) -> list[Branch]:
        several, rows = rollouts_of(record), []
        rewards = response_rewards(record, several, missing_eos)
        for one, own in zip(several, within_group(rewards, scale=scale), strict=True):
            size = len(one.tokens)
            streams = {"advantage": [own] * size, "weight": [1 / (length or size)] * size}
            reference = {"ref_logp": one.ref_logp} if has_reference else {}
            rows.append(Branch(tuple(one.tokens), _drawn(one) | streams | reference, {"example": 1.0}))
        return rows

    return [_group(record, text, branches(record)) for record in records]


def response_rewards(record: Feedback, several: Sequence[Rollout], missing_eos: float | None) -> list[float]:
    """Of whole responses: the score less the KL's cost in the record's round."""
    cost = record.metadata[KL_COEF]
    return [one.scored(missing_eos) - cost * (sum(one.logp) - sum(one.ref_logp)) for one in several]


def _drawn(one: Rollout) -> dict[str, Sequence[float]]:
    return {"mask": [1.0] * len(one.tokens), "old_logp": one.logp}


def _group(record: Feedback, text: Text, branches: Sequence[Branch]) -> Group:
    return Group(record.id, tuple(text.encode_prompt(record.prompt)), tuple(branches))
