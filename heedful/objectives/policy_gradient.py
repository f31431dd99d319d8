"""Losses that follow the reward of the policy's own samples: clipped policy and value losses, and what to watch.

Ratios are of the policy to the one that drew the samples; advantages and returns come from targets/advantage.py.
"""

import torch
from torch import Tensor

MOST = 20.0  # nats of a log-ratio: further away its exponential overflows, and a clip has long decided


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantage: Tensor, mask: Tensor, *, clip: float) -> Tensor:
    """PPO's clipped policy loss, summed over trained tokens.

        sum_t  max(-A_t * r_t, -A_t * clamp(r_t, 1 - clip, 1 + clip)),   r_t = exp(logp_t - old_logp_t)

    Schulman et al. 2017, eq. 7 (arXiv:1707.06347); sign flipped: this is minimised. Where the policy is the one that
    drew, r = 1 and the gradient is that of -sum_t A_t logp_t: REINFORCE.

    Args:
        logp: [B, T] natural log.
        old_logp: [B, T], of the policy that drew; no gradient.
        advantage: [B, T], higher is better; no gradient.
        mask: [B, T], what the token weighs: 1.0, or a share of its response; 0.0 where it is not trained on.
        clip: half-width of the ratio's interval; 0.2 in the paper.
    Returns:
        Scalar sum. The loop divides by the step's count, never a kernel.
    """
    _same_shape(logp, old_logp, advantage, mask)
    ratio = _gap(logp, old_logp, mask).exp()
    return (torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)) * mask).sum()


def clipped_sequence_surrogate(
    response_logp: Tensor, old_response_logp: Tensor, response_advantage: Tensor, *, clip: float
) -> Tensor:
    """The same with one ratio and one advantage for a whole response, summed over responses.

        sum_i  max(-A_i * r_i, -A_i * clamp(r_i, 1 - clip, 1 + clip)),   r_i = exp(log p(y_i) - log p_old(y_i))

    RLOO takes the response as one action (Ahmadian et al. 2024, arXiv:2402.14740). While the policy is the one that
    drew, its gradient is the paper's, REINFORCE on summed log-probabilities; the clip is TRL's, for what follows. The
    ratio of a long response leaves the interval within a few updates.

    Args:
        response_logp: [N] natural log, summed over the tokens of each response.
        old_response_logp: [N], of the policy that drew; no gradient.
        response_advantage: [N], higher is better; 0 where a response is no example; no gradient.
    Returns:
        Scalar sum.
    """
    shapes = {tuple(one.shape) for one in (response_logp, old_response_logp, response_advantage)}
    assert len(shapes) == 1 and response_logp.ndim == 1, f"expected three [N], got {shapes}"
    ratio = (response_logp - old_response_logp).clamp(max=MOST).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(-response_advantage * ratio, -response_advantage * clipped).sum()


def clipped_value(value: Tensor, old_value: Tensor, returns: Tensor, mask: Tensor, *, clip: float) -> Tensor:
    """PPO's clipped value loss, summed over trained tokens.

        sum_t  1/2 * max((V_t - G_t)^2, (clamp(V_t, V_old_t - clip, V_old_t + clip) - G_t)^2)

    From OpenAI's code (baselines/ppo2 and lm-human-preferences); no paper has it. The larger of the two is taken, so
    that a value that has moved beyond the interval towards its return gets no gradient.

    Args:
        value: [B, T], prediction at the token's predecessor.
        old_value: [B, T], that of the policy that drew; no gradient.
        returns: [B, T], from advantages that are not whitened; no gradient.
        mask: [B, T], 1.0 where the value is trained.
        clip: in units of reward; 0.2 in the code.
    Returns:
        Scalar sum.
    """
    _same_shape(value, old_value, returns, mask)
    near = torch.maximum(torch.minimum(value, old_value + clip), old_value - clip)
    error = torch.maximum((value - returns).square(), (near - returns).square())
    return 0.5 * (error * mask).sum()


def kl_k3(logp: Tensor, ref_logp: Tensor, mask: Tensor) -> Tensor:
    """The k3 estimate of KL(policy || reference) at drawn tokens, summed over trained tokens; never negative.

        sum_t  exp(-d_t) - 1 + d_t,   d_t = logp_t - ref_logp_t

    As the loss that GRPO adds (Shao et al. 2024, eq. 4, arXiv:2402.03300). As an estimate it has little variance; its
    gradient is that of the other direction, KL(reference || policy), weighted by where the samples are.

    Args:
        logp: [B, T] natural log.
        ref_logp: [B, T], of the frozen start; no gradient.
        mask: [B, T], what the token weighs; 0.0 where it is not trained on.
    Returns:
        Scalar sum.
    """
    _same_shape(logp, ref_logp, mask)
    gap = _gap(logp, ref_logp, mask)
    return (((-gap).exp() - 1 + gap) * mask).sum()


@torch.no_grad()
def clip_fraction(logp: Tensor, old_logp: Tensor, mask: Tensor, *, clip: float) -> Tensor:
    """How many trained tokens have a ratio outside of the interval; a number to watch, 0 in a round's first step."""
    _same_shape(logp, old_logp, mask)
    return (((_gap(logp, old_logp, mask).exp() - 1).abs() > clip) * mask).sum()


@torch.no_grad()
def approx_kl(logp: Tensor, old_logp: Tensor, mask: Tensor) -> Tensor:
    """Half the squared log-ratio to the policy that drew, summed: how far the round's updates have gone (k2)."""
    _same_shape(logp, old_logp, mask)
    return 0.5 * ((logp - old_logp).square() * mask).sum()


def _gap(logp: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """0 where nothing is trained, so that its exponential cannot overflow."""
    return (logp - other).masked_fill(mask == 0, 0.0).clamp(-MOST, MOST)


def _same_shape(*tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    assert len(shapes) == 1 and len(next(iter(shapes))) == 2, f"expected tensors of one shape [B, T], got {shapes}"
