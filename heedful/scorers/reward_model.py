"""A trained reward model as a scorer, by its folder or its run's. torch is imported when the first text is scored."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import ConfigError
from heedful.records import Score
from heedful.scorers.folder import REWARD_MODEL, kind_of, model_folder, version_of
from heedful.scorers.protocol import Item

if TYPE_CHECKING:
    from heedful.reward import RewardModel


class RewardModelScorer:
    """The reward of a response, above that of the average demonstration where the model knows it.

    A response too long for the model's context is cut at its end, as in training, with a warning that counts such ones.

    Args:
        path: a folder with a reward model, or a run's whose `model` is one.
    """

    name = "reward_model"
    needs: frozenset[str] = frozenset()

    def __init__(self, path: str | Path):
        self.path = model_folder(Path(path))
        if kind_of(self.path) != REWARD_MODEL:
            raise ConfigError("found a ranker, which is no reward model", where=str(path))
        self.version = version_of(self.path)

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

    def leaves_room(self, item: Item) -> bool:
        """Whether a response can follow the item's prompt in the model's context."""
        return self.model.leaves_room(item.turns or item.prompt)

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
