"""What a model gives to a text it did not write: log-probabilities, hits, divergence from another model.

Control tokens must not make a conditional model look worse: their positions are not read, and the vocabulary is
renormalised without them (the released capability metric of Korbak et al. 2023 does neither, which adds about 0.7 nats
to such models alone).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.batch import Group, collate, micro_batches
from heedful.policy import Policy, predictors

MICRO_TOKENS = 8192


@dataclass(frozen=True)
class TokenReading:
    """One number per read token of a response, in order.

    Attributes:
        logp: natural log-probability of each token.
        hit: whether it was the likeliest token.
        kl: KL divergence from the reference at that position in nats; empty without a reference.
    """

    logp: Tensor
    hit: Tensor
    kl: Tensor


@torch.no_grad()
def read_tokens(
    policy: Policy,
    groups: Sequence[Group],
    *,
    banned: Sequence[int] = (),
    reference: tuple[Policy, Sequence[Group]] | None = None,
) -> list[TokenReading]:
    """Read the tokens with a stream that is not 0, one reading per group in the order given (groups of one response).

    Args:
        banned: token ids taken out of both vocabularies.
        reference: another model and the same tokens as it should see them (without control tokens, say); gives
            KL(policy || reference) at each read token, over the whole vocabulary but `banned`.
    """
    policy.eval()
    place = {id(group): n for n, group in enumerate(groups)}
    readings: dict[int, TokenReading] = {}
    for part in micro_batches(groups, MICRO_TOKENS, reads_trees=False):
        order = [place[id(group)] for group in part]
        other = (reference[0], [reference[1][n] for n in order]) if reference else None
        readings |= zip(order, _read_part(policy, part, banned, other))
    return [readings[n] for n in range(len(groups))]


def _read_part(
    policy: Policy, part: Sequence[Group], banned: Sequence[int], reference: tuple[Policy, Sequence[Group]] | None
) -> Iterator[TokenReading]:
    hidden, labels, owner = _hidden(policy, part)
    if reference is not None:
        other, other_labels, _ = _hidden(*reference)
        assert torch.equal(labels, other_labels), "the reference must read the same tokens"
    read: list[tuple[Tensor, Tensor, Tensor]] = []
    size = policy.chunk_size(hidden.device)
    for chunk in (slice(at, at + size) for at in range(0, max(1, len(hidden)), size)):
        log_probs, own = _log_probs(policy, hidden[chunk], banned), labels[chunk]
        kl = _kl(log_probs, _log_probs(reference[0], other[chunk], banned)) if reference else hidden.new_zeros(0)
        read.append((log_probs.gather(1, own[:, None]).squeeze(1), log_probs.argmax(-1) == own, kl))
    logp, hit, kl = (torch.cat(pieces) for pieces in zip(*read))
    for n in range(len(part)):
        mine = owner == n
        yield TokenReading(logp[mine], hit[mine], kl[mine] if reference else kl)


def _hidden(policy: Policy, part: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor]:
    """[M, H] hidden states that predict the read tokens, [M] the tokens, [M] their response."""
    batch = collate(part, tree=False).to(policy.lm.device)
    index, unique, inverse = predictors(batch)
    hidden = policy.hidden(batch).flatten(0, 1).index_select(0, unique[inverse])
    return hidden, batch.tokens.flatten()[index], batch.response.flatten()[index]


def _log_probs(policy: Policy, hidden: Tensor, banned: Sequence[int]) -> Tensor:
    """[M, H] -> [M, V]."""
    logits = policy.logits(hidden).float()
    if banned:
        logits[:, list(banned)] = -torch.inf
    return logits.log_softmax(-1)


def _kl(log_probs: Tensor, other: Tensor) -> Tensor:
    """[M, V], [M, V] -> [M]; what is banned in both adds nothing."""
    return (log_probs.exp() * (log_probs - other).nan_to_num(nan=0.0)).sum(-1)
