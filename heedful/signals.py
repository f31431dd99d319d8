"""Ctrl-C and SIGTERM: the first asks a training to stop after its step and save, the second ends it at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked to stop, and what the process then exits with."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal, as shells count: 130 after Ctrl-C, 143 after SIGTERM, 0 if nobody asked."""
        return 128 + self.signal if self.signal else 0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            os._exit(128 + number)  # no clean-up: what is unfinished on disk is swept at the next start
        self.signal = number
        name = signal.Signals(number).name
        # os.write, because a print interrupted by this very handler may not be entered again
        os.write(2, f"\n{name}: saving after this step; once more to exit at once\n".encode())


@contextlib.contextmanager
def stop_requested() -> Iterator[Stop]:
    """A flag that the first SIGINT or SIGTERM sets; the handlers of before are put back at the end.

    Only the main thread can handle signals; in another one, the flag stays unset.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop._ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
