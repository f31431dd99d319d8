"""Targets that choose which text is trained and what stands before it."""

import random
from collections.abc import Sequence
from dataclasses import replace

from heedful.batch import Branch, Group
from heedful.errors import DataError
from heedful.records import Feedback, Response, Segment
from heedful.targets.segments import Marked, compile_rows, mean_score, reward_of, threshold_or_median
from heedful.text import Text, require_groups

TRAINED = {"mask": 1.0}


def everything(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """All text is trained, whatever was said of it: the targets of MLE."""
    groups: list[Group] = []
    for record in feedback:
        branches = [_response(text, response) for response in record.responses]
        if record.prompt == "":
            groups += [chunk for branch in branches for chunk in text.chunks(record.id, branch)]
        else:
            group = text.fit(record.id, text.encode_prompt(record.prompt), branches)
            groups += [group] if group else []
    require_groups(groups, text, where="mle")
    return groups


def demonstrations(feedback: Sequence[Feedback], *, text: Text) -> list[Group]:
    """One response a prompt, the prompt masked: a demonstration, else the best judged, else the only one."""
    groups = []
    for record in feedback:
        chosen = record.responses[best_response(record)]
        branch = _response(text, chosen)
        if record.prompt == "":
            groups += list(text.chunks(record.id, branch))
        else:
            groups.append(text.fit(record.id, text.encode_prompt(record.prompt), [branch]))
    groups = [group for group in groups if group]
    require_groups(groups, text, where="sft")
    return groups


def best_response(record: Feedback) -> int:
    """Index of the demonstration, else of the response with the highest reward, the first of equals."""
    shown = [index for index, response in enumerate(record.responses) if response.demonstration]
    if shown or len(record.responses) == 1:
        return shown[0] if shown else 0
    return max(range(len(record.responses)), key=lambda index: reward_of(record, index))


def control_tokens(
    feedback: Sequence[Feedback], *, text: Text, threshold: float | None, drop: float, lines: bool, seed: int
) -> list[Group]:
    """The good or bad token before each segment, all of it trained: conditional training, Korbak et al. 2023.

    Args:
        threshold: a segment is good from this score on (the paper's s <= t with the sign turned); None: the median.
        drop: share of segments left without a token; 0 drops none, 1 all. Strict comparison, as in the released code.
        lines: segments are lines, and the lines of a prompt get the good token.
    """
    assert text.good_id is not None and text.bad_id is not None, "the tokenizer has no control tokens"
    bound = threshold_or_median(threshold, feedback)
    draws: dict[str, random.Random] = {}

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        rng = draws.setdefault(f"{record.id}#{index}", random.Random(f"{seed}:{record.id}#{index}"))
        token = text.good_id if segment.score >= bound else text.bad_id
        return Marked([] if rng.random() < drop else [token], TRAINED)

    return compile_rows(feedback, text, mark, eos=TRAINED, line_prefix=text.good_id if lines else None)


def bad_segments(feedback: Sequence[Feedback], *, text: Text, threshold: float | None) -> list[Group]:
    """Streams `aligned` and `misaligned` on the tokens of good and bad segments; EOS is aligned.

    Args:
        threshold: a segment is good from this score on, 0 included; None: the median. (The released code takes a
            threshold of 0 for none and trains on (1 - s)-weighted likelihood instead.)
    """
    bound = threshold_or_median(threshold, feedback)

    def mark(record: Feedback, index: int, segment: Segment) -> Marked:
        good = float(segment.score >= bound)
        return Marked([], {"aligned": good, "misaligned": 1.0 - good, "token": 1.0})

    return compile_rows(feedback, text, mark, eos={"aligned": 1.0, "misaligned": 0.0, "token": 1.0})


def best_documents(
    feedback: Sequence[Feedback], *, text: Text, threshold: float | None, quantile: float
) -> list[Group]:
    """MLE on the responses whose mean segment score is at or above the threshold, or else the quantile.

    Raises:
        DataError: no response is left.
    """
    scores = [mean_score(record, index) for record in feedback for index in range(len(record.responses))]
    bound = threshold if threshold is not None else _quantile(scores, quantile)
    kept = [record for record in (_filtered(record, bound) for record in feedback) if record.responses]
    if not kept:
        raise DataError(
            f"filtering keeps none of {len(scores)} responses: no mean score reaches {bound:g} (the best is {max(scores):g})",
            hint="lower the threshold or the quantile",
        )
    return everything(kept, text=text)


def _filtered(record: Feedback, bound: float) -> Feedback:
    kept = tuple(r for index, r in enumerate(record.responses) if mean_score(record, index) >= bound)
    return replace(record, responses=kept, comparisons=())


def _quantile(scores: Sequence[float], quantile: float) -> float:
    ordered = sorted(scores)
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]


def _response(text: Text, response: Response) -> Branch:
    """All of a response is trained. Segments are tokenised apart, so that every method sees the same tokens of a record."""
    *pieces, last = [segment.text for segment in response.segments] or [response.text]
    tokens = [id for piece in pieces for id in text.encode(piece)]
    tokens += text.encode_response(last, finished=not response.truncated)
    return Branch(tokens, {"mask": [1.0] * len(tokens)})
