"""`heedful doctor`: whether this installation can do what it promises, before it is asked to; of a run, what is wrong
with its curves."""

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from heedful.cli.options import AsJson
from heedful.cli.output import show

FAILED = 1  # exit code
LEAST_FREE = 2e9  # bytes of disk; a run of the embedded task needs 0.2 GB
LEAST_MEMORY = 3e9  # bytes; the embedded task takes about 1.5 GB
VULNERABLE = {
    "torch": "below 2.6, torch.load runs code even with weights_only (CVE-2025-32434)",
    "transformers": "below 5.3, a crafted config runs code even with trust_remote_code=False (CVE-2026-4372)",
}

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    found: str
    hint: str = ""


def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run folder whose curves are read instead.")] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where runs will be written.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Check that this installation works, or that a run learned.

    Without RUN: versions, files, disk, memory, and a forward pass of the embedded model without network; exits with 1
    if not. With RUN, of a method that learns from its own samples: what its curves show, since which step, the usual
    causes, and what to change.
    """
    if run is not None:
        _read_run(run, as_json)
        return
    checks = []
    for check in examine(folder):
        checks.append(check)
        if not as_json:
            typer.echo(f"{check.status:<8}{check.name:<16}{check.found}")
            if check.hint:
                typer.echo(f"{'':<24}{check.hint}")
    healthy = all(check.status != "failed" for check in checks)
    if as_json:
        show({"healthy": healthy, "checks": [asdict(check) for check in checks]}, list, as_json=True)
    if not healthy:
        raise typer.Exit(FAILED)


def _read_run(folder: Path, as_json: bool) -> None:
    from heedful.diagnosis import diagnose
    from heedful.errors import RunError
    from heedful.runs import Run
    from heedful.wording import plural

    if not folder.is_dir():
        raise RunError("no such folder", where=str(folder))
    metrics = Run.open(folder).metrics()
    findings = diagnose(metrics)
    if as_json:
        show({"findings": [asdict(finding) for finding in findings]}, list, as_json=True)
        return
    rounds = sum("round" in line for line in metrics)
    if not metrics:
        typer.echo("nothing is logged yet")
    elif not rounds:
        typer.echo("it drew no samples of its own; its curves are in `heedful report`")
    elif not findings:
        typer.echo(f"nothing wrong in {plural(rounds, 'round')}")
    for finding in findings:
        typer.echo(f"{finding.name}, since step {finding.since:,}\n  {finding.saw}")
        typer.echo(f"  usual causes: {finding.causes}\n  what to change: {finding.change}")


def examine(folder: Path) -> Iterator[Check]:
    """Every check, one after the other; one that breaks is a failed check."""
    yield _python()
    yield from _packages()
    for name, look in {
        "embedded files": _assets,
        "disk": lambda: _disk(folder),
        "writing": lambda: _writing(folder),
        "memory": _memory,
        "device": _device,
        "forward pass": _forward,
    }.items():
        yield _tried(name, look)


def _tried(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # whatever is broken is what the doctor is for
        return Check(name, "failed", f"{type(error).__name__}: {error}")


def _python() -> Check:
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "failed", platform.python_version(), "" if good else "3.11 or newer")


def _packages() -> Iterator[Check]:
    """What heedful says it needs, against what is installed; extras may be missing, test tools are not looked at."""
    from importlib import metadata

    from packaging.requirements import Requirement

    needs = [Requirement(text) for text in metadata.requires("heedful") or []]
    for need in needs:
        extra = str(need.marker or "").partition("extra == ")[2].strip("'\"")
        if extra != "test":
            yield _package(need.name, need.specifier, extra)


def _package(name: str, allowed: Any, extra: str) -> Check:
    from importlib import metadata

    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        if extra:
            return Check(name, "ok", f"not installed, optional: pip install 'heedful[{extra}]'")
        return Check(name, "failed", "not installed", f"pip install '{name}{allowed}'")
    if allowed.contains(found, prereleases=True):
        return Check(name, "ok", found)
    return Check(name, "failed", f"{found}, expected {allowed}", VULNERABLE.get(name, f"pip install '{name}{allowed}'"))


def _assets() -> Check:
    """Every file that ships, against its sha256."""
    import json

    from heedful.disk import sha256
    from heedful.tasks.pep8 import assets as pep8
    from heedful.tasks.reasoning import assets as reasoning

    expected: dict[Path, str] = {}
    for folder in (pep8.ASSETS, reasoning.ASSETS):
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        expected |= {folder / name: digest for name, digest in sums.items()}
        expected.setdefault(folder / "base" / "config.json", "")
    wrong = [f"{path.parent.name}/{path.name}" for path, own in expected.items() if not _is_file(path, own, sha256)]
    if wrong:
        return Check("embedded files", "failed", f"missing or changed: {', '.join(wrong)}", "install heedful again")
    return Check("embedded files", "ok", f"{len(expected)} files as they were packed")


def _is_file(path: Path, digest: str, sha256: Callable[[Path], str]) -> bool:
    return path.is_file() and sha256(path) == digest


def _disk(folder: Path) -> Check:
    from heedful.disk import free_space, show_size

    free = free_space(folder)
    scarce = free < LEAST_FREE
    hint = f"a training may need {show_size(LEAST_FREE)}" if scarce else ""
    return Check("disk", "warning" if scarce else "ok", f"{show_size(free)} free in {folder.resolve()}", hint)


def _writing(folder: Path) -> Check:
    """Write, bring to the disk, rename and lock, as a run does."""
    import tempfile

    from heedful.disk import atomic_write_text, exclusive

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".heedful-doctor-", dir=folder) as name:
        path = Path(name) / "probe"
        for text in ("old", "new"):
            atomic_write_text(path, text)
        with exclusive(Path(name) / ".lock", what="the probe"):
            read = path.read_text(encoding="utf-8")
    return Check("writing", "ok" if read == "new" else "failed", "files are written, renamed and locked")


def _memory() -> Check:
    from heedful.disk import show_size

    available = _available_memory()
    if available is None:
        return Check("memory", "ok", "this system does not tell")
    scarce = available < LEAST_MEMORY
    hint = "the embedded task takes 1.5 GB" if scarce else ""
    return Check("memory", "warning" if scarce else "ok", f"{show_size(available)} available", hint)


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
        return Check("device", "ok", f"{torch.cuda.device_count()} x {', '.join(sorted(names))}")
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    precision = "bfloat16" if fast else "float32"
    return Check("device", "ok", f"CPU, {torch.get_num_threads()} threads, trains in {precision}")


def _forward() -> Check:
    """A few greedy tokens of the embedded base, read from disk alone."""
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from heedful import Sampling, sample
    from heedful.cli.options import model_or_base

    prompt = "def area(width, height):\n"
    (record,) = sample(model_or_base(None), [prompt], sampling=Sampling(max_tokens=16, temperature=0.0))
    line = next((line.strip() for line in record.responses[0].text.splitlines() if line.strip()), "nothing")
    return Check("forward pass", "ok", f"the embedded base continues {prompt.strip()!r} with {line!r}")
