"""Trees against plain rows, from prompts of a fifth of the response to twenty times it, and what the cost model picks.

Forward and backward of the same pairs in both layouts, in turn. `regret` is how much slower the chosen layout is than
the faster one; the most of all is to stay below 3%.
Run: python bench/crossover.py [--k 4] [--tokens 300] [--size 50M] ...
"""

import torch
from common import Ours, Work, arguments, ratio, say, take_turns
from side_by_side import quiet

from heedful.batch import collate, tree_is_cheaper

SHARES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # tokens of a prompt for each of a response


def lengths(share: float, tokens: int) -> tuple[int, int]:
    """Tokens of a prompt and of a response, together `tokens`."""
    response = max(1, round(tokens / (1 + share)))
    return tokens - response, response


def measure(args, share: float) -> dict:
    """Seconds of both layouts, and how much worse the chosen one is."""
    prompt, response = lengths(share, args.tokens)
    shape = {"prompt": prompt - 1, "response": response - 1}  # BOS and EOS come with them
    work = Work("reward_model", args.k, args.size, args.vocabulary, args.dtype, args.batch_size, 1, {}, **shape)
    learner = Ours(work).loop.learner
    groups = Ours(work).groups

    def layout(tree: bool):
        batch = collate(groups, tree=tree)

        def run() -> float:
            loss = learner.module(batch).reward.sum()
            loss.backward()
            learner.optimizer.zero_grad()
            return loss.item()

        return run

    times = take_turns({"tree": layout(True), "plain": layout(False)}, args.warmup + args.steps)
    clock = times.cpu if args.threads == 1 else times.wall
    speedup = ratio(clock["plain"][args.warmup :], clock["tree"][args.warmup :])
    picked = "tree" if tree_is_cheaper(groups) else "plain"
    regret = max(0.0, 1 / speedup - 1 if picked == "tree" else speedup - 1)
    return {"share": share, "plain_over_tree": round(speedup, 3), "picked": picked, "regret": round(regret, 4)}


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    found = [measure(args, share) for share in SHARES]
    worst = max(one["regret"] for one in found)
    shape = {"k": args.k, "tokens": args.tokens, "size": args.size, "dtype": args.dtype, "steps": args.steps}
    say({"workload": "crossover", "regret": worst, **shape, "shares": found}, args)


if __name__ == "__main__":
    parser = arguments(__doc__, batch_size=4)
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=270, help="of a prompt and one response")
    main(parser.parse_args())
