"""A comparison as the terminal shows it: one table with a part per tier, then what each tier says."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.text import Text

from heedful.results import Results
from heedful.standings import Block, Entry, Standings, Verdict, setting, standings, verdicts
from heedful.visible import visible
from heedful.wording import between, count, duration, number, short, signed

STYLES = {"done": "", "degenerate": "yellow", "failed": "red", "skipped": "dim"}
ARROWS = {1: "↑", -1: "↓", 0: ""}
GAP = 2  # blank columns between two columns of the table

Column = list[str]  # a head and one cell per entry


class ComparisonTable:
    """Print it with rich. Columns that do not fit the width are left out; the report has everything."""

    def __init__(self, results: Results):
        self.found = standings(results)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        found = self.found
        columns = _fitting(_columns(found), options.max_width)
        widths = [_width(column) for column in columns]
        yield Text(visible(setting(found.results)), style="bold")
        yield from _heads([column[0] for column in columns], widths)
        lines = iter(list(zip(*[column[1:] for column in columns])))
        for block in found.blocks:
            yield Text(block.title if block.tier is None else f"Tier {block.tier}: {block.title.lower()}", style="bold")
            for entry in block.entries:
                yield _line(next(lines), widths, STYLES[entry.status] if block.tier else "")
            yield from _notes(block)
        yield Text("")
        for verdict in verdicts(found):
            yield _sentence(verdict)


def _columns(found: Standings) -> list[Column]:
    """All columns, in the order they are shown."""
    columns = [["Method", *[_name(entry) for entry in found.entries]]]
    if found.primary:
        columns.append(_metric(found, found.primary))
        columns.append(
            ["Against the base, 95%", *[_difference(found, entry, found.primary) for entry in found.entries]]
        )
    columns += [_metric(found, metric) for metric in found.beside]
    ledgers = [entry.ledger for entry in found.entries]
    columns.append(["Tokens", *[count(one.tokens) if one and one.tokens else "–" for one in ledgers]])
    columns.append(["Labels", *[count(one.labels) if one and one.labels else "–" for one in ledgers]])
    columns.append(["Time", *[duration(one.seconds) if one and one.seconds else "–" for one in ledgers]])
    return columns


def _fitting(columns: list[Column], room: int) -> list[Column]:
    """What fits: metrics beside the primary one go first, the last of them before the others, then labels."""
    kept = list(columns)
    for column in [*reversed(columns[3:-3]), *columns[-2:-4:-1]]:
        if sum(_width(one) + GAP for one in kept) - GAP > room:
            kept.remove(column)
    return kept


def _width(column: Column) -> int:
    """Of the widest cell, or of a head wrapped into two lines."""
    return max(*[cell_len(part) for part in _halves(column[0])], *[cell_len(cell) for cell in column[1:]], 0)


def _halves(head: str) -> tuple[str, str]:
    """A head in two lines as even as its words allow; a short one in the lower."""
    words = head.split(" ")
    if len(words) == 1:
        return "", head
    cuts = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return min(cuts, key=lambda cut: max(map(len, cut)))


def _heads(heads: Sequence[str], widths: Sequence[int]) -> Iterator[Text]:
    upper, lower = zip(*[_halves(head) if len(head) > width else ("", head) for head, width in zip(heads, widths)])
    yield _line(upper, widths, "bold")
    yield _line(lower, widths, "bold")
    yield Text("─" * (sum(widths) + GAP * (len(widths) - 1)), no_wrap=True, overflow="crop")


def _line(cells: Sequence[str], widths: Sequence[int], style: str) -> Text:
    """The first cell to the left, the others to the right."""
    blanks = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths)]
    first, *rest = zip(cells, blanks)
    return Text((" " * GAP).join(["".join(first), *[blank + cell for cell, blank in rest]]), style, no_wrap=True)


def _name(entry: Entry) -> str:
    return f"{entry.rank}. {visible(entry.name)}" if entry.rank else f"   {visible(entry.name)}"


def _metric(found: Standings, metric: str) -> Column:
    unit, head = found.unit(metric), f"{short(metric)} {ARROWS[found.sign(metric)]}".strip()
    means = [number(entry.metrics[metric].mean, unit) if metric in entry.metrics else "–" for entry in found.entries]
    return [head, *means]


def _difference(found: Standings, entry: Entry, metric: str) -> str:
    gain, unit = entry.difference(metric), found.unit(metric)
    if gain is None:
        return "base" if entry.is_base else "–"
    return f"{signed(gain.mean, unit)} {between(gain.low, gain.high, unit, sign=True)}".strip()


def _notes(block: Block) -> Iterator[RenderableType]:
    """Why a method is degenerate, failed or skipped."""
    for entry in block.entries:
        for note in entry.notes:
            words = f"{visible(entry.name)}: {entry.status}; {visible(note)}"
            yield Padding(Text(words, style=STYLES[entry.status]), (0, 0, 0, 3))


def _sentence(verdict: Verdict) -> Text:
    who = [(f"{visible(verdict.winner)} ", "bold green" if verdict.is_sure else "bold")] if verdict.winner else []
    return Text.assemble((f"{verdict.title}: ", "bold"), *who, visible(verdict.text))
