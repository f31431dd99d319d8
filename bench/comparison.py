"""Six methods in one `compare` against the sum of six with one method each: what is shared is made once.

Run: python bench/comparison.py [--budget 20000] [--prompts 16]; `share` is one comparison over the sum of six.
"""

import tempfile
import time
from pathlib import Path

import torch
from common import arguments, say
from side_by_side import quiet

from heedful import compare
from heedful.tasks.named import load_task

METHODS = ("sft", "filtering", "rwr", "dpo", "kto", "slic_hf")


def seconds(methods, args) -> float:
    """How long a comparison takes, on the processor with one thread, else on the clock."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        task = load_task("pep8", num_prompts=args.prompts)
        found = compare(task, methods=methods, out=Path(folder) / "run", budget={"tokens": args.budget})
        failed = [row.method for row in found.rows if row.status == "failed"]
        assert not failed, f"{failed} failed"
        return clock() - start


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    alone = {method: round(seconds([method], args), 1) for method in args.methods}
    together = seconds(args.methods, args) if len(args.methods) > 1 else alone[args.methods[0]]
    result = {"workload": "comparison", "share": round(together / sum(alone.values()), 3)}
    result |= {"together": round(together, 1), "alone": alone, "tokens": args.budget, "prompts": args.prompts}
    say(result, args)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--budget", type=int, default=20_000, help="tokens a method")
    parser.add_argument("--prompts", type=int, default=16, help="that each model answers")
    main(parser.parse_args())
