"""From judged responses to scored segments, and from segments to tokens with streams."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heedful.batch import Branch, Group
from heedful.errors import DataError
from heedful.records import Feedback, Segment, strict_pairs
from heedful.text import Text, require_groups

LABEL_SCORES = {"good": 1.0, "bad": 0.0}


@dataclass(frozen=True)
class Marked:
    """What a segment's tokens carry: ids put before it, and one number per stream for all its tokens."""

    prefix: Sequence[int]
    streams: Mapping[str, float]


Mark = Callable[[Feedback, int, Segment], Marked]


def reward_of(record: Feedback, index: int) -> float:
    """One number for response `index`, higher is better: its score, else its label (good 1, bad 0), else the share of its
    strict comparisons that it won (0.5 without any). The last two are ours: the pretraining paper knows scores only.

    Raises:
        DataError: nobody judged the response.
    """
    response = record.responses[index]
    if response.score is not None:
        return response.score
    if response.label is not None:
        return LABEL_SCORES[response.label]
    if len(record.responses) > 1:
        pairs = strict_pairs(record)
        won = sum(better == index for better, _ in pairs)
        lost = sum(worse == index for _, worse in pairs)
        return won / (won + lost) if won + lost else 0.5
    raise DataError(
        "a response has no score, label, rank or comparison",
        where=record.id,
        hint="see `heedful data inspect`",
    )


def segments_of(record: Feedback, index: int) -> Sequence[Segment]:
    """The response as scored segments: its own, or one whole."""
    response = record.responses[index]
    return response.segments or (Segment(response.text, reward_of(record, index)),)


def mean_score(record: Feedback, index: int) -> float:
    """The score of a whole response: the mean over its segments, as filtering reads it (Korbak et al. 2023)."""
    return float(np.mean([segment.score for segment in segments_of(record, index)]))


def all_segments(feedback: Sequence[Feedback]) -> list[Segment]:
    """Every segment of every response, in order."""
    return [s for record in feedback for index in range(len(record.responses)) for s in segments_of(record, index)]


def threshold_or_median(threshold: float | None, feedback: Sequence[Feedback]) -> float:
    """The threshold given, 0 included; the median segment score where none is."""
    if threshold is not None:
        return threshold
    return float(np.median([segment.score for segment in all_segments(feedback)]))


def compile_rows(
    feedback: Sequence[Feedback],
    text: Text,
    mark: Mark,
    *,
    eos: Mapping[str, float],
    line_prefix: int | None = None,
) -> list[Group]:
    """Rows of scored text: a document (empty prompt) becomes chunks, anything else one group a prompt.

    Each segment is tokenised apart, as in the released code of Korbak et al. 2023, so that its tokens, and they alone, carry its
    streams. The shift to the predicting position is the model's.

    Args:
        mark: what each segment's tokens carry.
        eos: streams of the closing EOS. It carries no segment's score: in the released code EOS takes the first
            segment's, so that what precedes a bad document is punished for it.
        line_prefix: token before each line of a prompt.
    """
    groups: list[Group] = []
    for record in feedback:
        branches = [_branch(record, index, text, mark, eos) for index in range(len(record.responses))]
        if record.prompt == "":
            groups += [chunk for n, branch in enumerate(branches) for chunk in text.chunks(_name(record, n), branch)]
        else:
            group = text.fit(record.id, text.encode_prompt(record.prompt, line_prefix=line_prefix), branches)
            groups += [group] if group else []
    require_groups(groups, text, where="targets")
    return groups


def _name(record: Feedback, index: int) -> str:
    return record.id if len(record.responses) == 1 else f"{record.id}#{index}"


def _branch(record: Feedback, index: int, text: Text, mark: Mark, eos: Mapping[str, float]) -> Branch:
    tokens: list[int] = []
    streams: dict[str, list[float]] = {name: [] for name in eos}
    for segment in segments_of(record, index):
        marked = mark(record, index, segment)
        ids = [*marked.prefix, *text.encode(segment.text)]
        tokens += ids
        for name in streams:
            streams[name] += [marked.streams[name]] * len(ids)
    if not record.responses[index].truncated:
        tokens.append(text.eos_id)
        for name in streams:
            streams[name].append(eos[name])
    return Branch(tokens, streams)
