"""What a small model learns from real comparisons: reward models on four sets, SLiC-HF and DPO against SFT on one.

Trains on the `train` part of `heedful data split` (seed 0), as the base did, and measures on the rest, which neither
has read. Settings are the recipes' but for SMALL, since they were made for models a hundred times the size and files
twenty times as long; no training is longer than ten minutes on a free core.

Run: python examples/real_comparisons.py --data DATA --model runs/english/mle/model --out runs/real      (half an
hour on one core; goes on where it was stopped). DATA holds a folder with one .jsonl.gz for each name in SETS and
PANDALM. Prints tables; everything is in OUT/results.json.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from heedful import compare, evaluate_scorer, load_feedback, train
from heedful.cli.recipes import settings
from heedful.config import merge
from heedful.data.split import split_feedback
from heedful.disk import read_lines, write_json
from heedful.evals.rouge import rouge_l, rouge_n
from heedful.evals.stats import spearman
from heedful.evals.summary import measure
from heedful.records import Feedback
from heedful.runs import Run
from heedful.tasks import Reference
from heedful.tasks.own import OwnFile

SETS = {  # who judged, the files, the recipe; webgpt's are questions with two answers, so it takes hh's
    "hh": ("people", ("hh_rlhf_helpful", "hh_rlhf_harmless"), "hh"),
    "tldr": ("GPT-4", ("tldr_gpt_judged",), "tldr"),
    "qa": ("people", ("qa_feedback_finegrained",), "qa"),
    "webgpt": ("people", ("webgpt_comparisons",), "hh"),
}
PANDALM = "pandalm_testset"  # three labelers a pair; its authors ask not to train on it
ELSEWHERE = {"hh": ("webgpt_comparisons", PANDALM), "webgpt": (PANDALM,)}  # what else a reward model is measured on
HELD_OUT = {"webgpt": ("test",)}  # on its validation part the learning rate was chosen; else both parts
SMALL: Mapping[str, Any] = {"optim": {"lr": 3e-4}, "batch_size": 16, "eval_every": 40, "micro_tokens": 4096}
GENTLE: Mapping[str, Any] = {"optim": {"lr": 1e-4}}  # of what goes on from the SFT model; not searched for
POLICIES = ("sft", "dpo", "slic_hf")
POLICY_TOKENS = 250_000  # of each that goes on from the SFT model
NUM_PROMPTS = 120  # that each answers


class Summaries(OwnFile):
    """TL;DR as a comparison whose recipe differs by method."""

    def settings(self, method: str) -> Mapping[str, Any]:
        return merge(recipe("tldr", method), GENTLE)

    def references(self) -> Sequence[Reference]:
        """The SFT model alone."""
        return super().references()[:1]


def recipe(name: str, method: str) -> dict[str, Any]:
    """The shipped recipe, at the size of this model."""
    return merge(settings(name, method, []), SMALL)


def parts_of(data: Path, files: Sequence[str]) -> dict[str, list[Feedback]]:
    """The parts of some files, joined."""
    parts: dict[str, list[Feedback]] = {"train": [], "validation": [], "test": []}
    for name in files:
        for part, records in split_feedback(load_feedback(file_of(data, name))).parts.items():
            parts[part] += records
    return parts


def file_of(data: Path, name: str) -> Path:
    """The one data file in a folder."""
    (path,) = (data / name).glob("*.jsonl.gz")
    return path


def reward_models(data: Path, base: str, out: Path, scale: float) -> dict[str, Any]:
    """A reward model a set, each on what is held out of its own files and of some others."""
    trained, held_out = {}, {}
    for name, (_, files, own) in SETS.items():
        parts = parts_of(data, files)
        for file in files:
            some = parts_of(data, [file])
            held_out[file] = [record for part in HELD_OUT.get(name, ("validation", "test")) for record in some[part]]
        start = base
        if name == "tldr":  # Stiennon et al. start from the model that writes summaries
            run = fit("sft", base, parts["train"], out / "tldr" / "sft", own, scale)
            start = str(run.model_path)
        trained[name] = fit("reward_model", start, parts["train"], out / name / "reward_model", own, scale)
    held_out[PANDALM] = list(load_feedback(file_of(data, PANDALM)))
    found: dict[str, Any] = {}
    for name, run in trained.items():
        say(f"{name}: reading what is held out")
        found[name] = {"judged_by": SETS[name][0], "files": SETS[name][1], "training": told(run), "on": {}}
        for file in (*SETS[name][1], *ELSEWHERE.get(name, ())):
            measured = evaluate_scorer(str(run.path), held_out[file], cache=out / "scores.jsonl")
            found[name]["on"][file] = {
                "counts": measured.counts,
                "left_out": measured.left_out,
                "metrics": {key: metric.model_dump() for key, metric in measured.metrics.items()},
            }
    return {"reward_models": found}


def summaries(data: Path, base: str, out: Path, scale: float) -> dict[str, Any]:
    """SFT, DPO and SLiC-HF from the SFT model, on prompts nobody has read, judged by the reward model.

    Its judgement is no human's, nor GPT-4's: it learned from the very labels that the policies learn from.
    """
    task = Summaries(
        load_feedback(file_of(data, "tldr_gpt_judged")),
        model=out / "tldr" / "sft" / "model",
        judge=str(out / "tldr" / "reward_model"),
        num_prompts=max(1, int(scale * NUM_PROMPTS)),
    )
    folder, budget = out / "tldr" / "compare", {"tokens": max(1, int(scale * POLICY_TOKENS))}
    is_begun = (folder / "manifest.json").exists()
    results = compare(task, methods=POLICIES, out=folder, budget=budget, resume=is_begun, progress=tell)
    references = {r.id: next(x.text for x in r.responses if x.demonstration) for r in task.held_out}
    measured = {row.method: row.name for row in results.rows if row.is_measured}
    answers = {method: read_lines(folder / "samples" / f"{name}.jsonl") for method, name in measured.items()}
    lengths = {s["prompt_id"]: len(s["response"]) for s in answers.get("base", ())}
    rows = {}
    for row in results.rows:
        samples = answers.get(row.method, [])
        rows[row.method] = {
            "status": row.status,
            "error": row.error,
            "metrics": {name: metric.model_dump() for name, metric in row.metrics.items()}
            | texts(samples, references, lengths),
            "judge_follows_length": follows(samples),
            "ledger": row.ledger.model_dump(),
        }
    return {
        "summaries": {
            "words_of_references": mean(len(text.split()) for text in references.values()),
            "rows": rows,
            "differences_to_base": [s.model_dump() for s in results.summary if s.difference_to_base],
        }
    }


def follows(samples: Sequence[Mapping[str, Any]]) -> float | None:
    """Spearman's correlation of the judge's score with the length of an answer."""
    lengths, scores = [len(s["response"]) for s in samples], [s["judge_score"] for s in samples]
    return spearman(lengths, scores) if samples else None


def texts(
    samples: Sequence[Mapping[str, Any]], references: Mapping[str, str], lengths: Mapping[str, int]
) -> dict[str, Any]:
    """ROUGE of answers against the human summaries, and what else shows that a score was gamed."""
    columns = {
        "rouge_1": lambda s: rouge_n(s["response"], references[s["prompt_id"]], 1),
        "rouge_2": lambda s: rouge_n(s["response"], references[s["prompt_id"]], 2),
        "rouge_l": lambda s: rouge_l(s["response"], references[s["prompt_id"]]),
        "words": lambda s: len(s["response"].split()),
        "longer_than_base": lambda s: float(len(s["response"]) > lengths[s["prompt_id"]]),
        "cut": lambda s: float(s["truncated"]),
    }
    if not samples:
        return {}
    return {
        name: measure({str(s["prompt_id"]): value(s) for s in samples}).model_dump() for name, value in columns.items()
    }


def fit(method: str, model: str, feedback: list[Feedback], out: Path, own: str, epochs: float) -> Run:
    """A training, or what is left of it."""
    say(f"{out.parent.name}: {method}")
    last = time.monotonic()

    def show(event: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last > 30:
            last = time.monotonic()
            say(f"  step {event['step']}, loss {event['loss']:.3f}, {event['seconds_left']:.0f} s left")

    settled = recipe(own, method) | {"budget": {"epochs": epochs}}
    return train(method, model=model, feedback=feedback, out=out, settings=settled, resume=True, progress=show)


def told(run: Run) -> dict[str, Any]:
    """What a training cost and where it ended."""
    kept = ("ledger", "metrics", "selected_step", "rows_lost", "config")
    return {name: run.manifest[name] for name in kept if name in run.manifest}


def tell(event: Mapping[str, Any]) -> None:
    """What a comparison is doing, but for the steps of its trainings."""
    if event["stage"] != "train":
        say(f"tldr: {event.get('row', '')} {event['stage']}")


def say(line: str) -> None:
    """A line of the log."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def tables(found: Mapping[str, Any]) -> str:
    """What docs/real-comparisons.md shows."""
    lines = ["", "| reward model of | on | pairs | accuracy, 95% | always longer | above it, 95% | shorter preferred |"]
    lines[-1] += " log-loss | length rho | ties: margin | ceiling |"
    lines.append("|" + "---|" * 11)
    for name, model in found["reward_models"].items():
        for file, one in model["on"].items():
            m = one["metrics"]
            cells = [name, file, str(one["counts"]["pairs"]), span(m["accuracy"]), share(m["always_longer"])]
            cells += [span(m["above_longer"]), share(m.get("accuracy_if_shorter")), f"{m['log_loss']['value']:.3f}"]
            cells += [f"{m['length_correlation']['value']:.2f}", share(m.get("knows_ties")), span(m.get("ceiling"))]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| | win rate, 95% | longer than base's | judge, length rho | ROUGE-1 | ROUGE-2 | ROUGE-L |"]
    lines[-1] += " against base, 95% | words | cut | bits per byte | likelier is preferred |"
    lines.append("|" + "---|" * 12)
    rouge_apart = [d for d in found["summaries"]["differences_to_base"] if d["metric"] == "rouge_l"]
    differences = {d["method"]: d["difference_to_base"] for d in rouge_apart}
    apart = {name: span({**one, "value": one["mean"]}) for name, one in differences.items()}
    for name, row in found["summaries"]["rows"].items():
        m = row["metrics"]
        if not m:
            lines.append(f"| {name} | {row['error']} |")
            continue
        rouge = [f"{100 * m[key]['value']:.1f}" for key in ("rouge_1", "rouge_2", "rouge_l")]
        cells = [name, span(m["win_rate"]), share(m["longer_than_base"]), f"{row['judge_follows_length']:.2f}", *rouge]
        cells += [apart.get(name, ""), f"{m['words']['value']:.1f}", share(m["cut"])]
        cells += [f"{m['bits_per_byte']['value']:.3f}", span(m["pref_accuracy"])]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"\nThe human summaries have {found['summaries']['words_of_references']:.1f} words.")
    return "\n".join(lines)


def share(metric: Mapping[str, Any] | None) -> str:
    """A percentage."""
    return "" if metric is None else f"{100 * metric['value']:.1f}%"


def span(metric: Mapping[str, Any] | None) -> str:
    """A percentage with its interval."""
    if metric is None or metric["low"] is None:
        return share(metric)
    return f"{100 * metric['value']:.1f} [{100 * metric['low']:.1f}, {100 * metric['high']:.1f}]"


def main() -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="0.02 tries the script in a fiftieth of the time")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"model": Path(arguments.model).name}
    for stage in (reward_models, summaries):
        found |= stage(arguments.data, arguments.model, arguments.out, arguments.scale)
        write_json(arguments.out / "results.json", found)
    print(tables(found))


if __name__ == "__main__":
    main()
