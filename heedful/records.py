"""What people told us: one record is one judgement of the responses to one prompt.

Text level, frozen, free of torch and tokenizers. Rank 1 is best and equal ranks are ties; a higher
score is better, always; counts and lengths are stored raw and rates derived once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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


@dataclass(frozen=True)
class Comparison:
    """`better` and `worse` index the record's responses; strength 0 is a tie."""

    better: int
    worse: int
    strength: float = 1.0


@dataclass(frozen=True)
class Feedback:
    """One judgement. `prompt` is text or a conversation; an empty one means a pretraining document."""

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
