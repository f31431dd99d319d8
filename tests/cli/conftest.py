"""A small model on disk, and the command line called in this process."""

import json
from pathlib import Path

import pytest
from small_feedback import record
from typer.testing import CliRunner

from heedful.cli import app


class Heedful:
    """`heedful(*arguments)` runs a command in a folder of its own; what it printed is in `out` and `err`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, *arguments: object, code: int = 0, input: str | None = None) -> "Heedful":
        result = CliRunner().invoke(app, [str(part) for part in arguments], input=input)
        self.out, self.err = result.stdout, result.stderr
        assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}\n{result.exception!r}"
        return self

    @property
    def json(self):
        """What --json printed."""
        return json.loads(self.out)

    def write(self, name: str, *rows: object) -> Path:
        """A file of JSON lines; a text is a line as it is."""
        path = self.folder / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path


@pytest.fixture
def heedful(tmp_path, monkeypatch) -> Heedful:
    monkeypatch.chdir(tmp_path)
    return Heedful(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A two-layer model of 112 characters and a context of 64."""
    from models import tiny
    from tiny_text import letters

    folder = tmp_path_factory.mktemp("model")
    tiny("llama", max_position_embeddings=64).save_pretrained(folder)
    letters().save_pretrained(folder)
    return folder


@pytest.fixture
def feedback(heedful) -> Path:
    return heedful.write("feedback.jsonl", *map(record, range(8)))
