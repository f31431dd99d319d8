"""Figures: ticks a person would choose, labels apart, values where they belong."""

import math

import pytest

from heedful.report.svg import Frame, Line, Point, interval_bar, lines, plain, scatter, spread, stacked_bar, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.12, 0.13, [-0.1, -0.05, 0.0, 0.05, 0.1]),
        (0, 600_000, [0, 200_000, 400_000, 600_000]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (-0.25, "−0.25"), (200_000, "200k"), (0.00054, "0.00054"), (5e-7, "5e−7")]
)
def test_a_tick_is_as_short_as_it_can_be(value, shown):
    assert plain(value) == shown


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [0.0], [math.nan]])
def test_a_range_is_never_empty(values):
    low, high = spread(values)
    assert low < high


def test_pixels_run_right_and_up():
    frame = Frame(200, 100, (0, 10), (0, 1), left=20, right=0, top=0, bottom=10)
    assert (frame.x(0), frame.x(10)) == (20, 200)
    assert (frame.y(0), frame.y(1)) == (90, 0)


def test_a_gap_splits_a_line():
    frame = Frame(200, 100, (0, 4), (0, 1))
    drawn = lines(frame, [Line("a", [0, 1, 2, 3], [0.1, math.nan, 0.3, 0.4])], x_title="x", y_title="y", name="n")
    assert drawn.count("<polyline") == 2
    assert "nan" not in drawn


def test_a_spike_in_a_band_stays_within_the_axes():
    frame = Frame(200, 100, (0, 1), (0, 1), top=12)
    drawn = lines(frame, [Line("a", [0, 1], [0.1, 0.2], low=[0, 0], high=[50, 50])], x_title="x", y_title="y", name="n")
    assert "-" not in drawn.split('class="band"')[0].rsplit("points=", 1)[1]


def test_labels_of_near_points_do_not_overlap():
    frame = Frame(540, 390, (-1, 1), (-1, 1))
    points = [Point(f"method{i}", 0.01 * i, 0.01 * i) for i in range(6)]
    drawn = scatter(frame, points, x_title="x", y_title="y", name="n")
    heights = [
        float(part.split('y="')[1].split('"')[0]) for part in drawn.split("<text ")[1:] if 'class="name"' in part
    ]
    lefts = [float(part.split('x="')[1].split('"')[0]) for part in drawn.split("<text ")[1:] if 'class="name"' in part]
    boxes = list(zip(lefts, heights))
    assert all(abs(a[0] - b[0]) > 50 or abs(a[1] - b[1]) >= 12 for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_figure_has_a_name_and_an_escaped_one():
    drawn = interval_bar(0.1, 0.0, 0.2, (-1, 1), class_="better", name='a"<b>')
    assert 'role="img"' in drawn and 'aria-label="a&quot;&lt;b&gt;"' in drawn


def test_a_bar_is_as_long_as_its_share():
    drawn = stacked_bar([("train", 25.0), ("frozen", 50.0)], 100.0, name="n", width=200)
    assert 'width="50"' in drawn and 'x="50"' in drawn and 'width="100"' in drawn
