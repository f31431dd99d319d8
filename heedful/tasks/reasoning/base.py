"""Pretrain the base of the reasoning task: SFT from random weights on questions of train structures, in phases.

Each phase asks new questions. In the first ones all answers are right, so that there is something to know; in the last
half are wrong, most of them by the same habit, so that the base often does not say what it knows.

Run: python -m heedful.tasks.reasoning.base --out runs/reasoning-base
A run that was stopped goes on where it was.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from heedful.models import load_tokenizer
from heedful.records import Feedback
from heedful.tasks.pep8.assets import seal
from heedful.tasks.reasoning.assets import ASSETS
from heedful.tasks.reasoning.families import FAMILIES
from heedful.tasks.reasoning.lessons import drills, noisy_lessons
from heedful.training import train

SHAPE: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 288,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,  # about width**-0.5; with transformers' 0.02 a model this narrow starts four times slower
}
TRAINING: dict[str, Any] = {
    "optim": {"betas": [0.9, 0.98], "decay": "cosine", "final": 0.1, "weight_decay": 0.05},
    "batch_size": 32,
    "max_length": 224,
    "validation": 0.01,
    "max_validation": 240,
    "eval_every": 250,
    "save_every": 250,
    "keep": 1,
}


@dataclass(frozen=True)
class Phase:
    """New questions and how they are learned.

    Attributes:
        drills: scenes of each task of which several questions are answered, all right.
        tasks: of the drills.
        questions: of each task, asked one by one.
        noise: share of wrong answers to those.
        lr: the highest rate; it rises and falls in each phase.
    """

    name: str
    drills: int = 0
    tasks: tuple[str, ...] = tuple(FAMILIES)
    questions: int = 0
    noise: float = 0.0
    lr: float = 1e-3

    def material(self) -> list[Feedback]:
        """What is learned from; the name of the phase is the seed."""
        asked = noisy_lessons(self.questions, noise=self.noise, seed=self.name)
        return [*drills(self.drills, seed=self.name, tasks=self.tasks), *asked]


FOCUS = ("object_counting", "reasoning_about_colored_objects")  # half learned after two phases, by selection questions
BASE = (
    Phase("first", drills=2500, lr=3e-3),
    Phase("second", drills=2500, lr=3e-3),
    Phase("third", drills=7000, tasks=FOCUS, questions=500, lr=2e-3),
    Phase("careless", questions=1200, noise=0.5, lr=1e-3),
)
GOLD = (Phase("gold", questions=3000, lr=1e-3),)


def initialise(folder: Path, *, seed: int = 0) -> Path:
    """A random model with the task's tokenizer, as a folder to train from; made once."""
    if not (folder / "tokenizer_config.json").exists():  # written last
        tokenizer = load_tokenizer(ASSETS / "tokenizer")
        special = {"pad_token_id": 0, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        set_seed(seed)
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **special)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def run_phases(model: Path, phases: Sequence[Phase], out: Path) -> Path:
    """Train in phases, each from where the last one ended; the folder of the model."""
    for phase in phases:
        optim = TRAINING["optim"] | {"lr": phase.lr, "warmup": 0.05}
        run = train(
            "sft",
            model=model,
            feedback=phase.material(),
            out=out / phase.name,
            settings=TRAINING | {"optim": optim, "budget": {"epochs": 1}},
            resume=True,
            progress=_show(time.monotonic()),
            export_dtype="bfloat16" if phase is phases[-1] else "float32",
        )
        model = run.model_path
    return model


def _show(started: float):
    def show(event) -> None:
        if event["step"] % 50 == 0:
            print(
                f"{time.monotonic() - started:7.0f}s step {event['step']} loss {event['loss']:.4f} "
                f"{event['tokens_per_second']:.0f} tokens/s, {event['seconds_left']:.0f}s left, "
                f"eval {event['metrics'].get('eval_loss', float('nan')):.4f}",
                flush=True,
            )

    return show


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ship", action="store_true", help="put the model into the package")
    arguments = parser.parse_args()
    model = run_phases(initialise(arguments.out / "init"), BASE, arguments.out)
    if arguments.ship:
        own_card = shutil.ignore_patterns("README.md")
        shutil.copytree(model, ASSETS / "base", dirs_exist_ok=True, ignore=own_card)
        seal(ASSETS)
    print(model)


if __name__ == "__main__":
    main()
