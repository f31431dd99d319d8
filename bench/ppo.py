"""PPO: where the time of a round goes, and its update beside the passes of TRL 1.9 (trl_ppo.py).

A round is heedful's own, with its loop and its source: 128 prompts, K responses of 64 tokens at most, values from a
head on the shared trunk, one pass in steps of 16 prompts with as many documents of 284 tokens as responses mixed in.
Then both sides train on the same steps of that round, without documents, turn by turn: with a value head on the shared
trunk, which TRL's passes read twice, and with a value network of its own. Only prompts whose responses all have full
length are trained on there, so that TRL's means over micro-batches are those over all.

Run: python bench/ppo.py [--ks 1 4] [--prompts 128] [--size 50M] ...; `ratio` is the smallest with a shared trunk,
`ratio_own` with a network of its own.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import CONTEXT, DTYPES, LR, arguments, language_model, rankings, ratio, say, take_turns, word_tokenizer
from side_by_side import quiet
from trl_ppo import Rollout, TrlPPO

from heedful import decoding, rounds, sampling
from heedful.batch import Group
from heedful.config import Training, parse
from heedful.learner import Learner
from heedful.loop import _Loop
from heedful.method import Inputs
from heedful.methods import ppo
from heedful.policy import Policy
from heedful.probing import probe
from heedful.records import Feedback
from heedful.runs import Run
from heedful.schedule import step_rows
from heedful.sources import rollouts
from heedful.text import Text

OPTIM = {"lr": LR, "betas": (0.9, 0.95), "eps": 1e-5}
DOCUMENT = 284  # tokens: a prompt of the mean length and its response
PARTS = (  # of a round, as they are shown
    *("drawing: prompts", "drawing: model", "drawing: choice", "drawing: rest", "values", "log-probs compared"),
    *("log-probs of the start", "scoring", "records and files", "targets", "collating", "forward", "backward"),
    *("documents: forward", "documents: backward", "optimizer", "metrics and log", "rest"),
)


class Clock:
    """Seconds of named parts, each without the parts inside it."""

    def __init__(self, now: Callable[[], float]):
        self.now, self.last = now, now()
        self.seconds: dict[str, float] = defaultdict(float)
        self.open = ["rest"]

    def charge(self) -> None:
        """What has passed since the last time belongs to the innermost open part."""
        now = self.now()
        self.seconds[self.open[-1]] += now - self.last
        self.last = now

    @contextmanager
    def part(self, name: str):
        self.charge()
        self.open.append(name)
        try:
            yield
        finally:
            self.charge()
            self.open.pop()

    def timed(self, function: Callable, name: str | Callable[..., str]) -> Callable:
        """The function, each call of it a part; `name` may be made from the arguments."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*args)):
                return function(*args, **kwargs)

        return call


class PPORun:
    """heedful's own loop on synthetic prompts.

    Args:
        k: responses to a prompt.
        has_documents: PPO-ptx.
        has_critic: a value network of its own, not a head on the trunk.
    """

    def __init__(self, args, k: int, *, has_documents: bool = False, has_critic: bool = False):
        feedback: list[Feedback] = rankings(args.prompts, 1, args.vocabulary)
        settings = {"judge": "common:judge", "num_prompts": args.prompts, "num_samples": k, "critic": "shared"}
        settings |= {"max_tokens": args.response, "ema": None}
        if has_documents:
            feedback += _documents(args.vocabulary)
            settings |= {"ptx_coef": 1.0, "ptx_rows": args.batch_size * k}
        self.config = parse(ppo.Config, settings)
        text = Text(word_tokenizer(args.vocabulary), max_length=CONTEXT)
        method = ppo.build(self.config, Inputs(feedback, text))
        policy = Policy(language_model(args.size, args.vocabulary), {} if has_critic else method.heads)
        probe(policy)
        policy.keep_start()
        if has_critic:
            policy.critic = Policy(language_model(args.size, args.vocabulary), method.heads)
            probe(policy.critic)
        training = Training(
            optim={**OPTIM, "weight_decay": 0.0, "warmup": 0.0, "decay": "constant", "clip": 1e9},
            budget={"steps": 10**9},
            batch_size=args.batch_size,
            dtype={"fp32": "float32", "bf16": "bfloat16"}[args.dtype],
            eval_every=10**9,
            save_every=10**9,
        )
        self.folder = tempfile.TemporaryDirectory()
        (Path(self.folder.name) / "rounds").mkdir()
        self.loop = _Loop(method, Learner(policy, training), Run(self.folder.name), (), None, self._logged)

    def _logged(self, metrics) -> None:
        self.loss = metrics.get("loss")

    def groups(self) -> list[Group]:
        """The rows of the first round."""
        return list(self.loop.method.targets(self.loop._samples(0)))

    def step_on(self, groups: list[Group]) -> float:
        """One optimizer step on the next of these rows; the loss before it."""
        self.loop._step(groups, self.loop._limit(groups))
        return self.loss


def _documents(vocabulary: int) -> list[Feedback]:
    rows = rankings(64, 1, vocabulary, response=DOCUMENT, seed=1)
    return [Feedback("", row.responses, id=f"document {row.id}") for row in rows]


def timed_round(args, k: int, now: Callable[[], float]) -> tuple[dict[str, float], list[Group]]:
    """Seconds of each part of a round with documents, and its rows."""
    run = PPORun(args, k, has_documents=True)
    num_documents = sum(len(mix.groups) for mix in run.loop.method.mixes)
    assert num_documents, "documents become tokens once in a training: not a part of a round"
    sampling.generate(run.loop.learner.policy.lm, run.loop.method.source.text, [[1]], sampling.Sampling(max_tokens=1))
    clock = Clock(now)
    with _watched(run.loop, clock):
        groups = run.groups()
        for _ in range(-(-len(groups) // args.batch_size)):
            run.step_on(groups)
        clock.charge()
    return {name: round(clock.seconds[name], 3) for name in PARTS if name in clock.seconds}, groups


def _watched(loop: _Loop, clock: Clock) -> ExitStack:
    """The parts of a round, timed while this is open."""
    learner, stack = loop.learner, ExitStack()
    policy, documents, kind = learner.policy, loop.method.mixes[0].objective, [""]

    def forward(terms, *rest) -> str:
        kind[0] = "documents: " if terms is documents else ""
        return f"{kind[0]}forward"

    def who(asked, *rest) -> str:
        return "log-probs compared" if asked is policy else "log-probs of the start"

    parts = [
        (rounds, "collect", "records and files"),
        (rollouts, "generate", "drawing: rest"),
        (decoding._Cached, "start", "drawing: prompts"),
        (decoding._Cached, "step", "drawing: model"),
        (sampling, "_draw", "drawing: choice"),
        (sampling, "_without", "drawing: choice"),
        (policy.heads["value"], "forward", "values"),
        (rollouts, "read_logp", who),
        (rollouts, "scored", "scoring"),
        (loop, "_step", "metrics and log"),
        (learner, "batches", "collating"),
        (learner, "_loss", forward),
        (learner.accelerator, "backward", lambda *_: f"{kind[0]}backward"),
        (learner.optimizer, "step", "optimizer"),
    ]
    for owner, name, part in parts:
        stack.enter_context(patch.object(owner, name, clock.timed(getattr(owner, name), part)))
    loop.method = replace(loop.method, targets=clock.timed(loop.method.targets, "targets"))
    return stack


def update(args, k: int, groups: list[Group], *, has_critic: bool) -> dict[str, Any]:
    """Seconds of a step of each side on the same rows of a round, and the ratio."""
    full = [group for group in groups if all(len(branch.tokens) == args.response for branch in group.branches)]
    full = full[: len(full) // args.batch_size * args.batch_size]
    assert full, f"fewer than {args.batch_size} prompts have only responses of full length: give more --prompts"
    ours, width = PPORun(args, k, has_critic=has_critic), max(len(group.prompt) for group in full)
    ours.loop.method = replace(ours.loop.method, mixes=[])
    sides = {"ours": lambda: ours.step_on(full)}
    for name, in_order in {"theirs": False, "in_order": True}.items():
        if not in_order or args.in_order:
            sides[name] = _theirs(args, ours.config, full, width, has_critic, in_order)
    times = take_turns(sides, args.warmup + args.steps)
    clock = times.cpu if args.threads == 1 else times.wall
    counted = {side: values[args.warmup :] for side, values in clock.items()}
    gaps = [abs(a - b) for a, b in zip(times.losses["ours"], times.losses["theirs"], strict=True)]
    return {
        "k": k,
        "values": "a network of its own" if has_critic else "shared trunk",
        **{
            "ratio" if side == "theirs" else f"ratio_{side}": round(ratio(counted[side], counted["ours"]), 2)
            for side in list(sides)[1:]
        },
        **{side: round(statistics.median(values), 4) for side, values in counted.items()},
        "loss_difference": max(gaps),
        "loss": [round(times.losses["ours"][0], 5), round(times.losses["ours"][-1], 5)],
    }


def _theirs(args, config: ppo.Config, full: list[Group], width: int, has_critic: bool, in_order: bool):
    """A step of TRL's passes on the rows that heedful trains on in it."""
    lm = language_model(args.size, args.vocabulary)
    value_lm = language_model(args.size, args.vocabulary) if has_critic else lm
    head = Policy(lm, {"value": ppo.HEAD}).heads["value"].linear
    side = TrlPPO(
        *(lm, value_lm.base_model, head), optim=OPTIM, micro=args.micro, dtype=DTYPES[args.dtype], in_order=in_order
    )
    done = [0]

    def step() -> float:
        index, done[0] = done[0], done[0] + 1
        rows = step_rows(full, args.batch_size, seed=0, round_index=0, index=index)
        knobs = {"clip": config.clip, "value_clip": config.value_clip, "vf_coef": config.vf_coef}
        return side.step([one for group in rows for one in _rollouts(group)], width=width, **knobs)

    return step


def _rollouts(group: Group) -> list[Rollout]:
    names = ("old_logp", "old_value", "advantage", "returns")
    return [
        Rollout(list(group.prompt), list(branch.tokens), *(list(branch.streams[name]) for name in names))
        for branch in group.branches
    ]


def show(table: dict[int, dict[str, float]], args) -> None:
    """Seconds of each part and its share of the round, a column for each K."""
    print(f"a round of {args.prompts} prompts, responses of {args.response} tokens: seconds of each part, and shares")
    print(f"{'':24}" + "".join(f"{f'K={k}':>18}" for k in table))
    for part in PARTS:
        cells = [(table[k].get(part, 0.0), sum(table[k].values())) for k in table]
        print(f"{part:24}" + "".join(f"{seconds:11.2f} {seconds / total:6.1%}" for seconds, total in cells))
    print(f"{'all':24}" + "".join(f"{sum(parts.values()):11.2f} {1:6.1%}" for parts in table.values()), flush=True)


def main(args) -> None:
    quiet()
    torch.set_num_threads(args.threads)
    now = time.process_time if args.threads == 1 else time.perf_counter
    table, updates = {}, []
    for k in args.ks:
        table[k], groups = timed_round(args, k, now)
        updates += [update(args, k, groups, has_critic=has_critic) for has_critic in (False, True)]
    show(table, args)
    shared, own = (min(one["ratio"] for one in updates[first::2]) for first in range(2))
    result = {"workload": "ppo", "ratio": shared, "ratio_own": own, "updates": updates}
    result |= {"loss_difference": max(one["loss_difference"] for one in updates)}
    result |= {"rounds": {f"k{k}": parts for k, parts in table.items()}}
    result |= {"episodes_per_second": {f"k{k}": round(args.prompts * k / sum(table[k].values()), 2) for k in table}}
    result |= {"unit": "seconds; " + ("processor time" if args.threads == 1 else "on the clock")}
    names = ("steps", "warmup", "size", "vocabulary", "dtype", "batch_size", "prompts", "response", "micro")
    say(result | {name: getattr(args, name) for name in names}, args)


if __name__ == "__main__":
    parser = arguments(__doc__, batch_size=16, steps=6, warmup=2)
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 4], help="responses to a prompt")
    parser.add_argument("--prompts", type=int, default=128, help="of a round")
    parser.add_argument("--response", type=int, default=64, help="most tokens of one")
    parser.add_argument("--micro", type=int, default=4, help="rows of a micro-batch of TRL's passes")
    main(parser.parse_args())
