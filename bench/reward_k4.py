"""A reward model on rankings of four, beside TRL's RewardTrainer on their six pairs and the plain loop.

Run: python bench/reward_k4.py [--k 9] [--size 50M] [--vocabulary 32768] [--dtype bf16] [--threads 2] ...
"""

from common import Work, arguments
from side_by_side import compare

BEST = {"gradient_checkpointing": False, "micro": 4}


def main(args) -> None:
    steps = args.warmup + args.steps
    work = Work("reward_model", args.k, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    compare(f"reward_k{args.k}", work, args, best=BEST)


if __name__ == "__main__":
    parser = arguments(__doc__, batch_size=4)
    parser.add_argument("--k", type=int, default=4)
    main(parser.parse_args())
