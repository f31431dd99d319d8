"""Recipes: a YAML file of the user's, or one that ships with heedful."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recipes"


def shipped() -> list[str]:
    """Names of the recipes that come with heedful: `pep8/conditional`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def settings(recipe: str | None, method: str, changes: Sequence[str]) -> dict[str, Any]:
    """The settings of a recipe with `--set` laid over them.

    Args:
        recipe: a path, the name of a shipped recipe, with or without the method's name before it, or nothing.
    """
    from heedful.config import override, read_yaml

    return override(read_yaml(_find(recipe, method)) if recipe is not None else {}, changes)


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
