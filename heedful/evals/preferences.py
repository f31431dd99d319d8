"""How well a scorer agrees with people: its order of responses against their comparisons, on records it has not seen.

    accuracy         share of strict pairs in which the preferred response has the higher score; a draw is half
    always_longer    the same, of a scorer that knows nothing but length in characters
    above_longer     accuracy - always_longer, paired by prompt
    log_loss         mean of -log sigmoid(score of the preferred - score of the other); ln 2 = 0.693 where nothing is
                     known; of a Bradley-Terry reward it says whether its size is right, of other scores nothing
    ceiling          how often a labeler agrees with the majority of the others who judged the same pair, by the same
                     rule: over strict verdicts, a majority that is split or tied is half

Pairs of one prompt are not independent, nor are the turns of one conversation: every interval draws them whole. Pairs
count alike, so a prompt with six has six times the weight of a prompt with one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heedful.errors import DataError
from heedful.evals.stats import paired_difference, pooled, spearman
from heedful.evals.summary import measure
from heedful.records import Feedback, judged_pairs, place_of, prompt_text
from heedful.results import Metric
from heedful.scorers import Item, ScoreCache, Scorer, item_of, leaves_room, load_scorer, score_all

NO_ROOM = "prompt leaves no room for a response in the scorer's context"
EQUAL = "pair of two equal responses, which nobody can tell apart"

Values = dict[str, list[float]]  # prompt -> [sum, pairs]


@dataclass(frozen=True)
class Verdict:
    """What somebody said of two responses, and what the scorer says; of a tie, which is "better" means nothing."""

    prompt: str
    better: str
    worse: str
    is_tie: bool
    margin: float  # score of the better - score of the worse
    labeler: str | None = None

    @property
    def extra(self) -> int:
        """Characters that the better response has more."""
        return len(self.better) - len(self.worse)


@dataclass(frozen=True)
class Agreement:
    """What was found.

    Attributes:
        scorer: name and version.
        counts: records, prompts, pairs and ties that were read.
        left_out: what was not, by reason.
        metrics: see `agreement`; one that the records do not allow is missing.
    """

    scorer: dict[str, str]
    counts: dict[str, int]
    left_out: dict[str, int]
    metrics: dict[str, Metric]


def evaluate_scorer(
    scorer: Scorer | str,
    feedback: Sequence[Feedback],
    *,
    workers: int | None = None,
    cache: Path | str | ScoreCache | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Agreement:
    """Measure a scorer, a reward model among them, on comparisons.

    Args:
        scorer: a scorer, its name, the folder of a reward model or its run, or `module:function`.
        feedback: records it has not learned from; those without a comparison are left out.
        workers, cache, progress: as in `heedful.scorers.score_all`.
    Raises:
        DataError: nowhere was one response preferred, or the scorer fails on one; names the record.
    """
    judge = load_scorer(scorer) if isinstance(scorer, str) else scorer
    compared = [record for record in feedback if judged_pairs(record)]
    fitting = [record for record in compared if leaves_room(judge, record)]
    items = [item for record in fitting for item in _items(record)]
    scores = iter(score_all(judge, items, workers=workers, cache=cache, progress=progress))
    rewards = [[next(scores).value for _ in record.responses] for record in fitting]
    read = list(verdicts(fitting, rewards))
    kept = [one for one in read if one.better != one.worse]
    if not any(not one.is_tie for one in kept):
        raise DataError(
            f"in none of {len(feedback)} records was one of two responses preferred",
            allowed="comparisons, ranks, scores or labels that are not all equal",
            hint="see `heedful data inspect`",
        )
    left_out = {"record without a comparison": len(feedback) - len(compared), NO_ROOM: len(compared) - len(fitting)}
    return Agreement(
        scorer={"name": judge.name, "version": judge.version},
        counts={
            "records": len(fitting),
            "prompts": len({one.prompt for one in kept}),
            "pairs": sum(not one.is_tie for one in kept),
            "ties": sum(one.is_tie for one in kept),
        },
        left_out={reason: count for reason, count in (left_out | {EQUAL: len(read) - len(kept)}).items() if count},
        metrics=agreement(kept, _groups(fitting), _lengths_and_rewards(fitting, rewards)),
    )


def verdicts(feedback: Sequence[Feedback], rewards: Sequence[Sequence[float]]) -> Iterable[Verdict]:
    """Every pair that was compared, ties included, with the margin that the rewards give it."""
    for record, values in zip(feedback, rewards, strict=True):
        for pair in judged_pairs(record):
            better, worse = record.responses[pair.better].text, record.responses[pair.worse].text
            margin = values[pair.better] - values[pair.worse]
            yield Verdict(prompt_text(record.prompt), better, worse, not pair.strength, margin, record.labeler)


def agreement(
    found: Sequence[Verdict], groups: Mapping[str, str], responses: Sequence[tuple[int, float]]
) -> dict[str, Metric]:
    """All metrics of some verdicts, by name; what they do not allow is missing.

    Args:
        groups: prompt -> what it is drawn with.
        responses: length in characters and reward of each.

    Beside those above: `accuracy_if_longer` and `accuracy_if_shorter` over the pairs whose preferred response is the
    longer and the shorter; `chooses_longer`, the share of pairs of unequal length in which the scorer prefers the
    longer; `length_correlation`, Spearman's, of reward and length over all responses; `tie_share`; `knows_ties`, how
    often a strict pair has a larger margin, whatever its sign, than a tied one (0.5: margins tell nothing of ties).
    """
    strict, ties = [one for one in found if not one.is_tie], [one for one in found if one.is_tie]
    unequal = [one for one in strict if one.extra]
    right, longer = _rates(strict, lambda one: _share(one.margin)), _rates(strict, lambda one: _share(one.extra))
    rates: dict[str, Values] = {
        "accuracy": right,
        "always_longer": longer,
        "accuracy_if_longer": _rates([one for one in unequal if one.extra > 0], lambda one: _share(one.margin)),
        "accuracy_if_shorter": _rates([one for one in unequal if one.extra < 0], lambda one: _share(one.margin)),
        "chooses_longer": _rates(unequal, lambda one: _share(one.margin * one.extra)),
        "tie_share": _rates(found, lambda one: float(one.is_tie)) if ties else {},
        "ceiling": _ceiling(found),
    }
    metrics = {
        name: measure(values, unit="share", direction="higher" if "accuracy" in name else "none", groups=groups)
        for name, values in rates.items()
        if values
    }
    metrics["above_longer"] = _difference(right, longer, groups)
    losses = _rates(strict, lambda one: float(np.logaddexp(0.0, -one.margin)))
    metrics["log_loss"] = measure(losses, unit="nats", direction="lower", groups=groups)
    if (correlation := spearman(*zip(*responses))) is not None:
        metrics["length_correlation"] = Metric(value=correlation, n=len(responses))
    if ties:
        metrics["knows_ties"] = Metric(value=_larger(strict, ties), n=len(found), unit="share")
    return metrics


def _items(record: Feedback) -> list[Item]:
    return [item_of(record, response, place_of(record, index)) for index, response in enumerate(record.responses)]


def _groups(feedback: Iterable[Feedback]) -> dict[str, str]:
    """The turns of one conversation are drawn together."""
    names = ((prompt_text(record.prompt), record.metadata.get("conversation")) for record in feedback)
    return {prompt: str(name) for prompt, name in names if name}


def _lengths_and_rewards(feedback: Sequence[Feedback], rewards: Sequence[Sequence[float]]) -> list[tuple[int, float]]:
    """Of each distinct response that was compared, once: a pair that three labelers judged has two responses."""
    distinct = {
        (prompt_text(record.prompt), record.responses[index].text): values[index]
        for record, values in zip(feedback, rewards, strict=True)
        for pair in judged_pairs(record)
        for index in (pair.better, pair.worse)
    }
    return [(len(text), value) for (_, text), value in distinct.items()]


def _share(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def _rates(found: Iterable[Verdict], value: Callable[[Verdict], float]) -> Values:
    sums: Values = defaultdict(lambda: [0.0, 0.0])
    for one in found:
        sums[one.prompt][0] += value(one)
        sums[one.prompt][1] += 1
    return dict(sums)


def _difference(a: Values, b: Values, groups: Mapping[str, str]) -> Metric:
    ours, theirs = (pooled({(0, prompt): value for prompt, value in rates.items()}, groups) for rates in (a, b))
    apart = paired_difference(ours, theirs)
    return Metric(value=apart.mean, low=apart.low, high=apart.high, n=len(a), unit="share", direction="higher")


def _larger(strict: Sequence[Verdict], ties: Sequence[Verdict]) -> float:
    """Chance that a strict pair's margin is larger than a tied one's in size; a draw is half (a Mann-Whitney U)."""
    tied = np.sort([abs(one.margin) for one in ties])
    sizes = [abs(one.margin) for one in strict]
    below = np.searchsorted(tied, sizes, "left") + np.searchsorted(tied, sizes, "right")
    return float(below.sum() / 2 / len(sizes) / len(tied))


def _ceiling(found: Iterable[Verdict]) -> Values:
    """[agreements, verdicts] by prompt: each labeler's strict verdict against the majority of the others."""
    judged: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for one in found:
        if one.labeler is not None:
            first, second = sorted((one.better, one.worse))
            said = 0 if one.is_tie else 1 if one.better == first else -1
            judged[one.prompt, first, second].setdefault(one.labeler, said)  # who judges twice counts once
    sums: Values = defaultdict(lambda: [0.0, 0.0])
    for (prompt, _, _), by_labeler in judged.items():
        total = sum(by_labeler.values())
        for said in by_labeler.values() if len(by_labeler) > 1 else ():
            if said:
                sums[prompt][0] += _share((total - said) * said)
                sums[prompt][1] += 1
    return dict(sums)
