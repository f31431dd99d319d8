"""Recipes: a YAML file of the user's, one that ships with heedful, or a folder of those with a file a method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "recipes"
COMMON = "common"  # what a folder's methods share


def shipped() -> list[str]:
    """Names of the recipes that come with heedful: `pep8/conditional`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def settings(
    recipe: str | None, method: str, changes: Sequence[str], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The settings of a recipe laid over those of a task, and `--set` over both.

    Args:
        recipe: a path, the name of a shipped recipe, that of a shipped folder (`hh`: what its methods share, and what
            it has for this one over it), or nothing.
        base: what holds where neither says otherwise.
    """
    from heedful.config import merge, override, read_yaml

    found = dict(base or {})
    for path in _find(recipe, method) if recipe is not None else ():
        found = merge(found, read_yaml(path))
    return override(found, changes)


def _find(recipe: str, method: str) -> list[Path]:
    """The files of a recipe, each to be laid over the one before."""
    from heedful.config import unknown

    if Path(recipe).is_file():
        return [Path(recipe)]
    name = recipe.removesuffix(".yaml").removeprefix("recipes/").rstrip("/")
    names = shipped()
    if name in names:
        return [FOLDER / f"{name}.yaml"]
    if parts := [part for part in (f"{name}/{COMMON}", f"{name}/{method}") if part in names]:
        return [FOLDER / f"{part}.yaml" for part in parts]
    folders = sorted({name.partition("/")[0] for name in names})
    raise unknown(recipe, "recipe", ["a YAML file", *folders, *names])
