"""Trained rankers as scorers, by their folder or their run's. torch is imported when the first text is read."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import ConfigError, DataError
from heedful.records import Score
from heedful.scorers.folder import PAIRWISE, POINTWISE, kind_of, model_folder, version_of
from heedful.scorers.protocol import Item

if TYPE_CHECKING:
    from heedful.ranker import Question, Ranker


class _Trained:
    """A ranker by its folder; the version follows its weights and how it is asked.

    Responses too long for its context are cut at their ends, as in training, with a warning that counts them.
    """

    name = "ranker"
    form: str
    needs: frozenset[str] = frozenset()

    def __init__(self, path: str | Path):
        self.path = model_folder(Path(path))
        if (found := kind_of(self.path)) != self.form:
            raise ConfigError(f"found a {found} model", where=str(path), allowed=f"a {self.form} ranker")
        self.version = version_of(self.path)

    @cached_property
    def model(self) -> "Ranker":
        """The model itself, on CUDA where there is any."""
        from heedful.models import best_device
        from heedful.ranker import load_ranker

        return load_ranker(self.path, device=best_device())

    def leaves_room(self, item: Item) -> bool:
        """Whether the responses of a question can follow the item's prompt in the model's context."""
        return self.model.leaves_room(item.prompt)

    def _probabilities(self, questions: "Sequence[Question]") -> list[float]:
        before = self.model.num_cut
        found = self.model.probabilities(questions)
        if cut := self.model.num_cut - before:
            context = self.model.text.max_length
            warnings.warn(f"{cut} responses cut to {context} tokens before they were compared", stacklevel=3)
        return found


class PointwiseRanker(_Trained):
    """SLiC-HF's pointwise model: the score of a response is the probability that the model calls it good."""

    form = POINTWISE

    def score(self, item: Item) -> Score:
        """The probability of Good, among Good and Bad."""
        return self.score_batch([item])[0]

    def score_batch(self, items: Sequence[Item]) -> list[Score]:
        """The same of several responses."""
        from heedful.ranker import Question

        found = self._probabilities([Question(item.prompt, (item.response,), item.id) for item in items])
        return [Score(self.name, p, self.version, length=len(item.response)) for item, p in zip(items, found)]


class PairwiseRanker(_Trained):
    """SLiC-HF's ranker: which of two responses to a prompt is better.

    Deviation: each pair is shown in both orders and P(a over b) = (p(a, b) + 1 - p(b, a)) / 2, so that a preference for
    a place decides nothing; the paper asks once. The score of one response, which the paper does not define, is its
    mean probability of beating each other response to the prompt: in [0, 1], and 1/2 on average over them.
    """

    form = PAIRWISE

    def score(self, item: Item) -> Score:
        """There is no score of one response.

        Raises:
            DataError: always.
        """
        raise _alone(self.name, item)

    def score_together(self, items: Sequence[Item]) -> list[Score]:
        """Each response's mean probability of beating the others.

        Raises:
            DataError: there is only one.
        """
        if len(items) < 2:
            raise _alone(self.name, items[0])
        wins = [0.0] * len(items)
        pairs = list(combinations(range(len(items)), 2))
        for (a, b), p in zip(pairs, self.preferences([(items[a], items[b]) for a, b in pairs])):
            wins[a] += p
            wins[b] += 1 - p
        means = (won / (len(items) - 1) for won in wins)
        return [Score(self.name, mean, self.version, length=len(i.response)) for i, mean in zip(items, means)]

    def preferences(self, pairs: Sequence[tuple[Item, Item]]) -> list[float]:
        """The probability that the first of each pair is the better one, the mean over both orders; equal ones draw."""
        from heedful.ranker import Question

        shown = [order for a, b in pairs for order in ((a, b), (b, a))]
        found = iter(self._probabilities([Question(a.prompt, (a.response, b.response), a.id) for a, b in shown]))
        chances = [0.5 + (next(found) - next(found)) / 2 for _ in pairs]
        return [0.5 if a.response == b.response else chance for (a, b), chance in zip(pairs, chances)]


def _alone(name: str, item: Item) -> DataError:
    return DataError(
        f"{name} compares responses to a prompt, and this one stands alone",
        where=item.id or "item",
        allowed="two responses to each prompt, or a model that scores one: a reward model, or a pointwise ranker",
    )
