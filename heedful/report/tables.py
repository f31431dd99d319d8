"""The tables of a comparison: standings, guards, costs, who beats whom, and every number."""

from collections.abc import Sequence

from heedful.disk import show_size
from heedful.report.html import Html, join, tag
from heedful.report.samples import tier_class
from heedful.report.svg import interval_axis, interval_bar, spread, stacked_bar
from heedful.results import Difference, Ledger, Pair
from heedful.standings import Block, Entry, Standings
from heedful.wording import GUARDS, between, count, duration, number, short, signed, title

ARROW = {1: "\u00a0↑", -1: "\u00a0↓", 0: ""}
BETTER = {1: "higher is better", -1: "lower is better", 0: "neither direction is better"}
NUMBER_HEADS = (
    ("Method", None),
    ("Mean", "num"),
    ("95% interval", "num"),
    ("n", "num"),
    ("Against the base", "num"),
    ("95% interval", "num"),
    ("p (Holm)", "num"),
)
AMOUNTS = (("train", "train_tokens"), ("frozen", "frozen_tokens"), ("sampled", "sampled_tokens"))


def standings_table(found: Standings) -> Html:
    """Baseline first, then tier by tier: the primary metric, its difference to the base, capability, cost."""
    scale = difference_scale(found)
    heads = [tag("th", "Method", scope="col")]
    if found.primary is not None:
        over = tag("th", "Difference to the base, 95%", interval_axis(scale), scope="col", colspan=2, class_="wide")
        heads += [_metric_head(found, found.primary), over]
    heads += [_metric_head(found, name) for name in found.beside]
    heads += [tag("th", words, scope="col", class_="num") for words in ("Tokens", "Time")]
    bodies = [_block(found, block, scale, len(heads) + 1) for block in found.blocks]
    return _table(tag("thead", tag("tr", heads)), bodies, name="Standings by tier")


def difference_scale(found: Standings) -> tuple[float, float]:
    """One scale for all interval bars of the primary metric."""
    gains = [gain for entry in found.entries if found.primary and (gain := entry.difference(found.primary))]
    ends = [end for gain in gains for end in (gain.mean, gain.low, gain.high) if end is not None]
    return spread(ends, include=[0.0])


def gain_class(found: Standings, gain: Difference | None) -> str:
    """`better`, `worse` or `unsure`: on which side of 0 the whole interval lies."""
    sign = found.sign(found.primary) if found.primary else 0
    if gain is None or gain.low is None or gain.high is None or not sign or gain.low <= 0 <= gain.high:
        return "unsure"
    return "better" if gain.mean * sign > 0 else "worse"


def gain_bar(found: Standings, gain: Difference, scale: tuple[float, float], name: str) -> Html:
    """The difference to the base as a dot with whiskers."""
    unit = found.unit(found.primary) if found.primary else ""
    words = f"{name}: {signed(gain.mean, unit)} {between(gain.low, gain.high, unit, sign=True)}".strip()
    return interval_bar(gain.mean, gain.low, gain.high, scale, class_=gain_class(found, gain), name=words)


def guard_table(found: Standings) -> Html | None:
    """What would show that a score was gamed, the base first; None where nothing of it was measured."""
    guards = [name for name in GUARDS if name in found.results.metrics]
    entries = [entry for entry in found.entries if entry.metrics]
    if not guards or not entries:
        return None
    heads = [tag("th", "Method", scope="col"), *[_metric_head(found, name) for name in guards]]
    rows = []
    for entry in entries:
        cells = [_value_cell(found, entry, name) for name in guards]
        rows.append(tag("tr", method_cell(entry), cells, class_=row_class(entry)))
        if entry.status == "degenerate":
            rows.append(_note_row(entry, len(heads)))
    return _table(tag("thead", tag("tr", heads)), tag("tbody", rows), name="Guards")


def cost_table(found: Standings) -> Html:
    """What one seed of each method cost, prerequisites included and named."""
    entries = [entry for entry in found.entries if entry.ledger is not None and _is_any(entry.ledger)]
    if not entries:
        return tag("p", "No cost was recorded.", class_="soft")
    ledgers = [entry.ledger for entry in entries if entry.ledger is not None]
    most_tokens = max(ledger.tokens for ledger in ledgers)
    most_seconds = max(ledger.seconds for ledger in ledgers)
    heads = ["Method", "Tokens", "Time", "Labels", "Scorer calls", "FLOPs", "Peak memory"]
    rows = []
    for entry in entries:
        assert entry.ledger is not None
        rows.append(tag("tr", method_cell(entry), _cost_cells(entry.ledger, most_tokens, most_seconds)))
    head = tag("thead", tag("tr", [tag("th", words, scope="col") for words in heads]))
    return _table(head, tag("tbody", rows), name="Cost of one seed")


def pair_table(found: Standings) -> Html | None:
    """Row against column: share of prompts won, ties half; None where no pairs were judged."""
    judged = [pair for pair in found.results.pairs if pair.judge == found.primary] or found.results.pairs
    named = {name for pair in judged for name in (pair.a, pair.b)}
    entries = [entry for entry in found.entries if entry.name in named]
    if len(entries) < 2:
        return None
    cells = {(pair.a, pair.b): pair for pair in judged}
    heads = [tag("th", tag("span", entry.name), scope="col", class_="turned") for entry in entries]
    rows = [tag("tr", method_cell(row), [_pair_cell(cells, row, other) for other in entries]) for row in entries]
    head = tag("thead", tag("tr", tag("th", "Row against column", scope="col"), heads))
    return _table(head, tag("tbody", rows), name="Who beats whom", class_="pairs")


def numbers(found: Standings) -> Html:
    """Every metric of every method with its interval and its difference to the base; the primary one unfolded."""
    folds = []
    for metric in found.results.metrics:
        rows = [_number_row(found, entry, metric) for entry in found.entries if metric in entry.metrics]
        if rows:
            summary = tag("summary", title(metric), " ", tag("span", _unit(found, metric), class_="soft"))
            head = tag(
                "thead", tag("tr", [tag("th", words, scope="col", class_=class_) for words, class_ in NUMBER_HEADS])
            )
            table = _table(head, tag("tbody", rows), name=title(metric), class_="dense")
            folds.append(tag("details", summary, table, class_="deep", open=metric == found.primary))
    return join(folds)


def method_cell(entry: Entry) -> Html:
    """The row header of a method: its rank, its tier's mark, its name and variant."""
    rank = tag("span", str(entry.rank) if entry.rank else "", class_="rank")
    mark = tag("span", class_="mark", aria_hidden="true")
    variant = tag("small", f" {entry.variant}") if entry.variant else None
    state = tag("span", entry.status, class_=f"state {entry.status}") if entry.status != "done" else None
    return tag("th", rank, mark, entry.method, variant, " ", state, scope="row", class_=tier_class(entry.tier))


def row_class(entry: Entry) -> str:
    """How a row stands out."""
    return " ".join(["base"] * entry.is_base + [entry.status] * (entry.status != "done")) or "plain"


def _block(found: Standings, block: Block, scale: tuple[float, float], columns: int) -> Html:
    heading = block.title if block.tier is None else f"Tier {block.tier} · {block.title}"
    rows = [tag("tr", tag("th", heading, scope="rowgroup", colspan=columns), class_=f"tier {tier_class(block.tier)}")]
    for entry in block.entries:
        rows.append(tag("tr", method_cell(entry), _standing_cells(found, entry, scale), class_=row_class(entry)))
        rows += [_note_row(entry, columns)] if entry.notes else []
    return tag("tbody", rows)


def _standing_cells(found: Standings, entry: Entry, scale: tuple[float, float]) -> list[Html]:
    cells = []
    if found.primary is not None:
        gain, unit = entry.difference(found.primary), found.unit(found.primary)
        cells.append(_value_cell(found, entry, found.primary, "num primary"))
        if gain is None:
            words = "the base" if entry.is_base and entry.metrics else "–"
            cells.append(tag("td", words, colspan=2, class_="soft"))
        else:
            interval = tag("small", between(gain.low, gain.high, unit, sign=True))
            cells.append(tag("td", gain_bar(found, gain, scale, entry.name)))
            cells.append(tag("td", tag("strong", signed(gain.mean, unit)), " ", interval, class_="num"))
    cells += [_value_cell(found, entry, name) for name in found.beside]
    tokens = count(entry.ledger.tokens) if entry.ledger and entry.ledger.tokens else "–"
    time = duration(entry.ledger.seconds) if entry.ledger and entry.ledger.seconds else "–"
    return [*cells, tag("td", tokens, class_="num"), tag("td", time, class_="num")]


def _note_row(entry: Entry, columns: int) -> Html:
    return tag(
        "tr", tag("td", [tag("p", note) for note in entry.notes], colspan=columns), class_=f"note {entry.status}"
    )


def _metric_head(found: Standings, metric: str) -> Html:
    sign, unit = found.sign(metric), found.unit(metric)
    hint = ", ".join(part for part in (title(metric), unit, BETTER[sign]) if part)
    return tag("th", f"{short(metric)}{ARROW[sign]}", scope="col", class_="num", title=hint)


def _value_cell(found: Standings, entry: Entry, metric: str, class_: str = "num") -> Html:
    if metric not in entry.metrics:
        return tag("td", "–", class_=f"{class_} soft")
    one, unit = entry.metrics[metric], found.unit(metric)
    return tag("td", number(one.mean, unit), class_=class_, title=between(one.low, one.high, unit) or None)


def _cost_cells(ledger: Ledger, most_tokens: float, most_seconds: float) -> list[Html]:
    amounts = [(class_, float(getattr(ledger, field))) for class_, field in AMOUNTS]
    words = ", ".join(f"{count(amount)} {class_}" for class_, amount in amounts if amount)
    parts = [f"{name}: {count(one.tokens)}, {duration(one.seconds)}" for name, one in ledger.prerequisites.items()]
    needs = tag("small", f"of which {'; '.join(parts)}") if parts else None
    calls = ", ".join(f"{count(calls)} {name}" for name, calls in ledger.scorer_calls.items() if calls)
    bar = stacked_bar(amounts, most_tokens, name=words or "no tokens")
    time = stacked_bar([("time", ledger.seconds)], most_seconds, name=duration(ledger.seconds), width=90)
    memory = show_size(ledger.peak_memory_bytes) if ledger.peak_memory_bytes else "–"
    return [
        tag("td", bar, tag("small", words or "–"), needs, class_="stack"),
        tag("td", time, tag("small", duration(ledger.seconds)), class_="stack"),
        tag("td", count(ledger.labels) if ledger.labels else "–", class_="num"),
        tag("td", calls or "–", class_="num"),
        tag("td", f"{ledger.flops:.1e}" if ledger.flops else "–", class_="num"),
        tag("td", memory, class_="num"),
    ]


def _number_row(found: Standings, entry: Entry, metric: str) -> Html:
    one, unit = entry.metrics[metric], found.unit(metric)
    over = f"{one.n:,} {one.over}" if one.n else "–"
    texts = [number(one.mean, unit), between(one.low, one.high, unit) or "–", over]
    texts += _difference_texts(one.difference_to_base, unit)
    return tag("tr", method_cell(entry), [tag("td", words, class_="num") for words in texts], class_=row_class(entry))


def _pair_cell(cells: dict[tuple[str, str], Pair], row: Entry, other: Entry) -> Html:
    pair, is_turned = cells.get((row.name, other.name)), False
    if pair is None:
        pair, is_turned = cells.get((other.name, row.name)), True
    if pair is None:
        return tag("td", "", class_="w-none")
    win, loss = (pair.loss, pair.win) if is_turned else (pair.win, pair.loss)
    share = win + pair.tie / 2
    is_sure = pair.low is not None and pair.high is not None and not pair.low <= 0.5 <= pair.high
    hint = f"{row.name} against {other.name}: {win:.0%} won, {pair.tie:.0%} tied, {loss:.0%} lost of {pair.n:,}"
    step = min(8, max(0, round((share - 0.5) * 16) + 4))
    return tag("td", tag("strong" if is_sure else "span", f"{share:.0%}"), class_=f"w{step}", title=hint)


def _difference_texts(apart: Difference | None, unit: str) -> list[str]:
    if apart is None:
        return ["–", "–", "–"]
    p = "–" if apart.p is None else "< 0.001" if apart.p < 0.001 else f"{apart.p:.3f}"
    return [signed(apart.mean, unit), between(apart.low, apart.high, unit, sign=True) or "–", p]


def _unit(found: Standings, metric: str) -> str:
    unit = "" if found.unit(metric) == "share" else found.unit(metric)
    return " · ".join(part for part in (metric, unit, BETTER[found.sign(metric)]) if part)


def _is_any(ledger: Ledger) -> bool:
    return bool(ledger.tokens or ledger.seconds or ledger.labels or ledger.scorer_calls)


def _table(head: Html, bodies: Html | Sequence[Html], *, name: str, class_: str = "") -> Html:
    table = tag("table", head, bodies, class_=class_ or None)
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)
