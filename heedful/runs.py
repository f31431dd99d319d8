"""The run folder: what one training leaves behind, written so that a kill at any byte loses nothing. No torch.

config.yaml      the resolved settings, for people and to start another run from
manifest.json    what made the numbers: command, settings, versions, hardware, data, readings of a test split
metrics.jsonl    one object per line, appended; samples.jsonl likewise
rounds/          the rows a round collected, written before its first update
checkpoints/     resume state (checkpoint.py)
model/           the exported model; DONE says that the training finished
.lock            held by the process that trains; the operating system frees it when that process dies
"""

import contextlib
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import yaml

from heedful.disk import (
    SPELLED,
    append,
    atomic_write_text,
    exclusive,
    from_json,
    now,
    read_lines,
    sha256,
    sweep,
    sync_file,
    to_json,
    turn,
    writing,
)
from heedful.errors import RunError

SCHEMA = 1
CONFIG, MANIFEST, METRICS, SAMPLES = "config.yaml", "manifest.json", "metrics.jsonl", "samples.jsonl"
DONE, LOCK, ROUNDS, CHECKPOINTS = "DONE", ".lock", "rounds", "checkpoints"
PACKAGES = ["heedful", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "peft", "datasets"]
PACKAGES += ["numpy", "pydantic", "pycodestyle", "autopep8"]


# Facts about this process


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that can move a number; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state(folder: Path | str = ".") -> dict[str, Any] | None:
    """Commit and whether files were changed; None outside a repository or without git. Never fails."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": changed}


def _git(folder: Path | str, *arguments: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=10, check=True)
    return done.stdout.strip()


def environment() -> dict[str, Any]:
    """What resuming bit for bit depends on: versions, hardware, threads, processes."""
    torch = sys.modules.get("torch")  # told about, never imported
    world = os.environ.get("WORLD_SIZE", "")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "hardware": {
            "machine": platform.machine(),
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": _memory(),
            "gpus": _gpus(torch),
        },
        "threads": {
            "torch": torch.get_num_threads() if torch else None,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "processes": int(world) if world.isdecimal() else 1,
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return None


def _gpus(torch: Any) -> list[str]:
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


# Settings


def config_hash(config: Mapping[str, Any]) -> str:
    """sha256 of the settings, whatever the order of their keys: equal hash, equal training."""
    return hashlib.sha256(to_json(config, exact=True, sort_keys=True).encode()).hexdigest()


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line "a.b: old -> new" for each setting that differs."""
    before, after = _flat(old), _flat(new)
    changed = (key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key))
    return [f"{key}: {before.get(key, '(none)')} -> {after.get(key, '(none)')}" for key in changed]


def _flat(value: Any, key: str = "") -> dict[str, str]:
    """Dotted key -> JSON of the leaf; an empty mapping and a list are leaves."""
    if isinstance(value, Mapping) and value:
        parts = [_flat(item, f"{key}.{name}" if key else name) for name, item in value.items()]
        return {name: text for part in parts for name, text in part.items()}
    return {key: to_json(value)} if key else {}


def _as_yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


# The run


class Mirror(Protocol):
    """A second place that sees every logged line (mirrors.py); neither call raises."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Show one line of metrics."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class Run:
    """One run folder: `create`, `resume` or `start` it to train in, `open` it to read.

    Attributes:
        path: the folder.
        mirrors: see every line given to `log`; set by the caller.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.mirrors: list[Mirror] = []

    # Starting

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        command: Sequence[str],
        config: Mapping[str, Any],
        subject: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> "Run":
        """A new run folder, parents included.

        Args:
            config: the settings, from which another run can be started.
            subject: what they are applied to (the method, the model); both are the same at every resume.

        Raises:
            RunError: there is a run already, the folder holds something else, is in use, or cannot be written.
        """
        run = cls(path)
        run._refuse_if_taken()
        with writing(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        with run.lock():
            run._refuse_if_taken()  # by a process that was faster
            sweep(run.path, owned=True)
            with writing(run.path):
                for folder in (ROUNDS, CHECKPOINTS):
                    (run.path / folder).mkdir(exist_ok=True)
            settings = from_json(to_json(config, exact=True))
            atomic_write_text(run.path / CONFIG, _as_yaml(settings))
            run._write_manifest(_first_manifest(command, subject or {}, settings, seed))
        return run

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """An existing run folder, to read or to go on with.

        Raises:
            RunError: there is none, or a newer heedful wrote it.
        """
        run = cls(path)
        if not (run.path / MANIFEST).is_file():
            raise RunError("not a run folder: it has no manifest.json", where=str(path))
        if (schema := run.manifest.get("schema")) != SCHEMA:
            raise RunError(f"the run folder has schema {schema}", where=str(path), allowed=f"schema {SCHEMA}")
        return run

    @classmethod
    def resume(
        cls,
        path: Path | str,
        *,
        command: Sequence[str],
        config: Mapping[str, Any],
        subject: Mapping[str, Any] | None = None,
    ) -> "Run":
        """An existing run, gone on with under the same settings; the manifest records when, and on what machine.

        Raises:
            RunError: no run there, in use, or settings changed; each change is listed as "key: old -> new".
        """
        run = cls.open(path)
        was, now_is = (dict(one or {}) for one in (run.manifest.get("subject"), subject))
        changes = [*config_changes(was, now_is), *config_changes(run.config, config)]
        if changes:
            listing = "".join(f"\n  {change}" for change in changes)
            hint = "resume with the old settings, or start in another folder"
            what = f"the settings have changed since the run began:{listing}\n"
            raise RunError(what, where=str(path), hint=hint)
        with run.lock():
            sweep(run.path, owned=True)
            sweep(run.path / ROUNDS, owned=True)
            run._record_resume(command)
        return run

    @classmethod
    def start(
        cls,
        path: Path | str,
        *,
        command: Sequence[str],
        config: Mapping[str, Any],
        subject: Mapping[str, Any] | None = None,
        seed: int = 0,
        resume: bool = False,
    ) -> "Run":
        """`resume` where that is asked for and there is a run; `create` otherwise."""
        if resume and (Path(path) / MANIFEST).is_file():
            return cls.resume(path, command=command, config=config, subject=subject)
        return cls.create(path, command=command, config=config, subject=subject, seed=seed)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder; a second process gets a RunError that names this one."""
        return exclusive(self.path / LOCK, what="the run folder")

    def _refuse_if_taken(self) -> None:
        if (self.path / MANIFEST).exists():
            state = "a finished" if self.is_done else "an unfinished"
            what = f"the folder already holds {state} run of `{shlex.join(self.manifest['command'])}`"
            hint = "continue it with --resume, or choose another folder"
            raise RunError(what, where=str(self.path), hint=hint)
        begun = {CONFIG, LOCK, ROUNDS, CHECKPOINTS}  # a process killed in `create` leaves these
        names = sorted(item.name for item in self.path.iterdir()) if self.path.is_dir() else []
        if strange := [name for name in names if name not in begun and ".tmp-" not in name]:
            what = f"the folder is not empty: it holds {strange[0]}"
            raise RunError(what, where=str(self.path), hint="choose another folder, or empty this one")

    def _record_resume(self, command: Sequence[str]) -> None:
        changes = config_changes(self.manifest["environment"], environment())
        entry = {"time": now(), "command": list(command), "environment_changes": changes}
        with turn(self.path):
            manifest = self.manifest
            self._write_manifest(manifest | {"resumed": [*manifest["resumed"], entry]})

    # Writing

    def log(self, **metrics: Any) -> None:
        """Append one line to metrics.jsonl, and show it to the mirrors."""
        self._append(METRICS, [metrics])
        for mirror in self.mirrors:
            mirror.log(metrics)

    def log_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Append one line per sample to samples.jsonl."""
        self._append(SAMPLES, samples)

    def note(self, **fields: Any) -> None:
        """Merge fields into manifest.json: mappings key by key, anything else replaced."""
        with turn(self.path):  # an evaluation may write while the training does
            self._write_manifest(_merged(self.manifest, fields))

    def record_data(self, name: str, path: Path | str, *, rows: int | None = None) -> str:
        """Put the sha256 and row count of an input into the manifest; the hash.

        Raises:
            RunError: the run has seen other bytes under this name.
        """
        found = sha256(path)
        seen = self.manifest["data"].get(name)
        if seen and seen["sha256"] != found:
            what = f"{name} has changed since the run began: sha256 {seen['sha256'][:12]} -> {found[:12]}"
            hint = "resume with the old file, or start in another folder"
            raise RunError(what, where=str(path), hint=hint)
        self.note(data={name: {"path": str(path), "sha256": found, "rows": rows}})
        return found

    def read_test(self, split: str, **details: Any) -> None:
        """Record that a test split was read: each reading makes the next a little less of a test."""
        reading = {"split": split, "time": now(), "command": sys.argv, **details}
        with turn(self.path):
            manifest = self.manifest
            readings = [*manifest["test_readings"], reading]
            self._write_manifest(manifest | {"test_readings": readings})

    def write_round(self, index: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep what a round collected, before its first update: resuming samples nothing again."""
        lines = "".join(to_json(row, exact=True) + "\n" for row in rows)
        atomic_write_text(self._round_path(index), lines)

    def finish(self, **fields: Any) -> None:
        """Mark the run as complete, and close the mirrors."""
        self.note(finished=now(), **fields)
        atomic_write_text(self.path / DONE, now() + "\n")
        for mirror in self.mirrors:
            mirror.close()

    def offsets(self) -> dict[str, int]:
        """Bytes of the appended files, all of them on disk: what a checkpoint remembers and `cut` takes."""
        sizes = {}
        for name in (METRICS, SAMPLES):
            path = self.path / name
            if path.exists():
                with writing(path):
                    sync_file(path)
            sizes[name] = _size(path)
        return sizes

    def cut(self, offsets: Mapping[str, int]) -> None:
        """Cut the appended files back to a checkpoint's offsets; an empty mapping starts them anew.

        Raises:
            RunError: a file is shorter than the checkpoint says: lines are lost.
        """
        for name in (METRICS, SAMPLES):
            path, length = self.path / name, offsets[name] if offsets else 0
            if (size := _size(path)) < length:
                what = f"lines are lost: it has {size} bytes, the checkpoint saw {length}"
                hint = "restore the file, or remove the checkpoint to go on from an older one"
                raise RunError(what, where=str(path), hint=hint)
            if size > length:
                with writing(path):
                    os.truncate(path, length)
                    sync_file(path)

    def _append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        append(self.path / name, "".join(to_json(row) + "\n" for row in rows).encode())

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        atomic_write_text(self.path / MANIFEST, to_json(manifest, exact=True, indent=2) + "\n")

    def _round_path(self, index: int) -> Path:
        return self.path / ROUNDS / f"round_{index:06d}.jsonl"

    # Reading

    @property
    def manifest(self) -> dict[str, Any]:
        """manifest.json as it is now."""
        path = self.path / MANIFEST
        try:
            return from_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"the manifest cannot be read: {error}", where=str(path)) from error

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings, as the manifest has them."""
        return self.manifest["config"]

    @property
    def is_done(self) -> bool:
        """Whether the training finished."""
        return (self.path / DONE).exists()

    @property
    def model_path(self) -> Path:
        """Where the exported model goes."""
        return self.path / "model"

    def metrics(self) -> list[dict[str, Any]]:
        """The logged lines, spelled-out numbers turned back; a torn last line is left out with a warning."""
        rows = read_lines(self.path / METRICS)
        return [{key: _number(value) for key, value in row.items()} for row in rows]

    def samples(self) -> list[dict[str, Any]]:
        """The logged samples; a text "NaN" stays a text."""
        return read_lines(self.path / SAMPLES)

    def read_round(self, index: int) -> list[dict[str, Any]] | None:
        """What a round collected, to the bit; None where it has not been collected."""
        path = self._round_path(index)
        if not path.exists():
            return None
        return [from_json(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _first_manifest(
    command: Sequence[str], subject: Mapping[str, Any], config: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "created": now(),
        "command": list(command),
        "subject": dict(subject),
        "config": config,
        "config_sha256": config_hash(config),
        "seeds": {"run": seed},
        "git": git_state(),
        "environment": environment(),
        "data": {},
        "test_readings": [],
        "resumed": [],
    }


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**old, **new}
    for key in old.keys() & new.keys():
        if isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            merged[key] = _merged(old[key], new[key])
    return merged


def _number(value: Any) -> Any:
    return SPELLED.get(value, value) if isinstance(value, str) else value


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
