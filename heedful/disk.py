"""Files that survive: strict JSON, atomic replacement, locks, and what to say when a disk refuses. No torch.

A file or folder is replaced in one rename, after its bytes are on disk. Names that end in `.tmp-<pid>-<host>` are
unfinished work: nothing reads them, and those of dead processes are swept.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heedful.errors import ConfigError, RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import resource

SPACE_MARGIN = 1.2  # free space asked for before a large write, as a multiple of its size


# Names


NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def safe_name(name: str, *, what: str = "name") -> str:
    """The name, if it can stand in a path on every system.

    Raises:
        ConfigError: it is empty or over 100 long, has other characters than letters, digits, `_`, `.` and `-`,
            starts with `.` or `-`, ends in `.`, or is a device name of Windows.
    """
    fits = NAME.fullmatch(name) and not name.endswith(".")
    if not fits or name.split(".")[0].lower() in WINDOWS_DEVICES:
        raise ConfigError(
            f"{what} {name[:120]!r} cannot be part of a path",
            allowed="up to 100 letters, digits, '_', '.' and '-', not starting with '.' or '-'",
        )
    return name


def inside(root: Path | str, *names: str) -> Path:
    """The path `root/names...`, each name safe and the result within `root` even through links."""
    root = Path(root)
    path = root.joinpath(*(safe_name(name) for name in names))
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{path} leads out of {root}", hint="a link points elsewhere; remove it")
    return path


# JSON


SPELLED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
TAG = "$float"


def _spell(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _tag(number: float) -> dict[str, str]:
    return {TAG: _spell(number)}


def _plain(value: Any, non_finite: Callable[[float], Any]) -> Any:
    """The value in JSON's own types; numbers and arrays of numpy and torch become Python's."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else non_finite(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"keys must be text to survive JSON, not {wrong[0]!r}")
        return {key: _plain(item, non_finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, non_finite) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch, arrays and scalars, without importing either
        return _plain(value.tolist(), non_finite)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON: {value!r:.80}")


def to_json(value: Any, *, exact: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    """Strict JSON: never a bare NaN, which most readers refuse.

    Args:
        exact: a float that is not finite becomes {"$float": "NaN"}, which `from_json` turns back; otherwise it is
            spelled out as "NaN", "Infinity" or "-Infinity", which spreadsheets and plotting tools read.
    """
    plain = _plain(value, _tag if exact else _spell)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent, sort_keys=sort_keys)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a byte-level model can write; escaped, it survives
        return json.dumps(plain, allow_nan=False, indent=indent, sort_keys=sort_keys)
    return text


def from_json(text: str | bytes) -> Any:
    """The inverse of `to_json(exact=True)`, tuples read as lists."""
    return json.loads(text, object_hook=lambda item: SPELLED[item[TAG]] if item.keys() == {TAG} else item)


def read_lines(path: Path | str) -> list[dict[str, Any]]:
    """The objects of a line-by-line file of ours; no file has no lines.

    A torn last line, which a kill or a training in progress leaves, is left out with a warning.

    Raises:
        RunError: another line is damaged; named by its number.
    """
    path = Path(path)
    *lines, tail = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if tail:
        message = f"{path}:{len(lines) + 1}: the last line is incomplete and left out"
        warnings.warn(message, stacklevel=3)
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise RunError("the line is damaged", where=f"{path}:{number}", hint=str(error)) from error
    return rows


# Space, and what a disk refuses


def show_size(num_bytes: float) -> str:
    """A number of bytes for people: 512 B, 3.4 MB, 1.2 GB."""
    if num_bytes < 1000:
        return f"{num_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        num_bytes /= 1000
        if num_bytes < 1000:
            return f"{num_bytes:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} TB"


def free_space(path: Path | str) -> int:
    """Bytes free on the disk that holds, or would hold, the path."""
    path = Path(path).absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def require_space(path: Path | str, need: float) -> None:
    """Refuse before the first byte where `need` bytes do not fit.

    Raises:
        RunError: "no space: need X have Y".
    """
    if (have := free_space(path)) < need:
        raise _no_space(Path(path), need, show_size(have))


def _no_space(path: Path, need: float, have: str) -> RunError:
    wanted = show_size(need) if need else "more"
    hint = "free some space or choose another folder; what was there before is intact"
    return RunError(f"no space: need {wanted} have {have}", where=str(path), hint=hint)


def _refusal(error: OSError, path: Path, need: float) -> RunError:
    """What an operating system's no to a write means to the person who started the run."""
    if error.errno == errno.EFBIG and sys.platform != "win32":
        limit = show_size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
        return _no_space(path, need, f"a limit of {limit} per file (ulimit -f)")
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return _no_space(path, need, show_size(free_space(path)))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RunError("cannot write here", where=str(path), hint="choose a folder that you may write to")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        hint = "was it moved, or its disk unmounted?"
        return RunError("the folder to write to does not exist", where=str(path), hint=hint)
    return RunError(f"cannot write: {error.strerror or error}", where=str(path))


@contextlib.contextmanager
def writing(path: Path | str, *, need: float = 0) -> Iterator[None]:
    """Every write goes through here: what a disk refuses becomes a RunError that names the path.

    Args:
        need: bytes about to be written, for the message.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(error, Path(path), need) from error


# Writing so that it lasts


def temp_path(path: Path | str) -> Path:
    """Where unfinished work on `path` lives: beside it, so that a rename stays on one filesystem."""
    return _beside(Path(path), "tmp")


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}-{os.getpid()}-{_host()}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "", socket.gethostname()) or "host"


@contextlib.contextmanager
def discarding(temp: Path) -> Iterator[None]:
    """Remove unfinished work when the block fails, Ctrl-C included."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temp)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path | str) -> None:
    """Have the bytes of a file on the disk before anything relies on them."""
    with Path(path).open("rb+") as file:
        _sync(file.fileno())


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":  # fsync there stops at the drive's own cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(path: Path | str) -> None:
    """Have a rename or a new name in this folder on the disk; Windows has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write_bytes(path: Path | str, data: bytes) -> None:
    """Replace a file: a reader, and a kill at any moment, sees all of the old one or all of the new.

    Raises:
        RunError: the disk refused; the old file is intact.
    """
    path = Path(path)
    temp = temp_path(path)
    with writing(path, need=len(data)), discarding(temp):
        with temp.open("wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        temp.replace(path)
        sync_folder(path.parent)


def atomic_write_text(path: Path | str, text: str) -> None:
    """`atomic_write_bytes` in UTF-8, newlines as they are."""
    atomic_write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Replace a file by the value as strict, indented JSON; non-finite floats are spelled out."""
    atomic_write_text(path, to_json(value, indent=2) + "\n")


def write_lines(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSONL file whole or not at all, parents included; what `read_lines` reads."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, "".join(to_json(row) + "\n" for row in rows))


def append(path: Path | str, data: bytes) -> None:
    """Add whole lines to a file: all of them, or on a full disk none.

    A torn last line, left by a kill, is cut first, so that nothing is glued to it.

    Raises:
        RunError: the disk refused; the file is as it was.
    """
    path = Path(path)
    with writing(path, need=len(data)), path.open("ab", buffering=0) as file:
        length = _whole_lines(path)
        try:
            file.truncate(length)
            for start in range(0, len(data), 1 << 24):
                _write_all(file.fileno(), data[start : start + (1 << 24)])
        except OSError:
            os.truncate(path, length)
            raise


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _whole_lines(path: Path) -> int:
    """Length of a file up to the end of its last whole line."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
    return 0


def replace_folder(temp: Path, target: Path) -> None:
    """Put a finished folder in the target's place and remove what was there.

    Its files are readable by whoever may read the folder; safetensors writes its own for their owner only.
    Linux and macOS exchange the two names in one call. Elsewhere an old target steps aside first; if the process
    dies in between, `sweep` puts it back.
    """
    mode = temp.stat().st_mode & 0o666
    for path in temp.rglob("*"):
        if path.is_file():
            with contextlib.suppress(PermissionError):  # a filesystem without modes
                path.chmod(mode)
    if not target.exists():
        temp.replace(target)
    elif not _exchange(temp, target):
        aside = _beside(target, "old")
        target.replace(aside)
        temp.replace(target)
        temp = aside
    sync_folder(target.parent)
    if temp.exists():
        remove(temp)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the filesystem cannot."""
    calls = {"linux": ("renameat2", -100, 2), "darwin": ("renameatx_np", -2, 2)}  # AT_FDCWD, RENAME_EXCHANGE/SWAP
    if sys.platform not in calls:
        return False
    name, here, flag = calls[sys.platform]
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):  # a C library without the call
        return False
    return function(here, os.fsencode(one), here, os.fsencode(other), flag) == 0


def sweep(folder: Path | str, *, of: str = "", owned: bool = False) -> list[str]:
    """Remove unfinished work that dead processes left in a folder; their names.

    Args:
        of: only work on the file or folder of this name, where the folder is not all ours.
        owned: the caller holds the run's lock, so unfinished work of other machines is dead as well.
    """
    swept = []
    for path in sorted(Path(folder).glob("*.*-*-*")):
        match = re.fullmatch(r"(.+)\.(tmp|old)-(\d+)-([A-Za-z0-9.]+)", path.name)
        if not match or of not in ("", match[1]) or not _is_left_over(int(match[3]), match[4], owned):
            continue
        target = path.with_name(match[1])
        with writing(path), contextlib.suppress(FileNotFoundError):  # another process sweeps as well
            if match[2] == "old" and not target.exists():
                path.replace(target)
            else:
                remove(path)
            swept.append(path.name)
    return swept


def _is_left_over(pid: int, host: str, owned: bool) -> bool:
    if host != _host():
        return owned
    return pid == os.getpid() or not _is_alive(pid)  # its own: containers start with the same pid each time


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # os.kill would end the process; its files stay
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256(path: Path | str) -> str:
    """Hash of a file's bytes; of a folder, of the sorted names and hashes of the files in it."""
    path = Path(path)
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        listing = "".join(f"{item.relative_to(path).as_posix()} {sha256(item)}\n" for item in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Locks


_held: set[int] = set()


def _let_go() -> None:
    """A forked worker must not keep the run locked after the trainer is killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def now() -> str:
    """The time as manifests and locks write it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def exclusive(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock file that names this process; the operating system frees it when the process dies.

    Raises:
        RunError: another process holds it; named by pid and host.
    """
    descriptor = _take(path, what)
    _held.add(descriptor)
    try:
        with writing(path):
            _sign(descriptor)
        yield
    finally:
        if descriptor in _held:  # a forked child has let go already
            _held.discard(descriptor)
            os.close(descriptor)


def _take(path: Path, what: str) -> int:
    with writing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if not _try_lock(descriptor):
        os.close(descriptor)
        raise _in_use(path, what)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    """Take the whole-file lock; False where somebody has it."""
    if sys.platform == "win32":
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # beyond the text, which stays readable
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        message = f"this filesystem has no locks ({error.strerror}): do not train twice in one folder"
        warnings.warn(message, stacklevel=4)
    return True


def _sign(descriptor: int) -> None:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, to_json(owner).encode())


def _in_use(path: Path, what: str) -> RunError:
    try:
        owner = json.loads(path.read_text())
        whose = f"by process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # the owner has not signed yet
        whose = "by another process"
    hint = "wait for it, stop it, or choose another folder"
    return RunError(f"{what} is in use {whose}", where=str(path.parent), hint=hint)


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait for a lock on a folder, for a few milliseconds of work; without effect on Windows."""
    if sys.platform == "win32":
        yield
        return
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
