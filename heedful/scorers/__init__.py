"""A number for a text: pycodestyle's findings, a right answer, a trained judge, or your own function. No torch here."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from heedful.errors import ConfigError
from heedful.scorers.folder import PAIRWISE, POINTWISE, REWARD_MODEL, kind_of, model_folder
from heedful.scorers.function import load_function
from heedful.scorers.protocol import Comparer, Item, Scorer, item_of, leaves_room
from heedful.scorers.ranker import PairwiseRanker, PointwiseRanker
from heedful.scorers.reward_model import RewardModelScorer
from heedful.scorers.run import ScoreCache, num_calls, score_all

__all__ = [
    "SCORERS",
    "Comparer",
    "Item",
    "RewardModelScorer",
    "ScoreCache",
    "Scorer",
    "item_of",
    "leaves_room",
    "load_scorer",
    "num_calls",
    "score_all",
]

SCORERS = {  # by name: where it lives; imported when asked for
    "exact_match": "heedful.scorers.exact_match:ExactMatch",
    "pep8_chars": "heedful.scorers.pep8:PEP8Chars",
    "pep8_lines": "heedful.scorers.pep8:PEP8Lines",
}

JUDGING = ("reward_model", "ranker")  # methods whose models score text and write none
TRAINED: Mapping[str, Callable[[str], Scorer]] = {  # what is in a folder -> the scorer of that folder
    REWARD_MODEL: RewardModelScorer,
    PAIRWISE: PairwiseRanker,
    POINTWISE: PointwiseRanker,
}


def load_scorer(name: str) -> Scorer:
    """A scorer by name, a reward model or ranker by its folder or its run's, or your own function by
    `module:function`.

    A name that does not exist is a ConfigError at once, before anything is scored.
    """
    if name in SCORERS:
        module, _, attribute = SCORERS[name].partition(":")
        return getattr(import_module(module), attribute)()
    if Path(name).is_dir():
        return TRAINED[kind_of(model_folder(Path(name)))](name)
    if ":" in name:
        return load_function(name)
    if name in JUDGING:
        raise ConfigError(
            f"{name} is a method, and what judges is a model that it trained",
            allowed="the folder of its run",
            hint=f"heedful train {name} --feedback FILE --out runs/{name}, and then runs/{name}",
        )
    close = get_close_matches(name, SCORERS, n=1)
    raise ConfigError(
        f"unknown scorer {name!r}",
        allowed=f"one of {', '.join(SCORERS)}, the folder of a reward model or ranker, or module:function",
        hint=f"did you mean {close[0]!r}?" if close else "",
    )
