"""Losses on how far a model is from the one it started from."""

from torch import Tensor


def kl_from_start(start_kl: Tensor, mask: Tensor) -> Tensor:
    """KL divergence of the model's next-token distributions from the start's, summed over the tokens of the mask.

        sum_t  mask_t * sum_v  p_start(v | x_<t) * (log p_start(v | x_<t) - log p(v | x_<t))

    The token-level KL regulariser of Zhao et al. 2022 (SLiC, arXiv:2210.00045), along the imitated response; no source
    read here says which way round. This way it is the nll of that response with the start's distribution in the
    place of the observed token.

    Args:
        start_kl: [B, T] nats, whole vocabulary, not negative; carries the model's gradient.
        mask: [B, T], 1.0 where it counts.
    Returns:
        Scalar sum. The loop divides by the step's count, never a kernel.
    """
    shapes = tuple(start_kl.shape), tuple(mask.shape)
    assert shapes[0] == shapes[1] and mask.ndim == 2, f"expected two [B, T], got {shapes}"
    return (start_kl * mask).sum()
