"""Score every response of some records, or every segment, as the verb `heedful score` does. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from heedful.errors import ConfigError, DataError
from heedful.records import Feedback, Response, Score, place_of
from heedful.scorers import Item, RewardModelScorer, ScoreCache, Scorer, item_of, load_scorer, score_all


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


def score_segments(feedback: Sequence[Feedback], scorer: Scorer | str) -> list[Feedback]:
    """The records with a reward model's number on each segment, in place of what was there.

        score of segment i = reward of the response up to the end of i - reward up to its start;  of the first, the
        reward itself

    They sum to the reward of the response, the last with EOS where it ended. So a trained reward model can feed the
    methods that learn from scored segments. Responses without segments stay as they are.

    Raises:
        DataError: no response has segments. ConfigError: the scorer is no reward model.
    """
    judge = load_scorer(scorer) if isinstance(scorer, str) else scorer
    if not isinstance(judge, RewardModelScorer):
        raise ConfigError(f"{judge.name} scores no segments", allowed="the folder of a reward model")
    items = [item for record in feedback for item in _items(record) if item.pieces]
    if not items:
        raise DataError(f"no response has segments in {len(feedback)} records", allowed="responses with `segments`")
    rewards = iter(judge.piece_rewards(items))
    return [
        replace(record, responses=tuple(_with_steps(r, next(rewards)) if r.segments else r for r in record.responses))
        for record in feedback
    ]


def _with_steps(response: Response, rewards: Sequence[float]) -> Response:
    steps = [end - start for start, end in zip((0.0, *rewards), rewards)]
    return replace(response, segments=tuple(replace(part, score=x) for part, x in zip(response.segments, steps)))


def _items(record: Feedback) -> list[Item]:
    return [item_of(record, response, place_of(record, index)) for index, response in enumerate(record.responses)]


def _with_score(response: Response, score: Score) -> Response:
    others = tuple(other for other in response.scores if other.scorer != score.scorer)
    return replace(response, scores=(*others, score))
