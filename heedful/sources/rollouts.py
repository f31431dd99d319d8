"""Samples that a policy learns from by their reward: the tokens it drew, their log-probabilities, and what frozen
models say of them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from statistics import fmean, pstdev, pvariance
from typing import Any

from torch import Tensor

from heedful.batch import Branch, Group
from heedful.frozen import read_logp, read_logp_and_values, read_values
from heedful.method import WHOLE, Cost, Inputs, Say, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response
from heedful.rollout import KL_COEF, ROLLOUTS, Rollout, rollouts_of
from heedful.sampling import Sample, Sampling, generate
from heedful.schedule import stable_seed
from heedful.scorers import Scorer
from heedful.sources.policy import AUTHOR, CALLS, TOKENS, askable, counted, of_round, one_per_prompt
from heedful.sources.ranking import load_pointwise, readable, scored
from heedful.text import Text

FROZEN, MISMATCH = "frozen_tokens", "logp_mismatch"  # keys of a record's metadata: see `Rollouts.metrics`
CRITIC = "critic_tokens"  # another, where there is a critic: those of the frozen tokens that it read
COMPARED = 8  # responses whose log-probabilities the trainer reads again, to compare


@dataclass(frozen=True)
class KL:
    """What a nat of KL from the start costs in reward: the same always, or what holds the KL at a target.

        beta <- beta * (1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon)

    after a round of n responses, KL the mean of their log-ratios to the start (Ziegler et al. 2019, section 2.2).

    Args:
        coef: beta, at first.
        target: nats a response; None keeps `coef`.
        horizon: responses.
    """

    coef: float = 0.0
    target: float | None = None
    horizon: int = 10_000

    def coefficient(self, before: Callable[[], Sequence[Feedback]]) -> float:
        """Of a round, from the records of the round before it."""
        records = before() if self.target else ()
        if not records:
            return self.coef
        gaps = [sum(one.logp) - sum(one.ref_logp) for record in records for one in rollouts_of(record)]
        return self.adapted(records[0].metadata[KL_COEF], fmean(gaps), len(gaps))

    def adapted(self, coef: float, kl: float, num_responses: int) -> float:
        """The coefficient after a round with this KL."""
        assert self.target is not None
        error = min(0.2, max(-0.2, kl / self.target - 1))
        return coef * (1 + error * num_responses / self.horizon)


@dataclass(frozen=True)
class Rollouts:
    """Responses to some prompts a round, drawn at temperature 1 and scored; one record a prompt.

    Prompts come in passes over all of them, each in an order of its own; one that leaves no room for a response is
    passed over. Equal responses stay: they are draws.

    Args:
        prompts: one record for each prompt.
        judge: scores a response by itself.
        num_samples: responses to a prompt.
        num_prompts: of a round.
        kl: what a nat of KL from the start costs.
        has_value: whether the policy has a value head, or a critic.
    """

    prompts: Sequence[Feedback]
    text: Text
    judge: Scorer
    max_tokens: int
    num_samples: int
    num_prompts: int
    kl: KL
    has_value: bool = False
    seed: int = 0

    def pass_rounds(self) -> int:
        """Rounds in which every prompt that leaves room for a response is asked once."""
        return ceil(len(self._encoded) / self.num_prompts)

    def collect(
        self,
        round_index: int,
        policy: Policy | None = None,
        share: Share = WHOLE,
        *,
        before: Callable[[], Sequence[Feedback]] = tuple,
        say: Say | None = None,
    ) -> list[Feedback]:
        """The scored responses to a share of the round's prompts."""
        assert policy is not None and policy.start is not None, "rollouts are drawn from a policy that keeps its start"
        mine, keys = of_round([*self._encoded], self.num_prompts, seed=self.seed, round_index=round_index, share=share)
        records = [self.prompts[n] for n in mine]
        drawn = self._drawn(policy, mine, keys, stable_seed(self.seed, round_index), say)
        groups = [_group(self.prompts[n], self._encoded[n], several) for n, several in zip(mine, drawn)]
        logp, value, gap = self._as_trained(policy, groups, drawn)
        start = policy.start[0].to(policy.lm.device)  # it is no submodule, and nobody else moves it
        ref = read_logp(start, groups, dtype=policy.forward_dtype)
        more = {KL_COEF: self.kl.coefficient(before), MISMATCH: gap}
        frozen = [self._frozen(policy, group.num_tokens) for group in groups]
        judged = scored([_answered(record, several) for record, several in zip(records, drawn)], self.judge)
        _warn_of_one_reward(judged)
        numbers = zip(logp, ref, value, strict=True)
        return [
            _noted(record, several, own, {**tokens, **more})
            for record, several, own, tokens in zip(judged, drawn, numbers, frozen, strict=True)
        ]

    def _frozen(self, policy: Policy, num_tokens: int) -> dict[str, int]:
        """So many tokens went through the start, in half precision through the policy once more, and a critic."""
        has_critic = self.has_value and policy.critic is not None
        through = {FROZEN: num_tokens * (1 + bool(policy.forward_dtype) + has_critic)}
        return through | ({CRITIC: num_tokens} if has_critic else {})

    @cached_property
    def _encoded(self) -> dict[int, list[int]]:
        return askable(self.prompts, self.text, self.max_tokens)

    def _drawn(
        self, policy: Policy, places: Sequence[int], keys: Sequence[int], seed: int, say: Say | None
    ) -> list[list[Sample]]:
        """Responses to some prompts; with values where the head for them is on the trunk that the sampler reads, and
        the trainer reads it as precisely."""
        has_head = self.has_value and policy.critic is None and policy.forward_dtype is None
        return generate(
            policy.lm,
            self.text,
            [self._encoded[n] for n in places],
            Sampling(max_tokens=self.max_tokens, temperature=1.0, banned=self.text.control_ids),
            k=self.num_samples,
            seed=seed,
            keys=keys,
            head=policy.heads["value"] if has_head else None,
            progress=counted(say, len(places) * self.num_samples),
        )

    def _as_trained(
        self, policy: Policy, groups: Sequence[Group], drawn: Sequence[Sequence[Sample]]
    ) -> tuple[Any, Any, float]:
        """Log-probabilities and values of what was drawn, as the trainer has them, so that its ratios begin at 1; and
        how far at most the sampler's log-probabilities are from them, in nats.

        The sampler's own where both work in the precision of the weights: the gap is then that of a few responses. In
        half precision those of one more forward. The values of a critic are of a forward of its own.
        """
        sampled = [[sample.logp for sample in several] for several in drawn]
        value: Any = [[sample.value for sample in several] for several in drawn]
        if policy.forward_dtype is None:
            if self.has_value and policy.critic is not None:
                value = read_values(policy, groups)
            return sampled, value, _gap(read_logp(policy, groups[: ceil(COMPARED / self.num_samples)]), sampled)
        if self.has_value:
            read, value = read_logp_and_values(policy, groups, dtype=policy.forward_dtype)
        else:
            read = read_logp(policy, groups, dtype=policy.forward_dtype)
        return read, value, _gap(read, sampled)

    def cost(self, samples: Sequence[Feedback]) -> Cost:
        """The tokens and calls that records have in their metadata."""
        every = [record.metadata for record in samples]
        parts = (Cost(one[TOKENS], one[CALLS], one[FROZEN], one.get(CRITIC, 0)) for one in every)
        return sum(parts, Cost())

    def metrics(self, samples: Sequence[Feedback]) -> dict[str, float]:
        """What to watch of a round.

        `reward` and its deviation; `kl_to_start`, nats a response, and `kl_coef`; `response_tokens`; `ended`, the share
        that is not cut; `entropy`, of a token, estimated by its log-probability; `logp_mismatch`, nats at most between
        sampler and trainer; `explained_variance` of the reward by the values before the tokens, at most 1, where there
        are values.
        """
        every = [one for record in samples for one in rollouts_of(record)]
        kl = [sum(one.logp) - sum(one.ref_logp) for one in every]
        return {
            "reward": fmean(one.reward for one in every),
            "reward_std": pstdev(one.reward for one in every),
            "kl_to_start": fmean(kl),
            "response_tokens": fmean(len(one.tokens) for one in every),
            "ended": fmean(not one.is_cut for one in every),
            "entropy": -fmean(logp for one in every for logp in one.logp),
            "kl_coef": samples[0].metadata[KL_COEF],
            "logp_mismatch": max(record.metadata[MISMATCH] for record in samples),
        } | ({"explained_variance": _explained(every)} if self.has_value else {})


def _warn_of_one_reward(judged: Sequence[Feedback]) -> None:
    rewards = {response.scores[-1].value for record in judged for response in record.responses}
    if len(rewards) == 1 and sum(len(record.responses) for record in judged) > 1:
        (reward,) = rewards
        warnings.warn(f"all responses of a round have the reward {reward:g}: they teach nothing", stacklevel=3)


def _explained(every: Sequence[Rollout]) -> float:
    """1 - E[(V - reward)^2] / Var(reward) over tokens; 0 where all rewards are equal."""
    variance = pvariance([one.reward for one in every for _ in one.value])
    error = fmean((value - one.reward) ** 2 for one in every for value in one.value)
    return 1 - error / variance if variance else 0.0


def rollouts(
    inputs: Inputs,
    judge: str,
    *,
    num_prompts: int,
    num_samples: int,
    max_tokens: int,
    kl: KL,
    has_value: bool = False,
) -> Rollouts:
    """The source of a method that learns from rewards: prompts, and somebody who scores a response by itself.

    Raises:
        ConfigError: the judge compares. DataError: no prompt leaves room for a response in the judge's context.
    """
    scorer = load_pointwise(judge)
    prompts = readable(one_per_prompt(inputs.feedback), scorer)
    return Rollouts(prompts, inputs.text, scorer, max_tokens, num_samples, num_prompts, kl, has_value, inputs.seed)


def _group(record: Feedback, prompt: Sequence[int], samples: Sequence[Sample]) -> Group:
    return Group(record.id, tuple(prompt), tuple(Branch(sample.tokens, {}) for sample in samples))


def _answered(record: Feedback, samples: Sequence[Sample]) -> Feedback:
    """The record's prompt with all that was drawn, empty responses too."""
    responses = tuple(Response(sample.text, truncated=sample.truncated, author=AUTHOR) for sample in samples)
    return Feedback(
        record.prompt, responses, id=record.id, answer=record.answer, source=record.source, where=record.where
    )


def _gap(read: Sequence[Sequence[Tensor]], sampled: Sequence[Sequence[Sequence[float]]]) -> float:
    """How far at most two log-probabilities of a token are from each other, in nats, where both were read."""
    pairs = (pair for own, theirs in zip(read, sampled) for one, other in zip(own, theirs) for pair in zip(one, other))
    return max((abs(float(a) - b) for a, b in pairs), default=0.0)


def _noted(
    record: Feedback, samples: Sequence[Sample], read: tuple[Any, Any, Any], more: Mapping[str, Any]
) -> Feedback:
    """A judged record with the numbers of its rollouts; a file of feedback has no empty responses.

    Args:
        read: of each sample the log-probabilities of the trainer and of the start, and the values.
    """
    logp, ref, value = read
    numbers: list[Mapping[str, Any]] = [
        {
            "tokens": list(sample.tokens),
            "logp": [*map(float, ours)],
            "ref_logp": [*map(float, theirs)],
            "value": [*map(float, own)],
            "reward": response.scores[-1].value,
            "is_cut": sample.truncated,
        }
        for response, sample, ours, theirs, own in zip(record.responses, samples, logp, ref, value, strict=True)
    ]
    cost = {TOKENS: sum(len(sample.tokens) for sample in samples), **more}
    responses = tuple(response for response in record.responses if response.text)
    return replace(record, responses=responses, metadata={**record.metadata, **cost, ROLLOUTS: numbers})
