"""The kinds of feedback: which of them a record holds, and what is missing where it holds none that a method can use.

A method states `FEEDBACK`, the kinds of which any one is enough; a tuple among them stands for kinds that the file must
hold together, each in a record of its own or not.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from heedful.records import Feedback, judged_pairs, score_of, strict_pairs

Need = str | tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of feedback: whether a record holds it, and what to say where none does."""

    holds: Callable[[Feedback], bool]
    missing: str


def _any_response(test: Callable) -> Callable[[Feedback], bool]:
    return lambda feedback: any(test(response) for response in feedback.responses)


def _is_ranking(feedback: Feedback) -> bool:
    compared = {index for pair in judged_pairs(feedback) for index in (pair.better, pair.worse)}
    return len(compared) > 2 and bool(strict_pairs(feedback))


def _is_imitable(feedback: Feedback) -> bool:
    """Whether a response was judged, by score, label or comparison, and is not labelled bad."""
    compared = {index for pair in strict_pairs(feedback) for index in pair}
    return any(
        response.label == "good" or (response.label is None and (index in compared or score_of(response) is not None))
        for index, response in enumerate(feedback.responses)
    )


KINDS: Mapping[str, Kind] = {
    "documents": Kind(lambda f: f.prompt == "" and bool(f.responses), "no record has an empty `prompt` (a document)"),
    "prompts": Kind(lambda f: bool(f.prompt), "no record has a `prompt` to answer"),
    "responses": Kind(lambda f: bool(f.responses), "no record has a response"),
    "demonstrations": Kind(_any_response(lambda r: r.demonstration), "no response is marked `demonstration: true`"),
    "pairs": Kind(
        lambda f: bool(strict_pairs(f)),
        "no record prefers one of its responses to another (`comparisons`, or `rank` or `score` on two of them)",
    ),
    "rankings": Kind(_is_ranking, "no record orders three or more responses"),
    "scores": Kind(_any_response(lambda r: score_of(r) is not None), "no response has a `score`"),
    "labels": Kind(_any_response(lambda r: r.label is not None), 'no response has a `label` ("good" or "bad")'),
    "imitable": Kind(
        _is_imitable, 'no response was judged (`score`, `label`, `comparisons`) without being labelled "bad"'
    ),
    "segments": Kind(_any_response(lambda r: bool(r.segments)), "no response has scored `segments`"),
    "critiques": Kind(_any_response(lambda r: bool(r.critique)), "no response has a `critique`"),
    "refinements": Kind(_any_response(lambda r: bool(r.refinement)), "no response has a `refinement`"),
    "answers": Kind(lambda f: f.answer is not None, "no record has an `answer` to check against"),
}


def kinds_of(feedback: Feedback) -> frozenset[str]:
    """The kinds of feedback that a record holds."""
    return frozenset(name for name, kind in KINDS.items() if kind.holds(feedback))


def count_kinds(records: Iterable[Feedback]) -> dict[str, int]:
    """How many records hold each kind, in the order of `KINDS`, none left out."""
    counts = dict.fromkeys(KINDS, 0)
    for record in records:
        for name in kinds_of(record):
            counts[name] += 1
    return counts


def usable(records: Iterable[Feedback], needs: Iterable[Need]) -> list[Feedback]:
    """The records that hold some of what a method with this `FEEDBACK` needs, in order."""
    wanted = {name for need in needs for name in _together(need)}
    return [record for record in records if any(KINDS[name].holds(record) for name in wanted)]


def missing(needs: Iterable[Need], counts: Mapping[str, int]) -> str | None:
    """None where some record may hold what is needed; else what is missing, in one sentence without a full stop.

    Args:
        needs: a method's `FEEDBACK`.
        counts: records that hold each kind, as `count_kinds` returns them.
    """
    wanted = sorted(map(_together, needs), key=lambda names: [list(KINDS).index(name) for name in names])
    lacking = [[name for name in names if not counts[name]] for names in wanted]
    if not all(lacking):
        return None
    return "; ".join(dict.fromkeys(" and ".join(KINDS[name].missing for name in names) for names in lacking))


def _together(need: Need) -> tuple[str, ...]:
    names = (need,) if isinstance(need, str) else tuple(need)
    assert set(names) <= set(KINDS), f"unknown kind of feedback in {names}"
    return names
