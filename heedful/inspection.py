"""Look into feedback before training on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedful.data import describe_feedback
from heedful.methods import METHODS, feedback_of, feedback_with_judge
from heedful.models import load_text
from heedful.records import Feedback
from heedful.tasks.pep8.assets import ASSETS


def inspect_feedback(file: Sequence[Feedback], model: str | Path | None = None) -> dict[str, Any]:
    """Everything that can be said of a feedback file, as plain data; `heedful.data.render` makes lines of text of it.

    Args:
        file: what `load_feedback` returns, or any records.
        model: folder or Hub name of a model, for the tokens and the mask of one example; the embedded one if none.
    """
    text = load_text(ASSETS / "tokenizer" if model is None else model)
    text.max_length = text.tokenizer.model_max_length
    needs, judged = ({name: of(name) for name in METHODS} for of in (feedback_of, feedback_with_judge))
    return describe_feedback(file, text, needs, judged)
