"""What a model gives to a text it did not write: log-probabilities, hits, divergence from another model.

Control tokens must not make a conditional model look worse: their positions are not read, and the vocabulary is
renormalised
without them (the released capability metric of Korbak et al. 2023 does neither, which adds about 0.7 nats to such
models alone).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.batch import Group, collate, micro_batches
from heedful.models import Policy, predictors

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
    log_probs, labels, owner = _log_probs(policy, part, banned)
    logp = log_probs.gather(1, labels[:, None]).squeeze(1)
    hit = log_probs.argmax(-1) == labels
    kl = torch.zeros(0)
    if reference is not None:
        other, other_labels, _ = _log_probs(*reference, banned)
        assert torch.equal(labels, other_labels), "the reference must read the same tokens"
        kl = (log_probs.exp() * (log_probs - other).nan_to_num(nan=0.0)).sum(-1)
    for n in range(len(part)):
        mine = owner == n
        yield TokenReading(logp[mine], hit[mine], kl[mine] if len(kl) else kl)


def _log_probs(policy: Policy, part: Sequence[Group], banned: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """[M, V] log-probabilities that predict the read tokens, [M] the tokens, [M] their response."""
    batch = collate(part, tree=False).to(policy.lm.device)
    index, unique, inverse = predictors(batch)
    logits = policy.logits(policy.hidden(batch).flatten(0, 1).index_select(0, unique)).float()
    if banned:
        logits[:, list(banned)] = -torch.inf
    chosen = logits.log_softmax(-1).index_select(0, inverse)
    return chosen, batch.tokens.flatten()[index], batch.response.flatten()[index]
