"""Past-token masking: while a model learns, each query misses a random few of the tokens before it.

It keeps a model that has seen one answer from copying it into the next. Two fields of a response ask for it, and the
model reads them in training mode, no term: `masked_share` r, and `masking_key`, a whole number below 2**24.
"""

import torch
from torch import Tensor

from heedful.batch import TreeBatch

SHARE, KEY = "masked_share", "masking_key"
FIELDS = frozenset({SHARE, KEY})
LOW = 2**32 - 1


def missed(batch: TreeBatch) -> Tensor | None:
    """[B, 1, T, T] bool: True where query i must not see key j; None where no response asks for it.

    Forgetful causal masking as in the released code of Chain of Hindsight (Liu et al. 2023, arXiv:2302.02676, section
    2): each (query, key) pair is dropped alone with probability r, in all heads and layers alike. Column 0, the root,
    stays visible; the diagonal is not protected.

    Whether a pair is dropped follows from torch's seed, the response's key and the two positions: the loop seeds torch
    anew for each step, as dropout needs it, so that a row misses other tokens in every epoch, the same after a resume,
    and neither the layout, the rows beside nor the process change which. (Masked alike in every epoch, a row whose
    answer never sees its prompt is learned without it.) No random state is used up. A prompt's queries have the share
    and the key of its first response. Of an encoder-decoder, only what the decoder sees of itself is masked.
    """
    if SHARE not in batch.fields or not bool(batch.fields[SHARE].any()):
        return None
    first = torch.searchsorted(batch.group, batch.group)  # of the responses to the same prompt
    of_row = first[batch.response.amax(1)]
    owner = torch.where(batch.response >= 0, batch.response, of_row[:, None])
    key, share = batch.fields[KEY][owner].long(), batch.fields[SHARE][owner].double()
    query = _scatter(_scatter(key ^ (torch.initial_seed() & LOW)) + batch.position)
    chance = _scatter(query[:, :, None] + batch.position[:, None, :])
    dropped = chance < (share * (LOW + 1)).long()[:, :, None]
    return (dropped & (batch.position != 0)[:, None, :])[:, None]


def without(sees: Tensor, missed: Tensor | None) -> Tensor:
    """What a query sees of what it may see; a query that would see nothing (padding; beyond a window) sees itself."""
    if missed is None:
        return sees
    left = sees & ~missed
    itself = torch.eye(sees.shape[-1], dtype=torch.bool, device=sees.device)
    return left | (itself & ~left.any(-1, keepdim=True))


def _scatter(x: Tensor) -> Tensor:
    """Whole numbers to 32 bits that look random (Wellons' lowbias32, https://nullprogram.com/blog/2018/07/31/)."""
    x = x & LOW
    x ^= x >> 16
    x *= 0x7FEB352D
    x &= LOW
    x ^= x >> 15
    x *= 0x846CA68B  # may overflow 63 bits; the low 32 are right all the same
    x &= LOW
    x ^= x >> 16
    return x
