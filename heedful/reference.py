"""Log-probabilities under the model that a training starts from: made once, kept on disk, without a second model."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from heedful.adapters import plain_weights
from heedful.batch import Branch, Group
from heedful.disk import atomic_write_bytes, writing
from heedful.learner import Learner
from heedful.method import Method

STREAM = "ref_logp"
log = logging.getLogger(__name__)


def reads_reference(method: Method) -> bool:
    """Whether an objective reads log-probabilities of the model it starts from."""
    read = any(STREAM in spec.reads for spec in (*method.objective, *method.statistics))
    return read and not method.asks_start  # whose source brings its own


def with_reference(
    method: Method,
    samples: Sequence[Any],
    validation: Sequence[Group],
    learner: Learner,
    cache: Path | None,
    planned: Callable[[Sequence[Group]], Sequence[Group]],
) -> tuple[Method, list[Group], int]:
    """The method with rows, made of the samples of its one round, and the validation rows, that carry the stream
    `ref_logp`; and how many tokens were read.

    Called before a checkpoint is loaded: the learner must have the weights of the start.

    Args:
        planned: which of all rows the run will train; no other is read, or has the stream.
    """
    assert method.schedule.rounds == 1, "later rounds have rows that the start has not read"
    reference = Reference(learner, cache)
    groups = list(method.targets(samples))
    read = [*planned(groups), *validation]
    reference.read(read)
    known = {id(group) for group in read}
    rows = [reference(group) if id(group) in known else group for group in groups]
    size = sum(group.num_tokens for group in read)
    return replace(method, targets=lambda samples: rows), [reference(group) for group in validation], size


class Reference:
    """Gives each branch the stream `ref_logp`: per token, from the weights the learner has while `read` is called.

    What is read is kept under sha256(weights, precision, prompt ids, response ids), so that every method of a
    comparison, and a run that is resumed, finds it.

    Args:
        learner: with the weights of the start, in the precision it trains in: the first ratio is exactly 1.
        cache: a folder, or None to keep nothing.
    """

    def __init__(self, learner: Learner, cache: Path | None = None):
        self.learner = learner
        self.known: dict[str, Tensor] = {}
        self.path = cache / f"{_fingerprint(learner)}.safetensors" if cache else None
        if self.path and self.path.exists():
            self.known = _kept(self.path)

    def read(self, groups: Sequence[Group]) -> None:
        """Make what is not known yet of these groups, and keep it."""
        lacking = [group for group in groups if any(_key(group, branch) not in self.known for branch in group.branches)]
        for group, parts in zip(lacking, self.learner.read(lacking)):
            self.known |= {_key(group, branch): part for branch, part in zip(group.branches, parts)}
        if self.path and lacking and self.learner.accelerator.is_main_process:
            with writing(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(self.path, save(self.known))

    def __call__(self, group: Group) -> Group:
        """The group with the stream; it must have been read."""
        return replace(group, branches=tuple(self._with(group, branch) for branch in group.branches))

    def _with(self, group: Group, branch: Branch) -> Branch:
        values = self.known[_key(group, branch)].tolist()
        return replace(branch, streams={**branch.streams, STREAM: values})


def _kept(path: Path) -> dict[str, Tensor]:
    """What a file has; nothing where it is damaged, since all of it can be read again."""
    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        log.warning("%s is damaged (%s): reading the start again", path, error)
        return {}


def _key(group: Group, branch: Branch) -> str:
    ids = torch.tensor([len(group.prompt), *group.prompt, *branch.tokens], dtype=torch.int32)
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()


def _fingerprint(learner: Learner) -> str:
    """sha256 of the weights and of the precision they are read in; adapters that have learned nothing change it not."""
    digest = hashlib.sha256(learner.accelerator.mixed_precision.encode())
    for name, weight in plain_weights(learner.policy.lm):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
