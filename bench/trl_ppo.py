"""The passes of an update in TRL 1.9's PPO, written plainly: TRL 1.16 has no PPO, so that it cannot run beside heedful
as its other trainers do.

As there (trl/experimental/ppo/ppo_trainer.py, `train` and `PolicyAndValueWrapper`): a row is a prompt, padded on the
left, and its response, padded on the right; the value model's trunk and the policy both read all rows, with a mask, the
positions, and every layer's states kept; all positions go through the LM head, and those of the response are cut out; a
micro-batch's losses are means over its own tokens, and micro-batches count alike; ratios, entropy over the whole
vocabulary and shares of clipped tokens are measured in each; an optimizer step without clipping of gradients.

Not as there, and in its favour: rows of similar length share a micro-batch, which is padded to its own longest prompt
and not to the longest of the round, unless `in_order`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TEMPERATURE = 1.0 + 1e-7
OUTSIDE = 1.0  # the log-probability of padding


@dataclass
class Rollout:
    """One response: token ids, and numbers of each of its tokens."""

    prompt: list[int]
    response: list[int]
    old_logp: list[float]
    old_value: list[float]
    advantage: list[float]
    returns: list[float]


class TrlPPO:
    """A policy and a value model that learn from rollouts.

    Args:
        trunk: of the value model; the policy's own for a head on the shared trunk, which it reads twice.
        micro: rows of a micro-batch.
        dtype: bf16 is autocast.
        in_order: rows as they come, padded to the longest prompt of the round.
    """

    def __init__(
        self, lm, trunk, head: nn.Module, *, optim: dict, micro: int, dtype: torch.dtype, in_order: bool = False
    ):
        self.lm, self.trunk, self.head = lm.train(), trunk.train(), head
        self.micro, self.dtype, self.in_order = micro, dtype, in_order
        weights = {id(p): p for part in (lm, trunk, head) for p in part.parameters()}
        self.optimizer = torch.optim.AdamW(weights.values(), fused=True, weight_decay=0.0, **optim)

    def step(self, rows: Sequence[Rollout], *, width: int, clip: float, value_clip: float, vf_coef: float) -> float:
        """One optimizer step; the loss before it.

        Args:
            width: the longest prompt of the round.
        """
        parts = list(self._parts(rows))
        losses = []
        for part in parts:
            with torch.autocast(self.lm.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
                loss = self._loss(part, width if self.in_order else 0, clip, value_clip, vf_coef)
            (loss / len(parts)).backward()
            losses.append(loss.item())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return sum(losses) / len(parts)

    def _parts(self, rows: Sequence[Rollout]) -> Iterator[Sequence[Rollout]]:
        rows = rows if self.in_order else sorted(rows, key=lambda row: -len(row.prompt))
        return (rows[at : at + self.micro] for at in range(0, len(rows), self.micro))

    def _loss(self, part: Sequence[Rollout], width: int, clip: float, value_clip: float, vf_coef: float) -> Tensor:
        ids, is_token, length = _rows(part, width)
        old_logp, old_value, advantage, returns, mask = _numbers(part, length)
        position = is_token.cumsum(1) - is_token.long()
        reads = {"input_ids": ids, "attention_mask": is_token, "position_ids": position}
        reads |= {"return_dict": True, "output_hidden_states": True, "use_cache": False}

        value = self.head(self.trunk(**reads).hidden_states[-1])[:, -length - 1 : -1, 0]
        logits = self.lm(**reads).logits[:, -length - 1 : -1] / TEMPERATURE
        logp = logits.gather(-1, ids[:, -length:, None])[..., 0] - logits.logsumexp(-1)
        logp = logp.masked_fill(~mask, OUTSIDE)
        value = value.masked_fill(~mask, 0.0)

        near = torch.clamp(value, old_value - value_clip, old_value + value_clip)
        errors, near_errors = (value - returns).square(), (near - returns).square()
        value_loss = 0.5 * _mean(torch.maximum(errors, near_errors), mask)
        gap = logp - old_logp
        ratio = gap.exp()
        free, clipped = -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
        policy_loss = _mean(torch.maximum(free, clipped), mask)
        with torch.no_grad():
            entropy = logits.logsumexp(-1) - (logits.softmax(-1) * logits).sum(-1)
            shares = [_mean((one > other).float(), mask) for one, other in ((clipped, free), (near_errors, errors))]
            self.metrics = [0.5 * gap.square().mean(), ratio.mean(), entropy.mean(), *shares]
        return policy_loss + vf_coef * value_loss


def _rows(part: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor, int]:
    """Token ids [B, W], where there are tokens, and how many columns are of responses."""
    width, length = max(width, *(len(row.prompt) for row in part)), max(len(row.response) for row in part)
    ids, is_token = (torch.zeros(len(part), width + length, dtype=kind) for kind in (torch.long, torch.bool))
    for n, row in enumerate(part):
        first, stop = width - len(row.prompt), width + len(row.response)
        ids[n, first:stop] = torch.tensor(row.prompt + row.response)
        is_token[n, first:stop] = True
    return ids, is_token, length


def _numbers(part: Sequence[Rollout], length: int) -> list[Tensor]:
    """[B, length] each: old log-probabilities, old values, advantages, returns, and where there are tokens."""
    kinds = [[getattr(row, name) for row in part] for name in ("old_logp", "old_value", "advantage", "returns")]
    outside = (OUTSIDE, 0.0, 0.0, 0.0)
    numbers = [
        torch.tensor([[*own, *[fill] * (length - len(own))] for own in kind]) for kind, fill in zip(kinds, outside)
    ]
    sizes = torch.tensor([[len(row.response)] for row in part])
    return [*numbers, torch.arange(length) < sizes]


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()
