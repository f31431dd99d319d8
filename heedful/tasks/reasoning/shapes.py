"""Geometric shapes: what an SVG path draws, by its number of sides, or by its arc.

As in BIG-bench a path may be lifted between sides (`M` to the point where it was), and the options are in alphabetical
order.
"""

import math
from random import Random

from heedful.tasks.reasoning.question import Question, choice

SIDES = {"line": 1, "triangle": 3, "rectangle": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8}
CURVES = ("circle", "sector")
SHAPES = (*CURVES, *SIDES)
NUM_OPTIONS = 5
LIFTED = 0.15  # of the sides


def shapes(rng: Random, ask: Random) -> Question:
    """A question of one path."""
    shape = rng.choice(SHAPES)
    path, key = _curve(shape, rng) if shape in CURVES else _polygon(SIDES[shape], rng)
    options = sorted([shape, *ask.sample([other for other in SHAPES if other != shape], NUM_OPTIONS - 1)])
    offered = "".join(str(SHAPES.index(option)) for option in options)
    return choice(
        f'This SVG path element <path d="{path}"/> draws a', options, options.index(shape), "shapes", key, offered
    )


def _polygon(sides: int, rng: Random) -> tuple[str, str]:
    """A closed path of so many sides, or one line; and where it is lifted, and which way round it goes."""
    turn, start = rng.choice((1, -1)), rng.random()
    angles = [2 * math.pi * (start + turn * n / max(sides, 2)) for n in range(max(sides, 2))]
    radius, x, y = rng.randint(10, 30), rng.randint(35, 60), rng.randint(35, 60)
    points = [f"{x + round(radius * math.cos(a))},{y + round(radius * math.sin(a))}" for a in angles]
    ends = points[1:] if sides == 1 else [*points[1:], points[0]]
    path, lifts = f"M {points[0]}", ""
    for n, point in enumerate(ends):
        is_lifted = n > 0 and rng.random() < LIFTED
        lifts += "m" if is_lifted else "l"
        path += f" M {ends[n - 1]}" * is_lifted + f" L {point}"
    return path, f"{lifts}{turn}"


def _curve(shape: str, rng: Random) -> tuple[str, str]:
    x, y, radius, sweep = rng.randint(35, 60), rng.randint(35, 60), rng.randint(10, 30), rng.choice((0, 1))
    if shape == "circle":
        arcs = f"A {radius},{radius} 0 1 {sweep} {x + radius},{y} A {radius},{radius} 0 1 {sweep} {x - radius},{y}"
        return f"M {x - radius},{y} {arcs}", f"circle{sweep}"
    quarter = rng.choice((1, -1))
    arc = f"A {radius},{radius} 0 0 {sweep} {x},{y + quarter * radius}"
    return f"M {x},{y} L {x + radius},{y} {arc} L {x},{y}", f"sector{sweep}{quarter}"
