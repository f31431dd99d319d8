"""What can be learned on the reasoning task, and how much one verdict says: measured once, shipped, printed.

    python -m heedful.tasks.reasoning.supervision

The numbers are made by heedful.tasks.reasoning.ceiling, on the selection split.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from heedful.tasks.reasoning.assets import ASSETS

MEASURED = ASSETS / "supervision.json"
ENOUGH = 0.9  # accuracy of SFT on plenty of gold at which a task counts


def measured() -> Mapping[str, Any]:
    """`supervision.json`: under "tasks", by name, the shares that `describe` reads, and the command that made them."""
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def counted_tasks() -> list[str]:
    """The tasks that a model of this size learns from plenty of right answers, so that failing them says something of
    the method."""
    return [name for name, row in measured()["tasks"].items() if row["gold"] >= ENOUGH]


def bits_per_verdict(accuracy: float) -> float:
    """How many bits "right" or "wrong" says of an answer that is right so often: its binary entropy, at most 1."""
    return -sum(p * math.log2(p) for p in (accuracy, 1 - accuracy) if p > 0)


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a table: chance, the base, SFT on plenty of gold, and bits per verdict and per right answer given.

    A verdict is on an answer sampled at temperature 1, so its bits are those of that accuracy. A right answer given
    says log2 of how many there are in the right form; chance is one in as many.
    """
    yield f"{'task':<42}{'chance':>8}{'base':>8}{'sampled':>9}{'gold':>8}{'counts':>8}{'verdict':>9}{'answer':>8}"
    for name, row in found["tasks"].items():
        shares = f"{row['chance']:>8.1%}{row['base']:>8.1%}{row['sampled']:>9.1%}{row['gold']:>8.1%}"
        counts = "yes" if row["gold"] >= ENOUGH else "no"
        yield f"{name:<42}{shares}{counts:>8}{bits_per_verdict(row['sampled']):>9.2f}{row['answer_bits']:>8.2f}"


def main() -> None:
    """The command line of this module."""
    for line in describe(measured()):
        print(line)


if __name__ == "__main__":
    main()
