"""What is going on, in one line on stderr: live on a terminal, otherwise printed every few seconds."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import typer

EVERY_SECONDS = 5.0  # between two lines where there is no terminal


class Progress:
    """A line for as long as the block runs.

    with Progress(quiet=quiet) as progress:
        train("sft", ..., progress=progress.training("sft"))
    """

    def __init__(self, *, quiet: bool = False, every: float = EVERY_SECONDS):
        self.quiet = quiet or int(os.environ.get("RANK", 0)) > 0
        self.every = every
        self._words, self._place, self._since = "", "", time.monotonic()
        self._open = ExitStack()

    def __enter__(self) -> "Progress":
        if not self.quiet:
            from rich.console import Console

            console = Console(stderr=True, highlight=False)
            self._open.enter_context(self._live(console) if console.is_terminal else _Ticker(self.line, self.every))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _live(self, console):
        from rich.live import Live
        from rich.text import Text

        def show() -> Text:
            return Text(self.line(), no_wrap=True, overflow="ellipsis")

        return Live(get_renderable=show, console=console, refresh_per_second=4, transient=True)

    # What is told

    def line(self) -> str:
        """The line as it is now; empty before anything was told."""
        if not self._words:
            return ""
        return f"{self._words}, {_clock(time.monotonic() - self._since)}"

    def say(self, words: str, *, restart: bool = False) -> None:
        """Replace the line; `restart` its clock for a new piece of work."""
        self._words = words
        if restart:
            self._since = time.monotonic()

    def leave(self, words: str) -> None:
        """A line that stays."""
        if not self.quiet:
            typer.echo(words, err=True)

    # For the functions that report progress

    def training(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        """For `train`: step, loss, tokens per second, time left."""
        self.say(f"{name}: preparing", restart=True)
        return lambda event: self.say(f"{name}: {step(event)}")

    def comparing(self, event: Mapping[str, Any]) -> None:
        """For `compare`: the row, how many of how many, and what it is doing."""
        if event["stage"] == "start":
            self._place = f"[{event['number']}/{event['of']}] "
            self.say(f"{self._place}{event['row']}: preparing", restart=True)
        elif event["stage"] == "done":
            self.leave(f"{self._place}{event['row']}: {outcome(event['result'])}")
            self._place = self._words = ""
        else:
            doing = step(event) if event["stage"] == "train" else event["stage"]
            self.say(f"{self._place}{event['row']}: {doing}")

    def counter(self, verb: str, things: str = "") -> Callable[[int, int], None]:
        """For what counts up to a known number: `scored 300 of 1,200`."""
        self.say(verb, restart=True)
        return lambda done, of: self.say(f"{verb} {done:,} of {of:,}{things and ' ' + things}")

    def drawing(self, of: int) -> Callable[[int, int], None]:
        """For sampling: responses finished, tokens per second."""
        self.say("sampling", restart=True)

        def show(done: int, tokens: int) -> None:
            speed = tokens / max(1e-9, time.monotonic() - self._since)
            self.say(f"sampled {done:,} of {of:,} responses, {speed:,.0f} tokens/s")

        return show


def step(event: Mapping[str, Any]) -> str:
    """A step of a training in words, or how far the responses of a round are drawn."""
    from heedful.wording import duration

    if "drawn" in event:
        return f"round {event['round'] + 1}, drawn {event['drawn']:,} of {event['of_responses']:,} responses"
    left = event["seconds_left"]
    parts = [
        f"step {event['step']:,} ({event['done']:.0%})",
        f"loss {event['loss']:.3f}",
        f"{event['tokens_per_second']:,.0f} tokens/s",
        f"{duration(left)} left" if math.isfinite(left) else "",
    ]
    return ", ".join(part for part in parts if part)


def outcome(row: Any) -> str:
    """A finished row of a comparison in words."""
    from heedful.results import PRIMARY
    from heedful.wording import number, short

    known = [name for name in PRIMARY if name in row.metrics]
    found = [f"{short(name)} {number(row.metrics[name].value, row.metrics[name].unit)}" for name in known[:1]]
    return ", ".join([row.status, *found, *([row.error] if row.error else [])])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


class _Ticker:
    """Prints a line every few seconds, from a thread of its own; silent while there is nothing to say."""

    def __init__(self, line: Callable[[], str], every: float):
        self.line, self.every = line, every
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.stop.wait(self.every):
            if line := self.line():
                typer.echo(line, err=True)
