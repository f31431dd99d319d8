"""The files that the reasoning task ships: a tokenizer, a base, and what was measured of it; each with its sha256 in
manifest.json."""

from pathlib import Path

ASSETS = Path(__file__).parents[2] / "assets" / "reasoning"
