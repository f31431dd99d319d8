"""The files the pep8 task ships, each with its sha256 in manifest.json."""

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heedful.errors import RunError

ASSETS = Path(__file__).parents[2] / "assets" / "pep8"


def read(name: str, folder: Path = ASSETS) -> list[dict[str, Any]]:
    """The rows of `name`.jsonl.gz.

    Raises:
        RunError: the file is not there, or not the one the manifest names.
    """
    path = folder / f"{name}.jsonl.gz"
    if not path.is_file():
        raise RunError("an asset of the pep8 task is missing", where=str(path), hint="install heedful again")
    data = path.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if hashlib.sha256(data).hexdigest() != manifest.get(path.name):
        raise RunError("the file is not the one named in manifest.json", where=str(path), hint="install heedful again")
    return [json.loads(line) for line in gzip.decompress(data).decode("utf-8").splitlines()]


def write(name: str, rows: Iterable[dict[str, Any]], folder: Path = ASSETS) -> int:
    """Write the rows of `name`.jsonl.gz, the same bytes for the same rows; returns how many."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    data = gzip.compress("".join(lines).encode("utf-8"), compresslevel=9, mtime=0)
    (folder / f"{name}.jsonl.gz").write_bytes(data)
    seal(folder)
    return len(lines)


def seal(folder: Path = ASSETS) -> None:
    """Write manifest.json: the sha256 of every file in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    sums = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "manifest.json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
