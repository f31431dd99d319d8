"""Losses on the likelihood of text: imitation, its weighted forms, and pushing text away."""

import math

import torch
from torch import Tensor

# Where 1 - p falls below this the loss is flat: a token predicted with certainty is not unlearned.
# Pretraining with human preferences clamps 1 - p at 1e-20, which float64 cannot hold next to 1 either.
SMALLEST_COMPLEMENT = 1e-20


def nll(logp: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood, summed over trained tokens.

        sum_t  -mask_t * log p(x_t | x_<t)

    Args:
        logp: [B, T] natural log.
        mask: [B, T], 1.0 where the token is trained on.
    Returns:
        Scalar sum. The loop divides by the step's count, never a kernel.
    """
    _same_shape(logp, mask)
    return -(logp * mask).sum()


def smoothed_nll(logp: Tensor, vocabulary_logp: Tensor, mask: Tensor, *, smoothing: float) -> Tensor:
    """Negative log-likelihood with smoothed labels, summed over trained tokens.

        sum_t  mask_t * ( (1 - eps) * -log p(x_t | x_<t) + eps * 1/V sum_v -log p(v | x_<t) )

    Szegedy et al. 2016 (arXiv:1512.00567), eps spread over the whole vocabulary, the label among it; transformers'
    label smoother, which HIR's code uses. The optimum of a token with one label is 1 - eps + eps / V, not 1.

    Args:
        logp: [B, T] natural log.
        vocabulary_logp: [B, T], mean over the vocabulary of the log-probabilities.
        mask: [B, T], what the token weighs; 0.0 where it is not trained on.
        smoothing: eps, in [0, 1); 0 is `nll`.
    Returns:
        Scalar sum.
    """
    _same_shape(logp, vocabulary_logp, mask)
    return -(((1 - smoothing) * logp + smoothing * vocabulary_logp) * mask).sum()


def weighted_nll(logp: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood with a weight for each token, summed over trained tokens.

        sum_t  -mask_t * w_t * log p(x_t | x_<t)

    Reward-weighted regression, Peters and Schaal 2007, as Korbak et al. 2023 (arXiv:2302.08582) use it on text: w_t =
    exp(R_t / beta), made in targets/weight.py. The divisor stays the number of tokens: it does not shrink with the
    weights.

    Args:
        logp: [B, T] natural log.
        weight: [B, T], not negative; no gradient.
        mask: [B, T], 1.0 where the token is trained on.
    Returns:
        Scalar sum.
    """
    _same_shape(logp, weight, mask)
    return -(logp * weight * mask).sum()


def unlikelihood(logp: Tensor, mask: Tensor) -> Tensor:
    """Push tokens away: minus the log of the probability of anything else, summed over marked tokens.

        sum_t  -mask_t * log(1 - p(x_t | x_<t))

    Welleck et al. 2020, eq. 3 (arXiv:1908.04319), on the tokens of bad segments (Korbak et al. 2023). The gradient at
    a logit is p_y for the label and -p_y p_j / (1 - p_y) elsewhere: it vanishes as p -> 0 and stays finite as p -> 1,
    where 1 - p is clamped at 1e-20 and the gradient becomes exactly 0.

    Args:
        logp: [B, T] natural log.
        mask: [B, T], 1.0 where the token is to become less likely.
    Returns:
        Scalar sum.
    """
    _same_shape(logp, mask)
    complement = (-torch.expm1(logp)).clamp_min(SMALLEST_COMPLEMENT)
    return -(complement.log() * mask).sum()


def advantage_weighted_nll(
    logp: Tensor, value: Tensor, reward: Tensor, mask: Tensor, *, beta: float, max_weight: float
) -> Tensor:
    """Negative log-likelihood weighted by the exponentiated advantage, summed over trained tokens.

        sum_t  -mask_t * min(exp((R_t - sg(V_t)) / beta), max_weight) * log p(x_t | x_<t)

    Advantage-weighted regression, Peng et al. 2019 (arXiv:1910.00177), per token as in Korbak et al. 2023: R_t is the
    reward of the token's segment and V_t the value predicted before the token is seen. sg stops the gradient, so the
    weight trains nothing.

    Args:
        logp: [B, T] natural log.
        value: [B, T], prediction of `reward` at the token's predecessor.
        reward: [B, T], higher is better.
        mask: [B, T], 1.0 where the token is trained on.
        beta: temperature of the weights, in units of reward.
        max_weight: the cap on a weight; 1000 in the released code.
    Returns:
        Scalar sum.
    """
    _same_shape(logp, value, reward, mask)
    exponent = ((reward - value.detach()) / beta).clamp(max=math.log(max_weight))
    return -(logp * exponent.exp() * mask).sum()


def value_regression(value: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the value head, summed over trained tokens.

        sum_t  mask_t * (R_t - V_t)^2

    The target is the reward of the token's segment at every token: no return and no bootstrapping, as in the
    released code of Korbak et al. 2023.

    Args:
        value: [B, T], prediction at the token's predecessor.
        reward: [B, T], higher is better; no gradient.
        mask: [B, T], 1.0 where the value is trained.
    Returns:
        Scalar sum.
    """
    _same_shape(value, reward, mask)
    return ((reward - value).square() * mask).sum()


def _same_shape(*tensors: Tensor) -> None:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    assert len(shapes) == 1 and len(next(iter(shapes))) == 2, f"expected tensors of one shape [B, T], got {shapes}"
