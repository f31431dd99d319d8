"""Sampling beside Hugging Face `generate`, in one process, turn by turn; ours also keeps log-probabilities.

`fork16`, `fork48` and `batch` are of the embedded base's shape, `rows160` and `rows160_forked` of five million
parameters with a vocabulary of 8,192: 128 rows whose context ends at 160 tokens at most, a round of PPO. Beside them
stands what no sampler could be faster than here: see `roofline`.

Run: python bench/sampling.py [--threads 2] [--rounds 5] [fork16|fork48|batch|rows160|rows160_forked ...]; one line of
JSON per workload. Above 1 ours is faster. On a machine with other work look at cpu_ratio, with one thread.
"""

import argparse
import json
import platform
import random
import statistics
import time

import torch
import transformers
from common import language_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from heedful.decoding import PREFILL_TOKENS, decoders
from heedful.sampling import Sampling, generate


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


def five_million() -> LlamaForCausalLM:
    """The other benchmarks' model, which ends no response."""
    lm = language_model("5M", 8192).eval()
    lm.generation_config.eos_token_id = None
    return lm


# name: (model, prompts, shortest, longest, responses per prompt, new tokens)
WORKLOADS = {
    "fork16": (four_million, 1, 300, 300, 8, 16),
    "fork48": (four_million, 1, 300, 300, 8, 48),
    "batch": (four_million, 128, 100, 200, 1, 128),
    "rows160": (five_million, 128, 32, 96, 1, 64),
    "rows160_forked": (five_million, 32, 32, 96, 4, 64),
}
REPEATS = 20  # of what the roofline times; the best counts


class NoText:
    """Decoding is not measured."""

    eos_id = None

    def decode(self, ids):
        return ""


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


def best_of(run) -> float:
    """Seconds on the clock, the least of several."""
    found = []
    for _ in range(REPEATS):
        before = time.perf_counter()
        run()
        found.append(time.perf_counter() - before)
    return min(found)


@torch.inference_mode()
def roofline(lm, lengths: list[int], k: int, num_new: int) -> dict:
    """Sampled tokens a second if a step took no longer than its matrix products at the rate at which this machine does
    just these, or than reading weights, keys and values once from memory, whichever is longer; and if a prompt took no
    more than its matrix products. Left out: attention's own products, norms, the choice of a token, all overhead.
    """
    rows, linears = len(lengths) * k, [module for module in lm.modules() if isinstance(module, nn.Linear)]

    def products(num_rows: int, layers: list[nn.Linear]) -> float:
        states = {layer.in_features: torch.randn(num_rows, layer.in_features) for layer in layers}
        return best_of(lambda: [layer(states[layer.in_features]) for layer in layers])

    with decoders(lm):  # which chooses who multiplies
        of_step = products(rows, linears)
        num_together = min(PREFILL_TOKENS, sum(lengths))
        of_prompts = products(num_together, [one for one in linears if one is not lm.lm_head])
    flops = 2 * sum(layer.weight.numel() for layer in linears)
    large = torch.empty(2, 2**26)  # 256 MB each way: more than a cache holds
    bandwidth = 2 * large[0].nbytes / best_of(lambda: large[0].copy_(large[1]))
    config = lm.config
    of_token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.hidden_size
    of_token //= config.num_attention_heads
    own = [of_token * k * (num_new + 1) / 2 for _ in lengths]  # what follows a prompt, on average over steps
    moved = 4 * sum(p.numel() for p in lm.parameters()) + sum(own) + of_token * sum(lengths)
    seconds = of_prompts * sum(lengths) / num_together + num_new * max(of_step, moved / bandwidth)
    return {
        "tokens_per_second": round(rows * num_new / seconds),
        "gflops": round(rows * flops / of_step / 1e9, 1),
        "gigabytes_per_second": round(bandwidth / 1e9, 1),
        "milliseconds_a_step": {"products": round(1e3 * of_step, 2), "memory": round(1e3 * moved / bandwidth, 2)},
        "milliseconds_of_prompts": round(1e3 * of_prompts * sum(lengths) / num_together, 1),
    }


def measure(name: str, rounds: int) -> dict:
    """Seconds of each, the median over rounds of theirs / ours, and tokens per second."""
    make, num_prompts, shortest, longest, k, num_new = WORKLOADS[name]
    lm, rng = make(), random.Random(0)
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
    bound = roofline(lm, lengths, k, num_new)
    return {
        "workload": f"sampling_{name}",
        "ratio": round(statistics.median(ratios), 2),
        "ours": round(min(wall["ours"]), 4),
        "theirs": round(min(wall["theirs"]), 4),
        "unit": "s, best of rounds",
        "cpu_ratio": round(min(cpu["theirs"]) / min(cpu["ours"]), 2),
        "tokens_per_second": round(tokens / min(wall["ours"])),
        "share_of_roofline": round(tokens / min(wall["ours"]) / bound["tokens_per_second"], 3),
        "roofline": bound,
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
    for workload in args.workloads:
        print(json.dumps(measure(workload, args.rounds)), flush=True)
