"""Whether the pep8 task can tell methods apart: its own test, passed before any method is tuned, on the selection
split.

Run: python -m heedful.tasks.pep8.acceptance --out runs/pep8-acceptance     (writes heedful/assets/pep8/acceptance.json)
"""

import argparse
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from heedful.evals.stats import paired_difference
from heedful.models import load
from heedful.sampling import Sampling, generate
from heedful.scorers.pep8 import MIN_LINES
from heedful.scorers.reading import cut_at_last_logical_line, read
from heedful.tasks import Subject
from heedful.tasks.pep8.adversaries import ADVERSARIES
from heedful.tasks.pep8.assets import ASSETS, seal
from heedful.tasks.pep8.feedback import responses_of
from heedful.tasks.pep8.task import BEST_OF, PEP8, RESPONSE_TOKENS, SAMPLING, gold_scores
from heedful.training import train

SFT_TOKENS = 600_000
LIMITS = {  # name -> (smallest, largest) value that passes
    "best_of_16_gain": (0.10, None),
    "sft_gain": (0.10, None),
    "tied_pairs": (None, 0.30),
    "all_tied_groups": (None, 0.12),
    "missing_and_broken_share": (None, 0.40),
    "best_adversary_minus_base": (None, 0.0),
}


def accept(out: Path, *, task: PEP8, tokens: int = SFT_TOKENS) -> dict[str, Any]:
    """Measure everything the task promises of itself."""
    texts = sample_base(task, BEST_OF)
    golds = gold_scores(task.prompts, texts)
    base = {(0, row["id"]): scores[0] for row, scores in zip(task.prompts, golds)}
    best = {(0, row["id"]): max(scores) for row, scores in zip(task.prompts, golds)}
    sft = sft_gold(task, out, tokens)
    groups = gold_scores(task.prompts, responses_of(task, seed=0))  # what labelers compare
    pairs = [(a, b) for scores in groups for a, b in combinations(scores, 2)]
    adversaries = {name: fmean(adversary_gold(task, name)) for name in ADVERSARIES}
    found: dict[str, Any] = {
        "split": task.split,
        "prompts": len(task.prompts),
        "base_gold": fmean(base.values()),
        "best_of_16_gain": paired_difference(best, base).mean,
        "sft_gain": paired_difference(sft, base).mean,
        "sft_tokens": tokens,
        "tied_pairs": fmean(a == b for a, b in pairs),
        "all_tied_groups": fmean(len(set(scores)) == 1 for scores in groups if len(scores) > 1),
        "missing_and_broken_share": missing_and_broken(task, texts),
        "adversaries": adversaries,
        "best_adversary_minus_base": max(adversaries.values()) - fmean(base.values()),
    }
    found["passes"] = {name: _within(found[name], *limits) for name, limits in LIMITS.items()}
    return found


def sample_base(task: PEP8, k: int) -> list[list[str]]:
    """`k` responses of the base to each prompt, cut as the task cuts them."""
    prompts = [task.text.encode_prompt(row["prompt"]) for row in task.prompts]
    settings = Sampling(max_tokens=RESPONSE_TOKENS, stop_at_eos=False, banned=task.text.control_ids, **SAMPLING)
    drawn = generate(load(task.base).lm, task.text, prompts, settings, k=k, seed=0)
    return [
        [cut_at_last_logical_line(row["prompt"], sample.text) for sample in several]
        for row, several in zip(task.prompts, drawn)
    ]


def missing_and_broken(task: PEP8, responses: Sequence[Sequence[str]]) -> float:
    """Share of the base's distance from 0 that is lines it did not write, or text no Python can split into tokens."""
    lost = total = 0.0
    for row, several in zip(task.prompts, responses):
        for response in several:
            reading = read(row["prompt"], response)
            size = max(len(reading.counted), MIN_LINES)
            missing = max(0, MIN_LINES - len(reading.counted))
            broken = sum(line.kind == "broken" for line in reading.bad)
            lost += (missing + broken) / size
            total += (missing + len(reading.bad)) / size
    return lost / total


def sft_gold(task: PEP8, out: Path, tokens: int) -> dict[tuple[int, str], float]:
    """Gold score by prompt of the base finetuned on clean-author bodies."""
    settings = dict(task.settings("sft")) | {"budget": {"tokens": tokens}}
    run = train("sft", model=task.base, feedback=task.feedback("sft"), out=out / "sft", settings=settings, resume=True)
    subject = Subject(run.model_path, suppress=task.text.control_ids)
    found = task.evaluate(subject, seed=0)
    return {(0, row["id"]): found.per_prompt[row["id"]]["gold"] for row in task.prompts}


def adversary_gold(task: PEP8, name: str) -> list[float]:
    """Gold scores of a policy that does not write code, cut to the tokens of a response."""
    texts = []
    for row in task.prompts:
        ids = task.text.encode(ADVERSARIES[name](row["prompt"]))[:RESPONSE_TOKENS]
        texts.append([cut_at_last_logical_line(row["prompt"], task.text.decode(ids))])
    return [scores[0] for scores in gold_scores(task.prompts, texts)]


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, default=ASSETS / "base")
    parser.add_argument("--tokens", type=int, default=SFT_TOKENS)
    parser.add_argument("--num-prompts", type=int)
    arguments = parser.parse_args()
    task = PEP8(split="selection", base=arguments.base, num_prompts=arguments.num_prompts)
    found = accept(arguments.out, task=task, tokens=arguments.tokens)
    text = json.dumps(found, indent=1)
    (ASSETS / "acceptance.json").write_text(text + "\n", encoding="utf-8")
    seal()
    print(text)


if __name__ == "__main__":
    main()
