"""Which kind of judge the model in a folder is, told without loading it. No torch."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.disk import from_json, sha256
from heedful.errors import ConfigError

REWARD_MODEL, PAIRWISE, POINTWISE = "reward_model", "pairwise", "pointwise"
CLASSIFIERS = ("ForSequenceClassification", "SEQ_CLS")  # how the architecture of one ends, and an adapter's task
ADAPTER = "adapter_config.json"
READ = (ADAPTER, "config.json", "heedful.json", "tokenizer.json", "tokenizer_config.json")
ALLOWED = "a folder that `heedful train reward_model` or `heedful train ranker` wrote"


def model_folder(path: Path, *, allowed: str = ALLOWED) -> Path:
    """The folder with the model, or with its adapter: this one, or its `model` where it is a run's.

    Raises:
        ConfigError: neither holds one.
    """
    folder = path if _config(path) else path / "model"
    if not _config(folder):
        raise ConfigError("the folder holds no model", where=str(path), allowed=allowed)
    return folder


def kind_of(folder: Path) -> str:
    """`REWARD_MODEL`, or the form of a ranker: what config.json, or an adapter's, and heedful.json say.

    Raises:
        ConfigError: the model is neither.
    """
    config = _config(folder)
    assert config, "a model's folder has one"
    try:
        settings = _read(config)
        kinds = [settings["task_type"]] if config.name == ADAPTER else list(settings["architectures"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{config.name} is damaged, or not a model's", where=str(folder), allowed=ALLOWED) from error
    if all(str(kind).endswith(CLASSIFIERS) for kind in kinds):
        return REWARD_MODEL
    known = _read(folder / "heedful.json") if (folder / "heedful.json").is_file() else {}
    form = known["ranker"]["form"] if "ranker" in known else None
    if form in (PAIRWISE, POINTWISE):
        return form
    what = f"found {', '.join(map(str, kinds))}, which is no reward model and no ranker"
    raise ConfigError(what, where=str(folder), allowed=ALLOWED)


def version_of(folder: Path) -> str:
    """The first 12 digits of a sha256 over the weights, the tokenizer and what says how they are read; an adapter's
    heedful.json has the hash of its base."""
    digest = hashlib.sha256()
    beside = [folder / name for name in READ]
    for file in [*sorted(folder.glob("*.safetensors")), *(file for file in beside if file.is_file())]:
        digest.update(sha256(file).encode())
    return digest.hexdigest()[:12]


def _config(folder: Path) -> Path | None:
    """What says which kind of model a folder holds; an adapter's, where there is one, as peft has it."""
    return next((folder / name for name in (ADAPTER, "config.json") if (folder / name).is_file()), None)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return from_json(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path.name} is damaged", where=str(path.parent), allowed=ALLOWED) from error
