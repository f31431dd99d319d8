"""Figures as SVG text: axes, points with intervals, lines with bands, bars. Colours come from the page's classes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heedful.report.html import Html, tag
from heedful.wording import count

GLYPH = 7.3  # mean width of a bold character at 12 px, for placing labels

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A method in the plane, with the intervals of both coordinates where they exist."""

    name: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    class_: str = ""
    is_hollow: bool = False


@dataclass(frozen=True)
class Line:
    """One curve; `low` and `high` bound what each drawn point stands for."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    class_: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Frame:
    """The drawing area of a figure and its two scales."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: int = 64
    right: int = 20
    top: int = 12
    bottom: int = 44
    show_x: Callable[[float], str] = field(default=lambda value: plain(value))
    show_y: Callable[[float], str] = field(default=lambda value: plain(value))

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return _between(value, self.x_range, self.left, self.width - self.right)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return _between(value, self.y_range, self.height - self.bottom, self.top)

    @property
    def area(self) -> Box:
        """The rectangle data may use."""
        return self.left, self.top, self.width - self.right, self.height - self.bottom


def plain(value: float) -> str:
    """A tick's number: as short as it can be without lying."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return count(value).replace(".0", "")
    if abs(value) < 0.001:
        return f"{value:.3g}".replace("e-0", "e-").replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` and a few fewer: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def spread(values: Sequence[float], *, include: Sequence[float] = (), margin: float = 0.08) -> tuple[float, float]:
    """A range round the values with some air; never empty."""
    shown = [value for value in (*values, *include) if math.isfinite(value)]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    air = (high - low) * margin or abs(high) * margin or 0.5
    return low - air, high + air


def axes(frame: Frame, x_title: str, y_title: str, *, most: tuple[int, int] = (6, 5)) -> Html:
    """Grid lines, ticks and both titles."""
    left, top, right, bottom = frame.area
    parts = []
    for value in ticks(*frame.x_range, most[0]):
        at = frame.x(value)
        parts.append(line(at, top, at, bottom, "grid"))
        parts.append(label(at, bottom + 16, frame.show_x(value), "tick", anchor="middle"))
    for value in ticks(*frame.y_range, most[1]):
        at = frame.y(value)
        parts.append(line(left, at, right, at, "grid"))
        parts.append(label(left - 7, at + 4, frame.show_y(value), "tick", anchor="end"))
    parts.append(label((left + right) / 2, frame.height - 8, x_title, "axis", anchor="middle"))
    middle = (top + bottom) / 2
    turned = f"rotate(-90 12 {middle:.1f})"
    parts.append(tag("text", y_title, x=12, y=_px(middle), transform=turned, text_anchor="middle", class_="axis"))
    return tag("g", parts, aria_hidden="true")


def scatter(
    frame: Frame, points: Sequence[Point], *, x_title: str, y_title: str, name: str, corners: Sequence[str] = ()
) -> Html:
    """Points with error bars and a label each, and a cross through the origin, where the base is."""
    left, top, right, bottom = frame.area
    parts = [axes(frame, x_title, y_title)]
    if frame.x_range[0] <= 0 <= frame.x_range[1]:
        parts.append(line(frame.x(0), top, frame.x(0), bottom, "zero"))
    if frame.y_range[0] <= 0 <= frame.y_range[1]:
        parts.append(line(left, frame.y(0), right, frame.y(0), "zero"))
    parts += [
        label(x, y, words, "corner", anchor=anchor)
        for words, (x, y, anchor) in zip(corners, [(left + 6, top + 13, "start"), (right - 6, bottom - 7, "end")])
    ]
    parts += [_whiskers(frame, point) for point in points]
    parts += [_mark(frame, point) for point in points]
    parts += _labels(frame, points)
    return figure(frame.width, frame.height, parts, name=name)


def lines(frame: Frame, curves: Sequence[Line], *, x_title: str, y_title: str, name: str) -> Html:
    """Curves with bands. What is not finite is a gap."""
    parts = [axes(frame, x_title, y_title, most=(4, 4))]
    parts += [_curve(frame, curve, start, stop) for curve in curves for start, stop in _runs(curve.ys)]
    return figure(frame.width, frame.height, parts, name=name)


def interval_bar(
    mean: float, low: float | None, high: float | None, scale: tuple[float, float], *, class_: str, name: str
) -> Html:
    """A dot with its interval on a scale shared by all rows of a table; hollow where the interval holds 0."""
    width, height = 160, 22
    frame = Frame(width, height, scale, (0, 1), left=4, right=4, top=0, bottom=0)
    middle = height / 2
    parts = [line(frame.x(0), 1, frame.x(0), height - 1, "zero")]
    if low is not None and high is not None:
        parts.append(line(frame.x(low), middle, frame.x(high), middle, "whisker"))
        parts += [line(frame.x(end), middle - 4, frame.x(end), middle + 4, "whisker") for end in (low, high)]
    parts.append(tag("circle", cx=_px(frame.x(mean)), cy=_px(middle), r=4.5, class_="dot"))
    return figure(width, height, parts, name=name, class_=f"interval {class_}")


def interval_axis(scale: tuple[float, float]) -> Html:
    """The scale above a column of interval bars."""
    frame = Frame(160, 18, scale, (0, 1), left=4, right=4, top=0, bottom=0)
    parts = []
    for value in ticks(*scale, 4):
        at = frame.x(value)
        parts.append(line(at, 13, at, 18, "grid"))
        anchor = "start" if at < 14 else "end" if at > 146 else "middle"
        parts.append(label(at, 10, plain(value), "tick", anchor=anchor))
    return figure(160, 18, parts, name=None, class_="interval")


def stacked_bar(parts: Sequence[tuple[str, float]], most: float, *, name: str, width: int = 150) -> Html:
    """Amounts side by side; `most` fills the width. Each is (class, amount)."""
    drawn, at = [], 0.0
    for class_, amount in parts:
        size = amount / most * width if most > 0 else 0.0
        if size > 0:
            drawn.append(tag("rect", x=_px(at), y=3, width=_px(max(size, 0.8)), height=10, class_=class_))
        at += size
    return figure(width, 16, drawn, name=name, class_="bar")


def figure(width: float, height: float, parts: Sequence[object], *, name: str | None, class_: str = "chart") -> Html:
    """An SVG with a name for those who cannot see it; without a name it is decoration."""
    role = {"role": "img", "aria_label": name} if name else {"aria_hidden": "true"}
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return tag("svg", parts, class_=class_, **size, **role)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    """A straight line."""
    return tag("line", x1=_px(x1), y1=_px(y1), x2=_px(x2), y2=_px(y2), class_=class_)


def label(x: float, y: float, words: str, class_: str, *, anchor: str = "start") -> Html:
    """Text at a place."""
    return tag("text", words, x=_px(x), y=_px(y), text_anchor=anchor, class_=class_)


def _between(value: float, source: tuple[float, float], start: float, stop: float) -> float:
    share = (value - source[0]) / (source[1] - source[0])
    return start + share * (stop - start)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _whiskers(frame: Frame, point: Point) -> Html:
    x, y = frame.x(point.x), frame.y(point.y)
    parts = []
    if point.x_low is not None and point.x_high is not None:
        parts.append(line(frame.x(point.x_low), y, frame.x(point.x_high), y, "whisker"))
    if point.y_low is not None and point.y_high is not None:
        parts.append(line(x, frame.y(point.y_low), x, frame.y(point.y_high), "whisker"))
    return tag("g", parts, class_=point.class_)


def _mark(frame: Frame, point: Point) -> Html:
    x, y = frame.x(point.x), frame.y(point.y)
    shape = _shape(point.class_, x, y, "dot hollow" if point.is_hollow else "dot")
    return tag("g", tag("title", point.name), shape, class_=point.class_)


def _shape(tier: str, x: float, y: float, class_: str) -> Html:
    """A shape per tier, so that colour is never alone: square, circle, diamond, triangle."""
    if tier == "t1":
        return tag("circle", cx=_px(x), cy=_px(y), r=5.5, class_=class_)
    shapes: dict[str, list[tuple[float, float]]] = {
        "t2": [(0, -7), (7, 0), (0, 7), (-7, 0)],
        "t3": [(0, -7), (6.5, 5), (-6.5, 5)],
    }
    corners = shapes.get(tier, [(-5, -5), (5, -5), (5, 5), (-5, 5)])
    path = " ".join(f"{_px(x + dx)},{_px(y + dy)}" for dx, dy in corners)
    return tag("polygon", points=path, class_=class_)


def _labels(frame: Frame, points: Sequence[Point]) -> list[Html]:
    """A label per point, beside it where nothing else is, else further off with a line to its point."""
    taken = [_around(frame.x(p.x), frame.y(p.y), 7, 7) for p in points] + [
        box for p in points for box in _lanes(frame, p)
    ]
    parts = []
    for point in sorted(points, key=lambda p: -p.y):
        box, anchor_x, distance = _free(frame, point, taken)
        taken.append(box)
        if distance > 16:
            x, y = frame.x(point.x), frame.y(point.y)
            parts.append(line(x, y, anchor_x, (box[1] + box[3]) / 2, "leader"))
        parts.append(tag("g", label(box[0] + 2, box[3] - 4, point.name, "name"), class_=point.class_))
    return parts


def _lanes(frame: Frame, point: Point) -> list[Box]:
    """Where a point's whiskers are."""
    x, y = frame.x(point.x), frame.y(point.y)
    lanes = []
    if point.x_low is not None and point.x_high is not None:
        lanes.append((frame.x(point.x_low), y - 1, frame.x(point.x_high), y + 1))
    if point.y_low is not None and point.y_high is not None:
        lanes.append((x - 1, frame.y(point.y_high), x + 1, frame.y(point.y_low)))
    return lanes


def _free(frame: Frame, point: Point, taken: Sequence[Box]) -> tuple[Box, float, float]:
    """The nearest free place for a point's label: its box, the end of its line, its distance."""
    width, height = len(point.name) * GLYPH + 4, 16
    x, y = frame.x(point.x), frame.y(point.y)
    best: tuple[float, Box, float, float] | None = None
    for distance in (10, 18, 30, 44, 60):
        for angle in (0, 180, -35, 35, -145, 145, -90, 90):
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = x + distance * dx - (0 if dx > 0.1 else width if dx < -0.1 else width / 2)
            middle = y + distance * dy
            box = (left, middle - height / 2, left + width, middle + height / 2)
            cost = sum(_overlap(box, other) for other in taken) + 1e4 * _outside(box, frame.area)
            end = box[0] if dx > 0.1 else box[2] if dx < -0.1 else (box[0] + box[2]) / 2
            if cost == 0:
                return box, end, distance
            if best is None or cost < best[0]:
                best = cost, box, end, distance
    assert best is not None
    return best[1:]


def _around(x: float, y: float, dx: float, dy: float) -> Box:
    return x - dx, y - dy, x + dx, y + dy


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def _outside(box: Box, area: Box) -> float:
    return sum(max(0.0, amount) for amount in (area[0] - box[0], area[1] - box[1], box[2] - area[2], box[3] - area[3]))


def _runs(values: Sequence[float]) -> list[tuple[int, int]]:
    """Stretches of finite values, as (start, stop)."""
    stretches, start = [], None
    for i, value in enumerate([*values, math.nan]):
        if math.isfinite(value):
            start = i if start is None else start
        elif start is not None:
            stretches.append((start, i))
            start = None
    return stretches


def _curve(frame: Frame, curve: Line, start: int, stop: int) -> Html:
    xs = [_px(frame.x(x)) for x in curve.xs[start:stop]]
    ys = [_px(frame.y(y)) for y in curve.ys[start:stop]]
    parts = []
    if curve.low and curve.high:
        bottom, top = frame.y_range
        lower = [_px(frame.y(max(y, bottom))) for y in curve.low[start:stop]]
        upper = [_px(frame.y(min(y, top))) for y in curve.high[start:stop]]
        outline = [*zip(xs, upper), *reversed(list(zip(xs, lower)))]
        parts.append(tag("polygon", points=" ".join(f"{x},{y}" for x, y in outline), class_="band"))
    parts.append(tag("polyline", points=" ".join(f"{x},{y}" for x, y in zip(xs, ys)), class_="curve"))
    if curve.dots or stop - start == 1:
        parts += [tag("circle", cx=x, cy=y, r=2.6, class_="dot") for x, y in zip(xs, ys)]
    return tag("g", tag("title", curve.name), parts, class_=curve.class_)
