"""The corpus of the pep8 task: Python's own library and its tests, made clean, then dirtied by sampled authors.

Rows: one per source file, {"id", "group", "author", "clean", "text", "clean_text"}; `text` is what models read.
Source and licence: the standard library of the running interpreter, PSF licence.
Left out: encodings, pydoc_data, lib2to3, generated tables, files that are mostly literals, files that do not parse.

A file on its way: docstrings and comments go (through ast); ruff formats it to 79 columns; functions in which
pycodestyle still finds something (bare `except`, a name like `l`) go; an author re-styles the rest. pycodestyle finds
nothing in `clean_text`, and `text` has the same tree; a file that breaks this is dropped and counted in manifest.json.

Run: python -m heedful.tasks.pep8.corpus --out build/pep8     (needs ruff; a few minutes on two cores)
"""

import argparse
import ast
import collections
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import platform
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pycodestyle

from heedful.errors import RunError
from heedful.tasks.pep8.authors import restyle, sample_author

MAX_COLUMNS = 79
ROUNDS = 4  # of formatting and pruning; what has findings after the last is dropped
MIN_LINES = 10  # of a file that is kept
MAX_LITERAL_SHARE = 0.5  # of a file's characters in strings and numbers; beyond it the file is a table
# Shares of the groups that are not large; the large are base, so that no small split is mostly one package.
SPLITS = {"base": 0.65, "feedback": 0.12, "reward": 0.06, "selection": 0.085, "test": 0.085}
SPLIT_SALT = 1  # 0 leaves `selection` small; 1 gives 75/9/4/6/6 percent of the text of Python 3.11
LARGE_GROUPS = frozenset({
    "asyncio", "distutils", "email", "http", "idlelib", "importlib", "multiprocessing", "tkinter", "typing", "unittest",
    "xml",
})  # fmt: skip

SKIPPED_FOLDERS = {
    "site-packages",
    "__pycache__",
    "encodings",
    "pydoc_data",
    "lib2to3",
    "cjkencodings",
    "ensurepip",
    "tzdata",
}
SKIPPED_FILES = re.compile(
    r"(^|/)(_sysconfigdata.*|token|keyword|_casefix|stringprep|entities|test_lib2to3|bad_?coding.*|bad(syntax|key).*|"
    r"nokia|re_tests|(test_)?unicode_?data.*|.*_stringdata|test_source_encoding)\.py$"
)
# Tests whose name does not begin with that of the module they test.
ALIASES = {"pickletester": "pickle", "datetimetester": "datetime", "lock_tests": "threading", "ssltests": "ssl"}


# Sources and splits


def find_sources(root: Path) -> list[str]:
    """The Python files below `root` that the corpus uses, as sorted relative paths with forward slashes."""
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(
        path.as_posix()
        for path in paths
        if not SKIPPED_FOLDERS.intersection(path.parts) and not SKIPPED_FILES.search(path.as_posix())
    )


def group_of(path: str, modules: frozenset[str]) -> str:
    """The top-level module or package a file belongs to; a test belongs to what it tests where its name says so.

    Args:
        path: relative to the library, such as `json/decoder.py` or `test/test_json/test_float.py`.
        modules: names of the library's top-level modules and packages.
    """
    parts = path.removesuffix(".py").split("/")
    name = parts[1] if parts[0] == "test" and len(parts) > 1 else parts[0]
    name = ALIASES.get(name, re.sub(r"^_?test_|_tests?$", "", name)).strip("_").lower()
    name = name.removeprefix("py") if name.removeprefix("py") in modules else name  # _pyio is io, _pydecimal decimal
    beginnings = [module for module in modules if name.startswith(module) and len(module) > 2]
    return max(beginnings, key=len, default=re.split(r"[_\d]", name)[0] or name)


def top_level_modules(paths: Iterable[str]) -> frozenset[str]:
    names = {path.removesuffix(".py").split("/")[0].strip("_").lower() for path in paths}
    return frozenset(name for name in names if name and name != "test")


def split_of(group: str) -> str:
    """The split of a group, by a hash of its name: the same in every version of Python."""
    if group in LARGE_GROUPS:
        return "base"
    place = int.from_bytes(hashlib.sha256(f"{SPLIT_SALT}/{group}".encode()).digest()[:8], "big") / 2**64
    bounds = itertools.accumulate(SPLITS.values())
    return next((split for split, bound in zip(SPLITS, bounds) if place < bound), "base")


# Trees: code only


def code_only(source: bytes) -> ast.Module:
    """The tree of a file without docstrings, lone strings and `...` bodies; an emptied body holds `pass`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in old files
        return _CodeOnly().visit(ast.parse(source))


class _CodeOnly(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Lone constants go, docstrings among them."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """`u"x"` is `"x"`: formatters remove the prefix."""
        return ast.Constant(node.value)


def prune(tree: ast.Module, rows: Iterable[int]) -> ast.Module:
    """Remove the functions, or statements outside of one, that cover any of `rows`; an emptied body holds `pass`."""
    return _Prune(frozenset(rows)).visit(tree)


class _Prune(_CodeOnly):
    def __init__(self, rows: frozenset[int]):
        self.rows = rows

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.ClassDef | ast.Module):
            head = [*getattr(node, "bases", []), *getattr(node, "decorator_list", [])]
            is_faulty = any(self._covers(part) for part in head)
        else:
            is_faulty = isinstance(node, ast.stmt) and self._covers(node)
        return None if is_faulty else super().visit(node)

    def _covers(self, node: ast.AST) -> bool:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        return any(row in self.rows for row in range(first, node.end_lineno + 1))


def shape(text: str) -> str:
    """What must stay the same: the tree without positions."""
    return ast.dump(ast.parse(text))


# Text: from a tree to clean lines


def write(tree: ast.Module) -> str:
    """Source of a tree, its long strings in pieces that fit a line."""
    return _break_strings(ast.unparse(ast.fix_missing_locations(tree)) + "\n")


def _break_strings(text: str) -> str:
    pieces, position, offsets, indent = [], 0, _row_offsets(text), 0
    for found in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
        if found.type == tokenize.STRING and len(found.string) > 40 and not re.match("[rbu]*f", found.string.lower()):
            start, end = (offsets[row - 1] + column for row, column in (found.start, found.end))
            indent = len(found.line) - len(found.line.lstrip(" "))
            pieces += [text[position:start], _in_pieces(found.string, max(20, MAX_COLUMNS - indent - 16))]
            position = end
    return "".join([*pieces, text[position:]])


def _row_offsets(text: str) -> list[int]:
    offsets = [0]
    for row in io.StringIO(text, newline=""):
        offsets.append(offsets[-1] + len(row))
    return offsets


def _in_pieces(literal: str, width: int) -> str:
    value = ast.literal_eval(literal)
    newline, pattern = ("\n", r"[^\n]*\n|[^\n]+") if isinstance(value, str) else (b"\n", rb"[^\n]*\n|[^\n]+")
    pieces: list = []
    for row in re.findall(pattern, value):
        while len(row) > 8 and len(repr(row)) > width:
            cut = _cut_place(row, width)
            pieces.append(row[:cut])
            row = row[cut:]
        if row:
            pieces.append(row)
    merged: list = []
    for piece in pieces:
        ends_row = merged and merged[-1][-1:] == newline
        if merged and not ends_row and len(repr(merged[-1] + piece)) <= width:
            merged[-1] += piece
        else:
            merged.append(piece)
    return literal if len(merged) < 2 else "(" + " ".join(map(repr, merged)) + ")"


def _cut_place(row, width: int) -> int:
    """Where to cut a row whose written form is too wide: after the last space that fits, else where it is full."""
    full = len(row)
    while full > 1 and len(repr(row[:full])) > width:
        full = full - 1 if full < 2 * width else full // 2
    space = row.rfind(" " if isinstance(row, str) else b" ", width // 2, full)
    return space + 1 if space > 0 else full


def findings(text: str) -> list[tuple[int, str]]:
    """pycodestyle's (row, code) under its default rules, whatever configuration lies about."""
    report = _Rows(_style().options)
    pycodestyle.Checker(lines=list(io.StringIO(text)), options=_style().options, report=report).check_all()
    return report.rows


class _Rows(pycodestyle.BaseReport):
    """Keeps each finding's row and code."""

    def __init__(self, options):
        super().__init__(options)
        self.rows: list[tuple[int, str]] = []

    def error(self, line_number, offset, text, check):
        code = super().error(line_number, offset, text, check)
        if code:
            self.rows.append((line_number, code))
        return code


@functools.cache
def _style() -> pycodestyle.StyleGuide:
    ignored = tuple(pycodestyle.DEFAULT_IGNORE.split(","))
    return pycodestyle.StyleGuide(select=(), ignore=ignored, max_line_length=MAX_COLUMNS, indent_size=4)


def format_all(texts: dict[str, str]) -> dict[str, str]:
    """ruff's formatting of each text, slices closed up as pycodestyle wants them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {key: Path(folder, f"f{i}.py") for i, key in enumerate(texts)}
        for key, path in paths.items():
            path.write_bytes(texts[key].encode())
        command = ["ruff", "format", "--isolated", "--quiet", "--no-cache", "--line-length", str(MAX_COLUMNS)]
        target = f"py3{min(sys.version_info.minor, 11)}"  # from 3.12 on f-strings may hold their own quotes
        try:
            subprocess.run([sys.executable, "-m", *command, "--target-version", target, folder], check=False)
        except FileNotFoundError:
            raise RunError("ruff is not installed", where="corpus", hint="pip install 'heedful[test]'") from None
        return {key: _close_slices(path.read_bytes().decode()) for key, path in paths.items()}


def _close_slices(text: str) -> str:
    """`x[a + 1 : b]` to `x[a + 1:b]`: the space before a colon is E203."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="").readline))
    offsets, pieces, position, is_after_colon = _row_offsets(text), [], 0, False
    for before, found in itertools.pairwise(tokens):
        is_gap = before.end[0] == found.start[0] and before.end[1] < found.start[1]
        is_before_colon = is_gap and found.string == ":"
        if is_before_colon or (is_gap and is_after_colon):
            pieces.append(text[position : offsets[before.end[0] - 1] + before.end[1]])
            position = offsets[found.start[0] - 1] + found.start[1]
        is_after_colon = is_before_colon
    return "".join([*pieces, text[position:]])


# Build


def normalise(trees: dict[str, ast.Module], pool: ProcessPoolExecutor) -> tuple[dict[str, str], collections.Counter]:
    """Clean text of each tree, and how many functions and files went, by reason.

    Returns:
        texts by path, and counts: "pruned E722" functions or statements, "dropped ..." files.
    """
    counts: collections.Counter[str] = collections.Counter()
    texts: dict[str, str] = {}
    for _ in range(ROUNDS):
        written = dict(zip(trees, pool.map(write, trees.values(), chunksize=8)))
        formatted = format_all(written)
        left = {}
        for path, (reason, found) in zip(
            formatted, pool.map(_check, written.values(), formatted.values(), chunksize=8)
        ):
            if reason:
                counts[f"dropped: {reason}"] += 1
            elif found:
                counts.update(f"pruned: {code}" for _, code in found)
                left[path] = prune(ast.parse(formatted[path]), {row for row, _ in found})
            else:
                texts[path] = formatted[path]
        trees = left
    counts["dropped: findings stay"] = len(trees)
    return texts, counts


def _check(written: str, formatted: str) -> tuple[str, list[tuple[int, str]]]:
    try:
        if shape(written) != shape(formatted):
            return "formatting changed the tree", []
    except (SyntaxError, ValueError):
        return "formatted text does not parse", []
    return "", findings(formatted)


def _read(path: Path) -> tuple[str, ast.Module | None]:
    try:
        tree = code_only(path.read_bytes())
    except (SyntaxError, ValueError, UnicodeDecodeError):
        return "does not parse", None
    size = sum(len(ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Constant))
    text = ast.unparse(tree)
    if text.count("\n") < MIN_LINES:
        return "short", None
    if size > MAX_LITERAL_SHARE * len(text):
        return "mostly literals", None
    return "", tree


def styled_row(path: str, group: str, clean_text: str, seed: int) -> dict | None:
    """A corpus row in the style of the author that `seed` and `path` choose; None if the tree did not survive it."""
    rng = random.Random(f"{seed}/{path}")
    author = sample_author(rng)
    text = restyle(clean_text, author, rng)
    try:
        if shape(text) != shape(clean_text):
            return None
    except SyntaxError:
        return None
    faulty = len({row for row, _ in findings(text)})
    return {"id": path, "group": group, "author": author.habits, "clean": author.is_clean, "lines": text.count("\n"),
            "faulty_lines": faulty, "text": text, "clean_text": clean_text}  # fmt: skip


def build(out: Path, *, root: Path, seed: int = 0, workers: int | None = None) -> dict:
    """Write `<out>/{split}.jsonl.gz` and manifest.json; returns the manifest."""
    started = time.perf_counter()
    paths = find_sources(root)
    modules = top_level_modules(paths)
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        read = list(pool.map(_read, [root / path for path in paths], chunksize=8))
        counts = collections.Counter(f"dropped: {reason}" for reason, _ in read if reason)
        texts, more = normalise({path: tree for path, (_, tree) in zip(paths, read) if tree}, pool)
        texts = dict(sorted(texts.items()))
        groups = [group_of(path, modules) for path in texts]
        rows = list(pool.map(styled_row, texts, groups, texts.values(), [seed] * len(texts), chunksize=8))
    counts += more
    counts["dropped: restyling changed the tree"] += rows.count(None)
    kept = _without_copies([row for row in rows if row], counts)
    return _write_out(out, kept, counts, seed=seed, seconds=time.perf_counter() - started)


def _without_copies(rows: list[dict], counts: collections.Counter) -> list[dict]:
    seen: set[str] = set()
    kept = []
    for row in rows:
        if row["clean_text"] in seen or row["lines"] < MIN_LINES:
            counts["dropped: copy or short"] += 1
        else:
            seen.add(row["clean_text"])
            kept.append(row)
    return kept


def _write_out(out: Path, rows: list[dict], counts: collections.Counter, *, seed: int, seconds: float) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split in SPLITS:
        chosen = [row for row in rows if split_of(row["group"]) == split]
        data = gzip.compress("".join(json.dumps(row) + "\n" for row in chosen).encode(), mtime=0)
        (out / f"{split}.jsonl.gz").write_bytes(data)
        splits[split] = {**_describe(chosen), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = {"python": platform.python_version(), "seed": seed, "all": _describe(rows), "splits": splits,
                "counts": dict(sorted(counts.items())), "seconds": round(seconds, 1)}  # fmt: skip
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _describe(rows: list[dict]) -> dict:
    lines = sum(row["lines"] for row in rows)
    return {"files": len(rows), "groups": len({row["group"] for row in rows}), "lines": lines,
            "characters": sum(len(row["text"]) for row in rows),
            "faulty_line_share": round(sum(row["faulty_lines"] for row in rows) / max(1, lines), 4),
            "clean_author_share": round(sum(row["clean"] for row in rows) / max(1, len(rows)), 4)}  # fmt: skip


def read_split(folder: Path, split: str) -> Iterator[dict]:
    """The rows of one split of a built corpus."""
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path(sysconfig.get_path("stdlib")), help="a library's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    manifest = build(arguments.out, root=arguments.root, seed=arguments.seed, workers=arguments.workers)
    print(json.dumps(manifest, indent=1))


if __name__ == "__main__":
    main()
