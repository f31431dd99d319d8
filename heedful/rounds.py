"""What a run asks of its policy while it learns: the samples of each round, and measures on held-out prompts.

Processes share the work. A round's samples are on the disk before anything learns from them, so that a run that was
killed later draws none of them twice; one that is killed before all are judged draws them again.

Rounds behind the newest checkpoint stay too: they were drawn, judged and paid for. Where the steps between are not
repeated to the bit, as on CUDA, the weights that drew them differ from those that learn by the rounding of these steps;
objectives with a ratio are exact all the same, since the samples carry the log-probabilities that they were drawn with.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from heedful.batch import Group
from heedful.errors import NothingLeft, RunError
from heedful.learner import Learner
from heedful.method import Cost, Measure, Sampler, Say, Source
from heedful.records import Feedback, from_json, to_json
from heedful.runs import Run


def collect(
    source: Source,
    learner: Learner,
    run: Run,
    round_index: int,
    *,
    has_begun: bool = False,
    say: Say | None = None,
) -> tuple[Sequence[Any], Cost]:
    """The samples of a round and what they cost: those in the run folder where it has them, else new ones.

    Args:
        say: told how many responses are drawn, of how many.
        has_begun: the round has had updates, so that the policy is no longer the one that was asked.
    Raises:
        RunError: it has, and its samples are gone.
    """
    if not isinstance(source, Sampler):
        return source.collect(round_index, learner.policy), Cost()
    rows = run.read_round(round_index)
    if rows is None:
        if has_begun:
            raise _gone(run, round_index)
        before = partial(_read, run, round_index - 1)
        records = source.collect(round_index, learner.policy, learner.share, before=before, say=say)
        records = learner.gather(records)
        rows = [to_json(record) for record in records]
        if learner.accelerator.is_main_process:
            run.write_round(round_index, rows)
        learner.accelerator.wait_for_everyone()
    samples = _records(rows, round_index)
    return samples, source.cost(samples)


def _read(run: Run, round_index: int) -> list[Feedback]:
    """The samples of a round that is over; none before the first."""
    return _records(run.read_round(round_index) or [], round_index)


def _records(rows: Sequence[Mapping[str, Any]], round_index: int) -> list[Feedback]:
    return [from_json(row, f"round {round_index}") for row in rows]


def replayed(samples: Sequence[Any], run: Run, round_index: int, *, most: int | None, seed: int) -> Sequence[Any]:
    """What a round learns from: its samples and those of all rounds before, of which (seed, round) pick `most`; its own
    alone where that is None. Earlier rounds are in the run folder, so that nothing else has to be kept.

    Raises:
        RunError: those of an earlier round are gone.
    """
    if most is None:
        return samples
    every = [*_earlier(run, round_index), *samples]
    if len(every) <= most:
        return every
    picked = random.Random(f"{seed}:{round_index}:replay").sample(range(len(every)), most)
    return [every[n] for n in sorted(picked)]


def _earlier(run: Run, round_index: int) -> list[Any]:
    found = []
    for index in range(round_index):
        rows = run.read_round(index)
        if rows is None:
            raise _gone(run, index)
        found += _records(rows, index)
    return found


def _gone(run: Run, round_index: int) -> RunError:
    hint = "restore the file, or start in another folder"
    return RunError(f"the samples of round {round_index} are gone", where=str(run.path / "rounds"), hint=hint)


def rows(
    targets: Callable[[Sequence[Any]], Sequence[Group]], samples: Sequence[Any], round_index: int, *, is_first: bool
) -> list[Group]:
    """What a round learns from: nothing, with a warning, where nothing is left of its samples. What the rounds before
    taught is not lost to it: the next draws anew, until a whole pass over the prompts has left nothing.

    Raises:
        NothingLeft: of the first, so that there is nothing to lose.
    """
    try:
        return list(targets(samples))
    except NothingLeft as error:
        if is_first:
            raise
        warnings.warn(f"round {round_index} teaches nothing: {error.what}", stacklevel=2)
        return []


def watched(source: Source, samples: Sequence[Any]) -> dict[str, float]:
    """What a source that asks the policy has logged of its samples."""
    return dict(source.metrics(samples)) if isinstance(source, Sampler) else {}


def begin(measures: Sequence[Measure], learner: Learner) -> Cost:
    """Show the policy of the start to the measures."""
    return _total(learner, [measure.begin(learner.policy, learner.share) for measure in measures])


def measure(measures: Sequence[Measure], learner: Learner) -> tuple[dict[str, float], Cost]:
    """The mean of each measure over its prompts; one without a prompt is left out."""
    if not measures:  # or processes would wait for those that do not evaluate
        return {}, Cost()
    metrics, costs = {}, []
    for one in measures:
        mine, cost = one(learner.policy, learner.share)
        costs.append(cost)
        if values := learner.gather(mine):
            metrics[one.name] = sum(values) / len(values)
    return metrics, _total(learner, costs)


def _total(learner: Learner, costs: Sequence[Cost]) -> Cost:
    return sum(learner.gather([sum(costs, Cost())]), Cost())
