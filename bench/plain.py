"""The honest opponent: one plain PyTorch loop, as a careful person writes it for one task.

Rows of similar length share a forward, padded on the right, so that attention needs no mask; only positions that
predict a response token go through the LM head; each response is read once, behind its own copy of the prompt. Four
losses: `sft`, `reward` (all pairs of a ranking), `dpo` and `slic`. It knows no trees, no adapters, no resume.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid


@dataclass
class Row:
    """Token ids of a prompt and its responses, the best first; `reference`: log-probabilities of the responses."""

    prompt: list[int]
    responses: list[list[int]]
    reference: list[float]

    @property
    def width(self) -> int:
        return len(self.prompt) + max(map(len, self.responses))


class Plain:
    def __init__(self, lm, loss: str, head: Tensor | None = None, *, lr: float, dtype: torch.dtype, micro_tokens: int):
        self.lm, self.loss, self.dtype, self.micro_tokens = lm.train(), getattr(self, loss), dtype, micro_tokens
        self.head = nn.Parameter(head.clone()) if head is not None else None
        weights = [*lm.parameters(), *([self.head] if head is not None else [])]
        self.optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0, fused=True)

    def step(self, rows: Sequence[Row]) -> float:
        """One optimizer step; the loss before it."""
        total = 0.0
        for part in micro_batches(rows, self.micro_tokens):
            with torch.autocast(self.lm.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
                loss = self.loss(part, rows)
            loss.backward()
            total += loss.item()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total

    def sft(self, part: Sequence[Row], rows: Sequence[Row]) -> Tensor:
        return -self.logp(part).sum() / sum(len(row.responses[0]) for row in rows)

    def reward(self, part: Sequence[Row], rows: Sequence[Row]) -> Tensor:
        ids, lengths = padded(part)
        last = self.hidden(ids)[torch.arange(len(ids)), lengths - 1]
        reward = (last.float() @ self.head).view(len(part), -1)
        gaps = [reward[:, better] - reward[:, worse] for better, worse in combinations(range(reward.shape[1]), 2)]
        return -logsigmoid(torch.stack(gaps)).mean(0).sum() / len(rows)

    def dpo(self, part: Sequence[Row], rows: Sequence[Row], beta: float = 0.1) -> Tensor:
        ratio = self.logp(part).sum(1).view(-1, 2) - torch.tensor([row.reference for row in part])
        return -logsigmoid(beta * (ratio[:, 0] - ratio[:, 1])).sum() / len(rows)

    def slic(self, part: Sequence[Row], rows: Sequence[Row], margin: float = 1.0, coef: float = 0.1) -> Tensor:
        logp = self.logp(part).sum(1).view(-1, 2)
        hinge = (margin - logp[:, 0] + logp[:, 1]).clamp_min(0).sum() / len(rows)
        return hinge - coef * logp[:, 0].sum() / sum(len(row.responses[0]) for row in rows)

    def logp(self, part: Sequence[Row]) -> Tensor:
        """[sequences, longest] log-probabilities of the response tokens, 0 elsewhere."""
        ids, lengths = padded(part)
        prompts = torch.tensor([len(row.prompt) for row in part for _ in row.responses])
        place = torch.arange(ids.shape[1] - 1)
        predicts = (place >= prompts[:, None] - 1) & (place < lengths[:, None] - 1)
        logits = self.lm.lm_head(self.hidden(ids)[:, :-1][predicts])
        loss = cross_entropy(logits.float(), ids[:, 1:][predicts], reduction="none")
        return torch.zeros(predicts.shape).masked_scatter(predicts, -loss)

    def hidden(self, ids: Tensor) -> Tensor:
        return self.lm.model(ids, use_cache=False).last_hidden_state


def padded(part: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """[sequences, longest] token ids with zeros on the right, and how long each sequence is."""
    sequences = [torch.tensor(row.prompt + response) for row in part for response in row.responses]
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True), torch.tensor([len(one) for one in sequences])


def micro_batches(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Rows of similar length together, the longest first, at most `budget` padded tokens in each part."""
    part: list[Row] = []
    for row in sorted(rows, key=lambda row: -row.width):
        if part and part[0].width * sum(len(one.responses) for one in [*part, row]) > budget:
            yield part
            part = []
        part.append(row)
    yield part
