"""Names and numbers as people read them, once for the terminal and the page."""

import math
from collections.abc import Mapping

TITLES = {
    "gold": "Gold score",
    "clean_share": "Clean share",
    "pep8_chars": "Findings per 100 characters",
    "bits_per_byte": "Bits per byte",
    "bits_per_byte_clean": "Bits per byte, clean text",
    "bits_per_byte_dirty": "Bits per byte, dirty text",
    "name_accuracy": "Accuracy on names",
    "compiles_share": "Compiles and counts",
    "kl_to_base": "KL to the base",
    "best_of_n_kl": "KL of best-of-n from its draws, by quantiles",
    "best_of_n_kl_bound": "KL of best-of-n from its draws, at most",
    "length": "Length",
    "accuracy": "Accuracy",
    "accuracy_sampled": "Accuracy, sampled",
    "right_form": "In the right form",
    "pref_accuracy": "Preference accuracy",
    "rouge_l": "ROUGE-L",
    "win_rate": "Win rate",
    "counted_lines": "Counted lines",
    "comment_share": "Comments and docstrings",
    "distinct_3": "Distinct-3",
    "copy_rate": "Copied from the prompt",
    "line_length": "Median line length",
    "ast_distance": "AST distance",
    "crashes": "Scorer crashes",
}
SHORT = {
    "bits_per_byte_clean": "Bits/byte, clean",
    "bits_per_byte_dirty": "Bits/byte, dirty",
    "bits_per_byte": "Bits/byte",
    "pref_accuracy": "Pref. accuracy",
}
GUARDS = (
    "counted_lines",
    "comment_share",
    "compiles_share",
    "distinct_3",
    "copy_rate",
    "line_length",
    "ast_distance",
    "kl_to_base",
    "best_of_n_kl",
    "best_of_n_kl_bound",
    "length",
    "crashes",
    "right_form",
)
"""What shows that a score was gamed: printed beside it, never optimised."""

CAPABILITY = ("bits_per_byte_clean", "bits_per_byte", "kl_to_base")
"""What learning from feedback may cost: worse prediction of held-out text, distance from the base."""


def title(metric: str) -> str:
    """A metric's name for people."""
    return TITLES.get(metric, metric.replace("_", " ").strip().capitalize())


def short(metric: str) -> str:
    """A metric's name for a narrow column."""
    return SHORT.get(metric, title(metric))


def number(value: float | None, unit: str = "") -> str:
    """A measured value: three decimals below 10, one below 1,000, then in thousands; shares in percent."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "share":
        return f"{100 * value:.1f}%".replace("-", "−")
    size = abs(value)
    text = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else count(value)
    return "0.000" if text == "-0.000" else text.replace("-", "−")


def signed(value: float | None, unit: str = "") -> str:
    """A difference, with its sign; of shares in percentage points."""
    if value is not None and unit == "share":
        return f"{_plus(value)}{100 * value:.1f} pts".replace("-", "−")
    return f"{_plus(value)}{number(value, unit)}"


def between(low: float | None, high: float | None, unit: str = "", *, sign: bool = False) -> str:
    """An interval in brackets, or nothing where there is none."""
    if low is None or high is None:
        return ""
    show = signed if sign else number
    return f"[{show(low, unit).removesuffix(' pts')}, {show(high, unit).removesuffix(' pts')}]"


def _plus(value: float | None) -> str:
    return "+" if value is not None and math.isfinite(value) and value > 0 else ""


def count(value: float) -> str:
    """A number of things: 950, 12.4k, 1.2M, 3.0G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.99995:
            return f"{value / size:.1f}{unit}".replace("-", "−")
    return f"{value:.0f}".replace("-", "−")


def duration(seconds: float) -> str:
    """A time: 0.8 s, 42 s, 3.4 min, 2.1 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plural(n: int, thing: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def budget(limits: Mapping[str, float | int | str]) -> str:
    """A budget in words: 600.0k tokens, 60 s."""
    parts = []
    for name, value in limits.items():
        if name == "seconds" and isinstance(value, int | float):
            parts.append(duration(value))
        else:
            shown = count(value) if isinstance(value, int | float) else value
            unit = name.removesuffix("s") if value == 1 else name
            parts.append(f"{shown} {unit.replace('_', ' ')}")
    return ", ".join(parts) or "no limit"
