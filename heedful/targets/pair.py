"""Targets that lay out the responses to a prompt as one group, with the pairs of which one was preferred."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from heedful.batch import Branch, Group, Pair, keep
from heedful.records import Feedback, score_of, strict_pairs
from heedful.text import Text, require_groups


def compared_responses(feedback: Sequence[Feedback], *, text: Text, weigh_prompts: bool = False) -> list[Group]:
    """One group a record: all responses that were preferred or passed over, and every strict pair of them.

    Ties give no pair (InstructGPT drops them), and a prompt whose responses all tie no group. A pair whose two
    responses are the same tokens, before or after they are cut to the context, says nothing and is dropped; pairs that
    contradict each other stay. All of it is counted.

    Args:
        weigh_prompts: the pairs of a prompt weigh 1 together, not 1 each: InstructGPT's mean over the surviving pairs.
    """
    groups = [group for record in feedback if (group := _compared(record, text, preferred_pairs(record, text)))]
    require_groups(groups, text)
    return [_weighed(group) for group in groups] if weigh_prompts else groups


def pairs_with_reference(
    feedback: Sequence[Feedback],
    *,
    text: Text,
    reference: Callable[[Feedback], int | None],
    pairs: Callable[[Feedback, Text], Sequence[tuple[int, int]]] | None = None,
    is_scored: bool = False,
) -> list[Group]:
    """As `compared_responses`, with the stream `reference` on the response that is imitated beside: one of the
    compared, or one more.

    Args:
        reference: the index of that response in its record; None for none.
        pairs: the pairs of a record by index, the better first; the preferred ones if not given.
        is_scored: each response has its `score` as a field, 0 where it is not compared and has none.
    """
    groups = []
    for record in feedback:
        if found := list((pairs or preferred_pairs)(record, text)):
            imitated = reference(record)
            also = () if imitated is None else (imitated,)
            if group := _compared(record, text, found, also=also, is_scored=is_scored):
                groups.append(group)
    require_groups(groups, text)
    return groups


def _compared(
    record: Feedback,
    text: Text,
    pairs: Sequence[tuple[int, int]],
    *,
    also: Sequence[int] | None = None,
    is_scored: bool = False,
) -> Group | None:
    """The group of a record; with `also`, the responses in it carry the stream `reference`, compared or not."""
    if not pairs:
        return None
    compared = {index for pair in pairs for index in pair}
    members = sorted(compared | set(also or ()))
    place = {index: n for n, index in enumerate(members)}
    branches = []
    for index in members:
        tokens = response_tokens(record, index, text)
        streams = {"mask": [float(index in compared)] * len(tokens)}
        if also is not None:
            streams["reference"] = [float(index in also)] * len(tokens)
        branches.append(
            Branch(tokens, streams, {"score": score_of(record.responses[index]) or 0.0} if is_scored else {})
        )
    moved = [Pair(place[better], place[worse]) for better, worse in pairs]
    group = text.fit(record.id, text.encode_prompt(record.prompt), branches, moved)
    return _distinct(group, text) if group else None


def preferred_pairs(record: Feedback, text: Text) -> list[tuple[int, int]]:
    """The strict pairs of a record, each once. That there is none is counted, and pairs that contradict each other."""
    pairs = list(dict.fromkeys(strict_pairs(record)))
    if not pairs:
        text.drops.count("prompt without a preferred response" if record.responses else "prompt without a response")
    for _ in [pair for pair in pairs if pair[::-1] in pairs and pair[0] < pair[1]]:
        text.drops.count("pair that contradicts another (kept)")
    return pairs


def response_tokens(record: Feedback, index: int, text: Text) -> list[int]:
    """A response and, where it was finished, its EOS; segments are tokenised apart as everywhere."""
    response = record.responses[index]
    return text.encode_response(*response.pieces, finished=not response.truncated, continues=record.prompt != "")


def _distinct(group: Group, text: Text) -> Group | None:
    """Without the pairs of equal responses, and without the responses that nothing reads then."""
    pairs = [p for p in group.pairs if list(group.branches[p.better].tokens) != list(group.branches[p.worse].tokens)]
    for _ in range(len(group.pairs) - len(pairs)):
        text.drops.count("pair of equal responses")
    if not pairs:
        return None
    members = {index for pair in pairs for index in (pair.better, pair.worse)}
    members |= {n for n, branch in enumerate(group.branches) if any(branch.streams.get("reference", ()))}
    return keep(replace(group, pairs=tuple(pairs)), members)


def _weighed(group: Group) -> Group:
    return replace(group, pairs=tuple(pair._replace(weight=1 / len(group.pairs)) for pair in group.pairs))


def without_streams(groups: Sequence[Group]) -> list[Group]:
    """The same groups for a loss that reads responses as a whole: no token goes through the LM head."""
    bare = [[Branch(branch.tokens, {}, branch.fields) for branch in group.branches] for group in groups]
    return [replace(group, branches=tuple(branches)) for group, branches in zip(groups, bare)]


def labelled_responses(feedback: Sequence[Feedback], *, text: Text, seed: int) -> list[Group]:
    """One group a record: its good and bad responses, and one that was written for another prompt.

    Fields of each response: `desirable` 1, -1, or 0 for the one of another prompt; `example` and `mismatched` count the
    former and the latter. A response is good or bad by its label; where a record has none, by its strict
    pairs, of which it must have won all or lost all.

    The mismatched one is the first example of the record that follows in an order drawn from the seed, so that batches,
    processes and the order of the file change nothing; TRL rotates the completions within each batch.
    """
    judged = [(record, labels) for record in feedback if (labels := _labels(record, text))]
    order = sorted(range(len(judged)), key=lambda n: random.Random(f"{seed}:{judged[n][0].id}").random())
    follows = dict(zip(order, order[1:] + order[:1]))
    groups = []
    for n, (record, labels) in enumerate(judged):
        other, theirs = judged[follows[n]]
        branches = [_example(record, index, text, desirable) for index, desirable in labels.items()]
        branches.append(_example(other, next(iter(theirs)), text, 0.0))
        if group := text.fit(record.id, text.encode_prompt(record.prompt), branches):
            groups.append(group)
    require_groups(groups, text)
    return groups


def labels_of(record: Feedback) -> dict[int, float]:
    """Index of each response that is good (1) or bad (-1): by its label; where a record has none, by its strict pairs,
    of which it must have won all or lost all."""
    if any(response.label for response in record.responses):
        return {n: 1.0 if r.label == "good" else -1.0 for n, r in enumerate(record.responses) if r.label}
    won, lost = _winners_and_losers(record)
    return {n: 1.0 if n in won else -1.0 for n in sorted(won ^ lost)}


def _winners_and_losers(record: Feedback) -> tuple[set[int], set[int]]:
    pairs = strict_pairs(record)
    return {better for better, _ in pairs}, {worse for _, worse in pairs}


def _labels(record: Feedback, text: Text) -> dict[int, float]:
    """As `labels_of`; who both won and lost is counted."""
    if not any(response.label for response in record.responses):
        for _ in set.intersection(*_winners_and_losers(record)):
            text.drops.count("response that both won and lost")
    return labels_of(record)


def _example(record: Feedback, index: int, text: Text, desirable: float) -> Branch:
    tokens = response_tokens(record, index, text)
    is_example = abs(desirable)
    fields = {"desirable": desirable, "example": is_example, "mismatched": 1.0 - is_example}
    return Branch(tokens, {"mask": [1.0] * len(tokens)}, fields)
