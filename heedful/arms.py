"""The arms of a comparison: a method, or one of its variants, and what has to be trained before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from heedful.config import unknown
from heedful.errors import ConfigError
from heedful.methods import HELPING, JUDGING, METHODS, load_method
from heedful.results import label
from heedful.tasks import Task
from heedful.training import read_settings

ALL = "all"  # asks for every arm the task has
BEST_OF_N = "best_of_n"  # trains nothing: the base answers often, and its variant names what picks


@dataclass(frozen=True)
class Arm:
    """One thing to compare; a task knows the feedback and the settings of `name`."""

    method: str
    variant: str = ""

    @property
    def name(self) -> str:
        """`sft/labelers`."""
        return label(self.method, self.variant)

    def needs(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """What must be trained first, by the role it has: {"judge": "ranker"}.

        A setting of a role in NEEDS that names a method, or a variant of one, asks for a model trained by it; a folder
        is one that there is.
        """
        if self.method == BEST_OF_N:
            return {"judge": self.variant if self.variant in JUDGING else label("reward_model", self.variant)}
        own = read_settings(self.method, settings)[0].method
        return {role: own[role] for role, able in load_method(self.method).NEEDS.items() if _names(own[role], able)}

    def tier(self, settings: Mapping[str, Any]) -> Literal[1, 2, 3]:
        """1 where labels alone teach it, 2 where a model trained on them judges for it, 3 where a scorer by name does,
        or a model that was trained on other labels, which is a variant's."""
        if self.method == BEST_OF_N:
            return 2 if self.variant in JUDGING else 3
        own = read_settings(self.method, settings)[0].method
        judges = [(own[role], able) for role, able in load_method(self.method).NEEDS.items() if own[role]]
        if all(name in able or Path(name).is_dir() for name, able in judges):
            return 2 if judges else 1
        return 3


def _names(setting: str | None, able: Sequence[str]) -> bool:
    """Whether a setting names one of these methods, or a variant of one."""
    return setting is not None and setting.partition("/")[0] in able


def read_arms(names: Sequence[str] | None, task: Task) -> list[Arm]:
    """Arms by name: those of the task where none are asked for, all it has for `all`.

    Raises:
        ConfigError: no such method or variant, or one that writes no text; none, or one twice.
    """
    names = task.methods if names is None else task.every if list(names) == [ALL] else names
    for name in names:
        _check(name, task)
    if not 0 < len(names) == len(set(names)):
        raise ConfigError(f"found {', '.join(names) or 'none'}", where="--methods", allowed="each method once")
    return [Arm(method, variant) for method, _, variant in (name.partition("/") for name in names)]


def _check(name: str, task: Task) -> None:
    if name in HELPING:
        answering = f"{BEST_OF_N}/{name}"
        use = "train it, then --judge its run" if name in JUDGING else "a method that needs it has it trained first"
        hint = f"{answering} answers with it" if answering in task.every else use
        raise ConfigError(f"{name} writes no text to compare", where="--methods", hint=hint)
    if name not in (known := dict.fromkeys([*METHODS, *task.every])):
        raise unknown(name, "method", [*known, ALL], where="--methods")
