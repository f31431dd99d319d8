"""Guards: what a method may have done to its score instead of learning to write clean code.

`guard` looks at one response where it stands, `summarise` averages a method's responses, and `shape_distance`
compares the trees of its code with real code: a model that writes `a = b` in a hundred ways is clean, new on
every line, and useless. No method optimises any of these numbers.
"""

import ast
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, median

import numpy as np

from heedful.scorers.reading import (
    EMPTY_WORDS,
    LAYOUT,
    Line,
    Unreadable,
    missing_headers,
    read,
    readable,
    split_rows,
    tokens,
)

WORD = re.compile(r"\w+|[^\w\s]")
COPY_LENGTH = 5  # words in a row that make a copy
DEVIATIONS = 3  # farther from real code than the base by more bootstrap deviations than this is degenerate
RESAMPLES = 200
ATTEMPTS = 10  # syntax errors that `parsed_part` steps back from

Bigram = tuple[str, str]  # (type of a node, type of its child)


@dataclass(frozen=True)
class Guard:
    """What a score does not say about one response; None where there is nothing to divide by.

    Attributes:
        counted_lines: logical lines that say something new (scorers.reading.Line).
        comment_share: of the non-blank rows, those of comments and lone strings, an unclosed one included.
        compiles: it parses in context (see `closed`) and has at least one counted line.
        distinct_3: different word trigrams / all word trigrams, of this response.
        copy_rate: word 5-grams that the prompt holds too / all word 5-grams.
        line_length: median length of the non-blank rows, in characters.
        crashed: pycodestyle failed on it.
    """

    counted_lines: int
    comment_share: float | None
    compiles: bool
    distinct_3: float | None
    copy_rate: float | None
    line_length: float | None
    crashed: bool


def guard(prompt: str, response: str) -> Guard:
    """The guards of one response, cut or not as the caller judges it."""
    reading = read(prompt, response)
    words = WORD.findall(response)
    lengths = [len(row.rstrip("\r\n")) for row in reading.rows if row.strip()]
    return Guard(
        counted_lines=len(reading.counted),
        comment_share=comment_share(reading.rows, reading.lines),
        compiles=bool(reading.counted) and parse(closed(prompt, response))[0] is not None,
        distinct_3=distinct(words, 3),
        copy_rate=copy_rate(WORD.findall(prompt), words),
        line_length=median(lengths) if lengths else None,
        crashed=reading.crash is not None,
    )


def summarise(texts: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Guards of many (prompt, response): the mean of each over the responses that have one, 0 if none has.

    `compiles_share` is the mean of `compiles`; `crashes` is a count; `distinct_3_overall` is taken over all
    responses at once, and falls when a method says the same thing everywhere.
    """
    texts = list(texts)
    guards = [guard(prompt, response) for prompt, response in texts]
    means = {}
    for field in fields(Guard):
        values = [value for value in (getattr(one, field.name) for one in guards) if value is not None]
        means[field.name] = fmean(values) if values else 0.0
    trigrams = [gram for _, response in texts for gram in ngrams(WORD.findall(response), 3)]
    return {
        "counted_lines": means["counted_lines"],
        "comment_share": means["comment_share"],
        "compiles_share": means["compiles"],
        "distinct_3": means["distinct_3"],
        "distinct_3_overall": len(set(trigrams)) / len(trigrams) if trigrams else 0.0,
        "copy_rate": means["copy_rate"],
        "line_length": means["line_length"],
        "crashes": sum(one.crashed for one in guards),
    }


def comment_share(rows: Sequence[str], lines: Iterable[Line]) -> float | None:
    """Share of the non-blank rows that are comments or lone strings; `lines` are the logical lines on them."""
    prose: set[int] = set()
    for line in lines:
        is_string = line.kind == "empty" and not EMPTY_WORDS.issuperset(line.words)
        if line.kind == "comment" or is_string or (line.kind == "broken" and not line.words):
            prose.update(range(line.first_row, line.last_row + 1))
    written = [number for number, row in enumerate(rows, 1) if row.strip()]
    return sum(number in prose for number in written) / len(written) if written else None


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)))


def distinct(words: Sequence[str], n: int) -> float | None:
    """Different n-grams / n-grams: 1 is no repetition at all; None for fewer than n words."""
    grams = list(ngrams(words, n))
    return len(set(grams)) / len(grams) if grams else None


def copy_rate(prompt: Sequence[str], response: Sequence[str]) -> float | None:
    """Share of the response's word 5-grams that occur in the prompt; None for fewer than 5 words."""
    known, grams = set(ngrams(prompt, COPY_LENGTH)), list(ngrams(response, COPY_LENGTH))
    return sum(gram in known for gram in grams) / len(grams) if grams else None


# Does it parse, where it stands? -------------------------------------------------------------------


def closed(prompt: str, response: str) -> str:
    """prompt + response with every block that begins before it or ends after it made whole.

    A prompt may start inside a block and a response may stop inside one, so

    1. above a prompt that starts indented goes an `if True:` for each level the text falls back to;
    2. below a header at the end goes `pass`, below a `match` header `case _: pass`, below a decorator a
       function;
    3. a `try` still without `except` or `finally` gets a `finally: pass`, inner ones first.

    That is all that is forgiven. The text is then to parse; it need not compile, since a `return` outside a
    function is what a cut leaves behind.
    """
    text = prompt + response
    text = text if text.endswith(("\n", "\r")) else text + "\n"
    text = "".join(missing_headers(prompt, response)) + text
    return text + missing_end(text)


def missing_end(text: str) -> str:
    """What completes the last header or decorator and the open `try` blocks."""
    open_tries: list[str] = []
    indent, words = "", ["pass"]
    for indent, words in logical_lines(text):
        open_tries = [of_try for of_try in open_tries if len(of_try) < len(indent)]
        open_tries += [indent] if words[0] == "try" else []
    end = ""
    if words[0] == "@":
        end = f"{indent}def _(): pass\n"
    elif words[-1] == ":":
        end = f"{indent}    case _: pass\n" if words[0] == "match" else f"{indent}    pass\n"
    return end + "".join(f"{of_try}finally: pass\n" for of_try in reversed(open_tries))


def logical_lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Indentation and words of each complete logical line, as far as the text can be read."""
    rows = readable(split_rows(text))
    words: list[str] = []
    indent = ""
    try:
        for token in tokens(iter(rows).__next__):
            if token.type not in LAYOUT:
                indent = indent if words else token.line[: token.start[1]]
                words.append(token.string)
            elif token.type == tokenize.NEWLINE and words:
                yield indent, words
                words = []
    except Unreadable:
        return


def parse(text: str) -> tuple[ast.Module | None, int]:
    """The tree, or None and the row of the first error (0 where Python names none)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "invalid escape sequence" is no concern of ours
        try:
            return ast.parse(text), 0
        except SyntaxError as error:
            return None, error.lineno or 0
        except (ValueError, MemoryError, RecursionError):  # NUL, or nesting too deep for the parser
            return None, 0


# Does it look like code? ---------------------------------------------------------------------------


def bigrams(prompt: str, response: str) -> Counter[Bigram]:
    """(node type, child type) counts over the nodes of the response; a child counts where it stands.

    Taken from what parses: rows from the first syntax error on are left out, as often as it takes. Load, Store and
    Del are no nodes here.
    """
    tree, rows = parsed_part(prompt, response)
    counts: Counter[Bigram] = Counter()
    to_visit: list[tuple[ast.AST, bool]] = [(tree, False)] if tree else []
    while to_visit:
        node, is_inside = to_visit.pop()
        for child in ast.iter_child_nodes(node):
            row = getattr(child, "lineno", None)
            is_child_inside = is_inside if row is None else row in rows
            if is_child_inside and not isinstance(child, ast.expr_context):
                counts[type(node).__name__, type(child).__name__] += 1
            to_visit.append((child, is_child_inside))
    return counts


def parsed_part(prompt: str, response: str) -> tuple[ast.Module | None, range]:
    """The tree of the prompt and as many rows of the response as parse, and where in it those rows are."""
    above = len(split_rows(prompt + ".")) - 1  # rows that end before the response begins
    rows = split_rows(response)
    for _ in range(ATTEMPTS):
        text = closed(prompt, "".join(rows))
        first = above + len(missing_headers(prompt, "".join(rows))) + 1
        tree, error_row = parse(text)
        if tree is not None:
            return tree, range(first, first + len(rows))
        rows = rows[: max(0, min(error_row - first, len(rows) - 1))]
        if not rows:
            break
    return None, range(0)


def divergence(a: Mapping[Bigram, float], b: Mapping[Bigram, float]) -> float:
    """Jensen-Shannon divergence of two counts as distributions, in bits.

        JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2,   m = (p + q) / 2          (Lin 1991)

    0 for the same proportions, 1 for nothing in common; an empty count has nothing in common with any. Its
    sampling bias falls with the number of bigrams, so compare methods on equally many prompts.
    """
    kinds = sorted(a.keys() | b.keys())
    p, q = (np.array([[counts.get(kind, 0.0) for kind in kinds]], dtype=float) for counts in (a, b))
    return float(jensen_shannon(p, q)[0])


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Row by row on counts; p: [R, kinds], q: [R or 1, kinds]. Rows without any count give 1."""
    sums = [counts.sum(axis=1, keepdims=True) for counts in (p, q)]
    p, q = (counts / np.where(total > 0, total, 1.0) for counts, total in zip((p, q), sums))
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(one > 0, one * np.log2(one / middle), 0.0).sum(axis=1) for one in (p, q)]
    return np.where((sums[0] * sums[1])[:, 0] > 0, (parts[0] + parts[1]) / 2, 1.0)


@dataclass(frozen=True)
class ShapeDistance:
    """How far a method's trees are from real ones, and how far they were in each bootstrap resample."""

    value: float
    resampled: np.ndarray


def shape_distance(
    responses: Sequence[Counter[Bigram]], real: Counter[Bigram], *, resamples: int = RESAMPLES, seed: int = 0
) -> ShapeDistance:
    """Divergence of all responses' bigrams together from those of real code.

    Args:
        responses: one Counter per file of prompts, the sum of `bigrams` of its responses; the bootstrap draws them with
            replacement, and two methods' counters of the same files alike.
        real: the sum of the Counters of real continuations of prompts like these.
    """
    kinds = sorted(set(real).union(*responses))
    counts = np.array([[one[kind] for kind in kinds] for one in responses], dtype=float).reshape(-1, len(kinds))
    target = np.array([[real[kind] for kind in kinds]], dtype=float)
    value = float(jensen_shannon(counts.sum(axis=0, keepdims=True), target)[0])
    if len(responses) < 2:
        return ShapeDistance(value, np.full(resamples, value))
    draws = np.random.default_rng(seed).multinomial(
        len(responses), [1 / len(responses)] * len(responses), size=resamples
    )
    return ShapeDistance(value, jensen_shannon(draws @ counts, target))


def is_degenerate(method: ShapeDistance, base: ShapeDistance) -> bool:
    """Farther from real code than the base by more than three bootstrap deviations of the difference.

    Of the difference, not of the base: both are samples. The draws are paired by file.
    """
    deviation = float((method.resampled - base.resampled).std(ddof=1))
    return method.value - base.value > DEVIATIONS * deviation
