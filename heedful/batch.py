"""Tree batches: a prompt once, after it all its responses, and named numbers beside the tokens.

A `Group` is one prompt with its responses (`Branch`es). `collate` lays groups out as rows, either as trees (one
row a group; every response sees the prompt and itself) or plain (one row a response, the prompt
repeated). Both give the same numbers; which is cheaper depends on the lengths, see `tree_is_cheaper`.

Letters in shapes: `B` rows, `T` tokens of a row, `N` responses, `G` groups, `P` pairs of responses.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

RELATIONS = ("group", "pair", "pair_weight")  # what a kernel may read of a batch beside its streams and fields
DISTRIBUTION = "distribution"  # a stream: at its tokens the model tells of the whole next-token distribution


@dataclass(frozen=True)
class Branch:
    """One response: its tokens, numbers per token (`streams`) and numbers for the whole (`fields`)."""

    tokens: Sequence[int]
    streams: Mapping[str, Sequence[float]]
    fields: Mapping[str, float] = field(default_factory=dict)


class Pair(NamedTuple):
    """Two of a group's branches by index, the better first, and what the pair counts in a loss."""

    better: int
    worse: int
    weight: float = 1.0


@dataclass(frozen=True)
class Group:
    """One prompt, root token first, the responses to it, and which of them are compared: the unit that is never cut."""

    id: str
    prompt: Sequence[int]
    branches: Sequence[Branch]
    pairs: Sequence[Pair] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens through the model, the shared prompt counted once."""
        return len(self.prompt) + sum(len(branch.tokens) for branch in self.branches)


def keep(group: Group, indices: Collection[int]) -> Group:
    """The group with only these of its branches, and the pairs among them."""
    place = {index: n for n, index in enumerate(sorted(indices))}
    pairs = [p._replace(better=place[p.better], worse=place[p.worse]) for p in group.pairs if {*p[:2]} <= {*place}]
    return replace(group, branches=tuple(group.branches[index] for index in place), pairs=tuple(pairs))


@dataclass(frozen=True)
class TreeBatch:
    """Groups as tensors.

    Attributes:
        tokens: [B, T] token ids; padding is 0 and nobody attends to it.
        position: [B, T] positions; each response restarts after its prompt.
        predecessor: [B, T] index in the row of the token that predicts this one.
        response: [B, T] index in 0..N-1 of the response a token belongs to, -1 in prompts, -2 in padding.
        streams: name -> [B, T]; 0 in prompts and padding.
        group: [N] index in 0..G-1 of the group of each response.
        last: [N] index in the flattened tokens of each response's last one.
        fields: name -> [N].
        pair: [P, 2] indices in 0..N-1 of two responses to one prompt, the better first.
        pair_weight: [P].
        ids: G record ids, for messages.
        num_tokens: tokens counted as the ledger counts them (a shared prompt once).
        is_plain: each row is one ordinary causal sequence, padded on the right.
    """

    tokens: Tensor
    position: Tensor
    predecessor: Tensor
    response: Tensor
    streams: Mapping[str, Tensor]
    group: Tensor
    last: Tensor
    fields: Mapping[str, Tensor]
    pair: Tensor
    pair_weight: Tensor
    ids: tuple[str, ...]
    num_tokens: int
    is_plain: bool

    @property
    def predicted(self) -> Tensor:
        """[B, T] bool: tokens whose log-probability somebody reads, those with a stream that is not 0."""
        found = torch.zeros_like(self.tokens, dtype=torch.bool)
        for stream in self.streams.values():
            found |= stream != 0
        return found

    def __contains__(self, name: str) -> bool:
        return name in RELATIONS or name in self.streams or name in self.fields

    def read(self, name: str) -> Tensor:
        """The stream [B, T] or field [N] called `name`, or what says which responses belong together."""
        if name in RELATIONS:
            return getattr(self, name)
        return self.streams[name] if name in self.streams else self.fields[name]

    def by_response(self, values: Tensor) -> Tensor:
        """[N] sums of values [B, T] over the tokens of each response."""
        own = (self.response.flatten() >= 0).nonzero().squeeze(-1)
        sums = torch.zeros(len(self.group), dtype=values.dtype, device=values.device)
        return sums.index_add(0, self.response.flatten()[own], values.flatten().index_select(0, own))

    def to(self, device: torch.device | str) -> "TreeBatch":
        """The same batch on another device."""

        def move(x):
            return x.to(device, non_blocking=True)

        return TreeBatch(
            tokens=move(self.tokens),
            position=move(self.position),
            predecessor=move(self.predecessor),
            response=move(self.response),
            streams={name: move(stream) for name, stream in self.streams.items()},
            group=move(self.group),
            last=move(self.last),
            fields={name: move(value) for name, value in self.fields.items()},
            pair=move(self.pair),
            pair_weight=move(self.pair_weight),
            ids=self.ids,
            num_tokens=self.num_tokens,
            is_plain=self.is_plain,
        )


def collate(groups: Sequence[Group], *, tree: bool, dtype: torch.dtype = torch.float32) -> TreeBatch:
    """Lay groups out as one batch, as trees or as plain rows; the responses keep one numbering in both."""
    rows = list(_rows(groups, tree=tree))
    length = max(len(prompt) + sum(len(b.tokens) for _, b in branches) for prompt, branches in rows)
    shape = (len(rows), length)
    tokens, position, predecessor = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    response = torch.full(shape, -2, dtype=torch.long)
    all_branches = [branch for group in groups for branch in group.branches]
    names = {name for branch in all_branches for name in branch.streams}
    streams = {name: torch.zeros(shape, dtype=dtype) for name in sorted(names)}
    last = torch.zeros(len(all_branches), dtype=torch.long)
    for row, (prompt, branches) in enumerate(rows):
        start = len(prompt)
        tokens[row, :start] = torch.tensor(prompt, dtype=torch.long)
        position[row, :start] = torch.arange(start)
        predecessor[row, 1:start] = torch.arange(start - 1)
        response[row, :start] = -1
        for index, branch in branches:
            stop = start + len(branch.tokens)
            tokens[row, start:stop] = torch.tensor(branch.tokens, dtype=torch.long)
            position[row, start:stop] = torch.arange(len(prompt), len(prompt) + stop - start)
            predecessor[row, start:stop] = torch.arange(start - 1, stop - 1)
            predecessor[row, start] = len(prompt) - 1
            response[row, start:stop] = index
            last[index] = row * length + stop - 1
            for name, values in branch.streams.items():
                streams[name][row, start:stop] = torch.tensor(values, dtype=dtype)
            start = stop
    firsts = itertools.accumulate((len(group.branches) for group in groups), initial=0)
    pairs = [(first + p.better, first + p.worse) for first, group in zip(firsts, groups) for p in group.pairs]
    return TreeBatch(
        tokens=tokens,
        position=position,
        predecessor=predecessor,
        response=response,
        streams=streams,
        group=torch.tensor([g for g, group in enumerate(groups) for _ in group.branches], dtype=torch.long),
        last=last,
        fields=_fields(all_branches, dtype),
        pair=torch.tensor(pairs, dtype=torch.long).view(-1, 2),
        pair_weight=torch.tensor([pair.weight for group in groups for pair in group.pairs], dtype=dtype),
        ids=tuple(group.id for group in groups),
        num_tokens=sum(group.num_tokens for group in groups),
        is_plain=all(len(branches) == 1 for _, branches in rows),
    )


def _rows(groups: Sequence[Group], *, tree: bool) -> Iterator[tuple[Sequence[int], list[tuple[int, Branch]]]]:
    first = 0
    for group in groups:
        numbered = list(enumerate(group.branches, start=first))
        first += len(numbered)
        if tree:
            yield group.prompt, numbered
        else:
            yield from ((group.prompt, [pair]) for pair in numbered)


def _fields(branches: Sequence[Branch], dtype: torch.dtype) -> dict[str, Tensor]:
    names = sorted({name for branch in branches for name in branch.fields})
    return {name: torch.tensor([branch.fields[name] for branch in branches], dtype=dtype) for name in names}


def attention(batch: TreeBatch, *, window: int | None = None) -> Tensor:
    """[B, 1, T, T] bool: True where query i sees key j, that is where j is i or an ancestor of i.

    `window` counts tree positions: a query sees the last `window` of its ancestors, itself included.
    A padding token sees only itself, so that no softmax is over nothing.
    """
    length = batch.tokens.shape[1]
    index = torch.arange(length, device=batch.tokens.device)
    query, key = batch.response[:, :, None], batch.response[:, None, :]
    sees = ((key == -1) & (query >= -1)) | ((key == query) & (query >= 0))
    sees &= index[None, :, None] >= index[None, None, :]
    if window is not None:
        sees &= batch.position[:, :, None] - batch.position[:, None, :] < window
    sees |= torch.eye(length, dtype=torch.bool, device=index.device)
    return sees[:, None]


def by_branch(values: Tensor, batch: TreeBatch, groups: Sequence[Group]) -> list[list[Tensor]]:
    """Numbers [B, T] of a batch as one tensor for each branch of each of its groups, on the CPU."""
    own = values.flatten()[batch.response.flatten() >= 0].cpu()  # in the order of the branches, in both layouts
    parts = iter(own.split([len(branch.tokens) for group in groups for branch in group.branches]))
    return [[next(parts) for _ in group.branches] for group in groups]


# Relative cost of one masked attention score against one token's share of the dense layers; measured on
# two CPU cores in fp32 with 5M-50M parameter models: the dense mask keeps sdpa off its causal kernel.
MASKED_SCORE_COST = 1 / 1500
CAUSAL_SCORE_COST = 1 / 6000


class _Size(NamedTuple):
    """How many rows of what length groups make, as trees and as plain rows."""

    num_trees: int
    tree_length: int
    num_plain: int
    plain_length: int

    @classmethod
    def of(cls, group: Group) -> "_Size":
        plain_length = len(group.prompt) + max(len(branch.tokens) for branch in group.branches)
        return cls(1, group.num_tokens, len(group.branches), plain_length)

    def beside(self, other: "_Size") -> "_Size":
        return _Size(
            self.num_trees + other.num_trees,
            max(self.tree_length, other.tree_length),
            self.num_plain + other.num_plain,
            max(self.plain_length, other.plain_length),
        )

    @property
    def tree_is_cheaper(self) -> bool:
        if self.num_plain == self.num_trees:
            return False
        tree = self.num_trees * self.tree_length * (1 + self.tree_length * MASKED_SCORE_COST)
        plain = self.num_plain * self.plain_length * (1 + self.plain_length * CAUSAL_SCORE_COST)
        return tree < plain

    def padded(self, *, reads_trees: bool) -> int:
        """Tokens of the batch in the cheaper layout that the model reads, padding included."""
        if reads_trees and self.tree_is_cheaper:
            return self.num_trees * self.tree_length
        return self.num_plain * self.plain_length


def tree_is_cheaper(groups: Sequence[Group]) -> bool:
    """Whether one row a group costs less than one row a response, padding included."""
    return reduce(_Size.beside, map(_Size.of, groups)).tree_is_cheaper


def micro_batches(
    groups: Sequence[Group], token_budget: int, *, reads_trees: bool, part_cost: int = 0
) -> list[list[Group]]:
    """Cut one step into parts of similar length with at most `token_budget` padded tokens each.

    Longest first, so that the peak of memory comes at once. A group beyond the budget is a part of its own.

    Args:
        reads_trees: whether a part may become trees, where they are cheaper; else it becomes plain rows.
        part_cost: what one more part costs beside its tokens, in tokens: where padding would cost more the step is cut
            before the budget is full. 0 cuts where it is full.
    """
    rows = sorted(groups, key=lambda g: -g.num_tokens)
    sizes = [_Size.of(group) for group in rows]
    costs, stops = [0.0] * (len(rows) + 1), [len(rows)] * len(rows)  # of the best cut of rows[first:]
    for first in reversed(range(len(rows))):
        best = math.inf
        size = _Size(0, 0, 0, 0)
        for stop in range(first + 1, len(rows) + 1):
            size = size.beside(sizes[stop - 1])
            padded = size.padded(reads_trees=reads_trees)
            if padded > token_budget and stop > first + 1:
                break
            cost = part_cost + padded + costs[stop] if part_cost else -stop
            if cost < best:
                best, stops[first] = cost, stop
        costs[first] = best
    parts, first = [], 0
    while first < len(rows):
        parts.append(rows[first : stops[first]])
        first = stops[first]
    return parts
