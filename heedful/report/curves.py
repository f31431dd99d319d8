"""Learning curves: small multiples, one panel per method, a line per seed."""

import math
from collections.abc import Mapping, Sequence

from heedful.report.folder import Lines
from heedful.report.html import Html, tag
from heedful.report.svg import Frame, Line, lines, spread
from heedful.wording import plural, short

MOST_POINTS = 60  # per line; more are averaged in equal stretches, and the band shows their extremes
SIZE = (330, 210)
BOOKKEEPING = ("step", "tokens", "seconds", "epoch", "round", "index")

X_TITLES = {"tokens": "tokens trained on", "step": "step", "root_kl": "square root of the KL (nats a response)"}

Logs = Mapping[str, Lines]  # logged lines by the name of a line in the figure


def panel(
    title: str, logs: Logs, key: str, *, y_range: tuple[float, float] | None = None, x_key: str | None = None
) -> Html | None:
    """One metric of one method over its seeds; None where nobody logged it.

    Args:
        x_key: a key of `X_TITLES`; tokens where all lines have them, if not given.
    """
    has_tokens = all("tokens" in row for rows in logs.values() for row in rows if key in row)
    x_key = x_key or ("tokens" if has_tokens else "step")
    curves = [_line(name, rows, x_key, key, f"seed{i % 4}") for i, (name, rows) in enumerate(logs.items())]
    curves = [curve for curve in curves if curve.xs]
    if not curves:
        return None
    gaps = sum(not math.isfinite(y) for curve in curves for y in curve.ys)
    x_range = (0.0, max(x for curve in curves for x in curve.xs) or 1.0)
    frame = Frame(*SIZE, x_range, y_range or _y_range(curves))
    x_title = X_TITLES[x_key]
    figure = lines(frame, curves, x_title=x_title, y_title=short(key), name=f"{title}: {key} over {x_title}")
    small = tag("span", f"{plural(gaps, 'value')} not finite: gaps", class_="soft") if gaps else None
    return tag("figure", tag("figcaption", tag("strong", title), " ", small), figure, class_="panel")


def shared_range(logs: Sequence[Logs], key: str) -> tuple[float, float]:
    """One y range for the panels of several methods."""
    values = [float(row[key]) for each in logs for rows in each.values() for row in rows if _is_number(row.get(key))]
    curves = [Line("", range(len(values)), values)]
    return _y_range(curves)


def logged(rows: Lines) -> list[str]:
    """The metrics in a log, most telling first: losses, evaluations, the rest in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key, value in row.items() if _is_number(value))
    found = [key for key in keys if key not in BOOKKEEPING]
    return sorted(found, key=lambda key: (key != "loss", not key.startswith("eval_")))


def _line(name: str, rows: Lines, x_key: str, key: str, class_: str) -> Line:
    points = [(float(row[x_key]), float(row[key])) for row in rows if _is_number(row.get(key)) and x_key in row]
    if len(points) <= MOST_POINTS:
        is_sparse = len(points) <= 30
        return Line(name, [x for x, _ in points], [y for _, y in points], class_=class_, dots=is_sparse)
    size = math.ceil(len(points) / MOST_POINTS)
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return Line(
        name,
        [part[-1][0] for part in parts],
        [sum(y for _, y in part) / len(part) for part in parts],
        [min(y for _, y in part) for part in parts],
        [max(y for _, y in part) for part in parts],
        class_=class_,
    )


def _y_range(curves: Sequence[Line]) -> tuple[float, float]:
    """Of the drawn means; bands are cut at it, so that one bad step does not flatten the rest."""
    return spread([y for curve in curves for y in curve.ys])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
