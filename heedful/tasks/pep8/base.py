"""Pretrain the two base models of the pep8 task, by MLE and by conditional training, on the same tokens:
45 million, nine passes over the split, in four phases; about an hour and a half each at 9,000 tokens/s.

Run: python -m heedful.tasks.pep8.base mle --corpus build/pep8 --out runs/pep8-base/mle
     python -m heedful.tasks.pep8.base conditional --corpus build/pep8 --out runs/pep8-base/conditional
A run that was stopped goes on where it was.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from heedful.models import load_tokenizer
from heedful.records import Feedback, Response
from heedful.scorers.pep8 import segments_by_line
from heedful.tasks.pep8.assets import ASSETS
from heedful.tasks.pep8.corpus import read_split
from heedful.training import train

SHAPE: dict[str, Any] = {  # 4.0M parameters, an eighth of them in the embedding; grouped-query
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
TRAINING: dict[str, Any] = {
    "optim": {"lr": 2e-3, "betas": [0.9, 0.95], "warmup": 0.02, "decay": "cosine", "final": 0.05},
    "batch_size": 24,  # rows of `max_length` tokens
    "max_length": 512,
    "validation": 0.02,
    "max_validation": 12,
    "eval_every": 100,
    "save_every": 50,
}
PHASES = ((8_000_000, 0), (10_000_000, 1), (15_000_000, 3), (12_000_000, 4))  # tokens and seed of each warm restart
METHODS = {"mle": {}, "conditional": {"threshold": 0.0, "lines": True}}


def initialise(folder: Path, *, seed: int = 0) -> Path:
    """A random model with the task's tokenizer, as a folder to train from; made once."""
    if not (folder / "tokenizer_config.json").exists():  # written last
        tokenizer = load_tokenizer(ASSETS / "tokenizer")
        special = {"pad_token_id": 0, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        set_seed(seed)
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **special)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def documents(corpus: Path, split: str, *, scored: bool) -> Iterator[Feedback]:
    """The styled files of a split as documents; scored, each line is a segment with minus its findings per
    character."""
    rows = list(read_split(corpus, split))
    texts = [row["text"] for row in rows]
    with ProcessPoolExecutor() as pool:
        segments = pool.map(segments_by_line, texts, chunksize=8) if scored else [()] * len(rows)
        for row, parts in zip(rows, segments):
            yield Feedback(prompt="", responses=(Response(row["text"], segments=parts),), id=row["id"], source="pep8")


def pretrain(method: str, *, corpus: Path, out: Path, phases: Sequence[tuple[int, int]] = PHASES) -> Path:
    """Train one base model in phases, each from where the last one ended with a learning rate that rises and falls
    anew; the folder of the model.

    The files held out for validation are others in each phase, so a phase's own validation loss is of text that earlier
    ones have read; `heedful eval --task pep8` reads files that none has.
    """
    model = initialise(out / "init")
    feedback = list(documents(corpus, "base", scored=method != "mle"))
    for number, (tokens, seed) in enumerate(phases):
        settings = TRAINING | {"method": METHODS[method], "budget": {"tokens": tokens}, "seed": seed}
        model = _phase(method, model, feedback, out / f"phase-{number}", settings)
    return model


def _phase(method: str, model: Path, feedback: Sequence[Feedback], out: Path, settings: Mapping[str, Any]) -> Path:
    started = time.monotonic()

    def show(event) -> None:
        if event["step"] % 10 == 0:
            print(
                f"{time.monotonic() - started:7.0f}s step {event['step']} loss {event['loss']:.4f} "
                f"{event['tokens_per_second']:.0f} tokens/s, {event['seconds_left']:.0f}s left, "
                f"eval {event['metrics'].get('eval_loss', float('nan')):.4f}",
                flush=True,
            )

    run = train(
        method,
        model=model,
        feedback=feedback,
        out=out,
        settings=settings,
        resume=True,
        progress=show,
        export_dtype="bfloat16",
    )
    return run.model_path


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(pretrain(**vars(arguments)))


if __name__ == "__main__":
    main()
