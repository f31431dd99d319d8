"""Encoder-decoder models of the T5 family: they read the same batches, the prompt with the encoder, each response as a
row of the decoder.

In a row of a batch everything before the decoder's start token is read by the encoder; the start token, whatever else
follows it before the response, and the response are read by the decoder (text.py puts it there). So the token that
predicts the first one of a response is, as everywhere, the last one of its prompt, and nothing else needs to know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from heedful.batch import TreeBatch
from heedful.errors import RunError

PREFILL_TOKENS = 8192  # prompt tokens encoded in one forward, padding included: bounds the memory of a prefill
# Relative positions, padding that changes nothing, and prompts that end in EOS. BART's begin with BOS and have learned
# positions, and its decoder expects a second token to start with.
FAMILY = ("t5", "mt5", "umt5", "longt5")


def start_token(config: PreTrainedConfig, where: str) -> int | None:
    """The token that a decoder with an encoder starts with; None for a decoder alone.

    Raises:
        RunError: an encoder-decoder of another family, or one that does not say.
    """
    if not config.is_encoder_decoder:
        return None
    if config.model_type not in FAMILY:
        allowed = f"{', '.join(FAMILY)}, which T5, Flan-T5, ByT5 and mT5 are; or a model that has only a decoder"
        raise RunError(f"an encoder-decoder of the type {config.model_type}", where=where, allowed=allowed)
    found: int | None = getattr(config, "decoder_start_token_id", None)
    if found is None or found == config.eos_token_id:
        raise RunError(
            f"its decoder_start_token_id is {found}",
            where=where,
            allowed="a token that no text has, such as that of padding",
            hint="set it in its config.json",
        )
    return found


class _Rows(NamedTuple):
    """Where the rows of encoder and decoder stand in a batch.

    Attributes:
        row: [N] of the batch.
        prompts: [D, E] token ids of each distinct prompt, -1 behind its end.
        prompt_of: [N] which of them a response answers.
        source: [N, L] index in the flattened tokens of the batch of what the decoder reads.
        is_read: [N, L] bool: not behind a row's end.
        is_own: [N, L] bool: read, and not read for an earlier response to the same prompt in the same row of the batch.
    """

    row: Tensor
    prompts: Tensor
    prompt_of: Tensor
    source: Tensor
    is_read: Tensor
    is_own: Tensor


def hidden(lm: PreTrainedModel, batch: TreeBatch, missed: Tensor | None = None) -> Tensor:
    """[B, T, H] last hidden states of the decoder, 0 where the encoder read and in padding.

    A prompt is encoded once, however many responses answer it.

    Args:
        missed: [B, 1, T, T] bool, from masking.py: what a token of the decoder must not see of those before it. Its
            start token stays visible, and so does the prompt to the whole encoder and decoder.
    """
    parts: Any = lm
    rows = _rows(batch, parts.config.decoder_start_token_id)
    is_prompt = rows.prompts >= 0
    encoded = parts.get_encoder()(input_ids=rows.prompts.clamp(min=0), attention_mask=is_prompt).last_hidden_state
    states = parts.get_decoder()(
        input_ids=batch.tokens.flatten()[rows.source] * rows.is_read,
        encoder_hidden_states=encoded.index_select(0, rows.prompt_of),
        encoder_attention_mask=is_prompt.index_select(0, rows.prompt_of),
        # what a row is padded with stands behind every token that is read, and needs no mask
        attention_mask=None if missed is None else _mask(rows, missed, lm.dtype),
        use_cache=False,
    ).last_hidden_state
    own = rows.is_own.flatten().nonzero().squeeze(-1)
    found = torch.zeros(batch.tokens.numel(), states.shape[-1], dtype=states.dtype, device=states.device)
    found = found.index_copy(0, rows.source.flatten()[own], states.flatten(0, 1).index_select(0, own))
    return found.view(*batch.tokens.shape, -1)


def logits(lm: PreTrainedModel, hidden: Tensor) -> Tensor:
    """[M, H] -> [M, V] by the model's own forward round a decoder that answers `hidden`.

    Some of the family scale the decoder's states before the LM head and some do not, and no setting says which for all.
    """
    states = hidden[None]
    with _answering(lm.get_decoder(), states):
        return lm(encoder_outputs=(states,), decoder_inputs_embeds=states, use_cache=False).logits[0]


@contextmanager
def _answering(decoder: Any, states: Tensor) -> Iterator[None]:
    decoder.forward = lambda *_, **__: BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states)
    try:
        yield
    finally:
        del decoder.forward


def _rows(batch: TreeBatch, start: int) -> _Rows:
    length = batch.tokens.shape[1]
    is_prompt = batch.response == -1
    is_encoded = is_prompt & ((batch.tokens == start) & is_prompt).cumsum(1).eq(0)
    num_encoded, num_prompt = is_encoded.sum(1), is_prompt.sum(1)
    assert bool((num_encoded < num_prompt).all()), "a prompt has no start token: its Text was made without `start_id`"
    width = int(num_encoded.max())
    prompts = batch.tokens[:, :width].masked_fill(~is_encoded[:, :width], -1)
    prompts, prompt_of_row = prompts.unique(dim=0, return_inverse=True)

    row = batch.last // length  # [N] from here on
    num_before = (num_prompt - num_encoded)[row]  # the start token, and what a response begins with
    num_response = batch.position.flatten()[batch.last] + 1 - num_prompt[row]
    column = torch.arange(int((num_before + num_response).max()), device=row.device)
    is_before = column < num_before[:, None]
    before = (row * length + num_encoded[row])[:, None] + column
    response = (batch.last + 1 - num_response - num_before)[:, None] + column
    is_read = column < (num_before + num_response)[:, None]
    is_first = torch.cat([row.new_ones(1, dtype=torch.bool), row[1:] != row[:-1]])
    source = torch.where(is_before, before, response).where(is_read, 0)
    return _Rows(row, prompts, prompt_of_row[row], source, is_read, is_read & (~is_before | is_first[:, None]))


def _mask(rows: _Rows, missed: Tensor, dtype: torch.dtype) -> Tensor:
    """[N, 1, L, L], to be added to scores: each token sees those before it in its row that it does not miss."""
    at = rows.source % missed.shape[-1]
    of_row = missed[:, 0].index_select(0, rows.row)
    is_missed = of_row.gather(1, at[:, :, None].expand(-1, -1, of_row.shape[2]))
    is_missed = is_missed.gather(2, at[:, None, :].expand(-1, at.shape[1], -1))
    is_missed[:, :, 0] = False
    unseen = is_missed | torch.ones_like(is_missed).triu(1)
    return torch.zeros(unseen.shape, dtype=dtype, device=at.device).masked_fill(unseen, torch.finfo(dtype).min)[:, None]


Row = tuple[int, ...]


class Decoder:
    """Reads rows one token at a time: what sampling.py draws from such a model.

    Each distinct prompt is encoded once, and its keys and values are made once, then copied for every row. What the
    decoder reads of prompts may differ in length: it is padded on the left.
    """

    def __init__(self, lm: PreTrainedModel, room: int):
        self.lm: Any = lm

    def start(self, prompts: list[Row]) -> tuple[Tensor, Tensor]:
        """Read the prompts; returns logits [B, V], and the last hidden states [B, H] that they were made of."""
        distinct = list(dict.fromkeys(prompts))
        cuts = [prompt.index(self.lm.config.decoder_start_token_id) for prompt in distinct]
        self.encoded, self.is_prompt = self._encode([prompt[:cut] for prompt, cut in zip(distinct, cuts)])
        tokens, self.mask = _padded([prompt[cut:] for prompt, cut in zip(distinct, cuts)], self.lm.device, left=True)
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        row_of = {prompt: row for row, prompt in enumerate(distinct)}
        order = [row_of[prompt] for prompt in prompts]
        logits, states = self._read(tokens)
        self.keep(order)
        return logits[order], states[order]

    def step(self, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """Read one token per row; returns what `start` does."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        return self._read(torch.tensor(tokens, device=self.lm.device)[:, None])

    def keep(self, order: list[int]) -> None:
        """Row i of the next step is row order[i] of the last."""
        self.cache.batch_select_indices(torch.tensor(order, device=self.lm.device))
        self.mask, self.encoded, self.is_prompt = self.mask[order], self.encoded[order], self.is_prompt[order]

    def _encode(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """The hidden states [B, E, H] of each row's prompt, each distinct one encoded once, and where they are."""
        distinct = {row: place for place, row in enumerate(dict.fromkeys(rows))}
        tokens, mask = _padded(list(distinct), self.lm.device)
        size = max(1, PREFILL_TOKENS // tokens.shape[1])
        encode, parts = self.lm.get_encoder(), zip(tokens.split(size), mask.split(size))
        states = torch.cat([encode(input_ids=ids, attention_mask=own).last_hidden_state for ids, own in parts])
        order = [distinct[row] for row in rows]
        return states[order], mask[order]

    def _read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        states = self.lm.get_decoder()(
            input_ids=tokens,
            attention_mask=self.mask,
            encoder_hidden_states=self.encoded,
            encoder_attention_mask=self.is_prompt,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return logits(self.lm, states), states


def _padded(rows: list[Row], device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Rows as tokens [B, W], and bool [B, W] where they are."""
    width = max(map(len, rows))
    fill = [(0,) * (width - len(row)) for row in rows]
    tokens = [blank + row if left else row + blank for row, blank in zip(rows, fill)]
    columns, lengths = torch.arange(width), torch.tensor([[len(row)] for row in rows])
    mask = columns >= width - lengths if left else columns < lengths
    return torch.tensor(tokens, device=device), mask.to(device)
