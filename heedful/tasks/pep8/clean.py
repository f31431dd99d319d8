"""Clean code: a source file without its docstrings and comments, written as pycodestyle wants it.

The tree is written by `ast.unparse`, long strings are cut into adjacent pieces, ruff lays it out in 79 columns. What
pycodestyle faults then, it faults for what it says and not for how it is written (a bare `except`, a name like `l`),
and the function it stands in is removed. Apart from that the tree of the clean text is the tree of the code. Needs
ruff.
"""

import ast
import importlib.util
import io
import itertools
import re
import subprocess
import sys
import tempfile
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from heedful.errors import RunError
from heedful.scorers.reading import Reading, read
from heedful.tasks.pep8.authors import MAX_COLUMNS, line_offsets

ROUNDS = 4  # of formatting and removing; a file that has findings after the last is dropped
TARGET = "py311"  # from 3.12 on, formatted f-strings could hold their own quotes, which older Pythons do not read
LONG_STRING = 40  # characters as written; a shorter one is never cut
HANGING = 16  # columns kept free for the brackets and indents a formatter may put before a piece of a string
MIN_PIECE = 20


def code_only(source: bytes | str) -> ast.Module:
    """The tree of a file without docstrings, lone strings and `...` bodies; an emptied body holds `pass`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old files
        return _CodeOnly().visit(ast.parse(source))


class _CodeOnly(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Lone constants go, docstrings among them."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """`u"x"` is `"x"`: formatters remove the prefix."""
        return ast.Constant(node.value)


def without_rows(tree: ast.Module, rows: Iterable[int]) -> ast.Module:
    """Remove from `tree` what covers any of `rows`: functions whole, and statements outside of functions."""
    visitor = _WithoutRows(frozenset(rows))
    visitor.visit(tree)
    return tree


class _WithoutRows(_CodeOnly):
    def __init__(self, rows: frozenset[int]):
        self.rows = rows

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.ClassDef):
            is_faulty = any(self._is_covered(part) for part in (*node.bases, *node.decorator_list))
        else:
            is_faulty = isinstance(node, ast.stmt) and self._is_covered(node)
        return None if is_faulty else super().visit(node)

    def _is_covered(self, node: ast.stmt | ast.expr) -> bool:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        return not self.rows.isdisjoint(range(first, (node.end_lineno or first) + 1))


def same_tree(text: str, other: str) -> bool:
    """Whether two texts mean the same to Python: equal trees, positions aside. False if either does not parse."""
    try:
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(other))
    except (SyntaxError, ValueError):
        return False


def clean_all(trees: dict[str, ast.Module], pool: Executor) -> tuple[dict[str, str], Counter[str]]:
    """Clean text of each tree.

    Args:
        trees: by path, as `code_only` makes them.
        pool: where to work on them.
    Returns:
        The texts by path, and counts: of findings whose function was removed, of files dropped.
    """
    counts: Counter[str] = Counter()
    clean: dict[str, str] = {}
    for _ in range(ROUNDS):
        written = dict(zip(trees, pool.map(write, trees.values(), chunksize=8)))
        formatted = format_all(written)
        faults = pool.map(_faults, written.values(), formatted.values(), chunksize=8)
        trees = {}
        for (path, text), found in zip(formatted.items(), faults):
            if found is None:
                counts["dropped: formatting changed the tree"] += 1
            elif found:
                counts.update(f"removed: {code}" for _, code in found)
                trees[path] = without_rows(ast.parse(text), (row for row, _ in found))
            else:
                clean[path] = text
    counts["dropped: findings stay"] += len(trees)
    return clean, counts


def _faults(written: str, formatted: str) -> list[tuple[int, str]] | None:
    """Row and code of each finding, or None where formatting changed the tree.

    No E901: text with a tree is no syntax error, though Python 3.11's tokenizer stumbles over some letters.
    """
    if not same_tree(written, formatted):
        return None
    return [(finding.row, finding.code) for finding in read_whole(formatted).findings if finding.code != "E901"]


def read_whole(text: str) -> Reading:
    """pycodestyle's reading of a whole file, not kept: files are large, and read once."""
    reading = read("", text)
    read.cache_clear()
    return reading


def write(tree: ast.Module) -> str:
    """Source of a tree, its long strings cut into adjacent pieces."""
    return _cut_strings(ast.unparse(ast.fix_missing_locations(tree)) + "\n")


def _cut_strings(text: str) -> str:
    offsets, pieces, position = line_offsets(text), [], 0
    for found in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
        if found.type == tokenize.STRING and len(found.string) > LONG_STRING and not _is_fstring(found.string):
            begin, end = (offsets[row - 1] + column for row, column in (found.start, found.end))
            indent = len(found.line) - len(found.line.lstrip(" "))
            room = max(MIN_PIECE, MAX_COLUMNS - indent - HANGING)
            pieces += [text[position:begin], _in_pieces(found.string, room)]
            position = end
    return "".join([*pieces, text[position:]])


def _is_fstring(literal: str) -> bool:
    return "f" in literal[: min(literal.find(quote) for quote in "'\"" if quote in literal)].lower()


def _in_pieces(literal: str, width: int) -> str:
    value = ast.literal_eval(literal)
    rows = re.findall(r"[^\n]*\n|[^\n]+" if isinstance(value, str) else rb"[^\n]*\n|[^\n]+", value)
    pieces = [repr(piece) for row in rows for piece in _cut(row, width)]
    return literal if len(pieces) < 2 else f"({' '.join(pieces)})"


def _cut(row: str | bytes, width: int) -> Iterator[str | bytes]:
    """Pieces of a row that are at most `width` wide as written, cut after spaces where there are any."""
    while len(row) > 8 and len(repr(row)) > width:
        full = len(row)
        while full > 1 and len(repr(row[:full])) > width:
            full = full - 1 if full < 2 * width else full // 2
        space = row.rfind(" " if isinstance(row, str) else b" ", width // 2, full)  # type: ignore[arg-type]
        cut = space + 1 if space > 0 else full
        yield row[:cut]
        row = row[cut:]
    yield row


def require_ruff() -> None:
    """
    Raises:
        RunError: ruff, which lays out the corpus, is not installed.
    """
    if importlib.util.find_spec("ruff") is None:
        raise RunError("ruff, which lays out the corpus, is not installed", hint="pip install 'heedful[test]'")


def format_all(texts: dict[str, str]) -> dict[str, str]:
    """ruff's layout of each text, slices closed up as pycodestyle wants them; what ruff cannot read stays."""
    require_ruff()
    with tempfile.TemporaryDirectory() as folder:
        paths = {key: Path(folder, f"{i}.py") for i, key in enumerate(texts)}
        for key, path in paths.items():
            path.write_bytes(texts[key].encode())
        options = ["--isolated", "--no-cache", "--quiet", f"--line-length={MAX_COLUMNS}", f"--target-version={TARGET}"]
        subprocess.run([sys.executable, "-m", "ruff", "format", *options, folder], capture_output=True)
        return {key: close_slices(path.read_bytes().decode()) for key, path in paths.items()}


def close_slices(text: str) -> str:
    """`x[a + 1 : b]` to `x[a + 1:b]`: the space before a colon is E203."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="").readline))
    offsets, pieces, position, is_after_colon = line_offsets(text), [], 0, False
    for before, found in itertools.pairwise(tokens):
        is_gap = before.end[0] == found.start[0] and before.end[1] < found.start[1]
        is_before_colon = is_gap and found.string == ":"
        if is_before_colon or (is_gap and is_after_colon):
            pieces.append(text[position : offsets[before.end[0] - 1] + before.end[1]])
            position = offsets[found.start[0] - 1] + found.start[1]
        is_after_colon = is_before_colon
    return "".join([*pieces, text[position:]])
