"""heedful: teach language models from human feedback.

    import heedful

    feedback = heedful.load_feedback("feedback.jsonl")
    run = heedful.train("sft", model="my/model", feedback=feedback, out="runs/sft")
    answers = heedful.sample(run.model_path, ["def area(width, height):\n"])

The names here are the bodies of the command line's verbs, which add where results go and the embedded base where no
model is named. Each is imported when it is first used, so that `import heedful` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.comparison import compare
    from heedful.data import load_feedback, split_feedback
    from heedful.errors import ConfigError, DataError, HeedfulError, RunError
    from heedful.evals.preferences import evaluate_scorer
    from heedful.evaluation import evaluate
    from heedful.inference import sample
    from heedful.inspection import inspect_feedback
    from heedful.methods import METHODS
    from heedful.records import Feedback, Response
    from heedful.report import build_report
    from heedful.sampling import Sampling
    from heedful.scorers import load_scorer
    from heedful.scoring import score
    from heedful.training import train

__all__ = [
    "METHODS",
    "ConfigError",
    "DataError",
    "Feedback",
    "HeedfulError",
    "Response",
    "RunError",
    "Sampling",
    "build_report",
    "compare",
    "evaluate",
    "evaluate_scorer",
    "inspect_feedback",
    "load_feedback",
    "load_scorer",
    "sample",
    "score",
    "split_feedback",
    "train",
]

_HOMES = {
    "METHODS": "methods",
    "ConfigError": "errors",
    "DataError": "errors",
    "Feedback": "records",
    "HeedfulError": "errors",
    "Response": "records",
    "RunError": "errors",
    "Sampling": "sampling",
    "build_report": "report",
    "compare": "comparison",
    "evaluate": "evaluation",
    "evaluate_scorer": "evals.preferences",
    "inspect_feedback": "inspection",
    "load_feedback": "data",
    "load_scorer": "scorers",
    "sample": "inference",
    "score": "scoring",
    "split_feedback": "data",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'heedful' has no attribute {name!r}")
    value = getattr(import_module(f"heedful.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
