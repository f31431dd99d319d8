"""Split feedback into parts that share no prompt, user or labeler.

As InstructGPT prepared its prompts (Ouyang et al. 2022, section 3.2 and A.3): prompts that share a long prefix are
duplicates, of which one is kept; at most so many prompts a user; parts by a hash. Which part a record falls into
depends on its key and the seed alone, never on the other records, so a file may grow without anything changing sides.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from heedful.data.formats.transcripts import ASSISTANT, HUMAN
from heedful.errors import ConfigError, DataError
from heedful.records import Feedback, place_of, prompt_text

SHARES = MappingProxyType({"train": 0.8, "validation": 0.1, "test": 0.1})
WORD = re.compile(r"[\W_]+")
ASCII_WORDS = {code: " " for code in range(128) if not chr(code).isalnum()}
NEXT_TURN = re.compile(f"{HUMAN.pattern}|{ASSISTANT.pattern}")
WHOLE_PREFIX = 32  # normalised characters from which a prompt that begins another is its duplicate; "hello" is none


@dataclass(frozen=True)
class Split:
    """The parts by name, each in the order of the file, and what was left out: `counts` sums to the records read."""

    parts: Mapping[str, list[Feedback]]
    counts: Mapping[str, int]


def split_feedback(
    records: Iterable[Feedback],
    *,
    by: Literal["prompt", "user", "labeler"] = "prompt",
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    max_per_user: int | None = 200,
    prefix: int = 300,
) -> Split:
    """Deal records out to parts; those that belong together stay together.

    Args:
        by: what no two parts share. By prompt, dialogues that open with the same turn count as one.
        shares: part names and their shares, which sum to 1.
        max_per_user: most prompts of one user (200 in the paper); None: no limit. Records without a user have none.
        prefix: prompts that agree in this many normalised characters are duplicates, and so is a prompt of at least 32
            that another begins with; one of them is kept, with all its records. 0 keeps all. A template in front of
            every prompt may need a larger number.

    Raises:
        ConfigError: shares that do not sum to 1. DataError: a record has no user or labeler to split by.
    """
    if abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) < 0:
        raise ConfigError(f"found {dict(shares)}", where="shares", allowed="shares from 0 up that sum to 1")
    if by not in ("prompt", "user", "labeler"):
        raise ConfigError(f"found {by!r}", where="by", allowed='"prompt", "user" or "labeler"')
    read = list(records)
    distinct = without_prefix_duplicates(read, prefix) if prefix else read
    kept = cap_per_user(distinct, max_per_user, seed) if max_per_user is not None else distinct
    parts: dict[str, list[Feedback]] = {name: [] for name in shares}
    for record in kept:
        parts[_part(_unit(record, by), shares, seed)].append(record)
    counts = {"prefix_duplicates": len(read) - len(distinct), "over_the_cap": len(distinct) - len(kept)}
    return Split(parts, counts | {name: len(part) for name, part in parts.items()})


def without_prefix_duplicates(records: Sequence[Feedback], prefix: int) -> list[Feedback]:
    """The records whose prompt is no other's duplicate by a shared prefix; equal prompts are not duplicates.

    The turns of one conversation, which begin alike by nature, stand or fall together by its first.
    """
    keys = _conversation_keys(records)
    dropped: set[str] = set()
    last = ""
    for key in sorted(set(keys)):  # whatever a key begins follows it at once
        if last and _begins_alike(last, key, prefix):
            dropped.add(key)
        else:
            last = key
    return [record for record, key in zip(records, keys) if key not in dropped]


def _begins_alike(first: str, key: str, prefix: int) -> bool:
    whole = len(first) >= WHOLE_PREFIX and key.startswith(first + " ")
    return whole or (len(first) >= prefix and first[:prefix] == key[:prefix])


def _conversation_keys(records: Sequence[Feedback]) -> list[str]:
    own = [normalised(prompt_text(record.prompt)) for record in records]
    names = [record.metadata.get("conversation") or number for number, record in enumerate(records)]
    shortest: dict[object, str] = {}
    for name, key in zip(names, own):
        shortest[name] = min(shortest.get(name, key), key, key=len)
    return [shortest[name] for name in names]


def cap_per_user(records: Sequence[Feedback], most: int, seed: int) -> list[Feedback]:
    """At most so many prompts of each user, chosen by hash, with all records of those prompts."""
    prompts: dict[str, set[str]] = defaultdict(set)
    keys = [normalised(prompt_text(record.prompt)) if record.user is not None else "" for record in records]
    for record, key in zip(records, keys):
        if record.user is not None:
            prompts[record.user].add(key)
    chosen = {
        user: set(sorted(own, key=lambda key: _fraction(key, seed))[:most]) if len(own) > most else own
        for user, own in prompts.items()
    }
    return [record for record, key in zip(records, keys) if record.user is None or key in chosen[record.user]]


def normalised(text: str) -> str:
    """Text without what makes no difference to a reader: NFKC, case folded, one space between words."""
    if text.isascii():
        return " ".join(text.lower().translate(ASCII_WORDS).split())
    return WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def opening(record: Feedback) -> str:
    """What a record is known by when prompts are split: its first turn of a user, its whole prompt, or the document."""
    if not isinstance(record.prompt, str):
        return next((m.content for m in record.prompt if m.role == "user"), prompt_text(record.prompt))
    if not record.prompt:
        return record.responses[0].text
    marker = HUMAN.search(record.prompt)
    turn = NEXT_TURN.split(record.prompt[marker.end() :], maxsplit=1)[0] if marker else ""
    return turn if turn.strip() else record.prompt


def _unit(record: Feedback, by: str) -> str:
    if by == "prompt":
        return normalised(opening(record))
    value = record.user if by == "user" else record.labeler
    if value is None:
        raise DataError(f"no `{by}` to split by", where=place_of(record), allowed=f"a `{by}` in every record")
    return value


def _part(unit: str, shares: Mapping[str, float], seed: int) -> str:
    place = _fraction(unit, seed)
    for name, share in shares.items():
        place -= share
        if place < 0:
            return name
    return [name for name, share in shares.items() if share][-1]


def _fraction(key: str, seed: int) -> float:
    """A number in [0, 1) that depends on the key and the seed alone."""
    digest = hashlib.sha256(f"heedful split {seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56
