"""Score many items: every core where that pays, in order, and never the same text twice.

The cache is one JSONL file, a line per score, found by content:

    key = sha256 of the JSON list [scorer name, version, prompt, response, answer], and of a model
          [turns, pieces, truncated]

Lines are appended whole, so several processes may share a file. A line that cannot be read (a torn
write, a foreign file) is ignored and counted in `ScoreCache.num_corrupt`; its text is scored again.
"""

import hashlib
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from heedful.errors import ConfigError, RunError
from heedful.records import Score
from heedful.scorers.pool import can_travel, score_in_processes
from heedful.scorers.protocol import BatchScorer, Comparer, Item, Scorer, checked, score_one

PROBE_SECONDS = 0.25  # scored here first, to learn what an item costs
POOL_PAYS_SECONDS = 2.0  # starting a process costs about 0.3 s, so that less work than this stays here
BATCH = 256  # items a model is given at once, and so the grain of progress; it cuts them to its memory
CHUNK_SECONDS = 0.5  # work per message to a process, and so the grain of progress

Progress = Callable[[int, int], object]  # (items done, items in all)
log = logging.getLogger(__name__)


def score_all(
    scorer: Scorer,
    items: Iterable[Item],
    *,
    workers: int | None = None,
    cache: "Path | str | ScoreCache | None" = None,
    progress: Progress | None = None,
) -> list[Score]:
    """One score per item, in order.

    Args:
        workers: processes; None takes every core once a probe says that the work is worth it,
            1 stays in this process.
        cache: a file that keeps scores between calls.
        progress: called with (done, in all) as scores arrive.
    Raises:
        DataError: naming the item's id, when the scorer fails on it. What was scored before is in the cache.
        ConfigError: a cache, of a scorer that compares.
    """
    items = list(items)
    if isinstance(scorer, Comparer):
        if cache is not None:
            why = "its score of a response depends on what it is compared with, so that none can be kept"
            raise ConfigError(why, where=scorer.name, hint="leave the cache out")
        return _score_by_prompt(scorer, items, progress)
    store = cache if isinstance(cache, ScoreCache) else ScoreCache(cache)
    keys = [content_key(scorer, item) for item in items]
    missing = {key: item for key, item in zip(keys, items) if key not in store}
    done = sum(key not in missing for key in keys)
    if progress and done:
        progress(done, len(items))
    copies = Counter(keys)
    for batch in scored_batches(scorer, missing, workers):
        store.add(batch)
        done += sum(copies[key] for key in batch)
        if progress and batch:
            progress(done, len(items))
    return [store[key] for key in keys]


def _score_by_prompt(scorer: Comparer, items: list[Item], progress: Progress | None) -> list[Score]:
    """Scores of items among the others with their prompt."""
    rivals: dict[object, list[int]] = {}
    for n, item in enumerate(items):
        rivals.setdefault((item.turns or item.prompt, item.answer), []).append(n)
    found: dict[int, Score] = {}
    for members in rivals.values():
        scores = scorer.score_together([items[n] for n in members])
        found |= {n: checked(score, items[n].id or "item") for n, score in zip(members, scores, strict=True)}
        if progress:
            progress(len(found), len(items))
    return [found[n] for n in range(len(items))]


def scored_batches(scorer: Scorer, missing: dict[str, Item], workers: int | None) -> Iterator[dict[str, Score]]:
    """Yield {key: score} pieces: a timed probe here, then the rest wherever it is cheaper; from a model in batches."""
    keys = list(missing)
    if isinstance(scorer, BatchScorer):
        for piece in (keys[i : i + BATCH] for i in range(0, len(keys), BATCH)):
            scores = scorer.score_batch([missing[key] for key in piece])
            yield {key: checked(score, missing[key].id or "item") for key, score in zip(piece, scores, strict=True)}
        return
    start = time.perf_counter()
    probe: dict[str, Score] = {}
    while len(probe) < len(keys) and (not probe or time.perf_counter() - start < PROBE_SECONDS):
        key = keys[len(probe)]
        probe[key] = score_one(scorer, missing[key])
    seconds_per_item = (time.perf_counter() - start) / max(1, len(probe))
    yield probe
    rest = keys[len(probe) :]
    size = max(1, int(CHUNK_SECONDS / max(seconds_per_item, 1e-6)))
    chunks = [rest[i : i + size] for i in range(0, len(rest), size)]
    pieces = [[missing[key] for key in chunk] for chunk in chunks]
    workers = num_workers(workers, seconds_per_item * len(rest)) if rest and can_travel(scorer) else 1
    here = ([score_one(scorer, item) for item in piece] for piece in pieces)
    for chunk, scores in zip(chunks, here if workers == 1 else score_in_processes(scorer, pieces, workers)):
        yield dict(zip(chunk, scores))


def num_calls(scorer: Scorer, sizes: Iterable[int]) -> int:
    """How often a scorer is asked about so many responses to each prompt: once a response, or once a pair."""
    return sum(n * (n - 1) // 2 if isinstance(scorer, Comparer) else n for n in sizes)


def num_workers(asked: int | None, seconds: float) -> int:
    """How many processes: what was asked, else every core this process may use, if the work is long."""
    if asked is not None:
        return max(1, asked)
    if seconds < POOL_PAYS_SECONDS:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def content_key(scorer: Scorer, item: Item) -> str:
    content: list[object] = [scorer.name, scorer.version, item.prompt, item.response, item.answer]
    if isinstance(scorer, BatchScorer):
        content += [[[turn.role, turn.content] for turn in item.turns], item.pieces, item.truncated]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class ScoreCache:
    """Scores by content, in memory and, with a path, in an append-only JSONL file."""

    def __init__(self, path: Path | str | None = None):
        self.path = None if path is None else Path(path)
        self.num_corrupt = 0
        self._scores: dict[str, Score] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path)

    def __contains__(self, key: str) -> bool:
        return key in self._scores

    def __getitem__(self, key: str) -> Score:
        return self._scores[key]

    def __len__(self) -> int:
        return len(self._scores)

    def add(self, scores: dict[str, Score]) -> None:
        """Remember them; one write of whole lines, after a newline if the file's last line was torn."""
        self._scores.update(scores)
        if self.path is None or not scores:
            return
        lines = "".join(map(_line, scores, scores.values())).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                written = file.write((b"\n" if is_torn(self.path) else b"") + lines)
        except OSError as error:
            raise RunError(f"cannot write the score cache: {error}", where=str(self.path)) from error
        if written < len(lines):
            raise RunError("cannot write the score cache: the disk is full", where=str(self.path))

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for line in file:
                if line.strip() and not self._read_line(line):
                    self.num_corrupt += 1
        if self.num_corrupt:
            log.warning("%s: %d unreadable lines of the score cache ignored", path, self.num_corrupt)

    def _read_line(self, line: bytes) -> bool:
        try:
            row = json.loads(line)
            score = Score(row["scorer"], row["value"], row["version"], row["count"], row["length"])
            readable = len(row["key"]) == 64 and math.isfinite(score.value)
        except (ValueError, KeyError, TypeError):
            return False
        if readable:
            self._scores[row["key"]] = score
        return readable


def is_torn(path: Path) -> bool:
    """Whether the file's last line lacks its end."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _line(key: str, score: Score) -> str:
    row = {
        "key": key,
        "scorer": score.scorer,
        "version": score.version,
        "value": score.value,
        "count": score.count,
        "length": score.length,
    }
    return json.dumps(row) + "\n"
