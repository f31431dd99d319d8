"""What people told us: one record is one judgement of the responses to one prompt.

Text level, frozen, free of torch and tokenizers. Rank 1 is best and equal ranks are ties; a higher
score is better, always; counts and lengths are stored raw and rates derived once.

`from_json` is the only door in: whatever a file holds passes it, and what it refuses it names, with the
field, what was found, what is allowed. `to_json` is its inverse: `from_json(to_json(x)) == x`.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from itertools import combinations
from pathlib import PurePath
from typing import Any

from heedful.errors import DataError

LABELS = ("good", "bad")
ROLES = ("system", "user", "assistant", "tool")
EXAMPLE = '{"prompt": "...", "responses": [{"text": "..."}]}'
SHOWN = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Score:
    """A program's number for a text: who counted, which version, what it found."""

    scorer: str
    value: float
    version: str = "1"
    count: float | None = None
    length: int | None = None


@dataclass(frozen=True)
class Segment:
    """A part of a response with its own score; the segments of a response join to its text."""

    text: str
    score: float


@dataclass(frozen=True)
class Response:
    """One answer to the prompt, and whatever was said about it."""

    text: str
    rank: int | None = None
    score: float | None = None
    label: str | None = None  # "good" or "bad"
    critique: str | None = None
    refinement: str | None = None
    demonstration: bool = False
    truncated: bool = False
    scores: tuple[Score, ...] = ()
    segments: tuple[Segment, ...] = ()
    flags: tuple[str, ...] = ()
    author: str | None = None

    def __post_init__(self):
        _make_tuples(self, "scores", "segments", "flags")

    @property
    def pieces(self) -> tuple[str, ...]:
        """What is tokenised apart: the texts of its segments, or the whole."""
        return tuple(segment.text for segment in self.segments) or (self.text,)


@dataclass(frozen=True)
class Comparison:
    """`better` and `worse` index the record's responses; strength 0 is a tie."""

    better: int
    worse: int
    strength: float = 1.0


@dataclass(frozen=True)
class Feedback:
    """One judgement. `prompt` is text or a conversation; an empty one means a pretraining document.

    Without responses it is a prompt to sample from.
    """

    prompt: str | tuple[Message, ...]
    responses: tuple[Response, ...]
    id: str = ""
    answer: str | None = None
    comparisons: tuple[Comparison, ...] = ()
    labeler: str | None = None
    user: str | None = None
    guideline: str | None = None
    seconds: float | None = None
    source: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False, repr=False)  # file and line it was read from, for messages alone

    def __post_init__(self):
        _make_tuples(self, "responses", "comparisons", *(() if isinstance(self.prompt, str) else ("prompt",)))


def _make_tuples(record: Any, *names: str) -> None:
    """Lists are as good as tuples to whoever writes a record in Python."""
    for name in names:
        object.__setattr__(record, name, tuple(getattr(record, name)))


# What a record says --------------------------------------------------------------------------------


def judged_pairs(feedback: Feedback) -> tuple[Comparison, ...]:
    """Every pair of responses that was compared, ties (strength 0) included.

    The most direct statement counts alone: the record's comparisons, else its ranks, else its scores, else good against
    bad labels (two good ones are no tie: nobody compared them).
    """
    if feedback.comparisons:
        return feedback.comparisons
    values = [_standing(response) for response in feedback.responses]
    for kind in range(3):
        known = [(index, number) for index, value in enumerate(values) if (number := value[kind]) is not None]
        if len(known) > 1:
            pairs = [_compare(*a, *b) for a, b in combinations(known, 2)]
            return tuple(pair for pair in pairs if pair.strength or kind < 2)
    return ()


def strict_pairs(feedback: Feedback) -> list[tuple[int, int]]:
    """Indices (better, worse) of the responses of which one was preferred; ties give none."""
    return [(pair.better, pair.worse) for pair in judged_pairs(feedback) if pair.strength > 0]


def is_all_tied(feedback: Feedback) -> bool:
    """Responses were compared and none was preferred: nothing here for a method that learns from preferences."""
    pairs = judged_pairs(feedback)
    return bool(pairs) and not any(pair.strength for pair in pairs)


def score_of(response: Response) -> float | None:
    """The response's number, higher is better: its `score`, else its only scorer's value, else None."""
    if response.score is None and len(response.scores) == 1:
        return response.scores[0].value
    return response.score


def prompt_text(prompt: str | tuple[Message, ...]) -> str:
    """A prompt as plain text, a turn a paragraph: for keys, lengths, display and what a ranker reads, never for a model
    that answers."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def place_of(feedback: Feedback, index: int | None = None) -> str:
    """What a message calls a record, or one of its responses: its file and line, and its id where it has another."""
    named = f"record {feedback.id}"
    if feedback.where:
        named = feedback.where if feedback.id in ("", PurePath(feedback.where).name) else f"{feedback.where} ({named})"
    return named if index is None else f"{named}: responses[{index}]"


def _standing(response: Response) -> tuple[float | None, ...]:
    rank = None if response.rank is None else -response.rank
    label = None if response.label is None else LABELS[::-1].index(response.label)
    return rank, score_of(response), label


def _compare(a: int, value_a: float, b: int, value_b: float) -> Comparison:
    if value_a == value_b:
        return Comparison(a, b, 0.0)
    return Comparison(a, b) if value_a > value_b else Comparison(b, a)


# In and out of JSON --------------------------------------------------------------------------------


def from_json(row: Any, where: str = "") -> Feedback:
    """A record from one parsed JSON object; nothing is cast, guessed or passed over.

    Args:
        row: the object; a null field counts as absent.
        where: file and line, the start of every message.

    Raises:
        DataError: naming the field, what was found, what is allowed.
    """
    base = f"{where}: " if where else ""
    values = _read(row, RECORD, base, where or "the record")
    if "prompt" not in values:
        raise DataError("no `prompt`", where=where, allowed='text or a conversation ("" for a pretraining document)')
    values.setdefault("responses", ())
    feedback = Feedback(**values, where=where)
    if not (feedback.prompt or feedback.responses):
        raise DataError("neither a prompt nor a response", where=where, allowed="at least one of the two")
    _check_ranks(feedback.responses, base)
    _check_comparisons(feedback, base)
    return feedback


def to_json(feedback: Feedback) -> dict[str, Any]:
    """The record as plain JSON values, fields with their default left out."""
    return _plain(feedback)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        said = [f for f in fields(value) if f.compare and getattr(value, f.name) != _default(f)]
        return {f.name: _plain(getattr(value, f.name)) for f in said}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _default(f: Any) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


def _check_ranks(responses: tuple[Response, ...], base: str) -> None:
    ranked = [response.rank is not None for response in responses]
    if not any(ranked):
        return
    for index, response in enumerate(responses):
        if not (ranked[index] or response.demonstration):
            place = f"{base}responses[{index}].rank"
            raise DataError("no rank, though other responses have one", where=place, allowed="a rank for each")


def _check_comparisons(feedback: Feedback, base: str) -> None:
    count = len(feedback.responses)
    for index, pair in enumerate(feedback.comparisons):
        place = f"{base}comparisons[{index}]"
        for name in ("better", "worse"):
            if getattr(pair, name) >= count:
                raise _wrong(getattr(pair, name), f"{place}.{name}", f"an index below {count}, the number of responses")
        if pair.better == pair.worse:
            raise DataError(f"compares response {pair.better} with itself", where=place, allowed="two responses")


# One reader a field: (value, place) -> value, or a DataError ---------------------------------------

Reader = Callable[[Any, str], Any]


def _read(row: Any, readers: Mapping[str, Reader], base: str, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise _wrong(row, place, "an object", 'write {"name": value, ...}')
    values = {}
    for name, value in row.items():
        if name not in readers:
            raise unknown_field(name, readers, where=base.removesuffix(".").removesuffix(": "))
        if value is not None:
            values[name] = readers[name](value, base + name)
    return values


def unknown_field(name: str, known: Any, *, where: str) -> DataError:
    """The error for a field nobody reads, with the nearest that exists."""
    near = difflib.get_close_matches(name[:SHOWN], list(known), n=1)
    hint = f"did you mean `{near[0]}`?" if near else "anything of your own belongs into `metadata`"
    return DataError(f"unknown field {_quoted(name)}", where=where, allowed="one of " + ", ".join(known), hint=hint)


def describe(value: Any) -> str:
    """A wrong value in words, short enough for a message."""
    if isinstance(value, str):
        return f"the text {_quoted(value)}" if value else "an empty text"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _number_words(value)


def _number_words(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 200:  # str() of a huge integer is an error of its own
        return "a whole number of more than 60 digits"
    return _short(str(value))


def _quoted(text: str) -> str:
    return '"' + _short(text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text) + '"'


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _wrong(value: Any, place: str, allowed: str, hint: str = "") -> DataError:
    return DataError(f"found {describe(value)}", where=place, allowed=allowed, hint=hint)


def _text(value: Any, place: str) -> str:
    if type(value) is not str:
        raise _wrong(value, place, "text", "put it in quotes" if isinstance(value, (int, float)) else "")
    return value


def _filled(value: Any, place: str) -> str:
    if value == "":
        raise _wrong(value, place, "text with at least one character", "leave it out where there is none")
    return _text(value, place)


def _flag(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise _wrong(value, place, "true or false")
    return value


def _number(value: Any, place: str) -> float:
    if type(value) not in (int, float):
        raise _wrong(value, place, "a number", "remove the quotes" if isinstance(value, str) else "")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(value, place, "a finite number")
    return number


def _positive(value: Any, place: str) -> float:
    number = _number(value, place)
    if number < 0:
        raise _wrong(value, place, "a number from 0 up")
    return number


def _whole(value: Any, place: str, least: int, hint: str = "") -> int:
    if type(value) is not int or not least <= value < 2**63:
        hint = "remove the quotes" if isinstance(value, str) else hint
        raise _wrong(value, place, f"a whole number from {least} up", hint)
    return value


def _rank(value: Any, place: str) -> int:
    return _whole(value, place, 1, "1 is the best, equal ranks are tied")


def _index(value: Any, place: str) -> int:
    return _whole(value, place, 0)


def _label(value: Any, place: str) -> str:
    if value not in LABELS:
        raise _wrong(value, place, 'one of "good", "bad"')
    return value


def _role(value: Any, place: str) -> str:
    if value not in ROLES:
        raise _wrong(value, place, "one of " + ", ".join(f'"{role}"' for role in ROLES))
    return value


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, place, "an object")
    return value


def _list_of(read: Reader) -> Reader:
    def read_list(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise _wrong(value, place, "a list")
        return tuple(read(item, f"{place}[{index}]") for index, item in enumerate(value))

    return read_list


def _record_of(kind: type, readers: Mapping[str, Reader]) -> Reader:
    required = [f.name for f in fields(kind) if f.default is MISSING]

    def read_record(value: Any, place: str) -> Any:
        values = _read(value, readers, place + ".", place)
        for name in required:
            if name not in values:
                raise DataError(f"no `{name}`", where=place, allowed="an object with " + ", ".join(required))
        return kind(**values)

    return read_record


MESSAGE = _record_of(Message, {"role": _role, "content": _text})
SCORE = {"scorer": _filled, "value": _number, "version": _text, "count": _number, "length": _index}
RESPONSE = {
    "text": _filled,
    "rank": _rank,
    "score": _number,
    "label": _label,
    "critique": _text,
    "refinement": _text,
    "demonstration": _flag,
    "truncated": _flag,
    "scores": _list_of(_record_of(Score, SCORE)),
    "segments": _list_of(_record_of(Segment, {"text": _filled, "score": _number})),
    "flags": _list_of(_filled),
    "author": _text,
}
COMPARISON = {"better": _index, "worse": _index, "strength": _positive}
_read_response = _record_of(Response, RESPONSE)


def _response(value: Any, place: str) -> Response:
    if isinstance(value, str):
        raise _wrong(value, place, "an object", 'write {"text": "..."}')
    response = _read_response(value, place)
    if response.segments and "".join(segment.text for segment in response.segments) != response.text:
        at = _first_difference(response)
        raise DataError(
            f"the segments do not join to the response's text (they part at character {at})",
            where=f"{place}.segments",
            allowed="segments that hold every character of `text`, spaces included",
        )
    return response


def _first_difference(response: Response) -> int:
    joined = "".join(segment.text for segment in response.segments)
    same: Iterator[bool] = (a == b for a, b in zip(joined, response.text))
    return next((i for i, equal in enumerate(same) if not equal), min(len(joined), len(response.text)))


def _prompt(value: Any, place: str) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)) or not value:
        raise _wrong(value, place, "text, or a conversation: a list of {role, content}")
    return _list_of(MESSAGE)(value, place)


RECORD: dict[str, Reader] = {
    "id": _text,
    "prompt": _prompt,
    "responses": _list_of(_response),
    "answer": _text,
    "comparisons": _list_of(_record_of(Comparison, COMPARISON)),
    "labeler": _text,
    "user": _text,
    "guideline": _text,
    "seconds": _positive,
    "source": _text,
    "metadata": _object,
}
