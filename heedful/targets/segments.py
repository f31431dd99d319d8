"""From judged responses to scored segments, and from segments to tokens with streams."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heedful.batch import Branch, Group
from heedful.errors import DataError
from heedful.records import Feedback, Segment, judged_pairs, score_of
from heedful.text import Text, require_groups

LABEL_SCORES = {"good": 1.0, "bad": 0.0}


@dataclass(frozen=True)
class Marked:
    """What a segment's tokens carry: ids put before it, and one number per stream for all its tokens."""

    prefix: Sequence[int]
    streams: Mapping[str, float]


Mark = Callable[[Feedback, int, Segment], Marked]


def reward_of(record: Feedback, index: int) -> float | None:
    """One number for response `index`, higher is better; None where nobody judged it.

    Its score, else its label (good 1, bad 0), else the share of its strict comparisons that it won (0.5 where all were
    ties). The last two are ours: the pretraining paper knows scores only.
    """
    response = record.responses[index]
    if (score := score_of(response)) is not None:
        return score
    if response.label is not None:
        return LABEL_SCORES[response.label]
    mine = [pair for pair in judged_pairs(record) if index in (pair.better, pair.worse)]
    strict = [pair for pair in mine if pair.strength > 0]
    if strict:
        return sum(pair.better == index for pair in strict) / len(strict)
    return 0.5 if mine else None


def segments_of(record: Feedback, index: int) -> Sequence[Segment]:
    """The response as scored segments: its own, or one whole; none where nobody judged it."""
    response = record.responses[index]
    if response.segments:
        return response.segments
    reward = reward_of(record, index)
    return () if reward is None else (Segment(response.text, reward),)


def mean_score(record: Feedback, index: int) -> float | None:
    """The score of a whole response: the mean over its segments, as filtering reads it (Korbak et al. 2023)."""
    scores = [segment.score for segment in segments_of(record, index)]
    return float(np.mean(scores)) if scores else None


def all_segments(feedback: Sequence[Feedback]) -> list[Segment]:
    """Every segment of every response, in order."""
    return [s for record in feedback for index in range(len(record.responses)) for s in segments_of(record, index)]


def threshold_or_median(threshold: float | None, feedback: Sequence[Feedback]) -> float:
    """The threshold given, 0 included; the median segment score where none is.

    Raises:
        DataError: no score, or all are equal, so that none is good or bad.
    """
    if threshold is not None:
        return threshold
    scores = [segment.score for segment in all_segments(feedback)]
    if not scores:
        raise DataError("no response has a score to take the median of", hint="see `heedful data inspect`")
    return above_the_lowest(float(np.median(scores)), scores)


def above_the_lowest(bound: float, scores: Sequence[float]) -> float:
    """The bound, or the lowest score but one where the bound is the lowest: where more than half are labelled bad, the
    median is that of a bad one, and all would be good.

    Raises:
        DataError: all scores are equal.
    """
    if bound > min(scores):
        return bound
    if min(scores) == max(scores):
        raise DataError(
            f"all {len(scores)} scores are {bound:g}, so that none is good or bad", hint="give method.threshold"
        )
    return min(score for score in scores if score > min(scores))


def compile_rows(
    feedback: Sequence[Feedback],
    text: Text,
    mark: Mark,
    *,
    eos: Mapping[str, float],
    line_prefix: int | None = None,
) -> list[Group]:
    """Rows of scored text: a document (empty prompt) becomes chunks, anything else one group a prompt.

    Each segment is tokenised apart, as in the released code of Korbak et al. 2023, so that its tokens, and they alone,
    carry its streams. The shift to the predicting position is the model's.

    Args:
        mark: what each segment's tokens carry.
        eos: streams of the closing EOS. It carries no segment's score: in the released code EOS takes the first
            segment's, so that what precedes a bad document is punished for it.
        line_prefix: token before each line of a prompt, and before an EOS that follows a newline: generation forces it
            after each newline, so that EOS is drawn behind it or never.
    """
    groups: list[Group] = []
    for record in feedback:
        branches = {n: _branch(record, n, text, mark, eos, line_prefix) for n in _judged(record, text)}
        if record.prompt == "":
            for n, (branch, inside) in branches.items():
                groups += text.chunks(_name(record, n), branch, inside=() if line_prefix is not None else inside)
        else:
            prompt = text.encode_prompt(record.prompt, line_prefix=line_prefix)
            group = text.fit(record.id, prompt, [branch for branch, _ in branches.values()])
            groups += [group] if group else []
    require_groups(groups, text)
    return groups


def _judged(record: Feedback, text: Text) -> list[int]:
    judged = [index for index in range(len(record.responses)) if segments_of(record, index)]
    for _ in range(len(record.responses) - len(judged)):
        text.drops.count("response that nobody judged")
    return judged


def _name(record: Feedback, index: int) -> str:
    return record.id if len(record.responses) == 1 else f"{record.id}#{index}"


def _branch(
    record: Feedback, index: int, text: Text, mark: Mark, eos: Mapping[str, float], line_prefix: int | None
) -> tuple[Branch, list[int | None]]:
    """A response as a branch; and for each token the control token of the segment that it continues."""
    tokens: list[int] = []
    inside: list[int | None] = []
    streams: dict[str, list[float]] = {name: [] for name in eos}
    for segment in segments_of(record, index):
        marked = mark(record, index, segment)
        continues = bool(tokens) or (record.prompt != "" and text.joins)
        ids = [*marked.prefix, *text.encode(segment.text, continues=continues)]
        tokens += ids
        inside += [None, *[next(iter(marked.prefix), None)] * (len(ids) - 1)][: len(ids)]
        for name in streams:
            streams[name] += [marked.streams[name]] * len(ids)
    response = record.responses[index]
    if not response.truncated:
        prefix = [line_prefix] if line_prefix is not None and response.text.endswith("\n") else []
        end = [*prefix, text.eos_id]
        tokens += end
        inside += [None] * len(end)
        for name in streams:
            streams[name] += [eos[name]] * len(end)
    return Branch(tokens, streams), inside
