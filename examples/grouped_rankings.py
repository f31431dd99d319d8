"""What InstructGPT's section 3.5 says of rankings: pairs as examples of their own overfit, a ranking as one does not.

The pep8 base answers feedback prompts nine times and one labeler ranks the answers. Two reward models learn from the
same rankings with the same settings and the same responses a step: `grouped`, all nine of a prompt at once, and
`flattened`, every pair an example of its own, in any order, so that each response is trained on up to eight times in
an epoch. Both are measured on the whole rankings of the selection split.

Run: python examples/grouped_rankings.py --out runs/grouped    (goes on where it was stopped)
Prints a table, and writes OUT/curves.json and OUT/curves.svg.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heedful import train
from heedful.config import read_yaml
from heedful.disk import atomic_write_text, read_lines, write_json, write_lines
from heedful.models import load
from heedful.policy import Policy
from heedful.records import Comparison, Feedback, from_json, strict_pairs, to_json
from heedful.report.svg import Frame, Line, label, lines, spread
from heedful.reward import token_rewards
from heedful.runs import Run
from heedful.sampling import Sampling, generate
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.targets.rank import paired_responses
from heedful.tasks.pep8.labelers import judge, panel
from heedful.tasks.pep8.task import PEP8, RECIPES, RESPONSE_TOKENS

K = 9
PROMPTS = {"feedback": 150, "selection": 50}  # trained on, and held out; they share no module
RESPONSES = 144  # a step: 16 rankings, or 72 pairs
STEPS, EVERY = 75, 5  # an epoch of pairs, eight of rankings
FORMS: Mapping[str, int] = {"grouped": RESPONSES // K, "flattened": RESPONSES // 2}  # batch sizes
STYLE = """<style>
text { font: 12px sans-serif; fill: #555 } .grid { stroke: #ddd } .curve { fill: none; stroke-width: 1.7 }
.grouped .curve { stroke: #1f6f54 } .grouped .dot, text.grouped { fill: #1f6f54 }
.flattened .curve { stroke: #b0493a } .flattened .dot, text.flattened { fill: #b0493a }
</style>"""


def rankings(task: PEP8, number: int, *, seed: int) -> list[Feedback]:
    """Rankings of K different answers of the base; prompts without so many are passed over."""
    rows = task.prompts[: 2 * number]
    settings = Sampling(max_tokens=RESPONSE_TOKENS, stop_at_eos=False, banned=task.text.control_ids, temperature=1.0)
    prompts = [task.text.encode_prompt(row["prompt"]) for row in rows]
    drawn = generate(load(task.base).lm, task.text, prompts, settings, k=K, seed=seed)
    labeler, found = panel()[0], []
    for row, several in zip(rows, drawn):
        texts = dict.fromkeys(cut_at_last_logical_line(row["prompt"], sample.text) for sample in several)
        if len(texts) == K and all(texts):
            found.append(judge(row["prompt"], list(texts), labeler, seed=seed, id=row["id"], refinements=False))
    return [record for record in found if strict_pairs(record)][:number]


def flattened(record: Feedback) -> list[Feedback]:
    """Each strict pair as a record of two responses."""
    return [
        replace(
            record,
            responses=tuple(replace(record.responses[index], rank=None, score=None, label=None) for index in pair),
            comparisons=(Comparison(0, 1),),
            id=f"{record.id}:{pair[0]}-{pair[1]}",
        )
        for pair in strict_pairs(record)
    ]


def log_loss(policy: Policy, step: int, *, held_out: Sequence[Feedback], task: PEP8) -> dict[str, float]:
    """Mean over held-out prompts of the mean Bradley-Terry loss of their pairs, in nats, and their accuracy."""
    groups = paired_responses(held_out, text=task.text)
    losses, rights = [], []
    for group, branches in zip(groups, token_rewards(policy, groups), strict=True):
        ends = [float(values[-1]) for values in branches]
        gaps = np.array([ends[pair.better] - ends[pair.worse] for pair in group.pairs])
        losses.append(np.logaddexp(0.0, -gaps).mean())
        rights.append((gaps > 0).mean())
    return {"held_out_log_loss": float(np.mean(losses)), "held_out_accuracy": float(np.mean(rights))}


def curve(form: str, records: Sequence[Feedback], task: PEP8, out: Path, evaluate: Callable) -> list[dict[str, Any]]:
    """The numbers of one form at each evaluation, with the responses and tokens it had read."""
    settings = read_yaml(RECIPES / "common.yaml") | {
        "batch_size": FORMS[form],
        "budget": {"steps": STEPS},
        "eval_every": EVERY,
        "save_every": EVERY,
        "validation": 0.0,
    }
    rows = records if form == "grouped" else [pair for record in records for pair in flattened(record)]
    run: Run = train(
        "reward_model",
        model=task.base,
        feedback=rows,
        out=out / form,
        settings=settings,
        resume=True,
        evaluate=evaluate,
        progress=lambda event: print(f"{form} {event['step']}/{STEPS} {event['seconds_left']:.0f}s", flush=True),
    )
    measured = [row for row in run.metrics() if "held_out_log_loss" in row]
    names = ("step", "tokens", "held_out_log_loss", "held_out_accuracy")
    return [{name: row[name] for name in names} | {"responses": row["step"] * RESPONSES} for row in measured]


def table(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Markdown: a row for each number of responses read."""
    head = "| responses read | " + " | ".join(f"{form}: tokens | log-loss | accuracy" for form in curves) + " |"
    lines = [head, "|---|" + "---|---|---|" * len(curves)]
    for rows in zip(*curves.values(), strict=True):
        cells = [
            f"{row['tokens']:,} | {row['held_out_log_loss']:.3f} | {100 * row['held_out_accuracy']:.1f}%"
            for row in rows
        ]
        lines.append(f"| {rows[0]['responses']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def drawing(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Both curves as a file of SVG."""
    drawn = [
        Line(
            form, [row["responses"] for row in rows], [row["held_out_log_loss"] for row in rows], class_=form, dots=True
        )
        for form, rows in curves.items()
    ]
    low, high = spread([y for one in drawn for y in one.ys])
    frame = Frame(640, 320, (0, max(drawn[0].xs)), (low, high), right=80)
    titles = {"x_title": "responses read", "y_title": "held-out log-loss, nats"}
    figure = str(lines(frame, drawn, **titles, name="Held-out log-loss of grouped and flattened rankings"))
    names = [str(label(frame.x(one.xs[-1]) + 8, frame.y(one.ys[-1]) + 4, one.name, one.class_)) for one in drawn]
    opened = figure.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", ">" + STYLE, 1)
    return opened.replace("</svg>", "".join(names) + "</svg>") + "\n"


def main() -> None:
    """The command line of this example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    task, parts = PEP8(split="feedback"), {}
    for split, number in PROMPTS.items():
        path = out / f"{split}.jsonl"
        if not path.exists():
            write_lines(path, [to_json(record) for record in rankings(PEP8(split=split), number, seed=1)])
        parts[split] = [from_json(row, str(path)) for row in read_lines(path)]
    evaluate = partial(log_loss, held_out=parts["selection"], task=task)
    curves = {form: curve(form, parts["feedback"], task, out, evaluate) for form in FORMS}
    found = {"prompts": {split: len(records) for split, records in parts.items()}, "k": K, "curves": curves}
    write_json(out / "curves.json", found)
    atomic_write_text(out / "curves.svg", drawing(curves))
    print(table(curves))


if __name__ == "__main__":
    main()
