"""Conditional training: learn p(text | good) and p(text | bad), ask for good (Korbak et al. 2023, section 3,
arXiv:2302.08582).

source      fixed scored corpus
targets     a good or bad control token before each segment; the token is trained too
objective   nll, mean over tokens
Deviations: 1% of the tokens are dropped everywhere (the released PEP8 recipe drops 10%); a threshold of None is the
median score, the paper names one per task; a row that begins within a segment begins with its token, unless `lines`.
At inference the good token stands first, before each line if `lines`, and both are banned from being drawn.
Run: heedful train conditional --feedback pep8 --out runs/conditional
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.relabel import control_tokens
from heedful.targets.segments import threshold_or_median

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"segments", "scores", "labels", "pairs", "rankings"})


class Config(Strict):
    """When a segment is good, and how often it says so."""

    threshold: float | None = None  # segment score from which a segment is good, 0 included; None: the median
    drop: float = Field(0.01, ge=0, le=1)  # share of segments without a token; toxicity and PII recipes
    lines: bool = False  # segments are lines, and so are those of the prompt at inference; the PEP8 recipe


def build(config: Config, inputs: Inputs) -> Method:
    """Conditional training as a source, targets and an objective."""
    text = inputs.text
    if text.good_id is None:
        text.add_control_tokens()
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(
            control_tokens,
            text=text,
            threshold=threshold_or_median(config.threshold, inputs.feedback),
            drop=config.drop,
            lines=config.lines,
            seed=inputs.seed,
        ),
        objective=[term(nll, per="mask")],
        inference={
            "prefix": [] if config.lines else [text.good_id],
            "line_prefix": text.good_id if config.lines else None,
            "suppress": [text.good_id, text.bad_id],
        },
    )
