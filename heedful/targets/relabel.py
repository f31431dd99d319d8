"""Targets that choose which text is trained and what stands before it."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from heedful.batch import Branch, Group
from heedful.errors import DataError
from heedful.records import Feedback, Response, Segment, place_of, strict_pairs
from heedful.targets.segments import Marked, above_the_lowest, compile_rows, mean_score, reward_of, segments_of
from heedful.text import Text, require_groups

TRAINED = {"mask": 1.0}


def everything(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """All text is trained, whatever was said of it: the targets of MLE."""
    groups: list[Group] = []
    for record in feedback:
        branches = [_response(text, response, is_answer=record.prompt != "") for response in record.responses]
        if record.prompt == "":
            groups += [chunk for branch in branches for chunk in text.chunks(record.id, branch)]
        else:
            group = text.fit(record.id, text.encode_prompt(record.prompt), branches)
            groups += [group] if group else []
    require_groups(groups, text)
    return groups


def demonstrations(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """One response a prompt, the prompt masked: a demonstration, else the best judged, else the only one.

    A response labelled bad is not imitated, even if there is no other.
    """
    groups: list[Group] = []
    for record in feedback:
        chosen = imitated_response(record)
        if chosen is None:
            text.drops.count("prompt with bad responses only")
            continue
        branch = _response(text, record.responses[chosen], is_answer=record.prompt != "")
        if record.prompt == "":
            groups += list(text.chunks(record.id, branch))
        else:
            group = text.fit(record.id, text.encode_prompt(record.prompt), [branch])
            groups += [group] if group else []
    require_groups(groups, text)
    return groups


def imitated_response(record: Feedback) -> int | None:
    """Index of the best response; None where even that is labelled bad."""
    index = best_response(record)
    best = record.responses[index]
    return None if best.label == "bad" and not best.demonstration else index


def best_response(record: Feedback) -> int:
    """Index of the demonstration, else of the best judged response."""
    shown = [index for index, response in enumerate(record.responses) if response.demonstration]
    return shown[0] if shown else best_judged(record)


def best_judged(record: Feedback) -> int:
    """Index of the response that won most of its comparisons, else of the one with the highest reward; the first of
    equals.

    Comparisons, else ranks, else scores say who won, as for every method that asks which is better: scores that a
    program added to a file of human comparisons choose nothing. One labelled bad comes after all others that were
    judged, whatever its score.
    """
    pairs = strict_pairs(record)

    def standing(index: int) -> tuple[bool, bool, float, float]:
        reward = reward_of(record, index)
        own = [better == index for better, worse in pairs if index in (better, worse)]
        wins = sum(own) / len(own) if own else 0.5
        return reward is not None, record.responses[index].label != "bad", wins, reward or 0.0

    return max(range(len(record.responses)), key=standing)


def control_tokens(
    feedback: Sequence[Feedback], *, text: Text, threshold: float, drop: float, lines: bool, seed: int
) -> list[Group]:
    """The good or bad token before each segment, all of it trained: conditional training, Korbak et al. 2023.

    Args:
        threshold: a segment is good from this score on (the paper's s <= t with the sign turned).
        drop: share of segments left without a token; 0 drops none, 1 all. Strict comparison, as in the released code.
        lines: segments are lines, and the lines of a prompt get the good token, as does an EOS after a newline.
    Raises:
        DataError: `lines`, and a segment is not one line: at inference tokens would stand where training had none.
    """
    assert text.good_id is not None and text.bad_id is not None, "the tokenizer has no control tokens"
    if lines:
        _require_lines(feedback)
    good, bad = text.control_ids
    draws: dict[tuple[int, int], random.Random] = {}  # one a response, so that the order of records changes none

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        key = (id(record), index)
        rng = draws[key] = draws.get(key) or random.Random(f"{seed}:{record.id}#{index}")
        token = good if segment.score >= threshold else bad
        return Marked([] if rng.random() < drop else [token], TRAINED)

    return compile_rows(feedback, text, mark, eos=TRAINED, line_prefix=good if lines else None)


def _require_lines(feedback: Sequence[Feedback]) -> None:
    for record in feedback:
        for index in range(len(record.responses)):
            *before, last = segments_of(record, index) or [Segment("", 0.0)]
            is_line = [segment.text.endswith("\n") for segment in before]  # as generation reads lines, no lone \r
            if not all(is_line) or any("\n" in segment.text[:-1] for segment in (*before, last)):
                raise DataError(
                    "a scored segment is not one line, but method.lines puts a token before each line",
                    where=place_of(record),
                    hint="score line by line, or set method.lines to false",
                )


def bad_segments(feedback: Sequence[Feedback], *, text: Text, threshold: float) -> list[Group]:
    """Streams `aligned` and `misaligned` on the tokens of good and bad segments; EOS is aligned.

    Args:
        threshold: a segment is good from this score on, 0 included. (The released code takes a threshold of 0 for none
            and trains on (1 - s)-weighted likelihood instead.)
    """

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        good = float(segment.score >= threshold)
        return Marked([], {"aligned": good, "misaligned": 1.0 - good, "token": 1.0})

    return compile_rows(feedback, text, mark, eos={"aligned": 1.0, "misaligned": 0.0, "token": 1.0})


def best_documents(feedback: Sequence[Feedback], *, text: Text, threshold: float) -> list[Group]:
    """MLE on the responses whose mean segment score is at or above the threshold.

    Raises:
        DataError: no response is left.
    """
    every = [mean_score(record, index) for record in feedback for index in range(len(record.responses))]
    kept = [record for record in (_filtered(record, threshold) for record in feedback) if record.responses]
    for score in every:
        if score is None or score < threshold:
            text.drops.count("response that nobody judged" if score is None else "response below the threshold")
    if not kept:
        best = max((score for score in every if score is not None), default=math.nan)
        raise DataError(
            f"it keeps none of {len(every)} responses: no mean score reaches {threshold:g}; the best is {best:g}",
            where="filtering",
            hint="lower the threshold or the quantile",
        )
    return everything(kept, text=text)


def threshold_or_quantile(threshold: float | None, quantile: float, feedback: Sequence[Feedback]) -> float:
    """The threshold given, 0 included; else the mean score that a share `quantile` of the responses stays below, and
    above the lowest unless that share is 0."""
    if threshold is not None:
        return threshold
    every = [mean_score(record, index) for record in feedback for index in range(len(record.responses))]
    ordered = sorted(score for score in every if score is not None)
    if not ordered:
        raise DataError("no response has a score", where="filtering", hint="see `heedful data inspect`")
    bound = ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]
    return above_the_lowest(bound, ordered) if quantile else bound


def _filtered(record: Feedback, bound: float) -> Feedback:
    scores = [mean_score(record, index) for index in range(len(record.responses))]
    kept = tuple(r for r, score in zip(record.responses, scores) if score is not None and score >= bound)
    return replace(record, responses=kept, comparisons=())


def _response(text: Text, response: Response, *, is_answer: bool) -> Branch:
    """All of a response is trained. Segments are tokenised apart, so that every method sees the same tokens."""
    tokens = text.encode_response(*response.pieces, finished=not response.truncated, continues=is_answer)
    return Branch(tokens, {"mask": [1.0] * len(tokens)})
