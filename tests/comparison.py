"""A comparison folder as `compare` leaves it, with made-up numbers: what the report is tested and designed on.

python tests/comparison.py runs/fake     # writes the folder and its report.html
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from heedful import results as schema
from heedful.evals.summary import compare_pairs, measure, summarize
from heedful.results import Ledger, Metric, Results, Row, row_name

# method, variant, tier, gain in gold, cost in bits per byte, KL, train tokens, sampled tokens, seconds
PEP8 = [
    ("base", "", None, 0.0, 0.0, 0.0, 0, 0, 0),
    ("conditional_base", "good", None, 0.10, 0.03, 0.21, 0, 0, 0),
    ("conditional_base", "bad", None, -0.09, 0.05, 0.25, 0, 0, 0),
    ("conditional_base", "none", None, 0.01, 0.02, 0.11, 0, 0, 0),
    ("sft", "", 1, 0.112, -0.02, 0.14, 610_000, 0, 71),
    ("filtering", "", 1, 0.081, 0.004, 0.09, 601_000, 0, 66),
    ("conditional", "", 1, 0.006, 0.011, 0.05, 622_000, 0, 74),
    ("unlikelihood", "", 1, 0.131, 0.24, 0.61, 600_000, 0, 80),
    ("rwr", "", 1, 0.042, 0.002, 0.04, 600_000, 0, 69),
    ("awr", "", 1, 0.055, 0.001, 0.05, 600_000, 0, 101),
    ("mle", "", 1, -0.004, -0.03, 0.03, 600_000, 0, 65),
    ("ppo", "ptx", 2, 0.0, 0.0, 0.0, 0, 0, 0),
    ("best_of_n", "n16", 3, 0.145, 0.0, 0.0, 0, 2_300_000, 212),
]
DEGENERATE = {"unlikelihood": "ast_distance 0.412 is beyond the base's 0.118 + 3 x 0.011"}
FAILED = {"ppo": "stopped at step 12: kl is not finite (records fb-0031, fb-0420 and 6 more)"}

DIRTY = """    if  key in self.cache :
        return self.cache[ key ]
    value=self.load( key )
    self.cache[key] =value; self.size+=1
    return value
"""
CLEAN = """    if key in self.cache:
        return self.cache[key]
    value = self.load(key)
    self.cache[key] = value
    return value
"""
PROMPT = """import os

class Store:

    def __init__(self, root, size=128):
        self.root = root
        self.cache = {}
        self.limit = size

    def get_%s(self, key):
"""


def write_comparison(
    folder: Path,
    *,
    seeds=(0,),
    num_prompts: int = 120,
    methods=PEP8,
    degenerate=DEGENERATE,
    failed=FAILED,
    response=None,
) -> Results:
    """A pep8 comparison in `folder`; `response(method, prompt index)` replaces the made-up model text."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, spec in enumerate(methods):
        for seed in seeds if spec[2] is not None else seeds[:1]:
            rows.append(_row(folder, spec, number, seed, num_prompts, degenerate, failed, response))
    found = Results(task="pep8", base="assets/pep8/base", budget={"tokens": 600_000}, seeds=list(seeds), rows=rows)
    found, problems = summarize(found, folder)
    found, more = compare_pairs(found, folder, "gold")
    assert not problems and not more, problems + more
    schema.write(folder, found)
    _write_json(folder / "manifest.json", MANIFEST)
    return found


def write_user_comparison(folder: Path, *, seeds=(0,)) -> Results:
    """What `compare FEEDBACK.jsonl` leaves: other metrics, nothing per prompt, a method the file cannot feed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows = []
    for method, tier, pref, bits, win in [
        ("base", None, 0.52, 1.02, None),
        ("sft", 1, 0.58, 0.93, 0.61),
        ("filtering", 1, 0.55, 0.97, 0.53),
        ("dpo", 1, 0.66, 1.05, 0.68),
    ]:
        for seed in seeds if tier else seeds[:1]:
            metrics = {
                "pref_accuracy": _measured(rng.random(90) < pref, "share", "higher"),
                "bits_per_byte": measure(
                    {f"p{i}": (800 * bits * rng.normal(1, 0.1), 800.0) for i in range(90)},
                    unit="bits",
                    direction="lower",
                ),
            }
            if win:
                metrics["win_rate"] = _measured(rng.random(90) < win, "share", "higher")
            ledger = Ledger(
                labels=900 if tier else 0, train_tokens=250_000 if tier else 0, seconds=95.0 if tier else 0.0
            )
            rows.append(Row(method=method, tier=tier, seed=seed, metrics=metrics, ledger=ledger))
    rows.append(Row(method="awr", tier=1, status="skipped", error="needs scores; the file has comparisons only"))
    found = Results(task="feedback.jsonl", base="gpt2", budget={"seconds": 100}, seeds=list(seeds), rows=rows)
    found, problems = summarize(found, folder)
    assert not problems, problems
    schema.write(folder, found)
    return found


def _row(folder, spec, number, seed, num_prompts, degenerate, failed, response) -> Row:
    method, variant, tier, gain, bits, kl, tokens, sampled, seconds = spec
    name = row_name(method, variant, seed)
    ledger = _ledger(method, tier, tokens, sampled, seconds)
    if tier and method != "best_of_n":
        _write_run(folder / "methods" / name, gain, seed, tokens, method in failed)
    run = f"methods/{name}" if tier and method != "best_of_n" else None
    if method in failed:
        return Row(
            method=method,
            variant=variant,
            tier=tier,
            seed=seed,
            status="failed",
            error=failed[method],
            run=run,
            ledger=ledger,
        )
    lines = _per_prompt(number, seed, num_prompts, gain, bits, kl)
    _write_lines(folder / "eval" / f"{name}.jsonl", lines)
    _write_lines(folder / "samples" / f"{name}.jsonl", _samples(method, lines, response))
    metrics = _metrics(lines, method in degenerate)
    status = "degenerate" if method in degenerate else "done"
    return Row(
        method=method,
        variant=variant,
        tier=tier,
        seed=seed,
        status=status,
        error=degenerate.get(method),
        run=run,
        metrics=metrics,
        ledger=ledger,
        per_prompt=f"eval/{name}.jsonl",
    )


def _ledger(method, tier, tokens, sampled, seconds) -> Ledger:
    if tier is None:
        return Ledger()
    own = Ledger(
        labels=2400,
        train_tokens=tokens,
        frozen_tokens=tokens // 2 if method == "awr" else 0,
        sampled_tokens=sampled,
        scorer_calls={"pep8_lines": 19_200} if sampled else {},
        flops=6 * 5e6 * tokens,
        seconds=seconds,
        peak_memory_bytes=int(0.9e9 + tokens * 300),
    )
    if method != "awr":
        return own
    return own.including(
        {"value_model": Ledger(labels=2400, train_tokens=150_000, seconds=21, peak_memory_bytes=700_000_000)}
    )


def _per_prompt(number, seed, num_prompts, gain, bits, kl) -> list[dict]:
    shared = np.random.default_rng(0)
    hard = np.clip(shared.normal(-0.28, 0.2, num_prompts), -1, 0)
    own = np.random.default_rng([number, seed, 7])
    gold = np.clip(hard + gain + own.normal(0, 0.12, num_prompts) + own.normal(0, 0.008), -1, 0)
    lines = [
        {
            "id": f"p{i:03}",
            "seed": seed,
            "gold": round(float(score), 4),
            "clean_share": bool(score > -0.05),
            "pep8_chars": [round(-8 * float(score), 2), 4.1],
            "kl_to_base": round(float(max(0, own.normal(kl, 0.02))), 5) if kl else 0.0,
            "length": float(own.integers(300, 480)),
            "compiles_share": bool(own.random() < 0.93),
        }
        for i, score in enumerate(gold)
    ]
    return lines + [
        {
            "id": f"doc{i}",
            "seed": seed,
            "bits_per_byte_clean": [round((0.92 + bits) * size + own.normal(0, 8), 2), float(size)],
        }
        for i, size in enumerate(shared.integers(800, 4000, 40))
    ]


UNITS = {
    "gold": ("", "higher"),
    "clean_share": ("share", "higher"),
    "pep8_chars": ("per 100 characters", "lower"),
    "bits_per_byte_clean": ("bits", "lower"),
    "kl_to_base": ("nats per token", "lower"),
    "compiles_share": ("share", "higher"),
    "length": ("characters", "none"),
}


def _metrics(lines, is_degenerate) -> dict[str, Metric]:
    metrics = {}
    for name, (unit, direction) in UNITS.items():
        values = {line["id"]: line[name] for line in lines if name in line}
        metrics[name] = measure(values, unit=unit, direction=direction)
    distance = 0.412 if is_degenerate else 0.118 + 0.02 * abs(metrics["gold"].value)
    metrics["ast_distance"] = Metric(value=distance, n=len(lines), direction="lower")
    metrics["distinct_3"] = Metric(value=0.83 - 0.3 * is_degenerate, n=len(lines), unit="share", direction="higher")
    return metrics


def _samples(method, lines, response) -> list[dict]:
    samples = []
    for i, line in enumerate(line for line in lines if "gold" in line):
        text = DIRTY if line["gold"] < -0.15 else CLEAN
        text = response(method, i) if response else text * (1 + i % 3)
        samples.append(
            {"prompt_id": line["id"], "prompt": PROMPT % i, "response": text, "gold": line["gold"], "truncated": True}
        )
    return samples


def _write_run(folder, gain, seed, tokens, fails) -> None:
    """A run folder's metrics.jsonl: a loss every 5 steps, an evaluation every 40, nan where the run broke."""
    rng = np.random.default_rng(int(1000 * abs(gain)) + seed)
    lines = []
    steps = 12 if fails else 240
    for step in range(1, steps + 1):
        seen = int((tokens or 600_000) * step / 240)
        loss = 1.1 + 0.5 * math.exp(-step / 60) + 0.05 * rng.normal()
        lines.append(
            {
                "step": step,
                "tokens": seen,
                "seconds": 0.3 * step,
                "loss": loss,
                "nll": loss,
                "learning_rate": 5e-4,
                "grad_norm": 1.0,
            }
        )
        if step % 40 == 0:
            score = -0.28 + gain * (1 - math.exp(-step / 80)) + 0.01 * rng.normal()
            lines.append({"step": step, "tokens": seen, "eval_loss": loss + 0.02, "eval_gold": score})
    if fails:
        lines[-1]["loss"] = "NaN"
    _write_lines(folder / "metrics.jsonl", lines)
    _write_json(folder / "manifest.json", MANIFEST | {"command": ["heedful", "train", folder.name]})


def _measured(won, unit, direction) -> Metric:
    return measure({f"p{i}": bool(v) for i, v in enumerate(won)}, unit=unit, direction=direction)


def _write_lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


MANIFEST = {
    "schema": 1,
    "created": "2026-11-20T12:00:00Z",
    "command": ["heedful", "compare", "pep8", "--seeds", "1"],
    "config": {"task": "pep8", "optim": {"lr": 0.0005, "betas": [0.9, 0.999]}, "budget": {"tokens": 600000}},
    "config_sha256": "9f2c4e0b7d",
    "seeds": {"run": 0},
    "git": {"commit": "0123abcd", "dirty": False},
    "environment": {
        "python": "3.11.9",
        "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
        "threads": 2,
        "cpu": "x86",
    },
    "data": {"feedback": {"sha256": "ab" * 32, "rows": 2400}},
    "test_readings": [{"split": "test", "time": "2026-11-20T12:09:00Z", "command": ["heedful", "compare", "pep8"]}],
    "resumed": [],
}

if __name__ == "__main__":
    from heedful.report import build_report

    write_comparison(Path(sys.argv[1]), seeds=tuple(range(int(sys.argv[2]) if len(sys.argv) > 2 else 1)))
    print(build_report(Path(sys.argv[1])))
