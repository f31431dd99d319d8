"""Recipes: a YAML file of the user's, or one that ships with heedful."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recipes"


def shipped() -> list[str]:
    """Names of the recipes that come with heedful: `pep8/conditional`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def settings(
    recipe: str | None, method: str, changes: Sequence[str], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of a recipe laid over those of a task, and `--set` over both.

    Args:
        recipe: a path, the name of a shipped recipe, with or without the method's name before it, or nothing.
        base: what holds where neither says otherwise.
    """
    from heedful.config import merge, override, read_yaml

    own = read_yaml(_find(recipe, method)) if recipe is not None else {}
    return override(merge(base or {}, own), changes)


def _find(recipe: str, method: str) -> Path:
    from heedful.config import unknown

    if Path(recipe).is_file():
        return Path(recipe)
    name = recipe.removesuffix(".yaml").removeprefix("recipes/")
    names = shipped()
    for candidate in (name, f"{method}/{name}"):
        if candidate in names:
            return FOLDER / f"{candidate}.yaml"
    raise unknown(recipe, "recipe", ["a YAML file", *names])
