"""Train every method on tiny feedback, as a job of one or more processes; run by tests/test_processes.py.

python tests/train_all.py OUT [METHOD ...] [--resume] [--lora]
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from models import tiny
from tiny_methods import DRAWING, VARIANTS, feedback_for, mixed_feedback, named, tiny_writer
from tiny_text import letters

import heedful
from heedful.methods import load_method
from heedful.records import Feedback

EVERY = VARIANTS | {"ppo_ptx": ("ppo", DRAWING["ppo"] | {"ptx_coef": 0.5, "ptx_rows": 3})}  # with a mix
SETTINGS = {
    "optim": {"lr": 1e-3},
    "budget": {"steps": 20},
    "batch_size": 5,
    "micro_tokens": 48,
    "dtype": "float32",
    "eval_every": 5,
    "save_every": 5,
    "validation": 0.2,
}


def base(folder: Path) -> Path:
    """A random model with its tokenizer, and beside it one that refines, made once."""
    if not (folder / "model.safetensors").exists():
        tokenizer = letters(merges=[("a", "b"), ("c", "d")])
        tiny("gpt2", vocab_size=len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        tiny_writer(folder.parent / "writer")
    return folder


def feedback(variant: str) -> list[Feedback]:
    """What the method can learn from; scored lines are demonstrations too."""
    if variant == "ppo_ptx":
        return [*feedback_for("ppo", 16), *(record for record in mixed_feedback(16) if not record.prompt)]
    return [
        replace(record, responses=tuple(replace(response, demonstration=True) for response in record.responses))
        for record in feedback_for(variant, 16)
    ]


def train(variant: str, out: Path, *, resume: bool = False, **settings):
    """One method into OUT/METHOD."""
    name, config = EVERY[variant]
    threshold = {"threshold": 0.0} if "threshold" in load_method(name).Config.model_fields else {}
    if name == "filtering":
        threshold = {"threshold": -0.3}
    return heedful.train(
        name,
        model=out / "base",
        feedback=feedback(variant),
        out=out / variant,
        settings=SETTINGS | settings | {"method": threshold | named(config, out / "writer")},
        resume=resume,
        command=[],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = [argument for argument in sys.argv[2:] if not argument.startswith("--")]
    settings = {"lora": {"rank": 4}} if "--lora" in sys.argv else {}
    for variant in arguments or EVERY:
        train(variant, Path(sys.argv[1]), resume="--resume" in sys.argv, **settings)
