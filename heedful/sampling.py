"""Drawing responses, with the log-probability of every drawn token.

Which tokens a response gets depends on (seed, prompt key, draw) and on the model, never on the rows drawn beside it.
How the model reads them fast is decoding.py.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from heedful.decoding import Decoder, decoders, fill_holes, vocabulary_size
from heedful.errors import ConfigError, DataError, RunError
from heedful.policy import context_length

if TYPE_CHECKING:
    from heedful.text import Text

BLOCK = 64  # tokens of the vocabulary that are summed together: about the root of a usual one


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn.

    Args:
        max_tokens: most tokens in a response; its EOS counts, forced `line_prefix` tokens do not.
        min_tokens: until a response has as many, EOS cannot be drawn and stop strings do not end it.
        temperature: logits are divided by it before log-softmax; 0 takes the most likely token.
        top_p: draw from the most likely tokens that together hold this probability; 1 keeps all. After top_k.
        top_k: draw from the k most likely tokens; 0 keeps all.
        stop: a response ends once its decoded text holds one of these; the text ends before it.
        stop_at_eos: EOS ends a response. If false EOS is never drawn, so every response has max_tokens.
        banned: token ids never drawn.
        line_prefix: a token id put in front of every line of the response: forced at its start and after each
            token whose text ends in a newline. Never drawn, not counted, in neither tokens nor text.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    stop_at_eos: bool = True
    banned: tuple[int, ...] = ()
    line_prefix: int | None = None

    def __post_init__(self) -> None:
        legal = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "min_tokens": (0 <= self.min_tokens <= self.max_tokens, f"0 to max_tokens ({self.max_tokens})"),
            "temperature": (0 <= self.temperature < math.inf, "a number from 0 (greedy) up"),
            "top_p": (0 < self.top_p <= 1, "above 0, at most 1"),
            "top_k": (self.top_k >= 0, "0 (all) or more"),
            "stop": (not isinstance(self.stop, str) and all(self.stop), "strings that are not empty"),
        }
        for name, (is_legal, allowed) in legal.items():
            if not is_legal:
                raise ConfigError(f"{name} is {getattr(self, name)!r}", where="sampling", allowed=allowed)


@dataclass(frozen=True)
class Sample:
    """One response.

    Args:
        tokens: the drawn token ids. A finished response ends in exactly one EOS, or in the token that completed
            a stop string; a truncated one does not.
        logp: natural log of each token's probability under softmax(logits / temperature) of the whole
            vocabulary, before top-k, top-p, `banned` and `min_tokens` took tokens away: what a scoring forward
            at that temperature gives. Greedy keeps those of temperature 1.
        text: decoded, without EOS, up to the stop string.
        truncated: cut by max_tokens or by the end of the model's context.
        value: what the head said before each token; empty without one.
    """

    tokens: tuple[int, ...]
    logp: tuple[float, ...]
    text: str
    truncated: bool
    value: tuple[float, ...] = ()


def generate(
    lm: PreTrainedModel,
    text: "Text",
    prompts: Sequence[Sequence[int]],
    settings: Sampling,
    *,
    k: int = 1,
    seed: int = 0,
    keys: Sequence[int] | None = None,
    batch_size: int = 128,
    head: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Sample]]:
    """Draw `k` responses to each prompt: result [prompt][k], in the order given.

    Draw j of a prompt reads one uniform number per token from a generator seeded by (seed, the prompt's key, j), and
    takes the token where the cumulative distribution passes it. So batch size, the other prompts and their order
    change no sample, unless rounding in the model moves a boundary across that number. Equal keys share their numbers.

    Args:
        lm: a language model; it is in eval mode meanwhile.
        prompts: token ids with their root, as `Text.encode_prompt` gives them.
        keys: one number per prompt that stays its own across calls, such as a record's index; default 0, 1, 2, ...
        batch_size: most rows decoded together.
        head: makes numbers [B] from last hidden states [B, H], as `ScalarHead` does; it reads those that the logits
            come from, so that values cost no forward of their own. It changes no token.
        progress: called after every step with (responses done, tokens drawn so far).
    """
    if k < 1 or batch_size < 1:
        raise ConfigError(f"k is {k}, batch_size {batch_size}", where="generate", allowed="at least 1")
    keys = range(len(prompts)) if keys is None else keys
    rules = _Rules(text, settings, context_length(lm) or math.inf, vocabulary_size(lm))
    rows = [
        _Row(tuple(prompt), key, np.random.default_rng([n % 2**64 for n in (seed, key, j)]))
        for prompt, key in zip(prompts, keys, strict=True)
        for j in range(k)
    ]
    for row in rows[::k]:
        rules.check_length(row)
    num_done = num_tokens = 0
    with decoders(lm) as new_decoder:
        for batch in _batches(rows, batch_size):
            for ended, drawn in _decode(new_decoder(rules.room), batch, rules, head):
                num_done, num_tokens = num_done + ended, num_tokens + drawn
                if progress is not None:
                    progress(num_done, num_tokens)
    samples = [rules.sample(row) for row in rows]
    return [samples[i : i + k] for i in range(0, len(samples), k)]


def best_of_n(samples: Sequence[Sequence[Sample]], scores: Sequence[Sequence[float]]) -> list[Sample]:
    """The best-scored sample of each prompt; the first of equals. A way to sample, not a method that trains.

    n is the number of samples given. Two cautions when the pick is reported. Its own score is a maximum of n, so
    under a learned or noisy scorer it flatters the pick: report another scorer, or fresh scores. And the policy
    so defined is at most log n - (n - 1) / n nats of KL from the one that drew the samples (Beirami et al. 2024,
    arXiv:2401.01879), whatever the scorer; less where scores are equal (see evals/best_of_n.py).

    Args:
        samples, scores: [prompt][n], higher is better.
    """
    picks = []
    for i, (drawn, values) in enumerate(zip(samples, scores, strict=True)):
        if not drawn or len(drawn) != len(values) or any(map(math.isnan, values)):
            found = f"{len(drawn)} samples and scores {list(values)}"
            raise DataError(found, where=f"best_of_n, prompt {i}", allowed="one number for each sample")
        picks.append(drawn[max(range(len(drawn)), key=values.__getitem__)])
    return picks


# ---- what a row is, and when it ends ----------------------------------------------------------------------


@dataclass
class _Row:
    """One response in the making."""

    prompt: tuple[int, ...]
    key: int
    rng: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    num_read: int = 0  # tokens the model reads after the prompt, forced ones included
    is_forced: bool = False  # what it reads next is the line prefix, whatever is drawn
    is_done: bool = False
    is_finished: bool = False  # done by EOS or a stop string, not cut

    def uniform(self) -> float:
        """The next token's number; capped where it could round up to the whole distribution."""
        return 0.0 if self.is_forced else min(self.rng.random(), 1 - 2**-32)


class _Rules:
    """When a response ends, which token is forced next, and what its text is."""

    def __init__(self, text: "Text", settings: Sampling, context: float, vocab_size: int):
        self.settings, self.context, self.decode = settings, context, text.decode
        self.prefix: tuple[int, ...] = () if settings.line_prefix is None else (settings.line_prefix,)
        self.eos = text.eos_id if settings.stop_at_eos else None
        self.never = sorted({*settings.banned, *self.prefix} | ({text.eos_id} - {self.eos, None}))
        if not all(0 <= token < vocab_size for token in self.never):
            found = f"never to be drawn: {self.never}"
            raise ConfigError(found, where="sampling", allowed=f"token ids from 0 to {vocab_size - 1}")
        self.room = settings.max_tokens * (2 if self.prefix else 1)  # most tokens read after the prompt
        self.stop_ends = {stop[-1] for stop in settings.stop}
        self.piece = functools.cache(lambda token: text.decode([token]))

    def check_length(self, row: _Row) -> None:
        num_prompt, num_new = len(row.prompt), len(self.prefix) + self.settings.max_tokens
        if not row.prompt or num_prompt + num_new > self.context:
            raise DataError(
                f"{num_prompt} prompt tokens and {num_new} to generate",
                where=f"prompt {row.key}",
                allowed=f"at least one prompt token, and at most {self.context} together, the model's context",
                hint="shorten the prompt or lower max_tokens",
            )

    def take(self, row: _Row, token: int, logp: float, *value: float) -> int:
        """Record a drawn token, and the value before it if there is one; return the token the model reads next."""
        if not math.isfinite(logp):
            raise RunError(f"non-finite logits after {len(row.tokens)} tokens", where=f"prompt {row.key}")
        row.num_read += 1
        is_full = len(row.prompt) + len(self.prefix) + row.num_read >= self.context
        if row.is_forced:
            row.is_forced, row.is_done = False, is_full
            return self.prefix[0]
        row.tokens.append(token)
        row.logp.append(logp)
        row.value.extend(value)
        row.is_finished = token == self.eos or self._completes_stop(row.tokens)
        row.is_done = row.is_finished or is_full or len(row.tokens) == self.settings.max_tokens
        row.is_forced = bool(self.prefix) and self.piece(token).endswith("\n")
        return token

    def _completes_stop(self, tokens: list[int]) -> bool:
        """Whether there is a stop string now; decodes only if the last token can hold its last character."""
        if not self.stop_ends or len(tokens) < self.settings.min_tokens:
            return False
        piece = self.piece(tokens[-1])  # alone, half a character is U+FFFD and a leading space may be lost
        can_end = " " in self.stop_ends or "\ufffd" in piece or not self.stop_ends.isdisjoint(piece)
        return can_end and self._find_stop(tokens, self.decode(tokens)) is not None

    def _find_stop(self, tokens: list[int], text: str) -> int | None:
        """Where the first stop string begins that is complete only after `min_tokens`."""
        if not self.stop_ends:
            return None
        min_tokens = self.settings.min_tokens
        closed = len(self.decode(tokens[: min_tokens - 1])) if min_tokens > 1 else 0
        starts = (text.find(stop, max(0, closed - len(stop) + 1)) for stop in self.settings.stop)
        return min((start for start in starts if start >= 0), default=None)

    def sample(self, row: _Row) -> Sample:
        body = row.tokens[:-1] if row.tokens[-1] == self.eos else row.tokens
        text = self.decode(body)
        return Sample(
            tokens=tuple(row.tokens),
            logp=tuple(row.logp),
            text=text[: self._find_stop(body, text)],
            truncated=not row.is_finished,
            value=tuple(row.value),
        )


# ---- the loop ---------------------------------------------------------------------------------------------


def _batches(rows: list[_Row], size: int) -> Iterator[list[_Row]]:
    """Rows of similar prompt length; the rows of one prompt stay together unless there are more than `size`."""
    batch: list[_Row] = []
    ordered = sorted(rows, key=lambda row: (len(row.prompt), row.prompt))
    for _, same in groupby(ordered, key=lambda row: row.prompt):
        group = list(same)
        if len(batch) + len(group) > size and batch:
            yield batch
            batch = []
        batch += group
        while len(batch) > size:
            yield batch[:size]
            batch = batch[size:]
    if batch:
        yield batch


def _decode(
    decoder: Decoder, rows: list[_Row], rules: _Rules, head: Callable[[Tensor], Tensor] | None
) -> Iterator[tuple[int, int]]:
    """Draw every row to its end; yields how many rows ended and how many tokens were drawn after each step."""
    settings, live = rules.settings, list(rows)
    logits, states = decoder.start([row.prompt + rules.prefix for row in rows])
    while True:
        uniform = torch.tensor([row.uniform() for row in live], dtype=torch.float64)
        early = [i for i, row in enumerate(live) if len(row.tokens) < settings.min_tokens]
        allowed = _without(logits, rules.never, early, rules.eos)
        tokens, logp = _draw(logits, allowed, uniform.to(logits.device), settings)
        num_forced = sum(row.is_forced for row in live)
        drawn = [tokens.tolist(), logp.tolist(), *([head(states).tolist()] if head else [])]
        reads = [rules.take(row, *own) for row, *own in zip(live, *drawn)]
        order = fill_holes([not row.is_done for row in live])
        yield len(live) - len(order), len(live) - num_forced
        if not order:
            return
        if len(order) < len(live):
            live, reads = [live[i] for i in order], [reads[i] for i in order]
            decoder.keep(order)
        logits, states = decoder.step(reads)


def _without(logits: Tensor, never: list[int], early: list[int], eos: int | None) -> Tensor:
    """Logits [B, V] with the tokens that must not be drawn at -inf; the same tensor if there are none."""
    if not never and not (early and eos is not None):
        return logits
    logits = logits.clone()
    logits[:, never] = -math.inf
    if eos is not None:
        logits[early, eos] = -math.inf
    return logits


def _draw(logits: Tensor, allowed: Tensor, uniform: Tensor, settings: Sampling) -> tuple[Tensor, Tensor]:
    """One token per row by its uniform number, and its log-probability among all tokens.

    Args:
        logits: [B, V] as the model gives them; the log-probability is theirs.
        allowed: [B, V] the same, -inf where a token must not be drawn.
        uniform: [B] float64 in [0, 1).
    Returns:
        Tokens [B], logp [B].
    """
    temperature = settings.temperature or 1.0
    if settings.temperature == 0:
        tokens = allowed.argmax(-1, keepdim=True)
    else:
        weights = _over(allowed.float() - allowed.amax(-1, keepdim=True), temperature).exp_()
        if settings.top_k or settings.top_p < 1:
            weights.masked_fill_(weights < _smallest_kept(weights, settings.top_k, settings.top_p), 0.0)
        tokens = _passed(weights, uniform)
    scores = _over(logits.float(), temperature)
    return tokens[:, 0], scores.gather(-1, tokens)[:, 0] - scores.logsumexp(-1)


def _over(x: Tensor, temperature: float) -> Tensor:
    return x if temperature == 1 else x / temperature


def _passed(weights: Tensor, uniform: Tensor) -> Tensor:
    """Where [B, 1] the cumulative sum of weights [B, V] passes the share `uniform` [B] of the whole.

    Sums of blocks first, then within the one that holds it: a cumulative sum over all in float64 takes a tenth of
    sampling's time.
    """
    num_all = weights.shape[-1]
    blocks = pad(weights, (0, -num_all % BLOCK)).unflatten(-1, (-1, BLOCK))
    mass = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = uniform[:, None] * mass[:, -1:]
    block = torch.searchsorted(mass, target, right=True).clamp_(max=mass.shape[-1] - 1)  # NaN
    before = pad(mass, (1, 0)).gather(-1, block)
    own = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(own, target - before, right=True)
    last = (own < own[:, -1:]).sum(-1, keepdim=True)  # rounding must not pass beyond the last weight of the block
    return (block * BLOCK + torch.minimum(place, last)).clamp_(max=num_all - 1)


def _smallest_kept(weights: Tensor, top_k: int, top_p: float) -> Tensor:
    """The weight [B, 1] of the last token that top-k, then top-p of what it left, keep; its equals stay too."""
    num_all = weights.shape[-1]
    for num in (min(top_k, num_all),) if top_k else (64, 1024, num_all):  # a top-64 costs a tenth of sorting all
        best = weights.topk(min(num, num_all)).values
        mass = best.cumsum(-1, dtype=torch.float64)
        needed = top_p * (mass[:, -1:] if top_k else weights.sum(-1, keepdim=True, dtype=torch.float64))
        if (mass[:, -1:] >= needed).all():
            break
    if top_p == 1:
        return best[:, -1:]
    num_kept = (mass - best < needed).sum(-1, keepdim=True)  # those before which something is still missing
    return best.gather(-1, (num_kept - 1).clamp_(min=0))
