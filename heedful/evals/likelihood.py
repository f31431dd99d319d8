"""What a model gives to a text it did not write: log-probabilities, hits, divergence from another model.

Control tokens must not make a conditional model look worse: their positions are not read, and the vocabulary is renormalised
without them (the released capability metric of Korbak et al. 2023 does neither, which adds about 0.7 nats to such models alone).
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
    policy: Policy, groups: Sequence[Group], *, banned: Sequence[int] = (), reference: Policy | None = None
) -> list[TokenReading]:
    """Read the tokens with a stream that is not 0, one reading per group in the order given (groups of one response).

    Args:
        banned: token ids taken out of both vocabularies.
        reference: KL(policy || reference) is read where given; it must share the vocabulary.
    """
    policy.eval()
    place = {id(group): n for n, group in enumerate(groups)}
    readings: dict[int, TokenReading] = {}
    for part in micro_batches(groups, MICRO_TOKENS):
        for group, reading in zip(part, _read_part(policy, part, banned, reference)):
            readings[place[id(group)]] = reading
    return [readings[n] for n in range(len(groups))]


def _read_part(
    policy: Policy, part: Sequence[Group], banned: Sequence[int], reference: Policy | None
) -> Iterator[TokenReading]:
    batch = collate(part, tree=False).to(policy.lm.device)
    index, unique, inverse = predictors(batch)
    log_probs = _log_probs(policy, batch, unique, banned)
    labels = batch.tokens.flatten()[index]
    logp = log_probs[inverse, labels]
    hit = log_probs.argmax(-1)[inverse] == labels
    kl = torch.zeros(0)
    if reference is not None:
        other = _log_probs(reference, batch, unique, banned)
        kl = (log_probs.exp() * (log_probs - other).nan_to_num(nan=0.0)).sum(-1)[inverse]
    owner = batch.response.flatten()[index]
    for n in range(len(part)):
        mine = owner == n
        yield TokenReading(logp[mine], hit[mine], kl[mine] if len(kl) else kl)


def _log_probs(policy: Policy, batch, unique: Tensor, banned: Sequence[int]) -> Tensor:
    logits = policy.logits(policy.hidden(batch).flatten(0, 1).index_select(0, unique)).float()
    if banned:
        logits[:, list(banned)] = -torch.inf
    return logits.log_softmax(-1)
