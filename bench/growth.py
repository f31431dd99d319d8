"""How the cost of a reward model's step grows with the length of prompts and the number of responses, beside plain.

Run: python bench/growth.py [--prompts 100 500 1000 2000] [--ks 2 4 9] [--size 50M] ...; one line for the whole table.
"""

import statistics

import torch
from common import Ours, Work, arguments, ratio, say, take_turns
from side_by_side import plain, quiet

RESPONSE, PROMPT, K = 50, 220, 4


def measure(args, prompt: int, k: int) -> dict:
    """Seconds a prompt of heedful and of the plain loop."""
    steps = args.warmup + args.steps
    shape = {"prompt": prompt, "response": RESPONSE}
    work = Work("reward_model", k, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {}, **shape)
    times = take_turns({"ours": Ours(work).step, "plain": plain(work, 1024)}, steps)
    clock = times.cpu if args.threads == 1 else times.wall
    ours, theirs = (clock[side][args.warmup :] for side in ("ours", "plain"))
    seconds = statistics.median(ours) / args.batch_size
    return {"prompt": prompt, "k": k, "ours": round(seconds, 4), "ratio_plain": round(ratio(theirs, ours), 3)}


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    table = [measure(args, prompt, K) for prompt in args.prompts] + [measure(args, PROMPT, k) for k in args.ks]
    result = {"workload": "growth", "unit": "seconds a prompt", "response": RESPONSE, "table": table}
    say(result | {"size": args.size, "dtype": args.dtype, "steps": args.steps}, args)


if __name__ == "__main__":
    parser = arguments(__doc__, batch_size=4)
    parser.add_argument("--prompts", type=int, nargs="*", default=[100, 500, 1000, 2000])
    parser.add_argument("--ks", type=int, nargs="*", default=[2, 4, 9])
    main(parser.parse_args())
