"""SFT of the base on plenty of right answers: which tasks a model of this size learns at all.

Run: python -m heedful.tasks.reasoning.ceiling --out runs/reasoning-ceiling
     (writes heedful/assets/reasoning/supervision.json; a run that was stopped goes on)
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.models import load_text
from heedful.tasks import Subject
from heedful.tasks.pep8.assets import seal
from heedful.tasks.reasoning.assets import ASSETS
from heedful.tasks.reasoning.base import GOLD, run_phases
from heedful.tasks.reasoning.families import FAMILIES
from heedful.tasks.reasoning.supervision import MEASURED, describe
from heedful.tasks.reasoning.task import Reasoning

PER_TASK = 150  # selection questions: 90% is then known to within 5 points


def measure(gold: Path, task: Reasoning) -> dict[str, dict[str, float]]:
    """By task: chance, accuracy of the base by its likeliest answer and sampled at temperature 1, accuracy after SFT,
    and bits of a right answer."""
    task.counted = list(FAMILIES)  # so that each question has a sampled verdict
    suppress = load_text(task.base).control_ids
    base = task.evaluate(Subject(task.base, suppress=suppress), seed=0).per_prompt
    taught = task.evaluate(Subject(gold, suppress=suppress), seed=0).per_prompt
    found = {}
    for name in FAMILIES:
        own = [one for one in task.asked if one.task == name]
        found[name] = {
            "chance": fmean(1 / one.question.num_answers for one in own),
            "base": fmean(base[one.id][name] for one in own),
            "sampled": fmean(base[one.id]["accuracy_sampled"] for one in own),
            "gold": fmean(taught[one.id][name] for one in own),
            "answer_bits": fmean(math.log2(one.question.num_answers) for one in own),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=ASSETS / "base")
    parsed = parser.parse_args(arguments)
    gold = run_phases(parsed.base, GOLD, parsed.out)
    task = Reasoning(split="selection", base=parsed.base, per_task=PER_TASK, counted=[])
    found: Mapping[str, Any] = {
        "command": "python -m heedful.tasks.reasoning.ceiling",
        "split": task.split,
        "questions_per_task": len(task.asked) // len(FAMILIES),
        "gold_questions_per_task": sum(phase.questions for phase in GOLD),
        "tasks": {name: {key: round(v, 4) for key, v in row.items()} for name, row in measure(gold, task).items()},
    }
    MEASURED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    seal(ASSETS)
    print("\n".join(describe(found)))


if __name__ == "__main__":
    main()
