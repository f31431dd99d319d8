"""SLiC's losses: make the likelihoods of the responses to a prompt agree with how good they are, without a reference.

Likelihoods are log-probabilities summed over a response, EOS included, never means. The regulariser that SLiC adds is
a term of its own: `nll` in likelihood.py.
"""

from torch import Tensor

from heedful.objectives.comparison import check_pairs, check_responses, gap, log_total


def rank_hinge(response_logp: Tensor, pair: Tensor, pair_weight: Tensor, *, margin: float) -> Tensor:
    """What the better response lacks of being more likely by a margin, weighted and summed over pairs.

        sum_p  w_p * max(0, margin - log p(better) + log p(worse))

    Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), the first term; the rank loss of Zhao et al. 2022 (SLiC,
    arXiv:2210.00045). The gradient is constant inside the margin and exactly 0 from there on.

    Args:
        response_logp: [N] natural log, summed over the tokens of each response.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        margin: delta, nats; 1.0 in SLiC-HF, 20 (gamma 0.05) where RSO ran it again.
    Returns:
        Scalar sum. The loop divides by the step's weight, never a kernel.
    """
    check_pairs(pair, pair_weight, response_logp)
    return (pair_weight * (margin - gap(response_logp, pair)).relu()).sum()


def margin_hinge(response_logp: Tensor, score: Tensor, pair: Tensor, pair_weight: Tensor, *, margin: float) -> Tensor:
    """What the better response lacks of being more likely by a margin that grows with how much better it is.

        sum_p  w_p * max(0, margin * (s_better - s_worse) - log p(better) + log p(worse))

    The margin loss of Zhao et al. 2022 (SLiC, arXiv:2210.00045).

    Args:
        response_logp: [N] natural log, summed over the tokens of each response.
        score: [N], higher is better; no gradient.
        pair: [P, 2] indices in 0..N-1, the one with the higher score first.
        pair_weight: [P], not negative; no gradient.
        margin: nats per unit of score.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, score)
    return (pair_weight * (margin * gap(score, pair) - gap(response_logp, pair)).relu()).sum()


def list_hinge(response_logp: Tensor, place: Tensor, pair: Tensor, pair_weight: Tensor, *, margin: float) -> Tensor:
    """What the better response lacks of being more likely by a margin for each place it is ahead.

        sum_p  w_p * max(0, margin * |i - j| - log p(better) + log p(worse)),   i and j their places in the list

    The list rank loss of Zhao et al. 2022 (SLiC, arXiv:2210.00045), after BRIO; there, all pairs of the list are taken.

    Args:
        response_logp: [N] natural log, summed over the tokens of each response.
        place: [N] in the list of a prompt's responses, the best first; a place further down is one more.
        pair: [P, 2] indices in 0..N-1, the better first.
        pair_weight: [P], not negative; no gradient.
        margin: nats per place.
    Returns:
        Scalar sum.
    """
    check_pairs(pair, pair_weight, response_logp, place)
    return (pair_weight * (margin * gap(place, pair).abs() - gap(response_logp, pair)).relu()).sum()


def expected_score(response_logp: Tensor, score: Tensor, group: Tensor, candidate: Tensor) -> Tensor:
    """Minus the score that the model expects among the candidates of a prompt, summed over prompts.

        -sum_x  sum_i s_i * p(y_i | x) / sum_j p(y_j | x),   i and j candidates of x

    The reward loss of Zhao et al. 2022 (SLiC, arXiv:2210.00045). That probabilities are normalised over the candidates
    is from memory of the paper, as is that they are those of whole responses, not of their tokens' mean. It falls
    below 0: a prompt adds at least minus its best score. Shifting the scores of a prompt changes no gradient.

    Args:
        response_logp: [N] natural log, summed over the tokens of each response.
        score: [N], higher is better; no gradient.
        group: [N] index of the prompt of each response.
        candidate: [N], 1.0 for a candidate, 0.0 for another response to the prompt (a reference for the regulariser).
    Returns:
        Scalar sum.
    """
    check_responses(response_logp, score, candidate, group=group)
    rivals = (group[:, None] == group) & (candidate > 0)
    share = (response_logp - log_total(response_logp, rivals)).exp()
    return -(candidate * score * share).sum()
