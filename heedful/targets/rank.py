"""Targets of a loss on whole responses: which of two is better, or where each stands among all to its prompt."""

from collections.abc import Sequence
from dataclasses import replace

from heedful.batch import Group
from heedful.records import Feedback
from heedful.targets.pair import compared_responses, without_streams
from heedful.text import Text, require_groups


def paired_responses(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """As `compared_responses`, every prompt of weight 1; no token has a stream, so none goes through the LM head."""
    return without_streams(compared_responses(feedback, text=text, weigh_prompts=True))


def ranked_responses(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """As `paired_responses`, with the place of each response, for a loss on rankings.

    Fields: `rank`, 1 is best and equal is a tie, and `prompt`, which sums to 1 over the responses to a prompt. A prompt
    whose pairs are no ranking, because they contradict each other or leave open which of two is better, is dropped and
    counted.
    """
    groups = []
    for group in paired_responses(feedback, text=text):
        if ranks := _ranks(group):
            groups.append(_with_ranks(group, ranks))
        else:
            text.drops.count("prompt whose comparisons are no ranking")
    require_groups(groups, text)
    return groups


def _ranks(group: Group) -> list[int] | None:
    """The rank of each branch, 1 + the number of those above it; None where the pairs are no ranking."""
    indices = range(len(group.branches))
    above = {(pair.better, pair.worse) for pair in group.pairs}
    for middle in indices:
        above |= {(a, b) for a in indices for b in indices if (a, middle) in above and (middle, b) in above}
    ranks = [1 + sum((other, index) in above for other in indices) for index in indices]
    is_ranking = above == {(a, b) for a in indices for b in indices if ranks[a] < ranks[b]}
    return ranks if is_ranking else None


def _with_ranks(group: Group, ranks: Sequence[int]) -> Group:
    fields = [{"rank": float(rank), "prompt": float(index == 0)} for index, rank in enumerate(ranks)]
    branches = [replace(branch, fields=own) for branch, own in zip(group.branches, fields)]
    return replace(group, branches=tuple(branches))
