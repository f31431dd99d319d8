"""What answers to prompts of the pep8 task are worth, by the gold score and to a reward model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.scorers import Item, RewardModelScorer, score_all
from heedful.scorers.pep8 import PEP8Lines


def gold_scores(prompts: Sequence[Mapping[str, Any]], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """The gold score of each response, several to a prompt."""
    items = [Item(row["prompt"], text, id=row["id"]) for row, several in zip(prompts, texts) for text in several]
    scores = iter(score_all(PEP8Lines(), items))
    return [[next(scores).value for _ in several] for several in texts]


def rewards(model: Path, prompts: Sequence[Mapping[str, Any]], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """The learned reward of each response; like all responses of the task they are cut, not finished."""
    pairs = [(row, text) for row, several in zip(prompts, texts) for text in several]
    items = [Item(row["prompt"], text, id=row["id"], truncated=True) for row, text in pairs]
    scores = iter(score_all(RewardModelScorer(model), items))
    return [[next(scores).value for _ in several] for several in texts]
