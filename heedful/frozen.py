"""Passes through a model without a gradient and without dropout: what it says of each token of some responses."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from heedful.batch import Branch, Group, TreeBatch, by_branch, collate, micro_batches, tree_is_cheaper
from heedful.policy import Policy

TOKEN_BUDGET = 8192  # padded tokens a forward: memory only

Values = Callable[[Policy, TreeBatch], Tensor]
Read = list[list[Tensor]]  # numbers [T] of each branch of each group, on the CPU, in the order given


def read(policy: Policy, groups: Sequence[Group], values: Values, *, dtype: torch.dtype | None = None) -> Read:
    """Numbers [T] of each branch of each group, on the CPU, in the order given.

    Args:
        values: makes [B, T] numbers, or as many in a row, from a policy and a batch.
        dtype: the precision of the forward; that of the weights if not given.
    """
    return [own for (own,) in _read(policy, groups, lambda policy, batch: (values(policy, batch),), dtype)]


def read_logp(policy: Policy, groups: Sequence[Group], *, dtype: torch.dtype | None = None) -> Read:
    """The log-probability of each token of each branch."""
    return read(policy, [_all_read(group) for group in groups], lambda policy, batch: policy.logp(batch), dtype=dtype)


def read_values(policy: Policy, groups: Sequence[Group], *, dtype: torch.dtype | None = None) -> Read:
    """The value before each token of each branch."""
    return read(policy, [_all_read(group) for group in groups], lambda policy, batch: policy.values(batch), dtype=dtype)


def read_logp_and_values(
    policy: Policy, groups: Sequence[Group], *, dtype: torch.dtype | None = None
) -> tuple[Read, Read]:
    """Both, from one forward of the policy."""

    def values(policy: Policy, batch: TreeBatch) -> tuple[Tensor, Tensor]:
        outputs = policy(batch)
        assert outputs.value is not None, "the policy has neither a critic nor a head for values"
        return outputs.logp, outputs.value

    both = _read(policy, [_all_read(group) for group in groups], values, dtype)
    return [logp for logp, _ in both], [value for _, value in both]


@torch.no_grad()
def _read(
    policy: Policy,
    groups: Sequence[Group],
    values: Callable[[Policy, TreeBatch], Sequence[Tensor]],
    dtype: torch.dtype | None,
) -> list[Read]:  # by group, then kind, then branch
    """Of each group what `read` gives, for each kind of numbers that a forward makes."""
    policy.eval()
    device = policy.lm.device
    place = {id(group): n for n, group in enumerate(groups)}
    found: dict[int, list[list[Tensor]]] = {}
    for part in micro_batches(groups, TOKEN_BUDGET, reads_trees=policy.reads_trees):
        batch = collate(part, tree=policy.reads_trees and tree_is_cheaper(part)).to(device)
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            kinds = [by_branch(kind, batch, part) for kind in values(policy, batch)]
        found |= {place[id(group)]: own for group, *own in zip(part, *kinds)}
    return [found[n] for n in range(len(groups))]


def _all_read(group: Group) -> Group:
    branches = tuple(Branch(branch.tokens, {"mask": [1.0] * len(branch.tokens)}) for branch in group.branches)
    return Group(group.id, group.prompt, branches)
