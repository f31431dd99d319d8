"""Numbers of a policy on held-out prompts while it learns, which may choose the checkpoint."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from heedful.method import Cost, Share
from heedful.models import Policy
from heedful.records import Feedback, Response
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
        encoded = [(record, self.text.encode_prompt(record.prompt)) for record in self.prompts]
        room = self.text.max_length - self.max_tokens
        asked = [(record, ids) for record, ids in encoded if len(ids) <= room][share.first :: share.of]
        settings = Sampling(max_tokens=self.max_tokens, temperature=0, banned=self.text.control_ids)
        drawn = [sample for (sample,) in generate(policy.lm, self.text, [ids for _, ids in asked], settings)]
        items = [_item(record, sample) for (record, _), sample in zip(asked, drawn)]
        return items, Cost(sum(len(sample.tokens) for sample in drawn))


def _item(record: Feedback, sample: Sample) -> Item:
    return item_of(record, Response(sample.text, truncated=sample.truncated), record.id)
