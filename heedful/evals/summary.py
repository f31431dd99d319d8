"""From the rows of a comparison to what it claims: each metric over seeds, its difference to the base, who beat whom.

Values per prompt come from each row's file (see heedful/results.py for its shape), and so does the group that a prompt
is drawn with. A metric without values
per prompt is one value per seed: its interval is over seeds, or the row's own where there is one seed.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from heedful.disk import read_lines
from heedful.errors import DataError, RunError
from heedful.evals.stats import (
    RESAMPLES,
    Interval,
    Value,
    holm,
    mean_interval,
    paired_difference,
    pooled,
    win_rate,
)
from heedful.results import Difference, Metric, Pair, Results, Row, Summary, label, methods_of

BASE = ("base", "")
NOTHING = (0.0, 0.0)

Method = tuple[str, str]  # (method, variant)
Table = dict[tuple[int, str], Value]  # values by (seed, prompt id)


def measure(
    values: Mapping[str, Value],
    *,
    unit: str = "",
    direction: Literal["higher", "lower", "none"] = "none",
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Metric:
    """A row's metric from its values by prompt id, with the interval over prompts, or over groups of them."""
    table = {(0, prompt): value for prompt, value in values.items()}
    found = mean_interval(pooled(table, groups or {}), resamples=resamples, seed=seed)
    return Metric(value=found.mean, low=found.low, high=found.high, n=len(table), unit=unit, direction=direction)


def summarize(results: Results, folder: str | Path) -> tuple[Results, list[str]]:
    """The results with `summary` filled in, and what could not be computed, in sentences.

    A number that cannot be computed is left out of the summary, so that one bad file never loses the table.
    """
    evidence = _Evidence(results.rows, Path(folder))
    summary: list[Summary] = []
    for metric in results.metrics:
        of_metric = [evidence.summary(method, metric) for method in methods_of(results.rows)]
        summary += _corrected([found for found in of_metric if found is not None])
    return results.model_copy(update={"summary": summary}), evidence.problems


def compare_pairs(results: Results, folder: str | Path, metric: str) -> tuple[Results, list[str]]:
    """The results with `pairs` filled in: every two measured methods judged by a metric, prompt by prompt."""
    evidence = _Evidence(results.rows, Path(folder))
    higher = results.metrics[metric].direction != "lower"
    measured = [method for method in methods_of(results.rows) if evidence.table(method, metric)]
    pairs = [evidence.pair(one, other, metric, higher) for one, other in combinations(measured, 2)]
    kept = [pair for pair in results.pairs if pair.judge != metric]
    found = kept + [pair for pair in pairs if pair is not None]
    return results.model_copy(update={"pairs": found}), evidence.problems


class _Evidence:
    """The measured rows with their values per prompt; what cannot be used is a sentence in `problems`."""

    def __init__(self, rows: Sequence[Row], folder: Path):
        self.rows = [row for row in rows if row.is_measured]
        self.problems: list[str] = []
        self.tables: dict[tuple[Method, str], Table] = {}
        self.groups: dict[str, str] = {}
        for row in self.rows:
            lines = self._lines(row, folder)
            self.groups |= {str(line["id"]): str(line["group"]) for line in lines if "group" in line}
            for metric, table in self._columns(row, lines).items():
                self.tables.setdefault(((row.method, row.variant), metric), {}).update(table)

    def table(self, method: Method, metric: str) -> Table:
        """Values per prompt, or nothing."""
        return self.tables.get((method, metric), {})

    def by_seed(self, method: Method, metric: str) -> Table:
        """One value per seed, for a metric without values per prompt."""
        rows = [row for row in self._rows(method) if metric in row.metrics]
        return {(row.seed, "all"): row.metrics[metric].value for row in rows}

    def summary(self, method: Method, metric: str) -> Summary | None:
        """One metric of one method; None where it was not measured."""
        table = self.table(method, metric) or self.by_seed(method, metric)
        if not table:
            return None
        try:
            found = mean_interval(pooled(table, self.groups))
        except DataError as error:
            self.problems.append(f"{label(*method)}, {metric}: {error}")
            return None
        if found.low is None:  # one seed, nothing per prompt: the row knows its own interval
            own = next(row.metrics[metric] for row in self._rows(method) if metric in row.metrics)
            found = Interval(own.value, own.low, own.high, own.n, "prompts")
        return Summary(
            method=method[0],
            variant=method[1],
            metric=metric,
            mean=found.mean,
            low=found.low,
            high=found.high,
            n=len(table) if found.over == "prompts" and len(table) > 1 else found.n,
            over=found.over,
            difference_to_base=None if method == BASE else self._difference(method, metric),
        )

    def pair(self, one: Method, other: Method, metric: str, higher_is_better: bool) -> Pair | None:
        """`one` against `other`, prompt by prompt; None, and a problem, where they answered different prompts."""
        a, b = self.table(one, metric), self.table(other, metric)
        a, b = (_spread(a, b) if one == BASE else a), (_spread(b, a) if other == BASE else b)
        try:
            won = win_rate(a, b, higher_is_better=higher_is_better, groups=self.groups)
        except DataError as error:
            self.problems.append(f"{label(*one)} against {label(*other)}, {metric}: {error}")
            return None
        return Pair(a=label(*one), b=label(*other), judge=metric, **vars(won))

    def _difference(self, method: Method, metric: str) -> Difference | None:
        """Method minus base, by prompt where both have that, else by seed; None without a base."""
        if not self.by_seed(BASE, metric):
            return None
        mine, base = self.table(method, metric), self.table(BASE, metric)
        if not (mine and base):
            mine, base = self.by_seed(method, metric), self.by_seed(BASE, metric)
        try:
            base = _spread(base, mine)
            apart = paired_difference(pooled(mine, self.groups), pooled(base, self.groups))
        except DataError as error:
            self.problems.append(f"{label(*method)} against base, {metric}: {error}")
            return None
        return Difference(mean=apart.mean, low=apart.low, high=apart.high, p=apart.p)

    def _rows(self, method: Method) -> list[Row]:
        return [row for row in self.rows if (row.method, row.variant) == method]

    def _lines(self, row: Row, folder: Path) -> list[dict[str, Any]]:
        if row.per_prompt is None:
            return []
        try:
            lines = read_lines(folder / row.per_prompt)
        except (RunError, OSError) as error:
            self.problems.append(str(error))
            return []
        if fault := _fault(lines):
            self.problems.append(f"{row.per_prompt}: {fault}; its values per prompt are not used")
            return []
        return lines

    def _columns(self, row: Row, lines: Sequence[Mapping[str, Any]]) -> dict[str, Table]:
        """The metrics of one row's lines. A column that averages to another value is another quantity: not used.

        A null (a rate of nothing: comments of an empty response) keeps its prompt, and weighs nothing.
        """
        columns: dict[str, Table] = {}
        for metric, measured in row.metrics.items():
            table = {(row.seed, str(line["id"])): line[metric] for line in lines if metric in line}
            table = {key: NOTHING if value is None else value for key, value in table.items()}
            if not table:
                continue
            try:
                mean = mean_interval(table, resamples=1).mean
            except DataError as error:
                self.problems.append(f"{row.per_prompt}, {metric}: {error}")
                continue
            if math.isclose(mean, measured.value, rel_tol=1e-6, abs_tol=1e-9):
                columns[metric] = table
            else:
                found = f"the lines average {mean:.6g}, the row says {measured.value:.6g}"
                self.problems.append(f"{row.per_prompt}, {metric}: {found}")
        return columns


def _fault(lines: Sequence[Mapping[str, Any]]) -> str:
    """Why lines cannot be values per prompt, or nothing."""
    ids = [str(line["id"]) for line in lines if "id" in line]
    if not lines:
        return "missing or empty"
    if len(ids) < len(lines):
        return "a line has no id"
    twice = next((one for one in ids if ids.count(one) > 1), None) if len(set(ids)) < len(ids) else None
    return f"prompt {twice!r} is there twice" if twice else ""


def _spread(base: Table, like: Table) -> Table:
    """The base's values, measured once, repeated for every seed of the method it is compared with.

    The base is not trained, so its seed is only that of its sampling.
    """
    if len({seed for seed, _ in base}) != 1:
        return base
    seeds = {seed for seed, _ in like}
    return {(seed, prompt): value for (_, prompt), value in base.items() for seed in seeds}


def _corrected(summary: Sequence[Summary]) -> list[Summary]:
    """Holm's correction over all methods' differences to the base in one metric."""
    raw = {i: s.difference_to_base.p for i, s in enumerate(summary) if s.difference_to_base}
    tested = {i: p for i, p in raw.items() if p is not None}
    fixed = dict(zip(tested, holm(list(tested.values()))))
    return [_with_p(s, fixed[i]) if i in fixed else s for i, s in enumerate(summary)]


def _with_p(summary: Summary, p: float) -> Summary:
    assert summary.difference_to_base is not None
    difference = summary.difference_to_base.model_copy(update={"p": p})
    return summary.model_copy(update={"difference_to_base": difference})
