"""An end to a call that does not return: one hanging scorer would hang the whole run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Outlasted(BaseException):
    """A call took longer than it may. No Exception, so that the call itself does not catch it and go on."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Outlasted in the block when it has run so long.

    By the system's alarm, so that the block stays in its thread: there is none on Windows, nor outside the main
    thread, and code in C is interrupted only when it returns to Python. An alarm that the block sets itself takes
    this one's place.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> NoReturn:
        raise Outlasted

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
