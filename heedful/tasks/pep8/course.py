"""How far a policy went from its start, and what it was worth on the way: to what it optimised, and by the gold score.

Over-optimisation is where the one still rises and the other falls (Gao et al. 2022, arXiv:2210.10760).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.records import Feedback, from_json
from heedful.rollout import ROLLOUTS, rollouts_of
from heedful.runs import Run
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.tasks import Evaluation
from heedful.tasks.pep8.answers import gold_scores


def course_of_best(judged: Sequence[Sequence[float]], golds: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """What the best by a judge of 1, 2, 4, ... samples is worth to it and by the gold score, and its KL at most.

    An estimate without bias from all n samples of each prompt: the i-th of them by the judge is the best of k drawn
    without return with probability C(i - 1, k - 1) / C(n, k).

    Args:
        judged, golds: [prompt][n].
    """
    found, size = [], len(judged[0])
    for k in (2**power for power in range(size.bit_length())):
        weights = [math.comb(place, k - 1) / math.comb(size, k) for place in range(size)]
        orders = [sorted(range(size), key=own.__getitem__) for own in judged]
        proxy, gold = (
            fmean(sum(w * own[n] for w, n in zip(weights, order)) for own, order in zip(values, orders))
            for values in (judged, golds)
        )
        found.append({"kl": math.log(k) - (k - 1) / k, "proxy": proxy, "gold": gold, "samples": k})
    return found


def course_of(run: Path | None) -> list[dict[str, float]]:
    """What the rounds of a run were worth, each before its updates: KL from its start, reward and gold score, of
    samples at temperature 1; nothing where it drew no rollouts."""
    found = []
    for index, records in enumerate(rounds_of(run) if run else ()):
        drawn = [one for record in records for one in rollouts_of(record)]
        texts = [[cut_at_last_logical_line(str(r.prompt), one.text) for one in r.responses] for r in records]
        rows = [{"prompt": record.prompt, "id": record.id} for record in records]
        golds = [gold for several in gold_scores(rows, texts) for gold in several]
        kl = fmean(sum(one.logp) - sum(one.ref_logp) for one in drawn)
        found.append({"kl": kl, "proxy": fmean(one.reward for one in drawn), "gold": fmean(golds), "round": index})
    return found


def rounds_of(run: Path) -> Iterator[list[Feedback]]:
    """The rounds of a run whose records have the numbers of their rollouts."""
    index = 0
    while rows := Run(run).read_round(index):
        records = [from_json(row) for row in rows]
        if ROLLOUTS not in records[0].metadata:
            return
        yield records
        index += 1


def course_to(found: Evaluation, base_samples: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """From the base to the end, where both were measured by a learned reward."""
    kls = [values["kl_to_base"] for values in found.per_prompt.values() if "kl_to_base" in values]
    ends = [samples for samples in (base_samples, found.samples) if samples and all("reward" in s for s in samples)]
    if len(ends) < 2 or not kls:
        return []
    return [
        {"kl": kl, "proxy": fmean(s["reward"] for s in samples), "gold": fmean(s["gold"] for s in samples)}
        for kl, samples in zip((0.0, fmean(kls)), ends)
    ]
