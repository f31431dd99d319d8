"""Targets that lay out the responses to a prompt as one group, with the pairs of which one was preferred."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from heedful.batch import Branch, Group, Pair, keep
from heedful.records import Feedback, prompt_text, score_of, strict_pairs
from heedful.text import Text, require_groups

EQUAL = "pair of equal responses"


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
    """The strict pairs of a record, each once, with the first of equal responses for all of them.

    Counted: that there is none, pairs of two equal responses, those that repeat another through equal responses, and
    those that contradict another, which stay.
    """
    stated = list(dict.fromkeys(strict_pairs(record)))
    if not stated:
        text.drops.count("prompt without a preferred response" if record.responses else "prompt without a response")
    first: dict[tuple[str, bool], int] = {}
    same = [first.setdefault((r.text, r.truncated), n) for n, r in enumerate(record.responses)]
    apart = [(same[better], same[worse]) for better, worse in stated if same[better] != same[worse]]
    pairs = list(dict.fromkeys(apart))
    text.drops.count(EQUAL, len(stated) - len(apart))
    text.drops.count("pair that repeats another through equal responses", len(apart) - len(pairs))
    contradicting = sum(pair[::-1] in pairs and pair[0] < pair[1] for pair in pairs)
    text.drops.count("pair that contradicts another (kept)", contradicting)
    return pairs


def response_tokens(record: Feedback, index: int, text: Text) -> list[int]:
    """A response and, where it was finished, its EOS; segments are tokenised apart as everywhere."""
    response = record.responses[index]
    return text.encode_response(*response.pieces, finished=not response.truncated, continues=record.prompt != "")


def _distinct(group: Group, text: Text) -> Group | None:
    """Without pairs of responses that are equal once they are cut, or responses that nothing reads then."""
    pairs = [p for p in group.pairs if list(group.branches[p.better].tokens) != list(group.branches[p.worse].tokens)]
    text.drops.count(EQUAL, len(group.pairs) - len(pairs))
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
    """One group a record: its good and bad responses, and one, good or bad, that was written for another prompt.

    Fields of each response: `desirable` 1, -1, or 0 for the one of another prompt; `example` and `mismatched` count the
    former and the latter. A response is good or bad by its label; where a record has none, by its strict
    pairs, of which it must have won all or lost all.

    The mismatched one is drawn from the examples of the prompt that follows in an order drawn from the seed, so that
    batches, processes and the order of the file change nothing; TRL rotates the completions within each batch. Where
    all records have one prompt there is none, and the statistic is 0; counted.
    """
    judged = [(record, labels) for record in feedback if (labels := _labels(record, text))]
    others = _examples_of_others(judged, seed)
    groups = []
    for record, labels in judged:
        branches = [_example(record, index, text, desirable) for index, desirable in labels.items()]
        if theirs := others[prompt_text(record.prompt)]:
            other, index = random.Random(f"{seed}:{record.id}").choice(theirs)
            branches.append(_example(other, index, text, 0.0))
        else:
            text.drops.count("prompt without another one whose responses it could be shown (kept)")
        group = text.fit(record.id, text.encode_prompt(record.prompt), branches)
        if group := group and _unanimous(group, text):
            groups.append(group)
    require_groups(groups, text)
    return groups


def _unanimous(group: Group, text: Text) -> Group | None:
    """Without responses that are the same tokens and called both good and bad; None where no example is left."""
    said: dict[tuple[int, ...], set[float]] = {}
    for branch in group.branches:
        if branch.fields["example"]:
            said.setdefault(tuple(branch.tokens), set()).add(branch.fields["desirable"])
    torn = [n for n, b in enumerate(group.branches) if b.fields["example"] and len(said[tuple(b.tokens)]) > 1]
    text.drops.count("response that is called both good and bad", len(torn))
    kept = [n for n in range(len(group.branches)) if n not in torn]
    return keep(group, kept) if any(group.branches[n].fields["example"] for n in kept) else None


def _examples_of_others(
    judged: Sequence[tuple[Feedback, Mapping[int, float]]], seed: int
) -> dict[str, list[tuple[Feedback, int]]]:
    """For each prompt the examples of the one that follows; none where there is no other."""
    examples: dict[str, list[tuple[Feedback, int]]] = {}
    for record, labels in sorted(judged, key=lambda one: one[0].id):
        examples.setdefault(prompt_text(record.prompt), []).extend((record, index) for index in labels)
    order = sorted(examples, key=lambda prompt: random.Random(f"{seed}:{prompt}").random())
    following = zip(order, order[1:] + order[:1])
    return {prompt: examples[after] if after != prompt else [] for prompt, after in following}


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
