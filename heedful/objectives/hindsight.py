"""HIR's losses: an output should follow from the instruction that it turned out to fulfil, and from no other.

Hindsight instruction relabeling, Zhang et al. 2023 (arXiv:2302.05206); the paper and its released code differ, and a
kernel says whose it is. Supervision is `smoothed_nll` in likelihood.py.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from heedful.objectives.comparison import check_pairs, check_responses, gap, log_total


def two_way_contrast(
    response_logp: Tensor, num_tokens: Tensor, pair: Tensor, pair_weight: Tensor, *, smoothing: float
) -> Tensor:
    """How little likelier an output is under its instruction than under the opposite one, weighted and summed.

        sum_p  w_p * ((1 - eps) * softplus(-d_p) + eps * softplus(d_p)),   d = log p(o|p*) / |o| - log p(o|other) / |o|

    The released code of HIR, without its 1e-8 in the logs. With eps > 0 the minimum is at d = ln((1 - eps) / eps),
    1.386 nats a token for 0.2, and beyond it the loss rises: the margin stays bounded. Means over tokens, so that a
    long output is not charged for its length.

    Args:
        response_logp: [N] natural log, summed over the output's tokens; the same output follows both instructions.
        num_tokens: [N] tokens that were summed.
        pair: [P, 2] indices in 0..N-1: the output behind the instruction it fulfils, and behind the opposite one.
        pair_weight: [P], not negative; no gradient.
        smoothing: eps, the share of the other way round; 0.2 in the code.
    Returns:
        Scalar sum. The loop divides by the step's weight, never a kernel.
    """
    d = _gap_per_token(response_logp, num_tokens, pair, pair_weight)
    return (pair_weight * ((1 - smoothing) * softplus(-d) + smoothing * softplus(d))).sum()


@torch.no_grad()
def instruction_gap(response_logp: Tensor, num_tokens: Tensor, pair: Tensor, pair_weight: Tensor) -> Tensor:
    """d of `two_way_contrast`, nats a token, weighted and summed: 0 where the instruction is ignored. A measure."""
    return (pair_weight * _gap_per_token(response_logp, num_tokens, pair, pair_weight)).sum()


def n_way_contrast(response_logp: Tensor, group: Tensor, example: Tensor) -> Tensor:
    """How little of an output's likelihood is its own context's among several, weighted and summed over outputs.

        sum_i  w_i * -log( exp(P_ii) / sum_k exp(P_ik) ),   P_ik = log p(output i | question k, instruction k)

    L_con of the HIR paper. There k runs over the batch; here over the group of the output, which holds it once behind
    each of several contexts, so that no batch changes it. Log-probabilities are sums over tokens. n equal contexts give
    log n.

    Args:
        response_logp: [N] natural log, summed over the output's tokens.
        group: [N] index of the output that stands behind each context.
        example: [N] w_i where the context is the output's own, 0.0 elsewhere; no gradient.
    Returns:
        Scalar sum.
    """
    check_responses(response_logp, example, group=group)
    share = response_logp - log_total(response_logp, group[:, None] == group)
    return -(example * share).sum()


def token_entropy(entropy: Tensor, mask: Tensor) -> Tensor:
    """Entropy of the model's next-token distributions, summed over the tokens of the mask.

        sum_t  mask_t * -sum_v p(v | x_<t) log p(v | x_<t)

    HIR's code, which subtracts 0.001 of its mean: a term with a negative coefficient keeps outputs diverse.

    Args:
        entropy: [B, T] nats, of the whole vocabulary; carries the model's gradient.
        mask: [B, T], what the token weighs.
    Returns:
        Scalar sum.
    """
    shapes = tuple(entropy.shape), tuple(mask.shape)
    assert shapes[0] == shapes[1] and mask.ndim == 2, f"expected two [B, T], got {shapes}"
    return (entropy * mask).sum()


def _gap_per_token(response_logp: Tensor, num_tokens: Tensor, pair: Tensor, pair_weight: Tensor) -> Tensor:
    check_pairs(pair, pair_weight, response_logp, num_tokens)
    return gap(response_logp / num_tokens.clamp_min(1), pair)
