"""The search that chose the pep8 recipes: the same number of random settings for every method, at the comparison's
budget, measured on the selection split.

The first trial of each method is the shared recipe as it was, so that a search never chooses worse than it found.
Of a method's trials the best gold score wins; a degenerate one only where all are.

Run: python -m heedful.tasks.pep8.sweep --out runs/pep8-sweep     (hours; goes on where it was stopped)
Writes heedful/recipes/pep8/sweep.jsonl, a line per trial, and each method's recipe; other methods keep their lines.
With --vary method.margin=1,5,20 instead one setting takes these values in turn, the others as in the recipe; that
prints its trials and writes no recipe.
"""

import argparse
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from heedful.config import merge, override, read_yaml
from heedful.disk import atomic_write_text, read_lines, write_lines
from heedful.inference import needs_of
from heedful.tasks import Evaluation, Subject
from heedful.tasks.pep8.task import EVERY, LEARNED_REWARD, PEP8, RECIPES, recipe_path
from heedful.training import train

TRIALS = 4
SEEDS = (0, 1)  # of sampling: 128 prompts are few
LEARNING_RATES = (5e-5, 1e-3)  # drawn uniformly in their logarithm
CHOICES: Mapping[str, Mapping[str, Sequence[Any]]] = {  # of the method's own settings, each drawn uniformly
    "filtering": {"quantile": (0.25, 0.5, 0.75, 0.9)},
    "conditional": {"drop": (0.0, 0.01, 0.1)},
    "unlikelihood": {"alpha": (0.01, 0.1, 1.0)},
    "rwr": {"beta": (1.0, 10.0, 100.0)},
    "awr": {"beta": (1.0, 10.0, 100.0), "alpha": (0.05, 0.5)},
    "slic_hf": {"margin": (1.0, 5.0, 20.0), "nll_coef": (0.1, 1.0)},
    "dpo": {"beta": (0.02, 0.1, 0.5)},
    "kto": {"beta": (0.02, 0.1, 0.5)},
    "chain_of_hindsight": {"critiques": (True, False), "past_token_masking": (0.0, 0.05)},
    "conditional/labelers": {"drop": (0.0, 0.01, 0.1)},
    "unlikelihood/labelers": {"alpha": (0.01, 0.1, 1.0)},
    "ppo/gold": {"kl_coef": (0.0, 0.02, 0.1), "lam": (0.95, 1.0)},
    "rloo/gold": {"kl_coef": (0.0, 0.02, 0.1)},
    "grpo/gold": {"kl_coef": (0.0, 0.04)},
    "raft/gold": {"kl_coef": (0.0, 0.02), "num_samples": (4, 8)},
    "rest_em/gold": {"threshold": (-0.6, -0.4, -0.2), "num_samples": (4, 8)},
    "hir/gold": {"threshold": (-0.7, -0.5, -0.3)},
    "farl/gold": {"threshold": (-0.7, -0.5, -0.3)},
}
HEADER = "# Chosen on the selection split by heedful.tasks.pep8.sweep; every trial is in sweep.jsonl.\n"
SWEEP = RECIPES / "sweep.jsonl"


def trials(method: str, number: int = TRIALS) -> list[dict[str, Any]]:
    """Settings to try, laid over the method's recipe: nothing first, then random draws that depend on the method's
    name only, with one learning rate from each equal part of the range."""
    rng, (low, high) = random.Random(method), LEARNING_RATES
    drawn: list[dict[str, Any]] = [{}]
    for part in range(number - 1):
        rate = float(f"{low * (high / low) ** ((part + rng.random()) / (number - 1)):.1e}")
        own = {name: rng.choice(values) for name, values in CHOICES.get(method, {}).items()}
        drawn.append({"optim": {"lr": rate}} | ({"method": own} if own else {}))
    return drawn


def varied(assignment: str) -> list[dict[str, Any]]:
    """`name=value,value` as settings of one trial each."""
    name, _, values = assignment.partition("=")
    return [override({}, [f"{name}={value}"]) for value in values.split(",")]


def sweep(
    out: Path, methods: Sequence[str], *, task: PEP8, vary: Sequence[Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Train and measure every trial, those of the search unless others are given; what was measured before is kept."""
    base = [task.evaluate(Subject(task.base, suppress=task.text.control_ids), seed=seed) for seed in SEEDS]
    done = []
    for method in methods:
        for number, settings in enumerate(vary or trials(method)):
            path = out / f"{method.replace('/', '-')}-{number}.jsonl"
            known = read_lines(path)
            if not known or known[0]["settings"] != settings:
                write_lines(path, [{"method": method, "settings": settings} | trial(out, method, settings, task, base)])
            done += read_lines(path)
            print(json.dumps(done[-1]), flush=True)
    return done


def trial(
    out: Path, method: str, settings: Mapping[str, Any], task: PEP8, base: Sequence[Evaluation]
) -> dict[str, Any]:
    """What one setting gives on the task's split; the model is not kept."""
    folder = out / "training"
    recipe = merge(task.settings(method), settings) | {"budget": dict(task.budget)}
    shutil.rmtree(folder, ignore_errors=True)
    run = train(method.partition("/")[0], model=task.start, feedback=task.feedback(method), out=folder, settings=recipe)
    subject = Subject(run.model_path, **asdict(needs_of(run.model_path)))
    found = [task.evaluate(subject, seed=seed, base_samples=one.samples) for seed, one in zip(SEEDS, base)]
    shutil.rmtree(folder)
    return {
        "gold": gold(found),
        "gain": gold(found) - gold(base),
        "ast_distance": fmean(one.totals["ast_distance"] for one in found),
        "degenerate": any(one.degenerate for one in found),
    }


def gold(found: Sequence[Evaluation]) -> float:
    """The mean over seeds and prompts."""
    return fmean(values["gold"] for one in found for values in one.per_prompt.values())


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of one method's trials, the highest gold score among those that are not degenerate, if any is not."""
    return max(rows, key=lambda row: (not row["degenerate"], row["gold"]))


def others(known: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trials known before, of methods that were not searched now."""
    searched = {row["method"] for row in rows}
    return [row for row in known if row["method"] not in searched]


def write_recipes(rows: Sequence[Mapping[str, Any]]) -> None:
    """Lay each method's best settings over its recipe."""
    for method in dict.fromkeys(row["method"] for row in rows):
        chosen = best([row for row in rows if row["method"] == method])["settings"]
        path = recipe_path(method)
        recipe = merge(read_yaml(path) if path.exists() else {}, chosen)
        if recipe:
            atomic_write_text(path, HEADER + yaml.safe_dump(recipe, sort_keys=False))


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    searched = [name for name in EVERY if name not in LEARNED_REWARD]
    parser.add_argument("--methods", nargs="+", choices=searched, default=searched)
    parser.add_argument("--vary", type=varied, metavar="SETTING=VALUE,VALUE", help="trials of one setting, no search")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = sweep(arguments.out, arguments.methods, task=PEP8(split="selection"), vary=arguments.vary)
    if arguments.vary:
        return
    write_lines(SWEEP, [*others(read_lines(SWEEP), rows), *rows])
    write_recipes(rows)


if __name__ == "__main__":
    main()
