"""heedful, TRL and the plain loop take turns on one `Work`; what comes out is one line of JSON."""

import logging
import statistics
import warnings

import torch
from common import DTYPES, LR, SIZES, Ours, Work, language_model, peak_of, ratio, say, take_turns
from plain import Plain, Row
from theirs import Theirs

from heedful.methods.reward_model import HEAD
from heedful.policy import ScalarHead

PLAIN = {"sft": "sft", "reward_model": "reward", "dpo": "dpo", "slic_hf": "slic"}


def quiet() -> None:
    """Trainers talk; the line of JSON is what counts."""
    warnings.filterwarnings("ignore")
    for name in ("transformers", "trl", "datasets", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import datasets

    datasets.disable_progress_bars()


def compare(name: str, work: Work, args, *, best: dict, plain_tokens: int = 1024, **training) -> None:
    """Measure and say it.

    Args:
        best: TRL's settings, the fastest of those tried that compute the same loss.
        plain_tokens: padded tokens a forward of the plain loop, the best of 512, 1024 and 2048.
        training: settings of heedful's loop; its defaults otherwise.
    """
    quiet()
    torch.set_num_threads(args.threads)
    head = _head(work) if work.method == "reward_model" else None
    makers = {
        "ours": lambda: Ours(work, **training).step,
        "theirs": lambda: Theirs(work, head, **best, is_sorted=True).step,
        "plain": lambda: plain(work, plain_tokens),
        "in_order": lambda: Theirs(work, head, **best).step,
        "defaults": lambda: Theirs(work, head).step,
    }
    asked = {"ours": True, "theirs": True, "plain": True, "in_order": args.in_order, "defaults": args.defaults}
    makers = {side: make for side, make in makers.items() if asked[side]}
    memory = {side: peak_of(makers[side]) for side in ("ours", "theirs", "plain")} if args.memory else {}
    times = take_turns({side: make() for side, make in makers.items()}, work.steps)
    clock = times.cpu if args.threads == 1 else times.wall
    counted = {side: values[args.warmup :] for side, values in clock.items()}
    say(
        {
            "workload": name,
            "ratio": round(ratio(counted["theirs"], counted["ours"]), 3),
            "ratio_plain": round(ratio(counted["plain"], counted["ours"]), 3),
            **{
                f"ratio_{side}": round(ratio(counted[side], counted["ours"]), 3)
                for side in ("in_order", "defaults")
                if side in counted
            },
            **{side: round(statistics.median(values), 4) for side, values in counted.items()},
            "unit": "seconds a step, median; " + ("processor time" if args.threads == 1 else "on the clock"),
            "memory_ratio": round(memory["ours"] / memory["theirs"], 3) if memory else None,
            "memory_mb": {side: round(value / 2**20) for side, value in memory.items()},
            "loss_difference": _largest(times.losses, "theirs"),
            "loss_difference_plain": _largest(times.losses, "plain"),
            "loss": [round(times.losses["ours"][0], 5), round(times.losses["ours"][-1], 5)],
            "steps": work.steps - args.warmup,
            "warmup": args.warmup,
            "size": work.size,
            "parameters": _parameters(work),
            "vocabulary": work.vocabulary,
            "dtype": work.dtype,
            "batch_size": work.batch_size,
            "settings": {"ours": training, "theirs": best, "plain": {"micro_tokens": plain_tokens}},
        },
        args,
    )


def _largest(losses: dict[str, list[float]], side: str) -> float:
    """The largest difference of a step's loss from ours, over all steps: the weights stay as alike as the losses."""
    return max(abs(a - b) for a, b in zip(losses["ours"], losses[side], strict=True))


def plain(work: Work, micro_tokens: int):
    """A step of the plain loop, on heedful's own tokens and log-probabilities of the start."""
    ours = Ours(work)  # rows and reference
    rows = [
        Row(
            list(group.prompt),
            [list(branch.tokens) for branch in group.branches],
            [sum(branch.streams.get("ref_logp", ())) for branch in group.branches],
        )
        for group in ours.groups
    ]
    del ours
    loop = Plain(
        language_model(work.size, work.vocabulary),
        PLAIN[work.method],
        _head(work)[0] if work.method == "reward_model" else None,
        lr=LR,
        dtype=DTYPES[work.dtype],
        micro_tokens=micro_tokens,
    )
    steps = iter(range(work.steps))
    return lambda: loop.step(work.rows(rows, next(steps)))


def _head(work: Work) -> torch.Tensor:
    return ScalarHead(SIZES[work.size]["hidden_size"], HEAD, seed=0).linear.weight.detach()


def _parameters(work: Work) -> int:
    return sum(weight.numel() for weight in language_model(work.size, work.vocabulary).parameters())
