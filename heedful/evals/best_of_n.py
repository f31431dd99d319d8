"""How far best-of-n moves from what it draws from, read from the scores of its draws. No torch."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from heedful.errors import DataError

KL, BOUND = "best_of_n_kl", "best_of_n_kl_bound"  # metrics, nats a response


def kl_bound(n: int) -> float:
    """The KL of best-of-n from its draws where no two scores are equal, and at most where some are.

        log n - (n - 1) / n

    Beirami et al. 2024 (arXiv:2401.01879) prove the bound.
    """
    return math.log(n) - (n - 1) / n


def best_of_n_kl(scores: Sequence[float], n: int) -> float:
    """KL(best-of-n || policy), nats a response, by the quantiles of scores of the policy's draws; see `kl_bound`.

    Only which scores are equal counts. A class c of texts of one score has the probability p_c = F_c - F_c- under the
    policy and P_c = F_c^n - F_c-^n under best-of-n, F being the distribution of scores. Within it the first of equals
    is a draw of the policy, so that nothing but the class matters:

        KL = sum_c P_c log(P_c / p_c)

    F is that of the scores given. One that occurs once is taken for one of a continuum, so that its interval [a, b] of
    quantiles has the integral of n u^(n-1) log(n u^(n-1)): without ties the estimate is the bound, and it never exceeds
    it. With as many draws as n = 16 it is low by up to 0.1 for five classes or more, and by 0.2 where one draw in 30 is
    of the best class; with 64 draws by less than 0.07 (simulated, 1,500 times each).

    Args:
        scores: of the draws to one prompt, as many as there are; n or more.

    Raises:
        DataError: there are fewer.
    """
    if not 1 <= n <= len(scores):
        raise DataError(f"found {len(scores)} scores for best-of-{n}", allowed=f"at least {max(n, 1)}")
    sizes = [size for _, size in sorted(Counter(scores).items())]
    ends = list(accumulate(sizes))
    parts = [((end - size) / len(scores), end / len(scores), size) for end, size in zip(ends, sizes, strict=True)]
    return math.fsum(_continuum(b, n) - _continuum(a, n) if size == 1 else _tied(a, b, n) for a, b, size in parts)


def _tied(a: float, b: float, n: int) -> float:
    mass = b**n - a**n
    return mass * math.log(mass / (b - a)) if mass else 0.0


def _continuum(u: float, n: int) -> float:
    """The integral of n v^(n-1) log(n v^(n-1)) from 0 to u."""
    mass = u**n
    return mass * (math.log(n) + (n - 1) * math.log(u) - (n - 1) / n) if mass else 0.0
