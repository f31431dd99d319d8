"""pycodestyle as the annotator: the gold score `pep8_lines` and the paper's rate `pep8_chars`.

What counts as a finding, and where, is reading.py's business; here findings become numbers.
"""

import sys
from dataclasses import dataclass

import pycodestyle

from heedful.records import Score, Segment
from heedful.scorers.protocol import Item
from heedful.scorers.reading import cut_at_last_logical_line, read, split_rows

MAX_REMARKS = 3  # findings that a critique names
MIN_LINES = 5  # m: a response with fewer counted lines is missing the rest
VERSION = f"2+pycodestyle{pycodestyle.__version__}+python{sys.version_info.major}.{sys.version_info.minor}"


def lines_score(num_counted: int, num_bad: int, *, min_lines: int = MIN_LINES) -> float:
    """The gold score, in [-1, 0]: minus the share of lines that are bad or missing.

        -(b + max(0, m - n)) / max(n, m)

    Args:
        num_counted: n, logical lines of the response that say something new (reading.Line).
        num_bad: b, those of them with a finding.
        min_lines: m.
    """
    missing = max(0, min_lines - num_counted)
    return 0.0 - (num_bad + missing) / max(num_counted, min_lines)


@dataclass(frozen=True)
class PEP8Lines:
    """The gold score of the embedded task. In its Score, `count` is b and `length` is n, logical lines both.

    A response that was cut is read up to its last complete logical line: what its end breaks is not its fault.
    """

    min_lines: int = MIN_LINES
    name: str = "pep8_lines"
    needs: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        return VERSION if self.min_lines == MIN_LINES else f"{VERSION}+min_lines{self.min_lines}"

    def score(self, item: Item) -> Score:
        text = cut_at_last_logical_line(item.prompt, item.response) if item.truncated else item.response
        reading = read(item.prompt, text)
        n, b = len(reading.counted), len(reading.bad)
        return Score(self.name, lines_score(n, b, min_lines=self.min_lines), self.version, count=b, length=n)


@dataclass(frozen=True)
class PEP8Chars:
    """Minus the findings per 100 characters (Korbak et al. 2023, arXiv:2302.08582: the PEP8 task).

    In its Score, `count` is the findings and `length` the characters: a corpus rate is the ratio of their
    sums. Unlike the paper's, the prompt is context and not part of the sample, and an empty response, which
    has no findings, scores 0.
    """

    name: str = "pep8_chars"
    version: str = VERSION
    needs: frozenset[str] = frozenset()

    def score(self, item: Item) -> Score:
        count, length = len(read(item.prompt, item.response).findings), len(item.response)
        value = 0.0 - 100 * count / length if length else 0.0
        return Score(self.name, value, self.version, count=count, length=length)


def line_findings(text: str) -> list[int]:
    """Findings per physical line of a whole text.

    Where reading stopped (E901, E902), every row from that statement on has at least one: a line that nobody
    could read is not a clean one. (The paper's released builder gives a text on which pycodestyle crashes zeros.)
    """
    reading = read("", text)
    counts = [0] * len(reading.rows)
    for finding in reading.findings:
        counts[min(finding.row, len(counts)) - 1] += 1
    for line in reading.lines:
        if line.kind == "broken":
            unread = slice(line.first_row - 1, None)
            counts[unread] = [max(1, count) for count in counts[unread]]
    return counts


def segments_by_line(text: str) -> tuple[Segment, ...]:
    """One segment per physical line, scored as pretraining with human feedback scores code.

        score = -(findings on the line) / (characters of the line, its newline included)

    The raw count is `-score * len(text)`. A blank line is a segment like any other, and clean unless it has a
    finding of its own (W293, white space on it). The segments join to the text.
    """
    return tuple(Segment(row, 0.0 - n / len(row)) for row, n in zip(split_rows(text), line_findings(text)))


def critique(prompt: str, response: str) -> str | None:
    """pycodestyle's findings by line of the response, the first few; None when there is nothing to say."""
    reading = read(prompt, response)
    remarks = [f"line {finding.row}: {finding.text}" for finding in reading.findings]
    if len(remarks) > MAX_REMARKS:
        remarks = [*remarks[:MAX_REMARKS], f"and {len(remarks) - MAX_REMARKS} more"]
    if len(reading.counted) < MIN_LINES:
        remarks.append(f"only {len(reading.counted)} lines that say something new")
    return "; ".join(remarks) or None
