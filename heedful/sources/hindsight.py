"""Answers that a policy gives when it is asked for good ones, and a verdict on each: what HIR relabels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from heedful.errors import DataError
from heedful.method import WHOLE, Cost, Inputs, Say, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response, prompt_text
from heedful.sampling import Sample, Sampling, generate
from heedful.schedule import stable_seed
from heedful.scorers import Scorer
from heedful.sources.policy import CALLS, TOKENS, answered, askable, counted, of_round, one_per_prompt
from heedful.sources.ranking import load_pointwise, readable, scored
from heedful.text import Text

ROUND, DRAWS = "round", "draws"  # keys of a record's metadata: when it was asked, and `_counts` of what was drawn


@dataclass(frozen=True)
class Attempts:
    """Responses to some prompts a round, drawn behind the instruction that asks for good ones, and labelled.

    A round is one record a prompt: the different responses that are not empty, each "good" from the threshold on, else
    "bad". Prompts come in passes over all of them; one that leaves no room for a response is passed over.

    Args:
        prompts: one record for each prompt.
        judge: scores a response by itself.
        threshold: in units of the judge.
        prefix: tokens of the instruction, behind the prompt.
        num_samples: draws for each prompt.
        num_prompts: of a round.
        critiqued: prompt -> responses with a critique that stand beside those that were drawn.
    """

    prompts: Sequence[Feedback]
    text: Text
    judge: Scorer
    threshold: float
    prefix: Sequence[int]
    sampling: Sampling
    num_samples: int
    num_prompts: int
    critiqued: Mapping[str, Sequence[Response]]
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
        """The labelled responses to a share of the round's prompts.

        Raises:
            DataError: no prompt leaves room for a response.
        """
        assert policy is not None, "answers are drawn from a policy"
        mine, keys = of_round([*self._encoded], self.num_prompts, seed=self.seed, round_index=round_index, share=share)
        drawn = generate(
            policy.lm,
            self.text,
            [self._encoded[n] for n in mine],
            replace(self.sampling, banned=self.text.control_ids),
            k=self.num_samples,
            seed=stable_seed(self.seed, round_index),
            keys=keys,
            progress=counted(say, len(mine) * self.num_samples),
        )
        judged = scored([answered(self.prompts[n], several) for n, several in zip(mine, drawn)], self.judge)
        labelled = [_labelled(record, self.threshold) for record in judged]
        return [self._noted(record, several, round_index) for record, several in zip(labelled, drawn, strict=True)]

    @cached_property
    def _encoded(self) -> dict[int, list[int]]:
        return askable(self.prompts, self.text, self.sampling.max_tokens, prefix=self.prefix)

    def _noted(self, record: Feedback, drawn: Sequence[Sample], round_index: int) -> Feedback:
        responses = (*record.responses, *self.critiqued.get(prompt_text(record.prompt), ()))
        noted = {ROUND: round_index, DRAWS: _counts(record, drawn)}
        return replace(record, responses=responses, metadata={**record.metadata, **noted})

    def cost(self, samples: Sequence[Feedback]) -> Cost:
        """The tokens and calls that records have in their metadata."""
        parts = (Cost(record.metadata[TOKENS], record.metadata[CALLS]) for record in samples)
        return sum(parts, Cost())

    def metrics(self, samples: Sequence[Feedback]) -> dict[str, float]:
        """What to watch of a round: the share of draws that are good, of those that are different from the others to
        their prompt, and of those that are empty; tokens a draw; minus the log-likelihood of a drawn token, an estimate
        of the entropy."""
        draws = [record.metadata[DRAWS] for record in samples]
        num, tokens, good, different, empty, logp = (
            sum(one[name] for one in draws) for name in ("num", "tokens", "good", "different", "empty", "logp")
        )
        return {
            "accuracy": good / num,
            "unique": different / num,
            "empty": empty / num,
            "response_tokens": tokens / num,
            "entropy": -logp / tokens,
        }


def attempts(
    inputs: Inputs,
    judge: str,
    *,
    threshold: float,
    prefix: Sequence[int],
    sampling: Sampling,
    num_samples: int,
    num_prompts: int | None,
    critiques: bool = False,
) -> Attempts:
    """The source of a method that learns from verdicts.

    Args:
        num_prompts: of a round; None for all.
        critiques: the file's responses that have one stand beside those that are drawn.
    Raises:
        ConfigError: the judge compares. DataError: a record lacks what the judge needs, or no prompt leaves room for a
            response in its context.
    """
    scorer = load_pointwise(judge)
    prompts = asked(inputs.feedback, scorer)
    if critiques and not any(response.critique for record in inputs.feedback for response in record.responses):
        raise DataError("no response has a `critique`", where="method.relabel", allowed="verdict, without any")
    return Attempts(
        prompts,
        inputs.text,
        scorer,
        threshold,
        tuple(prefix),
        sampling,
        num_samples,
        num_prompts or len(prompts),
        _critiqued(inputs.feedback) if critiques else {},
        inputs.seed,
    )


def asked(feedback: Sequence[Feedback], judge: Scorer) -> list[Feedback]:
    """One record for each prompt that the judge can read answers to.

    Raises:
        DataError: one lacks a field that the judge needs, such as `answer`.
    """
    return readable(one_per_prompt(feedback), judge)


def _labelled(record: Feedback, threshold: float) -> Feedback:
    """With a verdict on each response that was scored."""
    verdicts = [
        None if not r.scores else "good" if r.scores[-1].value >= threshold else "bad" for r in record.responses
    ]
    responses = tuple(replace(r, label=label) for r, label in zip(record.responses, verdicts))
    return replace(record, responses=responses)


def _counts(record: Feedback, drawn: Sequence[Sample]) -> dict[str, float]:
    """Draws of a prompt in numbers; an empty one is neither good nor different."""
    good = {r.text for r in record.responses if r.label == "good"}
    return {
        "num": len(drawn),
        "tokens": sum(len(sample.tokens) for sample in drawn),
        "good": sum(sample.text in good for sample in drawn),
        "different": len({sample.text for sample in drawn if sample.text}),
        "empty": sum(not sample.text for sample in drawn),
        "logp": float(sum(sum(sample.logp) for sample in drawn)),
    }


def _critiqued(feedback: Sequence[Feedback]) -> dict[str, list[Response]]:
    """Prompt -> its responses with a critique, without what else was said of them."""
    found: dict[str, list[Response]] = {}
    for record in feedback:
        own = [r for r in record.responses if r.critique]
        bare = [Response(r.text, critique=r.critique, truncated=r.truncated, author=r.author) for r in own]
        found.setdefault(prompt_text(record.prompt), []).extend(bare)
    return found
