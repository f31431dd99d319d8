"""A reward model on pairs, beside TRL's RewardTrainer and the plain loop.

Run: python bench/reward_pairs.py [--size 50M] [--vocabulary 32768] [--dtype bf16] [--threads 2] ...
"""

from common import Work, arguments
from side_by_side import compare

BEST = {"gradient_checkpointing": False, "micro": 4}  # padding-free does not exist for rewards


def main(args) -> None:
    steps = args.warmup + args.steps
    work = Work("reward_model", 2, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    compare("reward_pairs", work, args, best=BEST)


if __name__ == "__main__":
    main(arguments(__doc__).parse_args())
