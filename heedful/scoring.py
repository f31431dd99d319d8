"""Score every response of some records, as the verb `heedful score` does. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from heedful.errors import DataError
from heedful.records import Feedback, Response, Score, prompt_text
from heedful.scorers import Item, ScoreCache, Scorer, load_scorer, score_all


def score(
    feedback: Sequence[Feedback],
    scorer: Scorer | str,
    *,
    workers: int | None = None,
    cache: Path | str | ScoreCache | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Feedback]:
    """The records with the scorer's number on each response, in place of an earlier one by the same scorer.

    Args:
        scorer: a scorer, its name, or your own function as `module:function`.
        workers, cache, progress: as in `heedful.scorers.score_all`.
    Raises:
        DataError: there is no response, or the scorer fails on one; names the record.
    """
    judge = load_scorer(scorer) if isinstance(scorer, str) else scorer
    items = [item for record in feedback for item in _items(record)]
    if not items:
        raise DataError(f"no response to score in {len(feedback)} records", allowed="records with responses")
    scores = iter(score_all(judge, items, workers=workers, cache=cache, progress=progress))
    return [
        replace(record, responses=tuple(_with_score(response, next(scores)) for response in record.responses))
        for record in feedback
    ]


def _items(record: Feedback) -> list[Item]:
    names = [f"{record.id}#{index}" for index in range(len(record.responses))]
    prompt = prompt_text(record.prompt)
    return [Item(prompt, r.text, record.answer, name) for r, name in zip(record.responses, names)]


def _with_score(response: Response, score: Score) -> Response:
    others = tuple(other for other in response.scores if other.scorer != score.scorer)
    return replace(response, scores=(*others, score))
