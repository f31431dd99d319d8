"""A process that dies, or a disk that refuses, at the n-th thing it does to the filesystem.

`Faults` counts every call that changes a file or folder. At the chosen one it strikes before, half-way or after. A kill
strikes for good: nothing the process tries later, cleaning up included, reaches the disk.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

CALLS = ("mkdir", "rmdir", "unlink", "replace", "fsync", "ftruncate", "truncate")
MOMENTS = ("before", "half", "after")


class Killed(BaseException):
    """What `kill -9` would be, if a test could survive it."""


class Faults:
    """Patches the calls for one test.

    Args:
        at: index of the call to strike at; None only counts.
        moment: "before", "half" (only file contents can be half written) or "after" the call took effect.
        refuse: an errno that the disk answers with, once; None is a kill.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, at=None, moment: str = "before", refuse: int | None = None):
        self.at, self.moment, self.refuse = at, moment, refuse
        self.count, self.is_dead = 0, False
        for name in CALLS:
            self._patch(monkeypatch, os, name)
        self._patch(monkeypatch, Path, "write_bytes", half=_half_text)

    def also(self, monkeypatch: pytest.MonkeyPatch, module, name: str, half: Callable | None = None) -> "Faults":
        """Strike at a function of a module as well."""
        self._patch(monkeypatch, module, name, half)
        return self

    def _patch(self, monkeypatch, owner, name: str, half: Callable | None = None) -> None:
        real = getattr(owner, name)

        def call(*args, **kwargs):
            if self.is_dead:
                raise Killed(name)
            strikes = self.count == self.at
            self.count += 1
            if not strikes:
                return real(*args, **kwargs)
            if self.moment == "after":
                with contextlib.suppress(OSError):  # mkdir of what exists: the fault comes all the same
                    real(*args, **kwargs)
            if self.moment == "half" and half:
                half(real, *args, **kwargs)
            return self._strike(name)

        monkeypatch.setattr(owner, name, call)

    def _strike(self, name: str) -> NoReturn:
        if self.refuse is not None:
            raise OSError(self.refuse, os.strerror(self.refuse), name)
        self.is_dead = True
        raise Killed(name)


def _half_text(real, path: Path, data: bytes) -> None:
    real(path, data[: len(data) // 2])


def half_file(real, tensors, path: Path, *args) -> None:
    """The first half of what `save_file` writes."""
    real(tensors, path, *args)
    os.truncate(path, path.stat().st_size // 2)


def every_fault(prepare: Callable, act: Callable, check: Callable, *, refuse: int | None = None, patch=None) -> int:
    """Run `act` on a fresh `prepare()` once for each call it makes and each moment; `check` what is left; how many.

    Args:
        act: raises what the fault became; `Killed`, or the module's own error where the disk refuses.
        patch: (faults, monkeypatch) -> None, more functions to strike at.
    """
    struck = 0
    for moment in MOMENTS:
        for at in _points(prepare, act, patch):
            given = prepare()
            with pytest.MonkeyPatch.context() as monkeypatch:
                faults = Faults(monkeypatch, at=at, moment=moment, refuse=refuse)
                if patch:
                    patch(faults, monkeypatch)
                try:
                    act(given)
                    fault = None
                except (Killed, Exception) as error:
                    fault = error
            check(given, fault)
            struck += 1
    return struck


def _points(prepare, act, patch) -> Iterator[int]:
    given = prepare()
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = Faults(monkeypatch)
        if patch:
            patch(faults, monkeypatch)
        act(given)
        count = faults.count
    return iter(range(count))


NO_SPACE = errno.ENOSPC
