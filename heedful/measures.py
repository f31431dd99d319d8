"""Numbers of a policy on held-out prompts while it learns, which may choose the checkpoint."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from heedful.method import Cost, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response, place_of
from heedful.sampling import Sample, Sampling, generate
from heedful.scorers import Comparer, Item, ScoreCache, Scorer, item_of, score_all
from heedful.text import Text

log = logging.getLogger(__name__)


@dataclass
class WinRate:
    """The share of prompts whose answer a judge prefers to that of the start; a draw is half. Higher is better.

    Answers are greedy, so that two evaluations differ by the policy alone. Prompts that leave no room for one are left
    out.

    Args:
        prompts: held-out records, one for each prompt.
        max_tokens: longest answer.
    """

    judge: Scorer
    prompts: Sequence[Feedback]
    text: Text
    max_tokens: int
    name: str = "win_rate"
    start: list[Item] = field(default_factory=list)
    cache: ScoreCache = field(default_factory=ScoreCache)

    def begin(self, policy: Policy, share: Share) -> Cost:
        """Have the start answer."""
        self.start, cost = self._answers(policy, share)
        if not share.first and self.prompts and not self.start:
            log.warning("no held-out prompt leaves room for %d tokens: no %s is measured", self.max_tokens, self.name)
        calls = 0 if isinstance(self.judge, Comparer) else len(self.start)  # scored once, at the first evaluation
        return cost + Cost(0, {self.judge.name: calls})

    def __call__(self, policy: Policy, share: Share) -> tuple[list[float], Cost]:
        """1 for each answer that wins, 0 for each that loses."""
        answers, cost = self._answers(policy, share)
        if isinstance(self.judge, Comparer):
            gaps = [chance - 0.5 for chance in self.judge.preferences(list(zip(answers, self.start, strict=True)))]
        else:
            scores = [score.value for score in score_all(self.judge, [*answers, *self.start], cache=self.cache)]
            gaps = [one - other for one, other in zip(scores, scores[len(answers) :])]
        return [0.5 if gap == 0 else float(gap > 0) for gap in gaps], cost + Cost(0, {self.judge.name: len(answers)})

    def _answers(self, policy: Policy, share: Share) -> tuple[list[Item], Cost]:
        return answers(policy, self.prompts, self.text, Sampling(max_tokens=self.max_tokens, temperature=0), share)


@dataclass
class MeanScore:
    """What a judge gives to the answers of the policy, on average. Higher is better.

    InstructGPT chooses its SFT model by it (Ouyang et al. 2022, section 3.5), with one answer a prompt at temperature
    1; the same seed at every evaluation, so that two differ by the policy alone.

    Args:
        judge: scores a response by itself.
        prompts, max_tokens: as for `WinRate`.
        prefix: tokens that stand behind each prompt, as at inference.
        temperature: 0 for greedy answers.
    """

    judge: Scorer
    prompts: Sequence[Feedback]
    text: Text
    max_tokens: int
    seed: int = 0
    temperature: float = 1.0
    name: str = "judge_score"
    prefix: Sequence[int] = ()

    def begin(self, policy: Policy, share: Share) -> Cost:
        """Nothing is compared with the start."""
        return Cost()

    def __call__(self, policy: Policy, share: Share) -> tuple[list[float], Cost]:
        """The score of each answer."""
        settings = Sampling(max_tokens=self.max_tokens, temperature=self.temperature)
        items, cost = answers(policy, self.prompts, self.text, settings, share, seed=self.seed, prefix=self.prefix)
        scores = [score.value for score in score_all(self.judge, items)]
        return scores, cost + Cost(0, {self.judge.name: len(items)})


def answers(
    policy: Policy,
    prompts: Sequence[Feedback],
    text: Text,
    sampling: Sampling,
    share: Share,
    *,
    seed: int = 0,
    prefix: Sequence[int] = (),
) -> tuple[list[Item], Cost]:
    """The policy's answers to a share of the prompts, without those that leave no room for one; and their cost."""
    encoded = [(record, [*text.encode_prompt(record.prompt), *prefix]) for record in prompts]
    room = text.max_length - sampling.max_tokens
    fits = [(n, record, ids) for n, (record, ids) in enumerate(encoded) if len(ids) <= room]
    asked, settings = fits[share.first :: share.of], replace(sampling, banned=text.control_ids)
    keys, rows = [n for n, _, _ in asked], [ids for _, _, ids in asked]
    drawn = [sample for (sample,) in generate(policy.lm, text, rows, settings, seed=seed, keys=keys)]
    items = [_item(record, sample) for (_, record, _), sample in zip(asked, drawn)]
    return items, Cost(sum(len(sample.tokens) for sample in drawn))


def _item(record: Feedback, sample: Sample) -> Item:
    return item_of(record, Response(sample.text, truncated=sample.truncated), place_of(record))
