"""Finetuning on prompts with responses, the prompt masked, beside TRL's SFTTrainer and the plain loop.

Run: python bench/sft.py [--size 50M] [--vocabulary 32768] [--dtype bf16] [--threads 2] ...
"""

from common import Work, arguments
from side_by_side import compare

BEST = {"gradient_checkpointing": False, "micro": 4}


def main(args) -> None:
    steps = args.warmup + args.steps
    work = Work("sft", 1, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    compare("sft", work, args, best=BEST)


if __name__ == "__main__":
    main(arguments(__doc__).parse_args())
