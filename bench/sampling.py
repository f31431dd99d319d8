"""Sampling beside Hugging Face `generate`, in one process, turn by turn; ours also keeps log-probabilities.

Run: python bench/sampling.py [--threads 2] [--rounds 5] [fork16|fork48|batch ...]; one line of JSON per workload. Above
1 ours is faster. On a machine with other work look at cpu_ratio, with one thread.
"""

import argparse
import json
import platform
import random
import statistics
import time

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from heedful.sampling import Sampling, generate

# name: (prompts, shortest, longest, responses per prompt, new tokens)
WORKLOADS = {"fork16": (1, 300, 300, 8, 16), "fork48": (1, 300, 300, 8, 48), "batch": (128, 100, 200, 1, 128)}


class NoText:
    """Decoding is not measured."""

    eos_id = None

    def decode(self, ids):
        return ""


def four_million() -> LlamaForCausalLM:
    """The embedded base's shape: 4M parameters, vocabulary 4096, width 256, 4 layers, 4 heads on 2 key heads."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def hugging_face(lm, prompts, num_responses, num_new):
    """`generate` on left-padded prompts, with nothing switched on that ours does without."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    with torch.inference_mode():
        lm.generate(
            ids,
            attention_mask=(ids != 0).long(),
            do_sample=True,
            top_k=0,
            max_new_tokens=num_new,
            num_return_sequences=num_responses,
        )


def measure(lm, name: str, rounds: int) -> dict:
    """Seconds of each, the median over rounds of theirs / ours, and tokens per second."""
    num_prompts, shortest, longest, k, num_new = WORKLOADS[name]
    rng = random.Random(0)
    lengths = [rng.randint(shortest, longest) for _ in range(num_prompts)]
    prompts = [[1] + [rng.randrange(3, 4096) for _ in range(length - 1)] for length in lengths]
    settings = Sampling(max_tokens=num_new)
    sides = {
        "ours": lambda: generate(lm, NoText(), prompts, settings, k=k),
        "theirs": lambda: hugging_face(lm, prompts, k, num_new),
    }
    wall = {side: [] for side in sides}
    cpu = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, run in sides.items():
            before = time.perf_counter(), time.process_time()
            run()
            wall[side].append(time.perf_counter() - before[0])
            cpu[side].append(time.process_time() - before[1])
    ratios = [theirs / ours for ours, theirs in zip(wall["ours"][1:], wall["theirs"][1:])]  # the first round warms up
    tokens = num_prompts * k * num_new
    return {
        "workload": f"sampling_{name}",
        "ratio": round(statistics.median(ratios), 2),
        "ours": round(min(wall["ours"]), 4),
        "theirs": round(min(wall["theirs"]), 4),
        "unit": "s, best of rounds",
        "cpu_ratio": round(min(cpu["theirs"]) / min(cpu["ours"]), 2),
        "tokens_per_second": round(tokens / min(wall["ours"])),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "command": f"python bench/sampling.py --threads {torch.get_num_threads()} --rounds {rounds} {name}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="|".join(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = four_million()
    for workload in args.workloads:
        print(json.dumps(measure(model, workload, args.rounds)), flush=True)
