"""The methods by name, each one file: NEEDS, TRAINING (the loop's settings where the paper's are not its defaults),
FEEDBACK, Config with the paper's defaults, build(config, inputs) -> Method."""

import importlib
from types import ModuleType

from heedful.config import Strict, unknown
from heedful.scorers import JUDGING as JUDGING  # those whose models score text and write none

METHODS = {
    "mle": "train on everything, whatever was said of it",
    "sft": "imitate the demonstrations, or the best response to each prompt",
    "filtering": "imitate only what scores above a quantile",
    "conditional": "learn p(text | good) and p(text | bad), then ask for good",
    "unlikelihood": "imitate good segments, push bad ones away",
    "rwr": "weigh text by its exponentiated reward",
    "awr": "weigh text by how much better it is than expected",
    "reward_model": "score responses as people compared them",
    "ranker": "tell which of two responses is better, or whether one is good",
    "slic_hf": "make better responses likelier than worse ones by a margin",
    "dpo": "make better responses likelier than worse ones, measured from the start",
    "kto": "make good responses likelier and bad ones less, one at a time",
    "chain_of_hindsight": "learn chains of better and worse responses with what was said of them",
    "rl_start": "imitate the demonstrations a little, with some plain text: where PPO starts",
    "ppo": "follow the reward of its own samples, held near the start; with documents PPO-ptx",
    "rloo": "follow the reward of its own samples, each held against the others to its prompt",
    "grpo": "follow the reward of its own samples, in units of how much those to one prompt differ",
    "hir": "learn each of its own answers behind the instruction that it turned out to follow, then ask for good ones",
    "farl": "imitate its own answers that were judged good",
    "rest_em": "imitate those of its own samples that are right, from the start anew each round",
    "raft": "imitate the best of several of its own samples, again and again",
    "refiner": "mend a response as its critique says, or write the critique",
    "ilf": "imitate its own samples as a refiner mends them by what was said of them",
}

STARTING = ("rl_start",)  # make a model for others to start from: compared where they are asked for by name
HELPING = (*JUDGING, "refiner")  # those with nothing to rank beside the others

ANY_SCORER = "module:function"

# Read where there is any, and never enough.
BESIDE = dict.fromkeys(("chain_of_hindsight", "ppo"), frozenset({"documents"}))


def load_method(name: str) -> ModuleType:
    """The module of a method.

    Raises:
        ConfigError: no such method; names the nearest.
    """
    if name not in METHODS:
        raise unknown(name, "method", list(METHODS))
    return importlib.import_module(f"heedful.methods.{name}")


def feedback_of(name: str, config: Strict | None = None) -> frozenset:
    """The kinds of feedback of which any one is enough: `FEEDBACK`, or what the method's `feedback` makes of its
    settings, where they decide."""
    module = load_method(name)
    return module.feedback(config) if config is not None and hasattr(module, "feedback") else module.FEEDBACK


def feedback_with_judge(name: str) -> frozenset:
    """The same where `method.judge` is a scorer that has not to be trained first; `FEEDBACK` where nobody judges."""
    module = load_method(name)
    return feedback_of(name, module.Config(judge=ANY_SCORER) if "judge" in module.NEEDS else None)
