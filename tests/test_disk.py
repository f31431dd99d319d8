"""Files survive a kill and a full disk; names, JSON and locks are strict."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import NO_SPACE, Killed, every_fault
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful import disk
from heedful.errors import ConfigError, RunError

# Names


@pytest.mark.parametrize("name", ["sft", "reward_model", "step_000100", "a.b-c", "7b", "x" * 100])
def test_plain_names_are_safe(name):
    assert disk.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", "a/../../b", "x" * 101, "con", "NUL.txt", "a\n"]
    + ["-rf", ".hidden", "a b", "é", "a\0", "lpt1", "end.", "`id`", "$HOME", "a\u202eb"],
)
def test_names_that_could_leave_the_folder_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be part of a path"):
        disk.safe_name(name)


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    assert disk.inside(tmp_path / "root", "a", "b") == tmp_path / "root" / "a" / "b"
    with pytest.raises(ConfigError, match="leads out"):
        disk.inside(tmp_path / "root", "link", "x")


# JSON

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50)
@given(values)
def test_exact_json_comes_back_as_it_was(value):
    assert disk.from_json(disk.to_json(value, exact=True)) == value


def test_non_finite_floats_survive_exact_json_and_are_spelled_out_otherwise():
    value = {"a": math.inf, "b": [-math.inf], "c": math.nan}
    back = disk.from_json(disk.to_json(value, exact=True))
    assert back["a"] == math.inf and back["b"] == [-math.inf] and math.isnan(back["c"])
    assert json.loads(disk.to_json(value)) == {"a": "Infinity", "b": ["-Infinity"], "c": "NaN"}


@settings(max_examples=50)
@given(values)
def test_json_is_strict_and_one_line(value):
    def refuse(name):
        raise AssertionError(f"bare {name}")

    text = disk.to_json({"v": value, "x": math.nan})
    assert "\n" not in text
    json.loads(text.encode(), parse_constant=refuse)


def test_numpy_and_torch_become_plain_numbers():
    value = {"a": np.float32(0.5), "b": torch.tensor([1, 2]), "c": np.int64(3), "d": torch.tensor(0.25), "p": Path("x")}
    assert json.loads(disk.to_json(value)) == {"a": 0.5, "b": [1, 2], "c": 3, "d": 0.25, "p": "x"}


def test_what_json_would_change_is_refused():
    with pytest.raises(TypeError, match="keys must be text"):
        disk.to_json({1: "one"})
    with pytest.raises(TypeError, match="cannot be stored"):
        disk.to_json({"a": {1, 2}})


def test_half_a_surrogate_pair_survives():
    assert disk.from_json(disk.to_json({"text": "a\ud800b"})) == {"text": "a\ud800b"}


# What a disk refuses


def test_a_full_disk_says_what_it_needs_and_has(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "free_space", lambda path: 1_500_000)
    with pytest.raises(RunError, match=r"no space: need 3\.1 GB have 1\.5 MB"):
        disk.require_space(tmp_path, 3.1e9)
    with pytest.raises(RunError, match=r"no space: need 40 B have 1\.5 MB"), disk.writing(tmp_path, need=40):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("number", "says"), [(errno.EROFS, "cannot write here"), (errno.ENOENT, "does not exist")])
def test_a_refused_write_names_the_path(tmp_path, number, says):
    with pytest.raises(RunError, match=says) as caught, disk.writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "x") in str(caught.value)


def test_a_file_as_parent_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="does not exist"):
        disk.atomic_write_text(tmp_path / "file" / "child.json", "{}")


def test_the_size_limit_of_a_process_is_told_as_no_space(tmp_path):
    script = f"""
import resource
from heedful import disk
from heedful.errors import RunError
disk.atomic_write_text({str(tmp_path / "a")!r}, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    disk.atomic_write_text({str(tmp_path / "a")!r}, "x" * 5000)
except RunError as error:
    print(error)
"""
    done = _python(script)
    assert "no space: need 5.0 kB have a limit of 1.0 kB per file" in done.stdout, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_an_append_that_does_not_fit_leaves_no_torn_line(tmp_path):
    script = f"""
import resource
from heedful import disk
from heedful.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
disk.append({str(tmp_path / "a")!r}, b"x" * 699 + b"\\n")
try:
    disk.append({str(tmp_path / "a")!r}, b"y" * 699 + b"\\n")
except RunError as error:
    print(error)
"""
    done = _python(script)
    assert "no space: need 700 B" in done.stdout, done.stderr
    assert (tmp_path / "a").read_bytes() == b"x" * 699 + b"\n"


# Atomic replacement


numbers = count()


def _fresh(tmp_path):
    folder = tmp_path / f"case{next(numbers)}"
    folder.mkdir()
    return folder


def test_a_kill_anywhere_leaves_the_old_file_or_the_new(tmp_path):
    def prepare():
        folder = _fresh(tmp_path)
        (folder / "a.json").write_text("old")
        return folder

    def check(folder, fault):
        assert isinstance(fault, Killed)
        assert (folder / "a.json").read_text() in ("old", "new")
        disk.sweep(folder)
        assert [path.name for path in folder.iterdir()] == ["a.json"]

    assert every_fault(prepare, lambda f: disk.atomic_write_text(f / "a.json", "new"), check) >= 9


def test_a_full_disk_anywhere_leaves_no_trace(tmp_path):
    def prepare():
        folder = _fresh(tmp_path)
        (folder / "a.json").write_text("old")
        return folder

    def check(folder, fault):
        assert isinstance(fault, RunError) and "no space" in str(fault)
        assert (folder / "a.json").read_text() in ("old", "new")
        assert [path.name for path in folder.iterdir()] == ["a.json"]

    every_fault(prepare, lambda f: disk.atomic_write_text(f / "a.json", "new"), check, refuse=NO_SPACE)


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_while_a_folder_is_replaced_leaves_a_whole_one(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(disk, "_exchange", lambda one, other: False)

    def prepare():
        folder = _fresh(tmp_path)
        for name, text in (("model", "old"), ("new", "new")):
            (folder / name).mkdir()
            for part in "ab":
                (folder / name / part).write_text(text)
        (folder / "new").rename(disk.temp_path(folder / "model"))
        return folder

    def check(folder, fault):
        disk.sweep(folder)
        assert [path.name for path in folder.iterdir()] == ["model"]
        assert {(folder / "model" / part).read_text() for part in "ab"} in ({"old"}, {"new"})

    act = lambda folder: disk.replace_folder(disk.temp_path(folder / "model"), folder / "model")  # noqa: E731
    every_fault(prepare, act, check)


def test_a_replaced_folder_leaves_no_trace_of_the_old_one(tmp_path):
    target = tmp_path / "model"
    for text in ("one", "two"):
        temp = disk.temp_path(target)
        temp.mkdir()
        (temp / "a").write_text(text)
        disk.replace_folder(temp, target)
        assert (target / "a").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_replaced_folder_is_readable_by_whoever_may_read_it(tmp_path):
    temp = disk.temp_path(tmp_path / "model")
    (temp / "part").mkdir(parents=True)
    temp.chmod(0o750)
    (temp / "part" / "a").write_text("one")
    (temp / "part" / "a").chmod(0o600)  # as safetensors does
    disk.replace_folder(temp, tmp_path / "model")
    assert (tmp_path / "model" / "part" / "a").stat().st_mode & 0o777 == 0o640


def test_sweeping_spares_the_living_and_other_machines(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = disk._host()
    names = [f"a.tmp-{dead.pid}-{host}", f"b.tmp-{os.getppid()}-{host}", f"c.tmp-{dead.pid}-elsewhere", "d.tmp-notes"]
    for name in names:
        (tmp_path / name).write_text("x")
    assert disk.sweep(tmp_path, of="z") == []
    assert disk.sweep(tmp_path) == [names[0]]
    assert disk.sweep(tmp_path, owned=True) == [names[2]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[1], names[3]]


def test_a_torn_tail_is_cut_before_the_next_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": ' + b"2" * 100_000)
    with pytest.warns(UserWarning, match=":2: the last line is incomplete"):
        assert disk.read_lines(path) == [{"a": 1}]
    disk.append(path, b'{"a": 3}\n')
    assert disk.read_lines(path) == [{"a": 1}, {"a": 3}]


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(RunError, match=r"log\.jsonl:2: the line is damaged"):
        disk.read_lines(tmp_path / "log.jsonl")


def test_the_hash_of_a_folder_sees_names_and_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    one = disk.sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    two = disk.sha256(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({one, two, disk.sha256(tmp_path / "a")}) == 3


# Locks

HOLD = """
import sys, time
from pathlib import Path
from heedful import disk
with disk.exclusive(Path(sys.argv[1]), what="the run folder"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_lock_and_a_kill_frees_it(tmp_path):
    with _background(HOLD, tmp_path / ".lock") as holder:
        with (
            pytest.raises(RunError, match=f"in use by process {holder.pid} on ") as caught,
            disk.exclusive(tmp_path / ".lock", what="the run folder"),
        ):
            pass
        assert str(tmp_path) in str(caught.value)
        holder.kill()
        holder.wait()
        with disk.exclusive(tmp_path / ".lock", what="the run folder"):
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_the_lock_holds_within_one_process_too(tmp_path):
    in_use = pytest.raises(RunError, match=f"it is in use by process {os.getpid()}")
    with _lock(tmp_path), in_use, _lock(tmp_path):
        pass
    with _lock(tmp_path):
        pass


def test_a_lock_file_of_a_dead_process_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "gone", "since": "2020-01-01"} and more text than we write')
    with _lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


FORK = """
import os, sys, time
from pathlib import Path
from heedful import disk
with disk.exclusive(Path(sys.argv[1]), what="the run folder"):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_trainer(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        _wait_for_lock(tmp_path)
        os.kill(worker, 0)  # it lives on
    finally:
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def _wait_for_lock(tmp_path):
    """The child lets go as its first act, which may be a moment after the fork."""
    for _ in range(50):
        try:
            with _lock(tmp_path):
                return
        except RunError:
            time.sleep(0.1)
    raise AssertionError("the worker kept the lock")


def _lock(tmp_path):
    return disk.exclusive(tmp_path / ".lock", what="it")


def _python(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)


class _background:
    """A script that prints one line when it is ready, ended with the block."""

    def __init__(self, script, *arguments):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        self.process.stdout.readline()
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
