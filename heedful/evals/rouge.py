"""ROUGE: overlap with a reference in words, pairs of words, and the longest common subsequence (Lin 2004, W04-1013).

    F = 2 P R / (P + R);   P = overlap / units of the candidate, R = overlap / units of the reference

as Google's rouge_score 0.1.2 without stemming: lower case, words are runs of a-z and 0-9, a unit counts as often as
both have it; ROUGE-L reads a text as one sentence. A summary may be better than its reference and share few words with
it: SLiC-HF's are preferred far more often than the references and score lower than its SFT model's (Zhao et al. 2023,
table 1). So it says how far a model went from the reference, and nothing is chosen by it.
"""

import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"[a-z0-9]+")


def rouge_n(candidate: str, reference: str, n: int) -> float:
    """F of the runs of n words that both have; 0 where either has none."""
    own, other = (_runs(words(text), n) for text in (candidate, reference))
    return _f((own & other).total(), own.total(), other.total())


def rouge_l(candidate: str, reference: str) -> float:
    """F of the longest common subsequence of words."""
    own, other = words(candidate), words(reference)
    return _f(_longest_common(own, other), len(own), len(other))


def words(text: str) -> list[str]:
    """What is counted."""
    return WORD.findall(text.lower())


def _runs(found: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(found[i : i + n]) for i in range(len(found) - n + 1))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the usual table at a time."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _f(overlap: int, own: int, other: int) -> float:
    return 2 * overlap / (own + other) if overlap else 0.0
