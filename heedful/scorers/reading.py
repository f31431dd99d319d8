"""Read a piece of Python with pycodestyle, in the place where it stands.

Prompt and response are read as one file, and only what starts at or after the response's first character
is its own. Deviations from running pycodestyle 2.15 on that file (default checks, 79 columns):

- A prompt may start inside a block: the blocks around it are put there (`missing_headers`).
- W292 and W391 (end of file) are off, and `# noqa` does nothing.
- Rows end at \\n, \\r\\n and \\r, as for a file opened as text; a form feed, \\x1c, \\x85 or U+2028 ends none.
- Reading stops at the first text that Python cannot split into tokens, with one E901 there. So does
  pycodestyle, but what it stops at depends on the Python it runs on; here `tokens` decides.
- A crash of pycodestyle is one E902, at the logical line it was reading, and `Reading.crash` says it.
- The checks are pycodestyle's own, whatever was registered later: importing autopep8 swaps one.

Rows of the prompt are tokenised but not judged, except by the two checks that remember what they saw.
"""

import inspect
import io
import re
import tokenize
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import pycodestyle

Position = tuple[int, int]  # row from 1, column from 0

IGNORED = (*pycodestyle.DEFAULT_IGNORE.split(","), "W292", "W391")
NOQA = re.compile(r"# no(?=(?:qa|pep8)\b)", re.IGNORECASE)  # what pycodestyle.noqa looks for
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
FSTRING_START, FSTRING_END = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)
EMPTY_WORDS = frozenset(["pass", "...", "(", ")", ";", ","])
OPENERS = {")": "(", "]": "[", "}": "{"}
NO_OPERATORS = frozenset("$?!`")  # from Python 3.12 on, tokenize calls them operators


@dataclass(frozen=True)
class Finding:
    """One remark of pycodestyle. Row 1 is the response's first."""

    row: int
    column: int
    code: str
    text: str


@dataclass(frozen=True)
class Line:
    """A logical line that ends in the response: its rows, both inclusive, and its tokens without comments.

    kind: "code"; "empty" for nothing but strings, `pass` and `...`; "comment"; "repeat" of an earlier line of
    prompt or response, token for token (so spacing and comments make no difference); "broken", the last
    one, when tokenising failed: from the first token after the last complete line to the end of the text.
    """

    first_row: int
    last_row: int
    words: tuple[str, ...]
    kind: str

    @property
    def counts(self) -> bool:
        return self.kind in ("code", "broken")


@dataclass(frozen=True)
class Reading:
    """What pycodestyle says of a response; rows of the response count from 1, those before it from 0 down."""

    rows: tuple[str, ...]
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    crash: str | None = None

    @property
    def counted(self) -> tuple[Line, ...]:
        """The lines that say something new."""
        return tuple(line for line in self.lines if line.counts)

    @property
    def bad(self) -> tuple[Line, ...]:
        """The counted lines with a finding on one of their rows."""
        rows = [finding.row for finding in self.findings]
        return tuple(
            line
            for line in self.counted
            if line.kind == "broken" or bisect_left(rows, line.first_row) < bisect_right(rows, line.last_row)
        )


@lru_cache(maxsize=1024)
def read(prompt: str, response: str) -> Reading:
    """Run pycodestyle over prompt + response and keep what belongs to the response."""
    headers = missing_headers(prompt, response)
    rows = [*headers, *split_rows(prompt + response)]
    start = position_of(sum(map(len, headers)) + len(prompt), rows) if response else (len(rows) + 1, 0)
    checker = Checker(readable(rows), start)
    checker.run()
    above = start[0] - 1
    lines = [Line(line.first_row - above, line.last_row - above, line.words, line.kind) for line in checker.own]
    findings = [
        Finding(row - above, column, text[:4], text[5:])
        for row, column, text in sorted(checker.report.found)
        if (row, column) >= start
    ]
    return Reading(tuple(split_rows(response)), tuple(lines), tuple(findings), checker.crash)


def cut_at_last_logical_line(prompt: str, response: str) -> str:
    """The response without what its end cuts short.

    That is the last row, if no newline ends it, and then everything after the last complete logical line, if
    a bracket, a triple-quoted string or a backslash is left open. An error in the middle, such as a dedent to
    no level, is no reason to cut: it stays, for the scorer to see.
    """
    headers = missing_headers(prompt, response)
    rows = [*headers, *split_rows(prompt + response)]
    if not rows[-1:] or not rows[-1].endswith(("\n", "\r")):
        rows = rows[:-1]
    complete = 0
    try:
        for token in tokens(iter(readable(rows)).__next__):
            if token.type == tokenize.NEWLINE:
                complete = token.start[0]
    except Unreadable as stop:
        rows = rows[:complete] if stop.is_open else rows
    return "".join(rows)[sum(map(len, headers)) + len(prompt) :]


def missing_headers(prompt: str, response: str) -> list[str]:
    """What a prompt that starts inside a block needs above it: an `if True:` for each level that its rows
    and the response's fall back to, and for the margin."""
    levels: list[int] = []
    for row in split_rows(prompt + response) if prompt.strip() else ():
        level = len(row) - len(row.lstrip(" \t"))
        if row.strip() and not row.lstrip().startswith("#") and (not levels or level < levels[-1]):
            levels.append(level)
            if level == 0:
                break
    margin = [0] if levels and levels[-1] else []
    return [" " * level + "if True:\n" for level in [*margin, *reversed(levels[1:])]]


def split_rows(text: str) -> list[str]:
    """Rows with their ends, as reading a text file splits them (str.splitlines splits at much more)."""
    return io.StringIO(text, newline="").readlines()


def readable(rows: Sequence[str]) -> list[str]:
    """The rows as the tokenizer gets them, column for column: plain newlines, `# noqa` made powerless,
    and NUL, for which Python 3.12 rejects the whole file, made another character that starts no token."""
    return [NOQA.sub("# xx", re.sub(r"\r\n?\Z", "\n", row)).replace("\0", "\x01") for row in rows]


def position_of(offset: int, rows: Sequence[str]) -> Position:
    """Row and column of the character at `offset`, which the rows contain."""
    for number, row in enumerate(rows, 1):
        if offset < len(row):
            return number, offset
        offset -= len(row)
    raise AssertionError("offset beyond the text")


class Unreadable(Exception):
    """Python cannot split the text into tokens from here on; `is_open` if only because it ends too early."""

    def __init__(self, what: str, row: int, column: int, *, is_open: bool = False):
        super().__init__(what)
        self.row, self.column, self.is_open = row, column, is_open


def tokens(readline: Callable[[], str]) -> Iterator[tokenize.TokenInfo]:
    """Python's tokens, or Unreadable at the first thing that is none, alike on Python 3.11 and later.

    (But for f-strings, whose insides Python 3.12 and pycodestyle there look into, and for tabs and spaces mixed
    within a block, which Python 3.12 refuses. The scorers' version names the Python.)

    Unreadable are: what the running Python's tokenizer refuses (a dedent to no level, an unclosed string);
    a character that starts no token; and a closing bracket that closes nothing or something else, which
    neither tokenizer notices and after which rows would run together.
    """
    brackets: list[str] = []
    fstrings = 0
    try:
        for token in tokenize.generate_tokens(readline):
            kind, word = token.type, token.string
            if kind == tokenize.OP:
                if word in "([{":
                    brackets.append(word)
                elif word in OPENERS and (not brackets or brackets.pop() != OPENERS[word]):
                    raise Unreadable(f"SyntaxError: unmatched {word!r}", *token.start)
                elif word in NO_OPERATORS and not fstrings:
                    raise Unreadable(f"SyntaxError: invalid character {word!r}", *token.start)
            elif kind == tokenize.ERRORTOKEN or (kind == tokenize.NAME and not word.isidentifier()):
                raise Unreadable("SyntaxError: unterminated string or invalid character", *token.start)
            fstrings += (kind == FSTRING_START) - (kind == FSTRING_END)
            yield token
    except tokenize.TokenError as error:
        what, position = error.args
        is_open = "EOF in multi-line" in what or "triple-quoted" in what
        raise Unreadable(f"TokenError: {what}", *position, is_open=is_open) from None
    except SyntaxError as error:
        raise Unreadable(f"{type(error).__name__}: {error.msg}", error.lineno or 1, error.offset or 0) from None


def says_nothing(line: Sequence[tokenize.TokenInfo]) -> bool:
    """Nothing but strings, `pass` and `...`, in brackets or not, one or several."""
    fstrings = 0
    for token in line:
        fstrings += token.type == FSTRING_START
        if not (fstrings or token.type == tokenize.STRING or token.string in EMPTY_WORDS):
            return False
        fstrings -= token.type == FSTRING_END
    return True


def own_checks(kind: str) -> list[tuple[str, Callable, list[str]]]:
    """pycodestyle's checks of one kind as it runs them: (name, function, names of its arguments)."""
    checks: list[tuple[str, Callable, list[str]]] = []
    for name, function in inspect.getmembers(pycodestyle, inspect.isfunction):
        arguments = list(inspect.signature(function).parameters)
        codes = pycodestyle.ERRORCODE_REGEX.findall(function.__doc__ or "")
        is_off = bool(codes) and all(code.startswith(IGNORED) for code in codes)
        if arguments[:1] == [kind] and not (is_off or name.startswith("_")):
            checks.append((name, function, arguments))
    return checks


OPTIONS = SimpleNamespace(
    physical_checks=own_checks("physical_line"),
    logical_checks=own_checks("logical_line"),
    ast_checks=[],
    max_line_length=pycodestyle.MAX_LINE_LENGTH,
    max_doc_length=None,
    indent_size=pycodestyle.INDENT_SIZE,
    hang_closing=False,
    verbose=0,
)
# In the prompt only these matter: E101 sets the indent character, E402 remembers the first statement.
REMEMBERING_PHYSICAL = [check for check in OPTIONS.physical_checks if check[0] == "tabs_or_spaces"]
REMEMBERING_LOGICAL = [check for check in OPTIONS.logical_checks if "checker_state" in check[2]]


class Report:
    """What pycodestyle's Checker reports to, as (row, column, "E501 line too long")."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, str]] = []

    def init_file(self, filename, lines, expected, line_offset) -> None: ...

    def increment_logical_line(self) -> None: ...

    def get_file_results(self) -> None: ...

    def error(self, row: int, column: int, text: str, check: object) -> None:
        if not text.startswith(IGNORED):
            self.found.append((row, column, text))


class Checker(pycodestyle.Checker):
    """pycodestyle's checker, keeping the logical lines it passes; `own` are those that end after `start`."""

    def __init__(self, rows: list[str], start: Position):
        super().__init__(lines=rows, options=OPTIONS, report=Report())
        self.start = start
        self.own: list[Line] = []
        self.crash: str | None = None
        self.stopped_at: Position | None = None
        self.first_unread_row = 1
        self.unfinished: list[tokenize.TokenInfo] = []
        self.seen: set[tuple[str, ...]] = set()

    def run(self) -> None:
        try:
            self.check_all()
        except MemoryError:
            raise
        except Exception as error:  # a bug of pycodestyle on odd text; whatever was read before it stands
            if self.stopped_at is None:
                self.crash = f"{type(error).__name__}: {error}"
                self.unfinished = spoken(self.tokens)
                row, column = self.unfinished[0].start if self.unfinished else (max(1, self.line_number), 0)
                self.stop(row, column, f"E902 {self.crash}")
        if self.stopped_at is not None and self.stopped_at >= self.start:
            words = tuple(token.string for token in self.unfinished)
            first_row = self.unfinished[0].start[0] if words else self.first_unread_row
            self.own.append(Line(first_row, len(self.lines), words, "broken"))

    def stop(self, row: int, column: int, text: str, *, is_open: bool = False) -> None:
        """Read no further. Pythons differ on where an open end is; the last character is where it shows."""
        self.first_unread_row = min(row, len(self.lines))
        self.stopped_at = (len(self.lines), len(self.lines[-1])) if is_open else (row, column)
        self.report_error(*self.stopped_at, text, None)

    def generate_tokens(self) -> Iterator[tokenize.TokenInfo]:
        """As pycodestyle's, without `# noqa`, and with our own notion of what ends the reading."""
        row_before = ""
        try:
            for token in tokens(self.readline):
                if token.start[0] > self.total_lines:
                    return
                self.maybe_check_physical(token, row_before)
                yield token
                row_before = token.line
        except Unreadable as stop:
            self.stop(stop.row, stop.column, f"E901 {stop}", is_open=stop.is_open)

    def check_physical(self, line: str) -> None:
        if self.stopped_at is not None:  # check_all passes the last row, wherever reading stopped
            line = self.lines[self.line_number - 1]
        is_prompt = self.line_number < self.start[0]
        self._physical_checks = REMEMBERING_PHYSICAL if is_prompt else OPTIONS.physical_checks
        super().check_physical(line)

    def check_logical(self) -> None:
        line = self.tokens
        is_prompt = line[-1].end <= self.start
        self._logical_checks = REMEMBERING_LOGICAL if is_prompt else OPTIONS.logical_checks
        if self.stopped_at is not None:
            self.unfinished = spoken(line)
        super().check_logical()
        if self.stopped_at is None:
            self.keep(line)

    def keep(self, line: list[tokenize.TokenInfo]) -> None:
        """Remember a complete logical line, and whether it says anything new."""
        said = spoken(line)
        words = tuple(token.string for token in said)
        if not said:
            said = [token for token in line if token.type == tokenize.COMMENT]
            kind = "comment"
        elif says_nothing(said):
            kind = "empty"
        else:
            kind = "repeat" if words in self.seen else "code"
        self.seen.add(words)
        if said and said[-1].end > self.start:
            self.own.append(Line(said[0].start[0], said[-1].end[0], words, kind))


def spoken(line: Sequence[tokenize.TokenInfo]) -> list[tokenize.TokenInfo]:
    """The tokens that are neither comment nor layout."""
    return [token for token in line if token.type not in LAYOUT]
