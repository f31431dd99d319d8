"""A reward model: the number it gives to a response, and to each part of one.

The exported head gives rewards as they were trained, which no comparison can tell from the same ones shifted. What is
subtracted from them here, so that demonstrations have 0 on average, is `heedful_reward_offset` in config.json.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from heedful.batch import Branch, Group, collate
from heedful.errors import ConfigError, DataError, RunError
from heedful.export import load_info
from heedful.frozen import read
from heedful.method import Head
from heedful.models import identify_tokenizer, load_tokenizer, ordinary_ids, read_weights, require_embedded
from heedful.policy import Policy, context_length, switch_off_dropout
from heedful.probing import PROBE_TOLERANCE
from heedful.records import Feedback, Message
from heedful.text import Text

log = logging.getLogger(__name__)

OFFSET = "heedful_reward_offset"  # in config.json
CUT = "response cut to the context (kept)"  # as text.py counts it
AT_ONCE = 16  # responses to one prompt in a tree: its mask grows with their square
CENTRED_BY = 256  # records at most whose mean is the offset, to a 16th of a standard deviation; all were a third epoch


def token_rewards(policy: Policy, groups: Sequence[Group]) -> list[list[Tensor]]:
    """The reward head at each token of each branch, by group, on the CPU, without dropout and without the offset."""
    return read(policy, groups, lambda policy, batch: policy.heads["reward"](policy.hidden(batch).flatten(0, 1)))


class Reply(NamedTuple):
    """A response in pieces that are tokenised apart, what it answers, and whether it ended by itself."""

    prompt: str | tuple[Message, ...]
    pieces: tuple[str, ...]
    finished: bool
    id: str

    def lengths(self, text: Text) -> list[int]:
        """Tokens up to the end of each piece, without EOS."""
        continues = self.prompt != ""
        sizes = [
            len(text.encode_response(piece, finished=False, continues=continues or n > 0))
            for n, piece in enumerate(self.pieces)
        ]
        return list(accumulate(sizes))

    def branch(self, text: Text) -> Branch:
        """Its tokens; one that was cut before its first token is read as one that ended there."""
        options = {"continues": self.prompt != ""}
        tokens = text.encode_response(*self.pieces, finished=self.finished, **options)
        return Branch(tokens or text.encode_response(finished=True), {})


@dataclass(frozen=True)
class RewardModel:
    """A reward model from a folder.

    Args:
        offset: subtracted from every reward.
    """

    policy: Policy
    text: Text
    offset: float

    @property
    def num_cut(self) -> int:
        """Responses that were cut to the context so far."""
        return self.text.drops.counts.get(CUT, 0)

    def leaves_room(self, prompt: str | tuple[Message, ...]) -> bool:
        """Whether a response can follow the prompt in the context; `rewards` refuses one that leaves none."""
        return len(self.text.encode_prompt(prompt)) < self.text.max_length

    def rewards(self, replies: Sequence[Reply]) -> list[list[float]]:
        """For each reply the reward up to the end of each piece; the last is that of the response, EOS and all.

        A piece that the context cuts off has the reward of what is left; one without a token, that of the piece before.

        Raises:
            DataError: a prompt leaves no room for a response; names it.
        """
        groups = []
        for _, same in groupby(replies, key=lambda reply: reply.prompt):
            members = list(same)
            groups += [_group(members[n : n + AT_ONCE], self.text) for n in range(0, len(members), AT_ONCE)]
        every = [values for branches in token_rewards(self.policy, groups) for values in branches]
        return [self._at_ends(reply, values) for reply, values in zip(replies, every, strict=True)]

    def _at_ends(self, reply: Reply, values: Tensor) -> list[float]:
        ends = [*(min(end, len(values)) for end in reply.lengths(self.text)[:-1]), len(values)]
        return [float(values[end - 1]) - self.offset if end else 0.0 for end in ends]


def _group(replies: Sequence[Reply], text: Text) -> Group:
    first = replies[0]
    branches = [reply.branch(text) for reply in replies]
    group = text.fit(first.id, text.encode_prompt(first.prompt), branches)
    if group is None:
        raise DataError(
            "its prompt leaves no room for a response in the reward model's context",
            where=first.id,
            allowed=f"a prompt of fewer than {text.max_length} tokens",
        )
    return group


class Centre(NamedTuple):
    """The mean reward of some responses: which ones, how many, and tokens read for it."""

    offset: float
    over: str
    num_responses: int
    num_tokens: int


def centre(policy: Policy, text: Text, feedback: Sequence[Feedback], trained: Sequence[Feedback]) -> Centre:
    """The mean reward of the demonstrations of the feedback; where none fits the context, of the trained responses.

    Of no more than `CENTRED_BY` records, evenly spaced: no comparison sees the offset.
    """
    own = text.within(text.max_length)  # what it drops was not lost to training
    shown = [record for record in feedback if any(response.demonstration for response in record.responses)]
    groups = _spaced([group for record in shown for group in _responses(record, own, demonstration=True)])
    over = "demonstrations" if groups else "training responses"
    groups = groups or _spaced([group for record in trained for group in _responses(record, own)])
    rewards = [float(values[-1]) for branches in token_rewards(policy, groups) for values in branches]
    return Centre(sum(rewards) / len(rewards), over, len(rewards), sum(group.num_tokens for group in groups))


def _spaced(groups: Sequence[Group]) -> Sequence[Group]:
    return groups[:: math.ceil(len(groups) / CENTRED_BY) or 1]


def _responses(record: Feedback, text: Text, *, demonstration: bool = False) -> list[Group]:
    chosen = [response for response in record.responses if response.demonstration or not demonstration]
    branches = [Reply(record.prompt, r.pieces, not r.truncated, record.id).branch(text) for r in chosen]
    group = text.fit(record.id, text.encode_prompt(record.prompt), branches) if branches else None
    return [group] if group else []


# From a folder


def load_reward_model(path: str | Path, *, device: torch.device | str = "cpu") -> RewardModel:
    """A reward model from a folder: ours, or any with one label read at the last token.

    Raises:
        RunError: no such model, damaged weights, or one that scores in another way.
    """
    lm: Any = read_weights(AutoModelForSequenceClassification, path, torch.float32)
    head = getattr(lm, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None or head.out_features != 1:
        raise RunError(f"{type(lm).__name__} does not end in one number", where=str(path), allowed="num_labels = 1")
    policy = Policy(lm, {"reward": Head(bias=False)})
    policy.heads["reward"].linear.weight = head.weight
    policy.to(device).eval()
    _probe(policy, str(path))
    info = load_info(path)
    context = info["max_length"] if info else context_length(lm)
    if context is None:
        raise RunError("the reward model does not say how long its context is", where=str(path))
    tokenizer = load_tokenizer(path)
    require_embedded(policy.lm, ordinary_ids(tokenizer), path)
    text = Text(tokenizer, max_length=context)
    offset = getattr(lm.config, OFFSET, info.get("reward_offset", 0.0))  # an adapter's config.json is its base's
    return RewardModel(policy, text, offset)


def load_critic(path: str | Path, text: Text) -> Policy:
    """A value network that starts as a reward model: what it says before a token is what it would say of the response
    so far, its offset subtracted, as the scorer does (Stiennon et al. 2020, section 3.4; InstructGPT, appendix C.4).

    Args:
        text: of the policy whose tokens it reads.
    Raises:
        ConfigError: it reads other tokens. RunError: as `load_reward_model`.
    """
    found = load_reward_model(path)
    if identify_tokenizer(found.text.tokenizer) != identify_tokenizer(text.tokenizer):
        raise ConfigError(
            f"the reward model {path} has another tokenizer than the policy, whose tokens a critic reads",
            where="method.critic",
            hint="set method.critic=shared: the reward model still scores, as it reads text",
        )
    critic = Policy(found.policy.lm, {"value": Head(detach=False)})
    reward: Any = found.policy.heads["reward"].linear
    value: Any = critic.heads["value"].linear
    value.load_state_dict({"weight": reward.weight, "bias": torch.tensor([-found.offset])})
    reward.requires_grad_(False)  # it stays in the model and is not read
    critic.reads_trees = found.policy.reads_trees
    switch_off_dropout(critic.lm)
    return critic


@torch.no_grad()
def _probe(policy: Policy, where: str) -> None:
    """Compare our reading with the model's own on two rows; read plain rows only where trees differ."""
    lm: Any = policy.lm
    pad, vocabulary = lm.config.get_text_config().pad_token_id, lm.get_input_embeddings().weight.shape[0]
    ids = [id for id in ((7 * i + 3) % vocabulary for i in range(13)) if id != pad][:12]
    group = Group("probe", ids[:4], [Branch(ids[4:8], {}), Branch(ids[8:], {})])
    rows = torch.tensor([[*group.prompt, *branch.tokens] for branch in group.branches], device=lm.device)
    own = lm(rows, use_cache=False).logits[:, 0].cpu()
    plain = _at_last(policy, group, tree=False)
    if not torch.allclose(plain, own, atol=PROBE_TOLERANCE):
        raise RunError(f"{type(lm).__name__} does not read its reward at the last token", where=where)
    try:
        difference = (_at_last(policy, group, tree=True) - plain).abs().max().item()
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        log.warning("%s does not read tree batches (%s); using one response per row", type(lm).__name__, error)
        difference = math.inf
    policy.reads_trees = difference <= PROBE_TOLERANCE


def _at_last(policy: Policy, group: Group, *, tree: bool) -> Tensor:
    batch = collate([group], tree=tree).to(policy.lm.device)
    return policy.heads["reward"](policy.hidden(batch).flatten(0, 1).index_select(0, batch.last)).cpu()
