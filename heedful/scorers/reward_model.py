"""A trained reward model as a scorer, by its folder or its run's. torch is imported when the first text is scored."""

import hashlib
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.disk import from_json, sha256
from heedful.errors import ConfigError
from heedful.records import Score
from heedful.scorers.protocol import Item

if TYPE_CHECKING:
    from heedful.reward import RewardModel

ADAPTER = "adapter_config.json"
KINDS = ("ForSequenceClassification", "SEQ_CLS")  # how the architecture of a reward model ends, and an adapter's task


class RewardModelScorer:
    """The reward of a response, above that of the average demonstration where the model knows it.

    A response too long for the model's context is cut at its end, as in training, with a warning that counts such ones.

    Args:
        path: a folder with a reward model, or a run's whose `model` is one.
    """

    name = "reward_model"
    needs: frozenset[str] = frozenset()

    def __init__(self, path: str | Path):
        self.path = _model_folder(Path(path))
        self.version = _version(self.path)

    @cached_property
    def model(self) -> "RewardModel":
        """The model itself, on CUDA where there is any."""
        from heedful.models import best_device
        from heedful.reward import load_reward_model

        return load_reward_model(self.path, device=best_device())

    def score(self, item: Item) -> Score:
        """The reward of one response."""
        return self.score_batch([item])[0]

    def score_batch(self, items: Sequence[Item]) -> list[Score]:
        """The reward of each response; a prompt that several share is read once, where that is faster."""
        rewards = (values[-1] for values in self.piece_rewards(items))
        return [Score(self.name, value, self.version, length=len(i.response)) for i, value in zip(items, rewards)]

    def piece_rewards(self, items: Sequence[Item]) -> list[list[float]]:
        """For each item the reward up to the end of each of its pieces, the last with EOS where the response ended."""
        from heedful.reward import Reply

        replies = [Reply(i.turns or i.prompt, i.pieces or (i.response,), not i.truncated, i.id) for i in items]
        before = self.model.num_cut
        rewards = self.model.rewards(replies)
        if cut := self.model.num_cut - before:
            context = self.model.text.max_length
            warnings.warn(f"{cut} of {len(items)} responses cut to {context} tokens before scoring", stacklevel=2)
        return rewards


def _model_folder(path: Path) -> Path:
    """The folder with the model, or with its adapter; tells a wrong one before anything is loaded."""
    folder = path if _config(path) else path / "model"
    allowed = "a folder that `heedful train reward_model` wrote"
    config = _config(folder)
    if config is None:
        raise ConfigError("the folder holds no model", where=str(path), allowed=allowed)
    try:
        settings = from_json(config.read_bytes())
        kinds = [settings["task_type"]] if config.name == ADAPTER else [str(kind) for kind in settings["architectures"]]
    except (ValueError, KeyError, TypeError) as error:
        what = f"{config.name} is damaged, or not a model's"
        raise ConfigError(what, where=str(folder), allowed=allowed) from error
    if not all(str(kind).endswith(KINDS) for kind in kinds):
        found = f"found {', '.join(map(str, kinds))}, which is no reward model"
        raise ConfigError(found, where=str(folder), allowed=allowed)
    return folder


def _config(folder: Path) -> Path | None:
    """What says which kind of model a folder holds; an adapter's, where there is one, as peft has it."""
    return next((folder / name for name in (ADAPTER, "config.json") if (folder / name).is_file()), None)


def _version(folder: Path) -> str:
    """The first 12 digits of a sha256 over the weights and what holds the offset; an adapter's names its base's too."""
    digest = hashlib.sha256()
    names = (ADAPTER, "heedful.json") if (folder / ADAPTER).is_file() else ("config.json",)
    beside = [folder / name for name in names]
    for file in [*sorted(folder.glob("*.safetensors")), *(file for file in beside if file.is_file())]:
        digest.update(sha256(file).encode())
    return digest.hexdigest()[:12]
