"""A ranker from a folder: which of two responses is better, or how good one is, as a probability of a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from heedful.batch import Branch, Group
from heedful.errors import DataError
from heedful.export import load_info
from heedful.frozen import read
from heedful.models import load, load_text, ordinary_ids, require_embedded
from heedful.policy import Policy
from heedful.text import Text
from heedful.verdict import INFO, Form

CUT = "response cut to the context (kept)"  # as verdict.py counts it


class Question(NamedTuple):
    """A prompt as text, the responses in question, and a name for messages."""

    context: str
    responses: tuple[str, ...]
    id: str


@dataclass(frozen=True)
class Ranker:
    """A language model that answers a form's question."""

    policy: Policy
    text: Text
    form: Form

    @property
    def num_cut(self) -> int:
        """Responses that were cut to the context so far."""
        return self.text.drops.counts.get(CUT, 0)

    def leaves_room(self, context: str) -> bool:
        """Whether responses can follow the prompt in the context; `probabilities` refuses one that leaves none."""
        return self.form.room(self.text, context) >= self.form.num_responses

    def probabilities(self, questions: Sequence[Question]) -> list[float]:
        """For each question the probability of the first verdict, among the two.

        Raises:
            DataError: a prompt leaves no room for the responses; names it.
        """
        ids = self.form.verdict_ids(self.text)
        return first_verdicts(self.policy, [self._group(question, ids) for question in questions])

    def _longest(self) -> int:
        """Tokens of a prompt that leaves a token for each response."""
        return self.form.room(self.text, "") - self.form.num_responses

    def _group(self, question: Question, ids: Sequence[int]) -> Group:
        found = self.form.question(self.text, question.context, question.responses, id=question.id)
        if found is None:
            raise DataError(
                "its prompt leaves no room for a response in the ranker's context",
                where=question.id,
                allowed=f"a prompt of at most {self._longest()} tokens",
            )
        return Group(question.id, tuple(found[0]), tuple(Branch((id,), {"verdict": (1.0,)}) for id in ids))


def first_verdicts(policy: Policy, groups: Sequence[Group]) -> list[float]:
    """The probability of the first of the two tokens that follow each prompt, renormalised over the two."""
    both = read(policy, groups, lambda policy, batch: policy(batch).logp)
    return [torch.sigmoid(first.double() - second.double()).item() for first, second in both]


def load_ranker(path: str | Path, *, device: torch.device | str = "cpu") -> Ranker:
    """A ranker from a folder that `heedful train ranker` wrote.

    Raises:
        RunError: no such model, or damaged weights.
    """
    info = load_info(path)
    policy = load(path, device=device).eval()
    text = load_text(path, max_length=info["max_length"])
    require_embedded(policy.lm, ordinary_ids(text.tokenizer), path)
    return Ranker(policy, text, Form.from_json(info[INFO]))
