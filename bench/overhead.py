"""What heedful's loop costs beyond the forward, backward and optimizer step of the same batches, made beforehand.

Run: python bench/overhead.py [--method dpo] [--size 50M] ...; `overhead` 0.03 is 3% more than bare.
"""

import statistics

import torch
from common import Ours, Work, arguments, ratio, say, take_turns
from side_by_side import quiet


def bare(ours: Ours):
    """The same step by hand: no rows to choose, no log, no check, no clipping of another kind."""
    learner, work = ours.loop.learner, ours.work
    terms = ours.loop.method.objective
    steps = iter([learner.batches(work.rows(ours.groups, step)) for step in range(work.steps)])

    def step() -> float:
        total = 0.0
        for batch in next(steps):
            outputs = learner.module(batch)
            done = [(spec.coef, spec(outputs, batch, {}).total) for spec in terms if spec.coef]
            loss = sum(coef * value for coef, value in done) / work.batch_size
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(learner.policy.parameters(), 1.0)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        return total

    return step


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    steps = args.warmup + args.steps
    work = Work(args.method, 2, args.size, args.vocabulary, args.dtype, args.batch_size, steps, {})
    times = take_turns({"ours": Ours(work).step, "bare": bare(Ours(work))}, steps)
    clock = times.cpu if args.threads == 1 else times.wall
    ours, alone = (clock[side][args.warmup :] for side in ("ours", "bare"))
    result = {"workload": "overhead", "method": args.method, "overhead": round(ratio(ours, alone) - 1, 4)}
    result |= {"ours": round(statistics.median(ours), 4), "bare": round(statistics.median(alone), 4)}
    result |= {"steps": args.steps, "size": args.size, "vocabulary": args.vocabulary, "dtype": args.dtype}
    say(result, args)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--method", choices=("reward_model", "dpo"), default="reward_model")
    main(parser.parse_args())
