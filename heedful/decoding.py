"""Reading tokens one at a time with any Hugging Face language model: what sampling.py draws from.

A prompt's keys and values are computed and kept once, however many rows continue it; what follows a prompt lives in
tensors allocated once; rows that are done make room. Where a model cannot work so, which is found out by trying, a
slower way gives the same logits. An encoder-decoder has a reader of its own, in encoder_decoder.py.
"""

import contextlib
import functools
import inspect
import math
import platform
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.masking_utils import sdpa_mask

from heedful import encoder_decoder

PREFILL_TOKENS = 8192  # prompt tokens encoded in one forward, padding included: bounds the memory of a prefill
PLAIN_LOGITS = 2**26  # logits of one forward without a cache: 256 MB in float32
ONEDNN_ROWS = 16  # below it MKL is the faster one (Zen 5, float32: 0.26 against 0.46 ms at one row)
SHARED = "heedful_shared_prompt"  # our attention's name in Hugging Face's register


class _Forks:
    """Which prompt each row continues: row b has place[b] in [G prompts, K forks], flattened."""

    def __init__(self, prompt_of: list[int], num_prompts: int, device: torch.device):
        seen = [0] * num_prompts
        forks = []
        for prompt in prompt_of:
            forks.append(seen[prompt])
            seen[prompt] += 1
        self.prompt_of, self.shape = prompt_of, (num_prompts, max(seen))
        places = [prompt * max(seen) + fork for prompt, fork in zip(prompt_of, forks)]
        self.is_full = places == list(range(num_prompts * max(seen)))
        self.place = torch.tensor(places, device=device)

    def gather(self, x: Tensor) -> Tensor:
        """Rows [B, H, R, W] as [G, H, K * R, W]; absent forks are 0."""
        if not self.is_full:
            x = x.new_zeros(math.prod(self.shape), *x.shape[1:]).index_copy_(0, self.place, x)
        return x.unflatten(0, self.shape).transpose(1, 2).flatten(2, 3)

    def scatter(self, x: Tensor) -> Tensor:
        """[G, H, K * R, W] as rows [B, H, R, W]."""
        x = x.unflatten(2, (self.shape[1], -1)).transpose(1, 2).flatten(0, 1)
        return x if self.is_full else x[self.place]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer: each prompt once, and of each row what follows its prompt.

    Prompts are [G, H, D, P] (keys) and [G, H, P, D], rows [B, H, room, D], allocated once; a step writes one slot.
    Every position is kept: Hugging Face's own mask hides what lies outside a sliding window.
    """

    is_sliding = False
    keys: Tensor
    values: Tensor
    forks: _Forks

    def __init__(self, prompts: list[Any], width: int, num_rows: int, room: int, is_shared: bool):
        super().__init__()
        self.is_initialized, self.is_shared, self.width, self.num_read = True, is_shared, width, 0
        first, num = prompts[0], sum(len(layer.keys) for layer in prompts)
        _, heads, _, size = first.keys.shape
        self.prompt_keys = first.keys.new_zeros(num, heads, size, width)
        self.prompt_values = first.values.new_zeros(num, heads, width, first.values.shape[3])
        start = 0
        for layer in prompts:
            end, pad = start + len(layer.keys), width - layer.keys.shape[2]
            self.prompt_keys[start:end, :, :, pad:] = layer.keys.transpose(2, 3)
            self.prompt_values[start:end, :, pad:] = layer.values
            start = end
        self.keys = first.keys.new_empty(num_rows, heads, room, size)
        self.values = first.values.new_empty(num_rows, heads, room, first.values.shape[3])

    def keep(self, rows: list[int], prompts: list[int]) -> None:
        """Place i is taken by row rows[i] (prompt prompts[i]); what is left over goes."""
        for name, order in (("keys", rows), ("values", rows), ("prompt_keys", prompts), ("prompt_values", prompts)):
            tensor = getattr(self, name)
            places = [i for i, source in enumerate(order) if i != source]
            filled = tensor[:, :, : self.num_read] if order is rows else tensor
            filled[places] = filled[[order[i] for i in places]]
            setattr(self, name, tensor[: len(order)])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        first, self.num_read = self.num_read, self.num_read + key_states.shape[2]
        self.keys[:, :, first : self.num_read] = key_states
        self.values[:, :, first : self.num_read] = value_states
        keys, values = self.keys[:, :, : self.num_read], self.values[:, :, : self.num_read]
        if self.is_shared:
            handle: Any = keys
            handle.layer = self  # for _shared_prompt_attention, which gets no more than keys and values
            return keys, values
        prompt_keys = self.prompt_keys.transpose(2, 3)[self.forks.prompt_of]
        return torch.cat([prompt_keys, keys], 2), torch.cat([self.prompt_values[self.forks.prompt_of], values], 2)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the tensors exist from the start")

    def get_mask_sizes(self, query_length: int | Tensor) -> tuple[int, int]:
        # transformers 5.3 passes the queries' positions, 5.23 their number
        return self.get_seq_length() + (query_length if isinstance(query_length, int) else len(query_length)), 0

    def get_seq_length(self) -> int:
        return self.width + self.num_read

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name in transformers 5.3


def _shared_prompt_attention(
    module: nn.Module,
    query: Tensor,
    key: Any,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row that reads the keys of a shared prompt once for all its rows.

    Same numbers as a copy of the prompt per row. For 128 rows of a 4M-parameter model, prompts of 150 tokens and 128
    new ones, all of sampling takes 0.92, 0.74 and 0.69 of the CPU time it takes with scaled_dot_product_attention
    on copies, at 1, 4 and 8 rows per prompt.
    """
    layer, num_rows = key.layer, len(query)
    query = query.reshape(num_rows, key.shape[1], -1, key.shape[3])  # [B, H, queries per key head, D]
    query = query * (key.shape[3] ** -0.5 if scaling is None else scaling)
    of_prompt = layer.forks.scatter(layer.forks.gather(query) @ layer.prompt_keys)
    scores = torch.cat([of_prompt, query @ key.transpose(2, 3)], -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores.masked_fill_(~attention_mask, -math.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    on_prompt, on_own = weights.split([layer.width, layer.num_read], -1)
    out = layer.forks.scatter(layer.forks.gather(on_prompt) @ layer.prompt_values) + on_own @ value
    return out.reshape(num_rows, 1, -1, value.shape[3]), None


AttentionInterface.register(SHARED, _shared_prompt_attention)
AttentionMaskInterface.register(SHARED, sdpa_mask)


class _Cached:
    """Decodes rows whose prompts end at the same slot; shorter prompts are padded on the left."""

    def __init__(self, lm: PreTrainedModel, room: int, *, is_shared: bool = True):
        self.lm, self.room, self.is_shared = lm, room, is_shared
        self.accepted = inspect.signature(lm.forward).parameters
        configs = [module.config for module in lm.modules() if isinstance(module, PreTrainedModel)]
        self.configs = list({id(config): config for config in configs}.values())

    def start(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        """Encode each distinct prompt once; returns logits [B, V], and the last hidden states [B, H] behind them."""
        distinct = sorted(dict.fromkeys(prompts), key=len)
        prefilled = [self._prefill(chunk) for chunk in _chunks(distinct)]
        width, device = len(distinct[-1]), self.lm.device
        self.lengths = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
        self.mask = torch.arange(width + self.room, device=device) >= width - self.lengths
        self.is_padded = len(distinct[0]) < width
        parts_of = zip(*(cache.layers for cache, _, _ in prefilled), strict=True)
        size = (width, len(prompts), self.room, self.is_shared)
        self.layers = [_Layer(list(parts), *size) for parts in parts_of]
        self.cache = Cache([*self.layers])
        index = {prompt: i for i, prompt in enumerate(distinct)}
        self._fork([index[prompt] for prompt in prompts], len(distinct))
        logits, states = (torch.cat(parts)[self.forks.prompt_of] for parts in list(zip(*prefilled))[1:])
        return logits, states

    def _fork(self, prompt_of: list[int], num_prompts: int) -> None:
        self.forks = _Forks(prompt_of, num_prompts, self.lm.device)
        for layer in self.layers:
            layer.forks = self.forks

    def _prefill(self, prompts: list[tuple[int, ...]]) -> tuple[DynamicCache, Tensor, Tensor]:
        width, cache = len(prompts[-1]), DynamicCache()
        tokens = torch.tensor([(0,) * (width - len(p)) + p for p in prompts], device=self.lm.device)
        lengths = torch.tensor([[len(p)] for p in prompts], device=self.lm.device)
        positions = torch.arange(width, device=self.lm.device) - (width - lengths)
        mask = positions >= 0 if len(prompts[0]) < width else None
        return cache, *self._forward(tokens, mask, positions.clamp(min=0), cache)

    def step(self, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """Read one token per row; returns what `start` does."""
        ids = torch.tensor(tokens, device=self.lm.device)[:, None]
        mask = self.mask[:, : self.cache.get_seq_length() + 1] if self.is_padded else None
        with self._own_attention():
            found = self._forward(ids, mask, self.lengths, self.cache)
        self.lengths = self.lengths + 1
        return found

    def keep(self, order: list[int]) -> None:
        """Row i of the next step is row order[i] of the last."""
        self.mask, self.lengths = self.mask[order], self.lengths[order]
        prompt_of = [self.forks.prompt_of[i] for i in order]
        prompts = fill_holes([prompt in prompt_of for prompt in range(self.forks.shape[0])])
        for layer in self.layers:
            layer.keep(order, prompts)
        self._fork([prompts.index(prompt) for prompt in prompt_of], len(prompts))

    @contextlib.contextmanager
    def _own_attention(self) -> Iterator[None]:
        before = [config._attn_implementation for config in self.configs]
        for config in self.configs if self.is_shared else ():
            config._attn_implementation = SHARED
        try:
            yield
        finally:
            for config, name in zip(self.configs, before):
                config._attn_implementation = name

    def _forward(self, tokens: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache) -> tuple[Tensor, Tensor]:
        options = {"position_ids": positions, "logits_to_keep": 1}
        options = {name: value for name, value in options.items() if name in self.accepted}
        options |= {"attention_mask": mask, "past_key_values": cache, "use_cache": True}
        logits, states = _read(self.lm, input_ids=tokens, **options)
        return logits[:, -1], states[:, -1]


class _Plain:
    """Reads every row from its start at each step: slow, and right for any causal model."""

    def __init__(self, lm: PreTrainedModel, room: int):
        self.lm = lm

    def start(self, prompts: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        self.rows = [list(prompt) for prompt in prompts]
        return self._forward()

    def step(self, tokens: list[int]) -> tuple[Tensor, Tensor]:
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
        return self._forward()

    def keep(self, order: list[int]) -> None:
        self.rows = [self.rows[i] for i in order]

    def _forward(self) -> tuple[Tensor, Tensor]:
        width, vocab_size = max(map(len, self.rows)), vocabulary_size(self.lm)
        num, found = max(1, PLAIN_LOGITS // (width * vocab_size)), []
        for rows in (self.rows[i : i + num] for i in range(0, len(self.rows), num)):
            tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.lm.device)
            ends = [len(row) - 1 for row in rows]
            logits, states = _read(self.lm, input_ids=tokens, use_cache=False)
            found.append((logits[range(len(rows)), ends], states[range(len(rows)), ends]))
        logits, states = map(torch.cat, zip(*found))
        return logits, states


def _read(lm: PreTrainedModel, **inputs: Any) -> tuple[Tensor, Tensor]:
    """Logits of a forward, and the last hidden states that they were made of: what its LM head is given, which is what
    `Policy.hidden` gives (OPT does not call its `base_model`, which would tell as well)."""
    found: list[Tensor] = []
    hook = lm.get_output_embeddings().register_forward_pre_hook(lambda head, args: found.append(args[0]))
    try:
        logits = lm(**inputs).logits
    finally:
        hook.remove()
    return logits, found[0]


def _chunks(prompts: list[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Prompts in order of length, in runs of at most PREFILL_TOKENS with padding."""
    chunk: list[tuple[int, ...]] = []
    for prompt in prompts:
        if chunk and (len(chunk) + 1) * len(prompt) > PREFILL_TOKENS:
            yield chunk
            chunk = []
        chunk.append(prompt)
    yield chunk


def fill_holes(is_kept: list[bool]) -> list[int]:
    """What stands in each place once the rest is gone: a hole is filled from the end, so little moves."""
    kept = [i for i, keep in enumerate(is_kept) if keep]
    last = reversed(kept)
    return [i if is_kept[i] else next(last) for i in range(len(kept))]


Decoder = _Cached | _Plain | encoder_decoder.Decoder
_FASTEST: "weakref.WeakKeyDictionary[nn.Module, Callable]" = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def decoders(lm: PreTrainedModel) -> Iterator[Callable[[int], Decoder]]:
    """Get `lm` ready to be read; gives a function from the most tokens a row reads after its prompt to a decoder."""
    with torch.inference_mode(), _eval_mode(lm), _onednn_linears(lm):
        yield functools.partial(encoder_decoder.Decoder if lm.config.is_encoder_decoder else _fastest(lm), lm)


def _fastest(lm: PreTrainedModel) -> Callable[[PreTrainedModel, int], Decoder]:
    """The fastest decoder that gives this model's own logits: three toy rows, tried once per model."""
    if lm not in _FASTEST:
        expected, failures = _toy_logits(_Plain(lm, 2)), []
        tolerance = (1e-3 if lm.dtype == torch.float32 else 5e-2) * expected.abs().max().clamp(min=1.0)
        if not tolerance.isfinite():
            return _Plain  # the caller finds non-finite logits in the first row it draws
        for decoder in (_Cached, functools.partial(_Cached, is_shared=False)):
            try:
                gap = (_toy_logits(decoder(lm, 2)) - expected).abs().max()
            except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                failures.append(f"{type(error).__name__}: {error}")
                continue
            if gap <= tolerance:
                return _FASTEST.setdefault(lm, decoder)
            failures.append(f"logits off by {gap:.1g}")
        reason = f"{type(lm).__name__} cannot use the sampling cache ({failures[-1]})"
        warnings.warn(f"{reason}: every token reads its whole row again, which is slower", stacklevel=5)
        _FASTEST[lm] = _Plain
    return _FASTEST[lm]


def _toy_logits(decoder: Decoder) -> Tensor:
    """Padding, a fork, two steps and a row that leaves, all in a few tokens."""
    decoder.start([(1, 2, 3, 4, 5), (3, 4, 5), (1, 2, 3, 4, 5)])
    decoder.step([6, 7, 8])
    decoder.keep([2, 1])
    return decoder.step([9, 1])[0]


def vocabulary_size(lm: PreTrainedModel) -> int:
    """Logits per position."""
    return lm.config.get_text_config().vocab_size


@contextlib.contextmanager
def _eval_mode(lm: nn.Module) -> Iterator[None]:
    training = [module for module in lm.modules() if module.training]
    lm.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _onednn_linears(lm: nn.Module) -> Iterator[None]:
    """Send float32 linear layers through oneDNN, in full precision.

    PyTorch sends them to MKL, which does not use AVX-512 on AMD: 5.0 against 2.6 ms for the matrix products of a
    4M-parameter model on 128 rows (2 threads of a Zen 5, torch 2.13). On Intel it does, and is the faster one: 8.6
    against 9.8 ms for 5M parameters (1 thread of a Xeon).
    """
    has_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.backends.mkldnn.is_available()
    is_faster = has_avx512 and not _is_intel()
    linears: list[Any] = [module for module in lm.modules() if is_faster and _is_plain_linear(module)]
    for module in linears:
        module.forward = functools.partial(_onednn_linear, module)
    try:
        yield
    finally:
        for module in linears:
            del module.forward


@functools.cache
def _is_intel() -> bool:
    """Whose processor it is, as Linux or Windows says; no where neither does."""
    cpuinfo = Path("/proc/cpuinfo")
    return "GenuineIntel" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())


def _is_plain_linear(module: nn.Module) -> bool:
    is_hooked = "forward" in vars(module)
    return (
        type(module) is nn.Linear
        and not is_hooked
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


def _onednn_linear(module: nn.Linear, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.shape[:-1].numel() < ONEDNN_ROWS:
        return nn.functional.linear(x, module.weight, module.bias)
    return torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, "none", [], "")
