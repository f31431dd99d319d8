"""What a trained judge is worth on the pep8 task, on prompts that nobody learns from: how often it agrees with four
labelers, how often they agree with each other, how often it is right by the gold score, and finding by finding.

Run: python -m heedful.tasks.pep8.judging runs/reward_model        (prints JSON; a ranker's run does as well)
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from heedful.evals.preferences import evaluate_scorer
from heedful.evals.summary import measure
from heedful.records import Feedback
from heedful.results import Metric
from heedful.scorers import Comparer, ScoreCache, Scorer, item_of, load_scorer, score_all
from heedful.scorers.reading import read
from heedful.tasks.pep8.feedback import responses_of
from heedful.tasks.pep8.labelers import calibrate, judge, oracle, panel
from heedful.tasks.pep8.task import PEP8, file_of

SEED = 1  # of the responses and of the labelers' noise; the feedback that ships has 0
FEWEST = 50  # pairs that differ in a finding, or its share says nothing


def judged_by_all(task: PEP8, *, seed: int = SEED) -> tuple[list[Feedback], list[Feedback]]:
    """Four responses of the base to each prompt, as every labeler judges them, and as the gold score does."""
    answered = [(row, texts) for row, texts in zip(task.prompts, responses_of(task, seed=seed)) if len(texts) > 1]
    labelers = panel(calibrate([(row["prompt"], texts) for row, texts in answered], panel()))
    people = [
        judge(row["prompt"], texts, labeler, seed=seed, id=row["id"], refinements=False)
        for row, texts in answered
        for labeler in labelers
    ]
    return people, [oracle(row["prompt"], texts, id=row["id"]) for row, texts in answered]


def judge_the_judge(scorer: Scorer, task: PEP8) -> dict[str, Any]:
    """All numbers, with intervals over prompts.

    `people` and `gold` are as `heedful eval --with` has them; the ceiling of the former is how far labelers agree.
    `findings` is the share of pairs that differ in how many findings of a code they have in which the judge prefers the
    one with fewer; such pairs may differ in other ways too.
    """
    people, gold = judged_by_all(task)
    cache = None if isinstance(scorer, Comparer) else ScoreCache()  # whose scores depend on what is compared
    found = {
        name: evaluate_scorer(scorer, records, cache=cache) for name, records in (("people", people), ("gold", gold))
    }
    return {
        "split": task.split,
        "judge": found["gold"].scorer,
        **{
            name: one.counts | {key: metric.model_dump() for key, metric in one.metrics.items()}
            for name, one in found.items()
        },
        "findings": {code: metric.model_dump() for code, metric in by_finding(scorer, gold, cache).items()},
    }


def by_finding(scorer: Scorer, records: Sequence[Feedback], cache: ScoreCache | None) -> dict[str, Metric]:
    """Of each code of pycodestyle that enough pairs differ in: how often the response with fewer is preferred; most
    frequent first."""
    right: dict[str, dict[str, list[float]]] = {}
    items = [[item_of(record, response, record.id) for response in record.responses] for record in records]
    scores = iter(score_all(scorer, [item for several in items for item in several], cache=cache))
    for record in records:
        counts = [Counter(f.code for f in read(record.prompt, r.text).findings) for r in record.responses]
        values = [next(scores).value for _ in record.responses]
        for a, b in combinations(range(len(values)), 2):
            for code in counts[a].keys() | counts[b].keys():
                if fewer := counts[b][code] - counts[a][code]:
                    gap = (values[a] - values[b]) * fewer
                    own = right.setdefault(code, {}).setdefault(record.id, [0.0, 0.0])
                    own[0] += 0.5 if gap == 0 else float(gap > 0)
                    own[1] += 1
    sizes = {code: sum(num for _, num in values.values()) for code, values in right.items()}
    return {
        code: measure(right[code], unit="share", direction="higher", groups={id: file_of(id) for id in right[code]})
        for code, size in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
        if size >= FEWEST
    }


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judge", help="folder of a reward model's or ranker's run, or a scorer's name")
    arguments = parser.parse_args()
    print(json.dumps(judge_the_judge(load_scorer(arguments.judge), PEP8(split="selection")), indent=1))


if __name__ == "__main__":
    main()
