"""Scoring in other processes, started so that nothing of this one is inherited or run again.

Why not multiprocessing: forking after torch has started its threads can hang, and spawning imports the
user's main script again, which without an `if __name__ == "__main__"` would train twice. A worker here is
a plain `python -c` that imports this module, reads pickles from its stdin and answers on its stdout; what
a scorer prints goes to stderr.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from heedful.errors import RunError
from heedful.records import Score
from heedful.scorers.protocol import Item, Scorer, score_one

BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from heedful.scorers.pool import serve; serve()"
)


def can_travel(scorer: Scorer) -> bool:
    """Whether another process can rebuild this scorer: not one that lives in a script or a closure."""
    if "__main__" in (type(scorer).__module__, scorer.name.partition(":")[0]):
        return False
    try:
        pickle.dumps(scorer)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def score_in_processes(scorer: Scorer, chunks: Sequence[list[Item]], workers: int) -> Iterator[list[Score]]:
    """Scores of each chunk, in order. The first failure in order is raised, and every process ended."""
    processes = [Worker(scorer) for _ in range(min(workers, len(chunks)))]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def work(chunk: list[Item]) -> list[Score]:
        process = idle.get()
        try:
            return process.score(chunk)
        finally:
            idle.put(process)

    threads = ThreadPoolExecutor(len(processes))
    try:
        for future in [threads.submit(work, chunk) for chunk in chunks]:
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()
        threads.shutdown(wait=True)


class Worker:
    """One scoring process and the pipes to it."""

    def __init__(self, scorer: Scorer):
        self._unsent: list[Any] = [sys.path, scorer]
        self._process = subprocess.Popen([sys.executable, "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def score(self, chunk: list[Item]) -> list[Score]:
        self._unsent.append(chunk)
        try:
            scores, error = self._exchange()
        except (EOFError, OSError, pickle.UnpicklingError) as broken:
            code = self._process.wait()
            raise RunError(f"a scoring process died with exit code {code}", hint="workers=1 shows why") from broken
        if error is not None:
            raise error
        return scores

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was never flushed goes nowhere
                pipe.close()  # type: ignore[union-attr]

    def _exchange(self) -> tuple[list[Score], Exception | None]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        while self._unsent:
            pickle.dump(self._unsent.pop(0), stdin)
        stdin.flush()
        return pickle.load(stdout)


def serve() -> None:
    """The worker's side: a scorer, then chunks of items until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    scorer: Scorer = pickle.load(requests)
    while True:
        try:
            chunk = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(answer(scorer, chunk), replies)
        replies.flush()


def answer(scorer: Scorer, chunk: list[Item]) -> tuple[list[Score] | None, Exception | None]:
    """The scores, or the error that the parent raises in their place."""
    try:
        return [score_one(scorer, item) for item in chunk], None
    except Exception as error:
        return None, error
