"""What the benchmarks share: models from a configuration, rows of known lengths, turns taken, and one line of JSON."""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL's trainers send a ping when they are made

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from heedful import memory, schedule
from heedful.config import Training, parse
from heedful.learner import Learner
from heedful.loop import _Loop
from heedful.method import Inputs
from heedful.methods import load_method
from heedful.policy import Policy
from heedful.probing import probe
from heedful.records import Feedback, Response
from heedful.reference import reads_reference, with_reference
from heedful.runs import Run
from heedful.text import Text

PAD, BOS, EOS, FIRST_WORD = 0, 1, 2, 3
CONTEXT = 4096
SIZES = {  # parameters with a vocabulary of 8192; with 32768 the embedding alone grows
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "5M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4},
    "50M": {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 10, "num_attention_heads": 10},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LR = 1e-4  # of all sides, constant; AdamW without decay of weights, gradients clipped at 1


def language_model(size: str, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with grouped queries and tied embeddings, the same weights at every call."""
    torch.manual_seed(0)
    shape = SIZES[size]
    config = LlamaConfig(
        **shape,
        vocab_size=vocabulary,
        num_key_value_heads=shape["num_attention_heads"] // 2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A token a word: lengths in text are lengths in tokens, for every side."""
    words = {"<pad>": PAD, "<s>": BOS, "</s>": EOS} | {f"w{id}": id for id in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=CONTEXT
    )


def words(rng: random.Random, length: int, vocabulary: int) -> str:
    return "".join(f" w{rng.randrange(FIRST_WORD, vocabulary)}" for _ in range(length))


def rankings(number: int, k: int, vocabulary: int, *, prompt=None, response=None, seed: int = 0) -> list[Feedback]:
    """Prompts of 40 to 400 tokens, 220 in the mean, each with k ranked responses of 5 to 120, 50 in the mean.

    Args:
        prompt, response: another length, of all.
    """
    rng = random.Random(seed)
    return [
        Feedback(
            id=str(n),
            prompt=words(rng, prompt or rng.randint(40, 400), vocabulary),
            responses=tuple(
                Response(words(rng, response or round(rng.triangular(5, 120, 25)), vocabulary), rank=rank)
                for rank in range(1, k + 1)
            ),
        )
        for n in range(number)
    ]


def judge(prompt: str, response: str) -> float:
    """A score that costs nothing and differs from response to response, as `common:judge`."""
    return sum(map(ord, response)) % 97 / 97


@dataclass(frozen=True)
class Work:
    """What is measured: a method on rows, with a model, in a precision."""

    method: str
    k: int
    size: str
    vocabulary: int
    dtype: str
    batch_size: int
    steps: int
    settings: Mapping[str, Any]  # of the method
    prompt: int | None = None
    response: int | None = None

    @property
    def feedback(self) -> list[Feedback]:
        number = self.batch_size * self.steps
        return rankings(number, self.k, self.vocabulary, prompt=self.prompt, response=self.response)

    def rows(self, items: Sequence, step: int) -> list:
        """The part of `items` that heedful trains on in a step, for the others to do the same."""
        return schedule.step_rows(items, self.batch_size, seed=0, round_index=0, index=step)


class Ours:
    """heedful's own loop, a step at a time, its metrics written as in any run."""

    def __init__(self, work: Work, **training):
        self.work = work
        module = load_method(work.method)
        text = Text(word_tokenizer(work.vocabulary), max_length=CONTEXT)
        method = module.build(parse(module.Config, work.settings), Inputs(work.feedback, text))
        policy = Policy(language_model(work.size, work.vocabulary), method.heads, seed=0)
        probe(policy)
        settings = {"batch_size": work.batch_size, "budget": {"steps": work.steps}, "eval_every": 10**9} | training
        self.training = Training(
            optim={"lr": LR, "weight_decay": 0.0, "warmup": 0.0, "decay": "constant"},
            dtype={"fp32": "float32", "bf16": "bfloat16"}[work.dtype],
            save_every=10**9,
            **settings,
        )
        learner = Learner(policy, self.training)
        if reads_reference(method):
            method, _, _ = with_reference(method, method.source.collect(0), (), learner, None, list)
        self.folder = tempfile.TemporaryDirectory()
        self.loop = _Loop(method, learner, Run(self.folder.name), (), None, self._logged)
        self.groups = list(method.targets(method.source.collect(0)))
        assert len(self.groups) == work.batch_size * work.steps, "rows were lost"
        self.limit = self.loop._limit(self.groups)

    def _logged(self, metrics: Mapping[str, Any]) -> None:
        self.loss = metrics["loss"]

    def step(self) -> float:
        """One optimizer step; the loss before it."""
        self.loop._step(self.groups, self.limit)
        return self.loss


@dataclass
class Times:
    """Seconds of each step of each side, in processor time and on the clock, and the losses."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]
    losses: dict[str, list[float]]


def take_turns(sides: Mapping[str, Callable[[], float]], steps: int) -> Times:
    """Every side does each step in turn, so that what else the machine does hits all of them."""
    times = Times(*({name: [] for name in sides} for _ in range(3)))
    for _ in range(steps):
        for name, step in sides.items():
            cpu, wall = time.process_time(), time.perf_counter()
            times.losses[name].append(step())
            times.cpu[name].append(time.process_time() - cpu)
            times.wall[name].append(time.perf_counter() - wall)
    return times


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median over steps of slow / fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def peak_of(make: Callable[[], Callable[[], float]], steps: int = 2) -> int:
    """Bytes beyond the libraries' that a side holds at most while it trains: weights, optimizer and what a step needs.

    Args:
        make: builds a side and returns its step; called in a process of its own.
    """
    context = multiprocessing.get_context("fork")  # after the libraries are there, before any side is
    receive, send = context.Pipe(duplex=False)

    def measure() -> None:
        gc.collect()
        memory.forget_peak()
        before = memory.peak()
        step = make()
        memory.forget_peak()  # what building it took is not what training takes
        for _ in range(steps):
            step()
        send.send(memory.peak() - before)

    process = context.Process(target=measure)
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def machine() -> dict[str, Any]:
    """Where and with what a number was measured."""
    names = ("heedful", "trl", "torch", "transformers", "accelerate")
    return {
        "machine": {
            "processor": processor(),
            "cores": torch.multiprocessing.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": {name: version(name) for name in names},
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def arguments(doc: str, **defaults: Any) -> argparse.ArgumentParser:
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="5M")
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30, help="counted, after the warm-up")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8, help="prompts a step")
    parser.add_argument("--memory", action="store_true", help="also the peaks of memory, each in a process of its own")
    parser.add_argument("--defaults", action="store_true", help="also TRL at its defaults")
    parser.add_argument("--in-order", action="store_true", help="also TRL at its best on rows that nobody sorted")
    parser.add_argument("--note", default="", help="what else is to be known of the machine, kept with the result")
    parser.add_argument("--out", type=Path, help="file to append the line to")
    parser.set_defaults(**defaults)
    return parser


def say(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """The last line of a benchmark, and the same with machine, versions and command in a file if one is named."""
    command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    known = {**result, "threads": args.threads, "note": args.note, "command": command, **machine()}
    line = json.dumps(known)
    print(line, flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
