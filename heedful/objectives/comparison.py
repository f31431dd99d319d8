"""Losses on which response to a prompt is better: rewards, and log-ratios to a reference.

Letters in shapes: `N` responses, `P` pairs of responses to one prompt. A kernel that reads pairs lets them weigh: all
1 is a mean over pairs, 1/|S| for each of the |S| pairs of a prompt a mean over prompts.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def bradley_terry(reward: Tensor, pair: Tensor, pair_weight: Tensor) -> Tensor:
    """Negative log-likelihood of the preferences under a reward, weighted and summed over pairs.

        sum_p  w_p * -log sigmoid(r_better - r_worse)

    Ouyang et al. 2022, eq. 1 (arXiv:2203.02155) with w_p = 1/|S| of the prompt; K = 2 is Stiennon et al. 2020
    (arXiv:2009.01325). A tie is no pair. Deviation: where the paper prints 1/C(K, 2), it does not say whether pairs
    that tie are counted; that is for the weights to decide.

    Args:
        reward: [N], one for each response; higher is better.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
    Returns:
        Scalar sum. The loop divides by the step's weight, never a kernel.
    """
    check_pairs(pair, pair_weight, reward)
    return (pair_weight * softplus(-gap(reward, pair))).sum()


def comparison_accuracy(reward: Tensor, pair: Tensor, pair_weight: Tensor) -> Tensor:
    """Pairs that a reward orders as people did, weighted and summed; a draw is half. A measure: it has no gradient.

        sum_p  w_p * (1 if r_better > r_worse, 1/2 if they are equal, else 0)

    Args:
        reward: [N], one for each response; higher is better.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, reward)
    return (pair_weight * (1 + gap(reward.detach(), pair).sign()) / 2).sum()


def comparison_gap(reward: Tensor, pair: Tensor, pair_weight: Tensor) -> Tensor:
    """By how much a reward has the better response above the worse, weighted and summed. A measure: it has no gradient.

        sum_p  w_p * (r_better - r_worse)

    Args:
        reward, pair, pair_weight: as for `comparison_accuracy`.
    Returns:
        Scalar sum, in units of reward.
    """
    check_pairs(pair, pair_weight, reward)
    return (pair_weight * gap(reward.detach(), pair)).sum()


def plackett_luce(reward: Tensor, group: Tensor, rank: Tensor) -> Tensor:
    """Negative log-likelihood of whole rankings under a reward, summed over responses.

        sum_i  log( exp(r_i) + sum_{j of the same prompt, rank_j > rank_i} exp(r_j) ) - r_i

    Plackett 1975, Luce 1959: from the best down, each place is a choice among the responses that are left. Not
    InstructGPT's loss, which compares the same responses in pairs; with two responses they are equal.
    Deviation, for ties, which the model has none of: a response competes with those ranked below it, not with those it
    ties with. A tie then adds nothing between its two, and a prompt where all tie nothing at all; one response above
    others that tie is the softmax cross-entropy of the best.

    Args:
        reward: [N], one for each response; higher is better.
        group: [N] index of the prompt of each response.
        rank: [N], 1 is best, equal is a tie, gaps are allowed; 0 where a response is in no ranking.
    Returns:
        Scalar sum.
    """
    check_responses(reward, rank, group=group)
    below = (group[:, None] == group) & (rank[:, None] < rank) & (rank[:, None] > 0)
    return (log_total(reward, below) - reward).sum()


def dpo_sigmoid(
    response_logp: Tensor,
    ref_response_logp: Tensor,
    pair: Tensor,
    pair_weight: Tensor,
    *,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """DPO: the preferences' negative log-likelihood, the log-ratio as the reward; weighted and summed over pairs.

        sum_p  w_p * ( (1 - e) * -log sigmoid(beta * D_p) + e * -log sigmoid(-beta * D_p) )

        D_p = log(p / p_ref)(better) - log(p / p_ref)(worse)

    Rafailov et al. 2023, eq. 7 (arXiv:2305.18290), where e = 0; e > 0 is conservative DPO (Mitchell 2023), for labels
    of which a share e is wrong. Log-probabilities are sums over a response, never means.

    Args:
        response_logp: [N] natural log, summed over the tokens of each response, EOS included.
        ref_response_logp: [N], the same under the reference; no gradient.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        beta: per nat; 0.1 in the paper for most tasks.
        label_smoothing: e, from 0 to below a half.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, ref_response_logp)
    logit = beta * gap(response_logp - ref_response_logp, pair)
    loss = (1 - label_smoothing) * softplus(-logit) + label_smoothing * softplus(logit)
    return (pair_weight * loss).sum()


def dpo_hinge(
    response_logp: Tensor, ref_response_logp: Tensor, pair: Tensor, pair_weight: Tensor, *, beta: float
) -> Tensor:
    """A hinge on the log-ratio gap, weighted and summed over pairs.

        sum_p  w_p * max(0, 1 - beta * D_p),   D_p = log(p / p_ref)(better) - log(p / p_ref)(worse)

    "hinge-norm" of Liu et al. 2023 (RSO, arXiv:2309.06657), who call beta gamma; TRL's DPO "hinge". Not SLiC-HF, which
    has no reference: see `rank_hinge` in calibration.py.

    Args:
        response_logp, ref_response_logp: [N] natural log, summed over each response; the reference has no gradient.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        beta: per nat: the hinge is flat beyond a gap of 1/beta; 0.05 in RSO.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, ref_response_logp)
    return (pair_weight * (1 - beta * gap(response_logp - ref_response_logp, pair)).relu()).sum()


def ipo(response_logp: Tensor, ref_response_logp: Tensor, pair: Tensor, pair_weight: Tensor, *, tau: float) -> Tensor:
    """IPO: the squared distance of the log-ratio gap from a target, weighted and summed over pairs.

        sum_p  w_p * (D_p - 1 / (2 * tau))^2,   D_p = log(p / p_ref)(better) - log(p / p_ref)(worse)

    Azar et al. 2023, eq. 17 (arXiv:2310.12036), as printed: on sums over a response. Its tau is of no use to
    `ipo_per_token`, nor the other way round.

    Args:
        response_logp, ref_response_logp: [N] natural log, summed over each response; the reference has no gradient.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        tau: per nat: the gap is pulled to 1 / (2 * tau), from both sides.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, ref_response_logp)
    return _squared_distance(response_logp - ref_response_logp, pair, pair_weight, 1 / (2 * tau))


def ipo_per_token(
    response_logp: Tensor,
    ref_response_logp: Tensor,
    num_tokens: Tensor,
    pair: Tensor,
    pair_weight: Tensor,
    *,
    tau: float,
) -> Tensor:
    """IPO on log-ratios per token, weighted and summed over pairs.

        sum_p  w_p * (lr_better / n_better - lr_worse / n_worse - 1 / (2 * tau))^2,   lr = log(p / p_ref)

    Azar et al. 2023, eq. 17, with each response's log-ratio divided by its own number of tokens n: TRL 1.16's "ipo",
    which says that the authors confirmed it gave the paper's numbers. A response without tokens counts as one token.

    Args:
        response_logp, ref_response_logp: [N] natural log, summed over each response; the reference has no gradient.
        num_tokens: [N] tokens that were summed.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        tau: per nat per token: the gap is pulled to 1 / (2 * tau).
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, ref_response_logp, num_tokens)
    per_token = (response_logp - ref_response_logp) / num_tokens.clamp_min(1)
    return _squared_distance(per_token, pair, pair_weight, 1 / (2 * tau))


def kto(
    response_logp: Tensor,
    ref_response_logp: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """KTO: how far from sure it is that good is above, and bad below, the usual log-ratio; summed over examples.

        sum_desirable    desirable_weight   * (1 - sigmoid(beta * (lr_i - z0)))
      + sum_undesirable  undesirable_weight * (1 - sigmoid(beta * (z0 - lr_i))),   lr = log(p / p_ref), z0 = max(0, kl)

    Ethayarajh et al. 2024 (arXiv:2402.01306). The divisor is the number of examples of both kinds, as in TRL, and does
    not change with the weights.

    Args:
        response_logp, ref_response_logp: [N] natural log, summed over each response; the reference has no gradient.
        desirable: [N], 1.0 good, -1.0 bad, 0.0 not an example: it adds nothing, as padding must not.
        kl: scalar z0 in nats before it is clamped at 0: the mean of `mismatched_log_ratio`. No gradient passes.
        beta: per nat; 0.1 in TRL.
        desirable_weight, undesirable_weight: lambda_D and lambda_U; 1 and 1 for as many good as bad examples.
    Returns:
        Scalar sum.
    """
    check_responses(response_logp, ref_response_logp, desirable)
    assert kl.ndim == 0, f"expected a scalar kl, got {tuple(kl.shape)}"
    logit = beta * (response_logp - ref_response_logp - kl.detach().clamp_min(0))
    good, bad = (desirable > 0).to(logit), (desirable < 0).to(logit)
    return (desirable_weight * good * (-logit).sigmoid() + undesirable_weight * bad * logit.sigmoid()).sum()


def mismatched_log_ratio(response_logp: Tensor, ref_response_logp: Tensor, mismatched: Tensor) -> Tensor:
    """Log-ratio to the reference, summed over responses that were written for another prompt.

        sum_i  mismatched_i * log(p(y_i | x_i) / p_ref(y_i | x_i))

    What KTO's z0 is the mean of (Ethayarajh et al. 2024, arXiv:2402.01306): an estimate of the divergence from the
    reference, on pairs that nobody judged. A statistic, not a loss: the caller takes no gradient.

    Args:
        response_logp, ref_response_logp: [N] natural log, summed over each response.
        mismatched: [N], 1.0 for a response to another prompt, 0.0 for the examples.
    Returns:
        Scalar sum, of any sign.
    """
    check_responses(response_logp, ref_response_logp, mismatched)
    return ((response_logp - ref_response_logp) * mismatched).sum()


def gap(value: Tensor, pair: Tensor) -> Tensor:
    """[P] by how much the value [N] of each pair's first response exceeds that of its second."""
    better, worse = pair.unbind(1)
    return value.index_select(0, better) - value.index_select(0, worse)


def log_total(value: Tensor, rivals: Tensor) -> Tensor:
    """[N] log of the sum of exp(value) over a response itself and its `rivals` ([N, N] bool, [i, j]: j is one of i)."""
    everyone = rivals | torch.eye(len(value), dtype=torch.bool, device=value.device)
    return value.expand_as(everyone).masked_fill(~everyone, float("-inf")).logsumexp(1)


def check_pairs(pair: Tensor, pair_weight: Tensor, *values: Tensor) -> None:
    """Assert that pair is [P, 2] indices, pair_weight [P] and every value [N]."""
    check_responses(*values)
    is_index = pair.dtype == torch.long and pair_weight.is_floating_point() and pair_weight.ndim == 1
    assert is_index and pair.shape == (*pair_weight.shape, 2), (
        f"expected pair [P, 2] of long and pair_weight [P] of float, got {tuple(pair.shape)} of {pair.dtype} and "
        f"{tuple(pair_weight.shape)} of {pair_weight.dtype}"
    )


def check_responses(*values: Tensor, group: Tensor | None = None) -> None:
    """Assert that every value is [N] of float, and group, if there is one, [N] of long."""
    shapes = {tuple(value.shape) for value in values} | ({tuple(group.shape)} if group is not None else set())
    assert len(shapes) == 1 and len(next(iter(shapes))) == 1, f"expected tensors of one shape [N], got {shapes}"
    assert all(value.is_floating_point() for value in values), f"expected floats, got {[v.dtype for v in values]}"
    assert group is None or group.dtype == torch.long, f"expected group of long, got {group.dtype}"


def _squared_distance(value: Tensor, pair: Tensor, pair_weight: Tensor, target: float) -> Tensor:
    return (pair_weight * (gap(value, pair) - target).square()).sum()
