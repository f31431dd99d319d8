"""What the documentation says exists: commands and their options, files it links to, a page for every method."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import heedful
from heedful.cli import app
from heedful.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted((ROOT / "heedful").rglob("*.py"))
COMMAND = re.compile(r"(?:^(?:    |\$ |Run: )|`)(heedful [a-z][^`#\n]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def commands(text: str) -> list[str]:
    """Command lines in code blocks, behind "Run:", or in backticks; a backslash continues one."""
    return [match[1].strip() for match in COMMAND.finditer(re.sub(r"\\\n\s*", "", text))]


def said() -> list[tuple[str, str]]:
    """(where, command line), each once."""
    texts = {path: path.read_text(encoding="utf-8") for path in [*PAGES, *MODULES]}
    texts |= {path: ast.get_docstring(ast.parse(text)) or "" for path, text in texts.items() if path.suffix == ".py"}
    found = {line: path.name for path, text in texts.items() for line in commands(text)}
    return [(where, line) for line, where in found.items()]


def parse(line: str) -> None:
    """Read a command line as typer does and run nothing; what does not exist raises. A bare verb is only looked up."""
    tree = get_command(app)
    arguments = shlex.split(line)[1:]
    is_bare = len(arguments) <= (2 if arguments[0] == "data" else 1)
    for command in leaves(tree):
        command.callback = None
    tree.main([*arguments, "--help"] if is_bare else arguments, "heedful", standalone_mode=False)


def leaves(command) -> Iterator:
    """The verbs below a group."""
    for child in getattr(command, "commands", {}).values():
        yield from leaves(child) if hasattr(child, "commands") else [child]


@pytest.mark.parametrize("line", ["heedful trian sft", "heedful train sft --feedbak x", "heedful data inspec x"])
def test_a_command_that_does_not_exist_is_noticed(line):
    with pytest.raises(Exception, match=r"No such (command|option)"):
        parse(line)


@pytest.mark.parametrize(("where", "line"), said())
def test_every_command_that_is_written_down_can_be_read(where, line):
    parse(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link.strip()).exists()] == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_page(name):
    assert (ROOT / "docs" / "methods" / f"{name}.md").is_file()


def test_the_names_used_in_examples_are_public():
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    blocks.append(heedful.__doc__ or "")
    used = {name for block in blocks for name in re.findall(r"\bheedful\.(\w+)\(", block)}
    assert used <= set(heedful.__all__)
