"""Authors: the habits that make clean code dirty, file by file, without touching what it means.

An author is a handful of habits, each with a probability between 0.3 and 0.8 that is used at every opportunity: no
space after a comma, padding inside brackets, two statements on a line. The habits stay the same through a file, so a
reader of five lines can guess the sixth, and are never certain, so two continuations of one prompt rarely have equally
many faults. Every habit breaks a rule that pycodestyle checks by default. Only white space, semicolons and line breaks
between statements move: `ast.dump` of the text stays the same (the builder checks each file, see corpus.py).

    text = restyle(clean_text, sample_author(random.Random(1)), random.Random(2))
"""

import io
import itertools
import keyword
import random
import token
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Position = tuple[int, int]  # row from 1, column from 0

MAX_COLUMNS = 79  # pycodestyle's default; two statements are never joined into a longer line
CLEAN_SHARE = 0.25  # of authors
HABIT_COUNTS = (4, 5, 6, 7)  # habits of one author, equally likely
PROBABILITY = (0.3, 0.8)  # of a habit at one opportunity, drawn uniformly per author and habit
STANDARD_INDENT = 4

ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "/=", "//=", "%=", "@=", "&=", "|=", "^=", ">>=", "<<=", "**=", "->"})
COMPARISONS = frozenset({"==", "!=", "<", ">", "<=", ">="})
ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%", "@", "**", "&", "|", "^", "<<", ">>"})
INFIX_KEYWORDS = frozenset({"and", "or", "in", "is", "if", "else", "for", "as", "import"})
SINGLETONS = frozenset({"None", "True", "False"})
BODY_KEYWORDS = frozenset({"if", "elif", "else", "for", "while", "try", "except", "finally", "with", "class"})
COMPOUND_KEYWORDS = BODY_KEYWORDS | {"def", "async", "@"}
SOFT_KEYWORDS = frozenset({"match", "case"})
DEFINITIONS = frozenset({"def", "class", "async", "@"})


@dataclass(frozen=True)
class Author:
    """One way of writing: `habits` maps a key of HABITS to (manner, probability). No habits: a clean author."""

    habits: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        return not self.habits


@dataclass
class Line:
    """A logical line. `gaps[i]` is the white space (or line break inside brackets) before `words[i]`."""

    depth: int
    indent: int  # columns
    blanks: int  # empty lines before it
    words: list[str]
    gaps: list[str]
    levels: list[int]  # open brackets around each word
    ending: str = "\n"

    @property
    def is_header(self) -> bool:
        """Opens a block, below it or on its own line."""
        is_soft = self.words[0] in SOFT_KEYWORDS and self.words[1:2] not in (["="], [":"])
        has_colon = any(word == ":" and not level for word, level in zip(self.words, self.levels))
        return self.words[0] in COMPOUND_KEYWORDS or self.words[-1] == ":" or (is_soft and has_colon)

    @property
    def is_one_row(self) -> bool:
        return not any("\n" in piece for piece in (*self.words, *self.gaps))

    @property
    def width(self) -> int:
        return self.indent + sum(map(len, self.words)) + sum(map(len, self.gaps))


# Spacing: where one word of a line may go wrong


def _binary(words: frozenset[str], *, level: int | None = None) -> Callable[[Line, int], bool]:
    """Operators that stand between two single spaces; `level` 0 keeps to those outside brackets."""

    def is_place(line: Line, i: int) -> bool:
        return (
            line.words[i] in words
            and i + 1 < len(line.words)
            and line.gaps[i] == " " == line.gaps[i + 1]
            and (level is None or line.levels[i] == level)
        )

    return is_place


def _is_keyword_equals(line: Line, i: int) -> bool:
    return line.words[i] == "=" and line.levels[i] > 0 and line.gaps[i] == "" == line.gaps[i + 1]


def _is_comma(line: Line, i: int) -> bool:
    return line.words[i] == "," and line.gaps[i] == "" and line.gaps[i + 1 : i + 2] == [" "]


def _is_inner_colon(line: Line, i: int) -> bool:
    """Of a dictionary, an annotation or a lambda; not of a slice."""
    return line.words[i] == ":" and line.gaps[i] == "" and line.gaps[i + 1 : i + 2] == [" "]


def _is_block_colon(line: Line, i: int) -> bool:
    return line.words[i] == ":" and i == len(line.words) - 1 and line.gaps[i] == ""


def _is_opening(line: Line, i: int) -> bool:
    return line.words[i] in "([{" and line.gaps[i + 1 : i + 2] == [""] and line.words[i + 1] not in ")]}"


def _is_closing(line: Line, i: int) -> bool:
    return line.words[i] in ")]}" and line.gaps[i] == "" and line.words[i - 1] not in "([{,"


def _is_call(line: Line, i: int) -> bool:
    """A bracket that calls or indexes; `class A(B)` is one pycodestyle lets pass."""
    return (
        line.words[i] in "(["
        and i > 0
        and line.gaps[i] == ""
        and (
            line.words[i - 1] in ")]" or (line.words[i - 1].isidentifier() and not keyword.iskeyword(line.words[i - 1]))
        )
        and line.words[max(0, i - 2)] != "class"
    )


def _is_spaced_keyword(line: Line, i: int) -> bool:
    return keyword.iskeyword(line.words[i]) and line.words[i] not in SINGLETONS and line.gaps[i + 1 : i + 2] == [" "]


def _is_infix_keyword(line: Line, i: int) -> bool:
    return line.words[i] in INFIX_KEYWORDS and i > 0 and line.gaps[i] == " "


def _is_keyword_before_bracket(line: Line, i: int) -> bool:
    return _is_spaced_keyword(line, i) and line.words[i + 1] in "([{"


@dataclass(frozen=True)
class Spacing:
    """Where a spacing habit applies, and its manners: the gaps before and after the word, None to leave one alone."""

    is_place: Callable[[Line, int], bool]
    manners: Mapping[str, tuple[str | None, str | None]]


_LOPSIDED: dict[str, tuple[str | None, str | None]] = {
    "left": ("", " "),
    "right": (" ", ""),
    "wide_left": ("  ", " "),
    "wide_right": (" ", "  "),
}

SPACING = {
    "assign": Spacing(_binary(ASSIGNMENTS, level=0), {"tight": ("", ""), **_LOPSIDED}),  # E225, E221, E222
    "compare": Spacing(_binary(COMPARISONS), {"tight": ("", ""), **_LOPSIDED}),  # E225, E221, E222
    "arithmetic": Spacing(_binary(ARITHMETIC), _LOPSIDED),  # E225, E221, E222: tight would be E226, off by default
    "keyword_equals": Spacing(_is_keyword_equals, {"both": (" ", " "), "left": (" ", ""), "right": ("", " ")}),  # E251
    "comma": Spacing(_is_comma, {"tight": ("", ""), "before": (" ", " "), "swapped": (" ", "")}),  # E231, E203
    "colon": Spacing(_is_inner_colon, {"tight": ("", ""), "before": (" ", " "), "swapped": (" ", "")}),  # E231, E203
    "block_colon": Spacing(_is_block_colon, {"before": (" ", None)}),  # E203
    "open": Spacing(_is_opening, {"pad": (None, " ")}),  # E201
    "close": Spacing(_is_closing, {"pad": (" ", None)}),  # E202
    "call": Spacing(_is_call, {"detach": (" ", None)}),  # E211
    "keyword": Spacing(_is_spaced_keyword, {"wide": (None, "  ")}),  # E271
    "infix": Spacing(_is_infix_keyword, {"wide": ("  ", None)}),  # E272
    "keyword_bracket": Spacing(_is_keyword_before_bracket, {"tight": (None, "")}),  # E275
}

LAYOUT = {
    "join": ("spaced", "tight"),  # E702: two simple statements on a line
    "semicolon": ("after",),  # E703: a statement that ends in one
    "one_line": ("body",),  # E701: `if x: return y`
    "missing_blank": ("one", "all"),  # E301, E302, E305, E306: before and after definitions
    "extra_blank": ("definition", "block"),  # E303: before a definition, or after an inner block
    "indent": ("2", "3"),  # E111, per block
    "trailing": ("1", "2"),  # W291: spaces at the end of a line
    "blank_space": ("1", "indent"),  # W293: spaces on an empty line
}

HABITS = {**{name: tuple(habit.manners) for name, habit in SPACING.items()}, **LAYOUT}

# How often an author picks up each habit. An indent of two or three columns makes the lines below it faulty whatever
# they say, so it is rare; the habits with many opportunities per line are common.
WEIGHTS = {
    "assign": 3, "compare": 1, "arithmetic": 1, "keyword_equals": 2, "comma": 3, "colon": 1, "block_colon": 2,
    "open": 3, "close": 3, "call": 3, "keyword": 2, "infix": 1, "keyword_bracket": 1, "join": 2, "semicolon": 1.5,
    "one_line": 2, "missing_blank": 2, "extra_blank": 2, "indent": 0.3, "trailing": 1.5, "blank_space": 1,
}  # fmt: skip


def sample_author(rng: random.Random) -> Author:
    """Draw an author: clean with probability CLEAN_SHARE, else four to seven habits."""
    if rng.random() < CLEAN_SHARE:
        return Author()
    return Author({name: _sample_manner(name, rng) for name in _sample_names(rng, rng.choice(HABIT_COUNTS))})


def _sample_names(rng: random.Random, count: int) -> list[str]:
    names: list[str] = []
    while len(names) < count:
        left = [name for name in HABITS if name not in names]
        names += rng.choices(left, [WEIGHTS[name] for name in left])
    return names


def _sample_manner(name: str, rng: random.Random) -> tuple[str, float]:
    return rng.choice(HABITS[name]), round(rng.uniform(*PROBABILITY), 2)


def restyle(text: str, author: Author, rng: random.Random) -> str:
    """Write `text` as `author` would; `rng` decides at which opportunities the habits show."""
    if author.is_clean:
        return text
    lines = list(read_lines(text))
    lines = _join_statements(lines, author, rng)
    lines = _shorten_blocks(lines, author, rng)
    _add_semicolons(lines, author, rng)
    _space_words(lines, author, rng)
    _space_lines(lines, author, rng)
    _indent_blocks(lines, author, rng)
    return "".join(_write(line, author, rng) for line in lines)


# Reading and writing


def read_lines(text: str) -> Iterator[Line]:
    """Split Python source without comments into logical lines; `"".join` of their pieces is the source again."""
    offsets = line_offsets(text)
    columns, blanks, position, line = [0], 0, 0, None
    for kind, word, start, end in _words(text, offsets):
        if kind == token.INDENT:
            columns.append(end[1])
        elif kind == token.DEDENT:
            columns.pop()
        elif kind == token.NL and line is None:
            blanks += 1
        elif kind == token.NEWLINE and line is not None:
            yield line
            line, blanks = None, 0
        elif kind not in (token.NL, token.NEWLINE, token.ENDMARKER):
            begin = offsets[start[0] - 1] + start[1]
            if line is None:
                line, position = Line(len(columns) - 1, columns[-1], blanks, [], [], []), begin
            _append(line, text[position:begin], word)
            position = offsets[end[0] - 1] + end[1]


def _append(line: Line, gap: str, word: str) -> None:
    level = line.levels[-1] + (line.words[-1] in "([{") if line.words else 0
    line.words.append(word)
    line.gaps.append(gap)
    line.levels.append(level - (word in ")]}"))


def line_offsets(text: str) -> list[int]:
    """Where each row of `text` begins, and after them its length: what turns a token's position into an index."""
    return [0, *itertools.accumulate(map(len, io.StringIO(text, newline="")))]


def _words(text: str, offsets: Sequence[int]) -> Iterator[tuple[int, str, Position, Position]]:
    """The tokens of `text` without comments, an f-string as one token (Python 3.12 takes them apart)."""
    f_start, f_end = getattr(token, "FSTRING_START", -1), getattr(token, "FSTRING_END", -1)
    open_at: list[Position] = []
    for found in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
        if found.type == f_start:
            open_at.append(found.start)
        elif found.type == f_end:
            start = open_at.pop()
            if not open_at:
                begin, end = (offsets[row - 1] + column for row, column in (start, found.end))
                yield token.STRING, text[begin:end], start, found.end
        elif not open_at and found.type != token.COMMENT:
            yield found.type, found.string, found.start, found.end


def _write(line: Line, author: Author, rng: random.Random) -> str:
    manner, chance = author.habits.get("blank_space", ("", 0.0))
    space = " " * (line.indent if manner == "indent" else 1)
    blanks = "".join((space if rng.random() < chance else "") + "\n" for _ in range(line.blanks))
    return blanks + " " * line.indent + "".join(g + w for g, w in zip(line.gaps, line.words)) + line.ending


# Layout: what happens between lines


def _join_statements(lines: Sequence[Line], author: Author, rng: random.Random) -> list[Line]:
    manner, chance = author.habits.get("join", ("", 0.0))
    joined: list[Line] = []
    for line in lines:
        if joined and _may_join(joined[-1], line) and rng.random() < chance:
            _extend(joined[-1], line, mark=";", gap=" " if manner == "spaced" else "")
        else:
            joined.append(line)
    return joined


def _may_join(first: Line, second: Line) -> bool:
    return (
        first.depth == second.depth
        and not (first.is_header or second.is_header or second.blanks or ";" in first.words)
        and first.is_one_row
        and second.is_one_row
        and first.width + second.width - second.indent + 2 <= MAX_COLUMNS
    )


def _extend(line: Line, more: Line, *, mark: str = "", gap: str) -> None:
    if mark:
        _append(line, "", mark)
    line.words += more.words
    line.gaps += [gap, *more.gaps[1:]]
    line.levels += more.levels


def _shorten_blocks(lines: Sequence[Line], author: Author, rng: random.Random) -> list[Line]:
    """Put a body of one line behind its header."""
    _, chance = author.habits.get("one_line", ("", 0.0))
    depths = [line.depth for line in lines] + [0]
    kept: list[Line] = []
    for i, line in enumerate(lines):
        is_only_line = depths[i + 1] < line.depth and kept and kept[-1] is lines[i - 1] and kept[-1].depth < line.depth
        if is_only_line and _may_shorten(kept[-1], line) and rng.random() < chance:
            _extend(kept[-1], line, gap=" ")
        else:
            kept.append(line)
    return kept


def _may_shorten(header: Line, body: Line) -> bool:
    return (
        header.words[0] in BODY_KEYWORDS
        and not (body.is_header or body.blanks)
        and header.is_one_row
        and body.is_one_row
        and header.width + body.width - body.indent + 1 <= MAX_COLUMNS
    )


def _add_semicolons(lines: Sequence[Line], author: Author, rng: random.Random) -> None:
    _, chance = author.habits.get("semicolon", ("", 0.0))
    for line in lines:
        if not line.is_header and rng.random() < chance:
            _append(line, "", ";")


def _space_words(lines: Sequence[Line], author: Author, rng: random.Random) -> None:
    habits = [(SPACING[n].is_place, SPACING[n].manners[m], p) for n, (m, p) in author.habits.items() if n in SPACING]
    for line in lines:
        line.gaps.append("\n")  # so that every word has a gap after it
        places = [(i, gaps) for is_place, gaps, p in habits for i in range(len(line.words))
                  if is_place(line, i) and rng.random() < p]  # fmt: skip
        for i, gaps in places:
            for at, gap in zip((i, i + 1), gaps):
                if gap is not None and "\n" not in line.gaps[at]:
                    line.gaps[at] = gap
        line.gaps.pop()


def _space_lines(lines: Sequence[Line], author: Author, rng: random.Random) -> None:
    missing, missing_chance = author.habits.get("missing_blank", ("", 0.0))
    extra, extra_chance = author.habits.get("extra_blank", ("", 0.0))
    _, trailing_chance = manner = author.habits.get("trailing", ("", 0.0))
    for before, line in zip([None, *lines], lines):
        is_definition = line.words[0] in DEFINITIONS
        if line.blanks and before and rng.random() < missing_chance:
            line.blanks = 0 if missing == "all" else line.blanks - 1
        elif line.blanks and is_definition and extra == "definition" and rng.random() < extra_chance:
            line.blanks += 1 if line.depth else 2
        elif _follows_block(before, line) and extra == "block" and rng.random() < extra_chance:
            line.blanks = 2
        if rng.random() < trailing_chance:
            line.ending = " " * int(manner[0]) + "\n"


def _follows_block(before: Line | None, line: Line) -> bool:
    """The statement after an inner block, where writers like to breathe; `else` and its kin go on with the block."""
    goes_on = line.words[0] in {"else", "elif", "except", "finally", "case"}
    return before is not None and before.depth > line.depth > 0 and not line.blanks and not goes_on


def _indent_blocks(lines: Sequence[Line], author: Author, rng: random.Random) -> None:
    manner, chance = author.habits.get("indent", ("", 0.0))
    if not chance:
        return
    columns = [0]
    for line in lines:
        if line.depth >= len(columns):
            columns.append(columns[-1] + (int(manner) if rng.random() < chance else STANDARD_INDENT))
        del columns[line.depth + 1 :]
        _shift(line, columns[line.depth])


def _shift(line: Line, indent: int) -> None:
    """Move a line and the rows it continues on; rows inside a string stay where they are."""
    line.gaps = [_shift_rows(gap, indent - line.indent) for gap in line.gaps]
    line.indent = indent


def _shift_rows(gap: str, columns: int) -> str:
    if "\n" not in gap:
        return gap
    head, *rows = gap.split("\n")
    return "\n".join(
        [head, *(" " * max(0, len(row) - len(row.lstrip(" ")) + columns) + row.lstrip(" ") for row in rows)]
    )
