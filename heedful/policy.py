"""A Hugging Face language model with scalar heads: one forward gives log-probabilities and values.

The shift between a token and the position that predicts it happens here and nowhere else. Only positions that predict
a token somebody reads go through the LM head, in chunks, so logits [B, T, V] never exist.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from heedful import encoder_decoder
from heedful.batch import DISTRIBUTION, TreeBatch, attention
from heedful.errors import RunError
from heedful.masking import missed, without
from heedful.method import Head, Outputs
from heedful.next_token import LabelLogp, Spread

CHUNK_ELEMENTS = {"cpu": 2**21}  # logits held at once: 8 MB in fp32, which stay in a processor's cache
LARGE_CHUNK = 2**25  # elsewhere: 128 MB
KEPT_ELEMENTS = 2**24  # logits of a forward that wait for its backward, 64 MB; of more, they are made once more there


class ScalarHead(nn.Module):
    """A number for a hidden state; starts at zero weights, or small random ones."""

    def __init__(self, hidden_size: int, head: Head, *, seed: int = 0):
        super().__init__()
        self.head = head
        self.linear = nn.Linear(hidden_size, 1, bias=head.bias)
        generator = torch.Generator().manual_seed(seed)
        nn.init.normal_(
            self.linear.weight, std=(hidden_size + 1) ** -0.5 if head.is_drawn else 0.0, generator=generator
        )
        if head.bias:
            nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[M, H] -> [M], in the precision of its weights: bf16 has steps of 0.002 near a value of -0.45."""
        hidden = hidden.detach() if self.head.detach else hidden
        with torch.autocast(hidden.device.type, enabled=False):
            value = self.linear(hidden.to(self.linear.weight.dtype)).squeeze(-1)
        return -torch.sigmoid(value) if self.head.squash == "negative_sigmoid" else value


class Policy(nn.Module):
    """The model that learns: a language model, and scalar heads by name.

    Args:
        lm: the Hugging Face model.
        heads: name -> `Head`: "value", read at each token's predecessor, and "reward", at a response's last token.
        seed: of heads that start at random weights.
    """

    def __init__(self, lm: PreTrainedModel, heads: Mapping[str, Head] | None = None, *, seed: int = 0):
        super().__init__()
        self.lm = lm
        size = embedding(lm).shape[1]
        self.heads = nn.ModuleDict({name: ScalarHead(size, head, seed=seed) for name, head in (heads or {}).items()})
        self.reads_trees = True
        self.start: tuple[Policy, str | None] | None = None
        self.forward_dtype: torch.dtype | None = None  # what it runs in where that is not its weights' precision
        self.critic: Policy | None = None  # a model of its own whose head "value" is read in place of this one's

    @property
    def name(self) -> str:
        """Of the model's class: `LlamaForCausalLM`."""
        return type(self.lm).__name__

    def keep_start(self, stream: str | None = None) -> None:
        """Keep the model as it is now, no part of the state: to be asked, and with a stream for the KL from it at the
        tokens of that stream. It costs a frozen copy of what is trained: with adapters not of the base, which both
        read."""
        shared = {id(weight): weight for weight in self.parameters() if not weight.requires_grad}
        copied = copy.deepcopy(self, shared).eval().requires_grad_(False)
        self.start = (copied, stream)  # in a tuple, or it would be a submodule

    def forward(self, batch: TreeBatch, *, reads_value: bool = True) -> Outputs:
        """Log-probability of each token that has a stream which is not 0, and what the heads say there; with the stream
        `DISTRIBUTION`, what the whole next-token distribution is like.

        Args:
            reads_value: whether somebody reads the values, which a critic makes in a forward of its own.
        """
        states = self.hidden(batch).flatten(0, 1)
        logp, entropy, vocabulary_logp = self._tokens(batch, states, is_whole=DISTRIBUTION in batch.streams)
        assert logp is not None
        return Outputs(
            logp=logp,
            value=self._value(batch, states) if reads_value else None,
            reward=self._reward(batch, states),
            start_kl=self._start_kl(batch, states),
            entropy=entropy,
            vocabulary_logp=vocabulary_logp,
        )

    def logp(self, batch: TreeBatch) -> Tensor:
        """[B, T] the log-probability of each predicted token, 0 elsewhere, and nothing else."""
        logp, _, _ = self._tokens(batch, self.hidden(batch).flatten(0, 1))
        assert logp is not None
        return logp

    def _tokens(
        self, batch: TreeBatch, states: Tensor, *, is_whole: bool = False
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """[B, T] log-probability of each predicted token, and with `is_whole` the entropy and the mean log-probability
        of the vocabulary there; 0 elsewhere."""
        index, unique, inverse = predictors(batch)
        # index_select throughout: the backward of advanced indexing adds duplicates in an order that threads change.
        labels = batch.tokens.flatten().index_select(0, index)
        logp, entropy, vocabulary_logp = (
            None if x is None else _spread(x, index, batch.tokens.shape)
            for x in self._read(states.index_select(0, unique), inverse, labels, is_whole=is_whole)
        )
        return logp, entropy, vocabulary_logp

    def values(self, batch: TreeBatch) -> Tensor:
        """[B, T] the value before each predicted token, 0 elsewhere, without log-probabilities; of a policy that has
        a critic, or a head."""
        value = self._value(batch, None if self.critic else self.hidden(batch).flatten(0, 1))
        assert value is not None, "the policy has neither a critic nor a head for values"
        return value

    def _value(self, batch: TreeBatch, states: Tensor | None) -> Tensor | None:
        """At the predecessor of each predicted token: by the critic, or by the head on these states [B * T, H]."""
        if self.critic is not None:
            return self.critic.values(batch)
        if "value" not in self.heads or states is None:
            return None
        index, unique, inverse = predictors(batch)
        value = full_precision(self.heads["value"](states.index_select(0, unique)))
        return _spread(value.index_select(0, inverse), index, batch.tokens.shape)

    def _reward(self, batch: TreeBatch, states: Tensor) -> Tensor | None:
        """[B] at each response's last token; None without a head for it."""
        if "reward" not in self.heads:
            return None
        return full_precision(self.heads["reward"](states.index_select(0, batch.last)))

    def forward_flops(self, num_tokens: int) -> float:
        """Of tokens that go forward alone: 2 a parameter (Kaplan et al. 2020, section 2.1)."""
        return 2.0 * sum(p.numel() for p in self.parameters()) * num_tokens

    def learned(self) -> dict[str, Tensor]:
        """Every weight but the frozen ones, which are as they were loaded."""
        frozen = {n for n, p in self.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return {name: value for name, value in self.state_dict().items() if name not in frozen}

    def load_learned(self, weights: Mapping[str, Tensor]) -> None:
        """Put back what `learned` gave; the frozen weights stay."""
        missing, unexpected = self.load_state_dict(weights, strict=False)
        lacking = self.learned().keys() & set(missing)
        if lacking or unexpected:
            differ = sorted({*lacking, *unexpected})[:5]
            raise RunError(f"the model's weights are not the checkpoint's: {differ} differ")

    def _start_kl(self, batch: TreeBatch, states: Tensor) -> Tensor | None:
        start, stream = self.start or (None, None)
        if start is None or stream is None:
            return None
        return _spread(*self._kl(batch, states, start, stream), batch.tokens.shape)

    def _kl(self, batch: TreeBatch, states: Tensor, start: "Policy", stream: str) -> tuple[Tensor, Tensor]:
        """KL(start || self) of the next token, and the flat index of that token, where the stream is not 0."""
        index = batch.streams[stream].flatten().nonzero().squeeze(-1)
        length = batch.tokens.shape[1]
        before = index // length * length + batch.predecessor.flatten().index_select(0, index)
        with torch.no_grad():
            theirs = start.to(states.device).hidden(batch).flatten(0, 1).index_select(0, before)
        size, mine = self.chunk_size(states.device), states.index_select(0, before)
        parts = [
            checkpoint(self._chunk_kl, mine[at : at + size], theirs[at : at + size], start, use_reentrant=False)
            for at in range(0, max(1, len(before)), size)
        ]
        return torch.cat(parts), index

    def _chunk_kl(self, mine: Tensor, theirs: Tensor, start: "Policy") -> Tensor:
        ours, reference = (full_precision(p.logits(x)).log_softmax(-1) for p, x in ((self, mine), (start, theirs)))
        return (reference.exp() * (reference - ours)).sum(-1)

    def logits(self, hidden: Tensor) -> Tensor:
        """The LM head with whatever the architecture does to its logits; checked against the model by `probe`."""
        if self.lm.config.is_encoder_decoder:
            return encoder_decoder.logits(self.lm, hidden)
        logits = self.lm.get_output_embeddings()(hidden)
        config = self.lm.config.get_text_config()
        if (scale := getattr(config, "logit_scale", None)) is not None:
            logits = logits * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:
            logits = logits / scaling
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            logits = cap * torch.tanh(logits / cap)
        return logits

    def chunk_size(self, device: torch.device) -> int:
        """How many positions go through the LM head at once."""
        elements = CHUNK_ELEMENTS.get(device.type, LARGE_CHUNK)
        return max(1, elements // self.lm.config.get_text_config().vocab_size)

    def hidden(self, batch: TreeBatch) -> Tensor:
        """[B, T, H] last hidden states; plain rows need no mask, as padding stands behind every token that is read."""
        missing = missed(batch) if self.training else None
        if self.lm.config.is_encoder_decoder:
            return encoder_decoder.hidden(self.lm, batch, missing)
        if missing is not None and not self.reads_trees:
            hint = "switch past-token masking off: --set method.past_token_masking=0"
            raise RunError(f"{self.name} takes no attention mask, so that no past token can be masked", hint=hint)
        is_causal = batch.is_plain and missing is None
        options = {} if is_causal else {"attention_mask": self._masks(batch, missing), "position_ids": batch.position}
        return self.lm.base_model(batch.tokens, use_cache=False, **options).last_hidden_state

    def _masks(self, batch: TreeBatch, missing: Tensor | None) -> Tensor | dict[str, Tensor]:
        config = self.lm.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        if not getattr(config, "layer_types", None):
            return self._mask(batch, missing, window=window)
        windows = {"full_attention": None, "sliding_attention": window}
        return {kind: self._mask(batch, missing, window=windows[kind]) for kind in windows}

    def _mask(self, batch: TreeBatch, missing: Tensor | None, *, window: int | None) -> Tensor:
        sees = without(attention(batch, window=window), missing)
        dtype = self.lm.dtype
        if self.lm.config._attn_implementation == "sdpa":
            is_cpu = sees.device.type == "cpu"  # where each layer would make numbers of it again
            return torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, -torch.inf) if is_cpu else sees
        # eager attention adds its mask, a bool one too, without a word
        return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)

    def _read(self, hidden: Tensor, inverse: Tensor, labels: Tensor, *, is_whole: bool) -> list[Tensor | None]:
        """[M] log-probability of `labels`, each predicted by row `inverse` of `hidden` [U, H]; with `is_whole` the
        entropy there and the mean log-probability over the vocabulary, else None twice."""
        size = self.chunk_size(hidden.device)
        if len(hidden) <= size:
            return self._chunk(hidden, inverse, labels, is_whole)
        is_kept = len(hidden) * self.lm.get_output_embeddings().weight.shape[0] <= KEPT_ELEMENTS
        chunk = self._chunk if is_kept else partial(checkpoint, self._chunk, use_reentrant=False)
        order = inverse.argsort(stable=True)
        cuts = torch.searchsorted(inverse[order], torch.arange(0, len(hidden) + size, size, device=hidden.device))
        parts = [
            chunk(hidden[at : at + size], inverse[order[a:b]] - at, labels[order[a:b]], is_whole)
            for at, a, b in zip(range(0, len(hidden), size), cuts[:-1].tolist(), cuts[1:].tolist(), strict=False)
        ]
        back = order.argsort()
        return [None if one[0] is None else torch.cat(one).index_select(0, back) for one in zip(*parts)]

    def _chunk(self, hidden: Tensor, inverse: Tensor, labels: Tensor, is_whole: bool) -> list[Tensor | None]:
        logits = full_precision(self.logits(hidden))
        logp = LabelLogp.apply(logits, inverse, labels)
        whole = (x.index_select(0, inverse) for x in Spread.apply(logits)) if is_whole else (None, None)
        return [logp, *whole]


def predictors(batch: TreeBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Where to read: flat indices [M] of the predicted tokens, [U] of the positions that predict them, each once, and
    for each token [M] which of those is its own."""
    length = batch.tokens.shape[1]
    index = batch.predicted.flatten().nonzero().squeeze(-1)
    predictor = index // length * length + batch.predecessor.flatten().index_select(0, index)
    unique, inverse = predictor.unique(return_inverse=True)
    return index, unique, inverse


def full_precision(x: Tensor) -> Tensor:
    """Half precision becomes fp32; fp64 stays."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _spread(values: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
    return torch.zeros(shape.numel(), dtype=values.dtype, device=values.device).index_copy(0, index, values).view(shape)


def switch_off_dropout(lm: PreTrainedModel) -> None:
    """No dropout in training either: in modules, and where attention reads a rate from an attribute. What is exported
    keeps its configuration."""
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def context_length(lm: PreTrainedModel) -> int | None:
    """Most tokens the model has positions for; None where it does not say, or where they are relative."""
    if lm.config.is_encoder_decoder:
        return None
    config = lm.config.get_text_config()
    found = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "seq_length"))
    return next(filter(None, found), None)


def embedding(lm: PreTrainedModel) -> Tensor:
    """[V, H] the input embedding."""
    weight: Any = lm.get_input_embeddings().weight
    return weight


def fit_vocabulary(
    lm: PreTrainedModel, size: int, *, known: int | None = None, untrained: Sequence[int] = (), seed: int = 0
) -> list[int]:
    """Grow the embeddings to `size` rows; a new row is the mean of the old ones plus 0.01 x standard normal noise.

    Korbak et al. 2023's released code; at unit scale a new control token would be sampled far too often at first.

    Args:
        known: tokens the model has learned; many embed more than their tokenizer has, and those rows count as new too.
        untrained: ids among them that it has not learned, which count as new.
    Returns:
        The ids of the new rows.
    """
    rows = embedding(lm).shape[0]
    first = rows if known is None else min(known, rows)
    new = sorted({*untrained, *range(first, size)})
    if not new:
        return new
    if size > rows:
        _resize(lm, size)
    head: Any = lm.get_output_embeddings()
    old = sorted(set(range(first)) - set(new))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in {id(w): w for w in (embedding(lm), head.weight)}.values():
            noise = torch.randn((len(new), weight.shape[1]), generator=generator)
            weight[new] = weight[old].mean(0) + 0.01 * noise.to(weight)
        if getattr(head, "bias", None) is not None:
            head.bias[new] = head.bias[old].mean()
    return new


def _resize(lm: PreTrainedModel, size: int) -> None:
    """transformers ties a T5 v1.1's LM head of its own to the embedding here, unless told that there is one."""
    head, config = lm.get_output_embeddings(), lm.config
    is_tied, config.tie_word_embeddings = config.tie_word_embeddings, head.weight is embedding(lm)
    lm.resize_token_embeddings(size, mean_resizing=False)
    config.tie_word_embeddings = is_tied
