"""The table in the terminal."""

import io

import pytest
from rich.console import Console

from heedful.results import Difference, Metric, Results, Row, Summary
from heedful.terminal import ComparisonTable


def results():
    gold, bits = Metric(value=-0.2, n=50, direction="higher"), Metric(value=0.9, direction="lower")
    rows = [
        Row(method="base", metrics={"gold": gold, "bits_per_byte_clean": bits}),
        Row(method="sft", tier=1, metrics={"gold": gold, "bits_per_byte_clean": bits}),
        Row(method="ppo", tier=2, status="failed", error="bad \x1b[2J [red]text[/red]"),
    ]
    gain = Difference(mean=0.1, low=0.05, high=0.15, p=0.01)
    summary = [
        Summary(method="base", metric="gold", mean=-0.3, n=50, over="prompts"),
        Summary(method="sft", metric="gold", mean=-0.2, n=50, over="prompts", difference_to_base=gain),
        Summary(method="sft", metric="bits_per_byte_clean", mean=0.9, n=50, over="prompts"),
    ]
    return Results(task="pep8", base="b", seeds=[0], rows=rows, summary=summary)


def printed(width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(ComparisonTable(results()))
    return console.export_text()


def test_tiers_are_separate_and_the_difference_has_its_interval():
    text = printed(140)
    assert text.index("References") < text.index("Tier 1: offline labels only") < text.index("Tier 2")
    assert "+0.100 [+0.050, +0.150]" in text
    assert "beats the base by" in text


def test_a_failure_is_printed_as_text():
    assert "ppo: failed; bad ⟨ESC⟩[2J [red]text[/red]" in printed(140)


def test_columns_stand_under_their_heads():
    lines = printed(140).splitlines()
    head = next(line for line in lines if "Against the base" in line)
    row = next(line for line in lines if "1. sft" in line)
    assert head.index("95%") + 3 == row.index("]") + 1


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(len(line.rstrip()) for line in printed(width).splitlines()) <= width


def test_what_matters_most_stays_in_a_narrow_terminal():
    assert "Bits/byte" in printed(140)
    assert "Bits/byte" not in printed(62) and "+0.100 [+0.050, +0.150]" in printed(62)
