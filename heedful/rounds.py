"""What a run asks of its policy while it learns: the samples of each round, and measures on held-out prompts.

Processes share the work. A round's samples are on the disk before anything learns from them, so that a run that was
killed later draws none of them twice; one that is killed before all are judged draws them again.
"""

from collections.abc import Sequence
from typing import Any

from heedful.errors import RunError
from heedful.learner import Learner
from heedful.method import Cost, Measure, Sampler, Source
from heedful.records import from_json, to_json
from heedful.runs import Run


def collect(
    source: Source, learner: Learner, run: Run, round_index: int, *, has_begun: bool = False
) -> tuple[Sequence[Any], Cost]:
    """The samples of a round and what they cost: those in the run folder where it has them, else new ones.

    Args:
        has_begun: the round has had updates, so that the policy is no longer the one that was asked.
    Raises:
        RunError: it has, and its samples are gone.
    """
    if not isinstance(source, Sampler):
        return source.collect(round_index, learner.policy), Cost()
    rows = run.read_round(round_index)
    if rows is None:
        if has_begun:
            hint = "restore the file, or start in another folder"
            raise RunError(f"the samples of round {round_index} are gone", where=str(run.path / "rounds"), hint=hint)
        records = learner.gather(source.collect(round_index, learner.policy, learner.share))
        rows = [to_json(record) for record in records]
        if learner.accelerator.is_main_process:
            run.write_round(round_index, rows)
        learner.accelerator.wait_for_everyone()
    samples = [from_json(row, f"round {round_index}") for row in rows]
    return samples, source.cost(samples)


def begin(measures: Sequence[Measure], learner: Learner) -> Cost:
    """Show the policy of the start to the measures."""
    return _total(learner, [measure.begin(learner.policy, learner.share) for measure in measures])


def measure(measures: Sequence[Measure], learner: Learner) -> tuple[dict[str, float], Cost]:
    """The mean of each measure over its prompts; one without a prompt is left out."""
    metrics, costs = {}, []
    for one in measures:
        mine, cost = one(learner.policy, learner.share)
        costs.append(cost)
        if values := learner.gather(mine):
            metrics[one.name] = sum(values) / len(values)
    return metrics, _total(learner, costs)


def _total(learner: Learner, costs: Sequence[Cost]) -> Cost:
    return sum(learner.gather([sum(costs, Cost())]), Cost())
