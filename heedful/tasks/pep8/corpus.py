"""The corpus of the pep8 task: Python's own library and its tests, made clean, then dirtied by sampled authors.

Rows: one per source file, {"id", "group", "author", "clean", "lines", "faulty_lines", "text", "clean_text"}: `text` is
what models read, lines are logical lines of it, `clean` says that its author has no bad habits.
Source and licence: the standard library of the running interpreter, PSF licence.
Left out: encodings, pydoc_data, lib2to3, generated tables, files that are mostly literals, files that do not parse.
Known defects: functions with a finding that spacing cannot cure are missing (clean.py), so some names have no
definition; tests make up two thirds of the text.

pycodestyle finds nothing in `clean_text`, and `text` has the same tree; a file that breaks this is dropped and counted
in manifest.json. The same interpreter, ruff and seed give the same bytes.

Run: python -m heedful.tasks.pep8.corpus --out build/pep8     (needs ruff; three minutes on two cores)
"""

import argparse
import ast
import gzip
import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
import random
import re
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from heedful.errors import RunError
from heedful.tasks.pep8.authors import restyle, sample_author
from heedful.tasks.pep8.clean import clean_all, code_only, read_whole, same_tree

MIN_ROWS = 10  # of a file that is kept
MAX_LITERAL_SHARE = 0.5  # of a file's characters in constants; beyond it the file is a table

# Shares of the groups that are not large; the large are base, so that no small split is mostly one package.
SPLITS = {"base": 0.65, "feedback": 0.12, "reward": 0.06, "selection": 0.085, "test": 0.085}
SPLIT_SALT = 1  # 0 leaves `selection` small; 1 gives 75/9/4/6/6 percent of the text of Python 3.11
LARGE_GROUPS = frozenset({
    "asyncio", "distutils", "email", "http", "idlelib", "importlib", "multiprocessing", "tkinter", "typing", "unittest",
    "xml",
})  # fmt: skip

SKIPPED_FOLDERS = {
    "site-packages", "__pycache__", "encodings", "pydoc_data", "lib2to3", "cjkencodings", "ensurepip", "tzdata",
}  # fmt: skip
SKIPPED_FILES = re.compile(
    r"(^|/)(_sysconfigdata.*|token|keyword|_casefix|stringprep|entities|test_lib2to3|bad_?coding.*|bad(syntax|key).*|"
    r"nokia|re_tests|(test_)?unicode_?data.*|.*_stringdata|test_source_encoding)\.py$"
)
# Tests whose name does not begin with that of the module they test.
ALIASES = {"pickletester": "pickle", "datetimetester": "datetime", "lock_tests": "threading", "ssltests": "ssl"}


def find_sources(root: Path) -> list[str]:
    """The Python files below `root` that the corpus uses, as sorted relative paths with forward slashes."""
    paths = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(
        path.as_posix()
        for path in paths
        if not SKIPPED_FOLDERS.intersection(path.parts) and not SKIPPED_FILES.search(path.as_posix())
    )


def top_level_modules(paths: Iterable[str]) -> frozenset[str]:
    """Names of modules and packages, in lower case and without outer underscores."""
    names = {path.removesuffix(".py").split("/")[0].strip("_").lower() for path in paths}
    return frozenset(name for name in names if name and name != "test")


def group_of(path: str, modules: frozenset[str]) -> str:
    """The top-level module or package a file belongs to; a test belongs to what it tests where its name says so.

    Args:
        path: relative to the library, such as `json/decoder.py` or `test/test_json/test_float.py`.
        modules: `top_level_modules` of the library.
    """
    parts = path.removesuffix(".py").split("/")
    name = parts[1] if parts[0] == "test" and len(parts) > 1 else parts[0]
    name = ALIASES.get(name, re.sub(r"^_?test_|_tests?$", "", name)).strip("_").lower()
    name = name.removeprefix("py") if name.removeprefix("py") in modules else name  # _pyio is io, _pydecimal decimal
    beginnings = [module for module in modules if name.startswith(module) and len(module) > 2]
    return max(beginnings, key=len, default=re.split(r"[_\d]", name)[0] or name)


def split_of(group: str) -> str:
    """The split of a group, by a hash of its name: the same in every version of Python."""
    if group in LARGE_GROUPS:
        return "base"
    place = int.from_bytes(hashlib.sha256(f"{SPLIT_SALT}/{group}".encode()).digest()[:8], "big") / 2**64
    bounds = itertools.accumulate(SPLITS.values())
    return next((split for split, bound in zip(SPLITS, bounds) if place < bound), "base")


def styled_row(path: str, group: str, clean_text: str, seed: int) -> dict | None:
    """A corpus row in the style of the author that `seed` and `path` choose; None if the tree did not survive it."""
    rng = random.Random(f"{seed}/{path}")
    author = sample_author(rng)
    text = restyle(clean_text, author, rng)
    if not same_tree(text, clean_text):
        return None
    num_lines, num_faulty = count_lines(text)
    return {"id": path, "group": group, "author": author.habits, "clean": author.is_clean, "lines": num_lines,
            "faulty_lines": num_faulty, "text": text, "clean_text": clean_text}  # fmt: skip


def count_lines(text: str) -> tuple[int, int]:
    """Logical lines of a text, and those of them with a finding on one of their rows."""
    reading = read_whole(text)
    rows = {finding.row for finding in reading.findings}
    faulty = [line for line in reading.lines if not rows.isdisjoint(range(line.first_row, line.last_row + 1))]
    return len(reading.lines), len(faulty)


def build(out: Path, *, root: Path, seed: int = 0, workers: int | None = None) -> dict:
    """Write `<out>/{split}.jsonl.gz` and manifest.json, and return the manifest.

    Args:
        out: a folder, made if it is not there; files of an earlier build are replaced.
        root: of a library, a folder of modules and packages and of their tests in `test`.
        seed: of the authors. The splits do not depend on it.
        workers: processes; all cores by default.
    """
    started = time.perf_counter()
    paths = find_sources(root)
    if not paths:
        raise RunError("no Python files", where=str(root), allowed="a folder of Python sources")
    modules = top_level_modules(paths)
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        found = list(pool.map(_code_of, [root / path for path in paths], chunksize=8))
        counts = Counter(f"dropped: {reason}" for reason in found if isinstance(reason, str))
        trees = {path: tree for path, tree in zip(paths, found) if isinstance(tree, ast.Module)}
        texts, more = clean_all(trees, pool)
        texts = _without_copies(texts, counts)
        groups = [group_of(path, modules) for path in texts]
        rows = list(pool.map(styled_row, texts, groups, texts.values(), [seed] * len(texts), chunksize=8))
    counts += more
    counts["dropped: restyling changed the tree"] = rows.count(None)
    return _write_out(out, [row for row in rows if row], counts, seed=seed, seconds=time.perf_counter() - started)


def _code_of(path: Path) -> ast.Module | str:
    """The code of a file, or why it is left out."""
    try:
        tree = code_only(path.read_bytes())
    except (SyntaxError, ValueError):
        return "does not parse"
    text = ast.unparse(tree)
    constants = sum(len(ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Constant))
    if text.count("\n") < MIN_ROWS:
        return "short"
    return "mostly literals" if constants > MAX_LITERAL_SHARE * len(text) else tree


def _without_copies(texts: dict[str, str], counts: Counter[str]) -> dict[str, str]:
    """The texts in the order of their paths, each once, and none that lost most of its functions."""
    first = {text: path for path, text in sorted(texts.items(), reverse=True)}
    kept = {path: texts[path] for path in sorted(first.values()) if texts[path].count("\n") >= MIN_ROWS}
    counts["dropped: copy or short"] = len(texts) - len(kept)
    return kept


def _write_out(out: Path, rows: list[dict], counts: Counter[str], *, seed: int, seconds: float) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split in SPLITS:
        chosen = [row for row in rows if split_of(row["group"]) == split]
        data = gzip.compress("".join(json.dumps(row) + "\n" for row in chosen).encode(), mtime=0)
        (out / f"{split}.jsonl.gz").write_bytes(data)
        splits[split] = {**_describe(chosen), "sha256": hashlib.sha256(data).hexdigest()}
    tools = {name: importlib.metadata.version(name) for name in ("pycodestyle", "ruff")}
    manifest = {"python": platform.python_version(), **tools, "seed": seed, "all": _describe(rows), "splits": splits,
                "counts": dict(sorted(counts.items())), "seconds": round(seconds, 1)}  # fmt: skip
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _describe(rows: list[dict]) -> dict:
    num_lines = sum(row["lines"] for row in rows)
    return {"files": len(rows), "groups": len({row["group"] for row in rows}), "lines": num_lines,
            "characters": sum(len(row["text"]) for row in rows),
            "faulty_line_share": round(sum(row["faulty_lines"] for row in rows) / max(1, num_lines), 4),
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
    print(
        json.dumps(build(arguments.out, root=arguments.root, seed=arguments.seed, workers=arguments.workers), indent=1)
    )


if __name__ == "__main__":
    main()
