"""A step on pairs, DPO or SLiC, beside TRL's trainers and the plain loop; log-probabilities of the start are there.

TRL's peer of SLiC is CPO with its hinge loss: it reads no reference, and weighs the imitated response by alpha.
Run: python bench/pairs.py [--loss slic] [--size 50M] [--vocabulary 32768] [--dtype bf16] [--threads 2] ...
"""

from common import Work, arguments
from side_by_side import compare

# SLiC's second term is a mean over tokens, which TRL takes a forward at a time: accumulating would change its loss.
BEST = {
    "dpo": {"gradient_checkpointing": False, "precompute_ref_log_probs": True, "micro": 4},
    "slic_hf": {"gradient_checkpointing": False},
}


def main(args) -> None:
    steps = args.warmup + args.steps
    method = {"dpo": "dpo", "slic": "slic_hf"}[args.loss]
    work = Work(method, 2, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    name = "pairs" if args.loss == "dpo" else "pairs_slic"
    compare(name, work, args, best=BEST[method])


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--loss", choices=("dpo", "slic"), default="dpo")
    main(parser.parse_args())
