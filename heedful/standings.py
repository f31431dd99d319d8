"""Who stands where: the rows of a comparison gathered into methods, tiers and a verdict. No torch, no new numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from heedful.results import TIERS, Difference, Ledger, Results, Row, Summary, label, methods_of
from heedful.wording import between, budget, count, duration, number, plural, short, signed, title

REFERENCES = "References"
ALPHA = 0.05
BESIDE = (
    "win_rate",
    "pref_accuracy",
    "accuracy",
    "reward",
    "bits_per_byte_clean",
    "bits_per_byte",
    "kl_to_base",
    "clean_share",
)
"""Metrics shown beside the primary one, where measured."""


@dataclass(frozen=True)
class Entry:
    """One method (and variant) over its seeds.

    Attributes:
        status: of the method: degenerate if a seed is; else done if a seed is; else failed or skipped.
        notes: what went wrong, in sentences; empty for a clean run of all seeds.
        metrics: its summary by metric.
        ledger: the mean cost of one seed, or None where nothing was measured.
        rank: place within its tier, from 1; None where it is not ranked.
    """

    method: str
    variant: str
    tier: int | None
    status: str
    seeds: tuple[int, ...]
    notes: tuple[str, ...]
    metrics: dict[str, Summary]
    ledger: Ledger | None
    rank: int | None = None

    @property
    def name(self) -> str:
        """`ppo/ptx`."""
        return label(self.method, self.variant)

    @property
    def is_base(self) -> bool:
        """Whether differences are to this one."""
        return (self.method, self.variant) == ("base", "")

    def difference(self, metric: str) -> Difference | None:
        """To the base, where both were measured."""
        return self.metrics[metric].difference_to_base if metric in self.metrics else None


@dataclass(frozen=True)
class Block:
    """The methods that had the same information, best first; what is not ranked follows."""

    tier: int | None
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Verdict:
    """What a tier says: the method that leads it, whether that is more than chance, and a sentence."""

    title: str
    winner: str | None
    is_sure: bool
    text: str


@dataclass(frozen=True)
class Standings:
    """A comparison in order, baseline first."""

    results: Results
    primary: str | None
    blocks: tuple[Block, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries in the order they are shown."""
        return tuple(entry for block in self.blocks for entry in block.entries)

    @property
    def base(self) -> Entry | None:
        """The untouched model."""
        return next((entry for entry in self.entries if entry.is_base), None)

    @property
    def beside(self) -> tuple[str, ...]:
        """Metrics shown beside the primary one."""
        return tuple(name for name in BESIDE if name in self.results.metrics and name != self.primary)

    def unit(self, metric: str) -> str:
        """As the rows state it."""
        return self.results.metrics[metric].unit

    def sign(self, metric: str) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither."""
        return {"higher": 1, "lower": -1, "none": 0}[self.results.metrics[metric].direction]

    @property
    def sample(self) -> str:
        """What the primary intervals are over: `400 prompts, 1 seed`."""
        rows = [row for row in self.results.rows if self.primary in row.metrics]
        prompts = max((row.metrics[self.primary].n for row in rows if self.primary), default=0)
        seeds = len({row.seed for row in rows})
        return ", ".join(([plural(prompts, "prompt")] if prompts else []) + [plural(seeds, "seed")])


def standings(results: Results) -> Standings:
    """Gather rows into entries, entries into tiers; rank within each by the primary metric."""
    entries = [_entry(results, method, variant) for method, variant in methods_of(results.rows)]
    primary = results.primary
    better = -1 if primary is not None and results.metrics[primary].direction == "lower" else 1
    blocks = []
    for tier, heading in [(None, REFERENCES), *TIERS.items()]:
        within = [entry for entry in entries if entry.tier == tier]
        if within:
            blocks.append(Block(tier, heading, _ranked(within, primary, better, tier is not None)))
    return Standings(results, primary, tuple(blocks))


def verdicts(table: Standings) -> list[Verdict]:
    """One verdict per tier, never one across tiers."""
    return [_verdict(table, block) for block in table.blocks if block.tier is not None]


def headline(table: Standings) -> str:
    """The comparison in one line: how many of the ranked methods beat the base for sure."""
    task, primary = table.results.task, table.primary
    ranked = [entry for entry in table.entries if entry.rank is not None]
    if primary is None or not ranked:
        return f"Nothing to rank on {task}"
    if all(entry.difference(primary) is None for entry in ranked):
        return f"{plural(len(ranked), 'method')} on {task}, no base"
    sure = [entry for entry in ranked if _is_sure(entry.difference(primary), table.sign(primary))]
    if not sure:
        return f"None of {plural(len(ranked), 'method')} surely beats the base on {task}"
    return f"{len(sure)} of {plural(len(ranked), 'method')} {'beats' if len(sure) == 1 else 'beat'} the base on {task}"


def cost(ledger: Ledger) -> str:
    """What one seed cost, in words."""
    parts = [f"{count(ledger.train_tokens)} trained tokens"] if ledger.train_tokens else []
    parts += [f"{count(ledger.sampled_tokens)} sampled"] if ledger.sampled_tokens else []
    parts += [f"{count(calls)} calls of {name}" for name, calls in ledger.scorer_calls.items() if calls]
    return ", ".join([*parts, duration(ledger.seconds)])


def setting(results: Results) -> str:
    """Task, base and budget in a line."""
    seeds = plural(len(results.seeds), "seed")
    return f"{results.task} · base {results.base} · budget per method: {budget(results.budget)} · {seeds}"


def _entry(results: Results, method: str, variant: str) -> Entry:
    rows = [row for row in results.rows if (row.method, row.variant) == (method, variant)]
    measured = [row for row in rows if row.is_measured]
    statuses = {row.status for row in measured or rows}
    status = next(name for name in ("degenerate", "done", "failed", "skipped") if name in statuses)
    missing = [seed for seed in results.seeds if seed not in {row.seed for row in rows}]
    is_trained = rows[0].tier is not None
    notes = _notes(rows, missing if is_trained else [])
    found = _from_rows(measured)
    found |= {s.metric: s for s in results.summary if (s.method, s.variant) == (method, variant)}
    ledger = _mean([row.ledger for row in measured]) if measured else None
    seeds = tuple(row.seed for row in measured)
    return Entry(method, variant, rows[0].tier, status, seeds, notes, found, ledger)


def _from_rows(measured: Sequence[Row]) -> dict[str, Summary]:
    """What the rows themselves say, for a comparison that was stopped before its summary: no differences."""
    found = {}
    for metric in dict.fromkeys(name for row in measured for name in row.metrics):
        values = [row.metrics[metric] for row in measured if metric in row.metrics]
        mean, only = sum(one.value for one in values) / len(values), values[0] if len(values) == 1 else None
        found[metric] = Summary(
            method=measured[0].method,
            variant=measured[0].variant,
            metric=metric,
            mean=mean,
            low=only.low if only else None,
            high=only.high if only else None,
            n=only.n if only else len(values),
            over="prompts" if only else "seeds",
        )
    return found


def _notes(rows: Sequence[Row], missing: Sequence[int]) -> tuple[str, ...]:
    """Each reason once, with its seeds where not all rows share it."""
    notes = []
    for error in dict.fromkeys(row.error for row in rows if row.error):
        seeds = [str(row.seed) for row in rows if row.error == error]
        part = f"seed {', '.join(seeds)}: " if len(seeds) < len(rows) else ""
        notes.append(f"{part}{error}")
    if missing:
        notes.append(f"seed {', '.join(map(str, missing))}: no row")
    return tuple(notes)


def _mean(ledgers: Sequence[Ledger]) -> Ledger:
    """The average cost of one seed; memory is the largest."""
    n = len(ledgers)
    sums = ("labels", "train_tokens", "frozen_tokens", "sampled_tokens")
    scorers = sorted({name for one in ledgers for name in one.scorer_calls})
    needs = sorted({name for one in ledgers for name in one.prerequisites})
    return Ledger(
        **{name: round(sum(getattr(one, name) for one in ledgers) / n) for name in sums},
        scorer_calls={s: round(sum(one.scorer_calls.get(s, 0) for one in ledgers) / n) for s in scorers},
        flops=sum(one.flops for one in ledgers) / n,
        seconds=sum(one.seconds for one in ledgers) / n,
        peak_memory_bytes=max(one.peak_memory_bytes for one in ledgers),
        prerequisites={
            name: _mean([one.prerequisites[name] for one in ledgers if name in one.prerequisites]) for name in needs
        },
    )


def _ranked(entries: Sequence[Entry], primary: str | None, better: int, is_trained: bool) -> tuple[Entry, ...]:
    """Best first, then degenerate, failed, skipped; references keep the base first and have no rank. Equal scores share
    a rank."""
    order = {"done": 0, "degenerate": 1, "failed": 2, "skipped": 3}

    def key(entry: Entry):
        score = entry.metrics[primary].mean if primary in entry.metrics else float("-inf") * better
        return not entry.is_base, order[entry.status] if is_trained else 0, -better * score

    result: list[Entry] = []
    scores: list[float] = []
    for entry in sorted(entries, key=key):
        rank = None
        if is_trained and entry.status == "done" and primary in entry.metrics:
            scores.append(entry.metrics[primary].mean)
            rank = scores.index(scores[-1]) + 1
        result.append(Entry(**{**vars(entry), "rank": rank}))
    return tuple(result)


def _verdict(table: Standings, block: Block) -> Verdict:
    ranked = [entry for entry in block.entries if entry.rank is not None]
    if not ranked:
        return Verdict(block.title, None, False, f"Nothing to rank: {_why_not(block.entries)}.")
    best, metric = ranked[0], table.primary
    assert metric is not None
    gain, unit = best.difference(metric), table.unit(metric)
    sentences = [_claim(table, best), *_second(table, ranked), *_price(table, best)]
    if gain is None:
        found = best.metrics[metric]
        sentences[0] = f"leads with {title(metric).lower()} {number(found.mean, unit)}; no base to compare with"
    return Verdict(block.title, best.name, _is_sure(gain, table.sign(metric)), ". ".join(sentences) + ".")


def _is_sure(gain: Difference | None, sign: int) -> bool:
    """Whether the interval of the difference lies on the better side of 0, and Holm's p agrees where there is one."""
    if gain is None or gain.low is None or gain.high is None or not sign:
        return False
    beyond = gain.low > 0 if sign > 0 else gain.high < 0
    return beyond and (gain.p is None or gain.p < ALPHA)


def _claim(table: Standings, best: Entry) -> str:
    """Whether the leader beats the base, by how much, with the interval."""
    metric = table.primary
    assert metric is not None
    gain, unit, sign = best.difference(metric), table.unit(metric), table.sign(metric)
    if gain is None:
        return ""
    amount = (
        f"{signed(gain.mean, unit)} {short(metric).lower()} {between(gain.low, gain.high, unit, sign=True)}".strip()
    )
    over = f"95% interval, {table.sample}" if gain.low is not None else f"no interval, {table.sample}"
    if _is_sure(gain, sign):
        return f"beats the base by {amount} ({over})"
    if gain.mean * sign <= 0:
        return f"leads, but does not beat the base: {amount} ({over})"
    if gain.low is not None and gain.p is not None and (gain.low > 0 if sign > 0 else (gain.high or 0) < 0):
        return f"leads by {amount} ({over}), which Holm's correction for all methods does not uphold (p = {gain.p:.2f})"
    return f"leads by {amount} ({over}), which may be chance"


def _second(table: Standings, ranked: Sequence[Entry]) -> list[str]:
    """The leader against the next, prompt by prompt, where that was measured."""
    if len(ranked) < 2:
        return []
    best, second = ranked[0].name, ranked[1].name
    for pair in table.results.pairs:
        if {pair.a, pair.b} == {best, second} and pair.judge == table.primary:
            share, low, high = pair.win + pair.tie / 2, pair.low or 0.0, 1.0 if pair.high is None else pair.high
            if pair.a != best:
                share, low, high = 1 - share, 1 - high, 1 - low
            sure = "" if low > 0.5 else ", too close to call"
            return [f"Against {second} it wins {number(share, 'share')} of prompts {between(low, high, 'share')}{sure}"]
    return []


def _price(table: Standings, best: Entry) -> list[str]:
    """What the leader cost, and what it lost elsewhere."""
    sentences = [f"Cost: {cost(best.ledger)}"] if best.ledger else []
    for metric in ("bits_per_byte_clean", "bits_per_byte"):
        lost = best.difference(metric)
        if lost is not None and metric != table.primary:
            what = f"{signed(lost.mean)} bits per byte {between(lost.low, lost.high, sign=True)}".strip()
            return [*sentences, f"Capability: {what} on {'clean ' if metric.endswith('clean') else ''}held-out text"]
    return sentences


def _why_not(entries: Sequence[Entry]) -> str:
    words = {"degenerate": "degenerate", "failed": "failed", "skipped": "skipped", "done": "not measured"}
    return ", ".join(f"{entry.name} {words[entry.status]}" for entry in entries)
