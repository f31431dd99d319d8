"""The speed of matrix products in a real step, as a share of the fastest this machine does at any size.

The peak is the best of square products; a step's is all floating-point operations of its products over the time in
them, as the profiler sees both. Time on the clock: on a machine with other work both are too low, not always alike.
Run: python bench/matmul.py [--size 50M] [--method dpo] ...
"""

import time

import torch
from common import DTYPES, Ours, Work, arguments, say
from side_by_side import quiet
from torch.profiler import ProfilerActivity, profile

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm"}


def peak(dtype: torch.dtype) -> float:
    """The most operations a second of products of 512 to 2048 square matrices, each tried for half a second."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        stop = time.perf_counter() + 0.5
        while (start := time.perf_counter()) < stop:
            torch.mm(a, b)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    steps = args.warmup + args.steps
    work = Work(args.method, 2, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    ours = Ours(work)
    for _ in range(args.warmup):
        ours.step()
    shares = []
    for _ in range(args.steps):
        top = peak(DTYPES[args.dtype])
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as seen:
            ours.step()
        events = [event for event in seen.key_averages() if event.key in PRODUCTS]
        seconds = sum(event.self_cpu_time_total for event in events) / 1e6
        every = sum(event.self_cpu_time_total for event in seen.key_averages()) / 1e6
        shares.append((sum(event.flops for event in events) / seconds / top, seconds / every, top))
    share, of_step, top = (sorted(column)[len(column) // 2] for column in zip(*shares))
    result = {"workload": "matmul", "method": args.method, "share_of_peak": round(share, 3)}
    result |= {"share_of_step": round(of_step, 3), "peak_gflops": round(top / 1e9, 1), "steps": args.steps}
    say(result | {"size": args.size, "vocabulary": args.vocabulary, "dtype": args.dtype}, args)


if __name__ == "__main__":
    parser = arguments(__doc__, steps=5, batch_size=8)
    parser.add_argument("--method", choices=("sft", "reward_model", "dpo"), default="dpo")
    main(parser.parse_args())
