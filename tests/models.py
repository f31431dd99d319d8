"""Tiny random language models built from a configuration: no download, float32, always the same weights."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

VOCAB = 112
PAD, BOS, EOS = 0, 1, 2

_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
_GPT = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_inner": 64}
_NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}

CONFIGS: dict[str, dict] = {
    "llama": _SHAPE,
    "qwen3": _SHAPE,
    "gpt2": {**_GPT, **_NO_DROPOUT},
    "gptj": {**_GPT, **_NO_DROPOUT, "rotary_dim": 4},
    "gpt_neox": {key: _SHAPE[key] for key in _SHAPE if key not in ("num_key_value_heads", "head_dim")},
    "opt": {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "dropout": 0.0,
    },
    "mistral": {**_SHAPE, "sliding_window": 8},
    "gemma": {**_SHAPE, "tie_word_embeddings": False},
    # gemma2 alternates window and full layers; mamba has no attention at all
    "gemma2": {**_SHAPE, "tie_word_embeddings": False, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "mamba": {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}

_T5 = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": PAD,
}
ENCODER_DECODERS: dict[str, dict] = {
    "t5": _T5,
    "t5_v1_1": {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "mt5": {**_T5, "feed_forward_proj": "gated-gelu"},
    "umt5": {**_T5, "feed_forward_proj": "gated-gelu"},
    "longt5": {**_T5, "local_radius": 4},
}

ATTENTION = tuple(name for name in CONFIGS if name != "mamba")


def tiny(name: str, *, seed: int = 0, **overrides) -> PreTrainedModel:
    """A two-layer random model of architecture `name` in eval mode; `overrides` go to its configuration.

    Weights are drawn with eight times the usual spread, so that predictions depend visibly on the context.
    """
    special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    auto = AutoModelForSeq2SeqLM if name in ENCODER_DECODERS else AutoModelForCausalLM
    shape = ENCODER_DECODERS[name] if name in ENCODER_DECODERS else CONFIGS[name]
    config = AutoConfig.for_model(name.removesuffix("_v1_1"), **{**shape, **special, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = auto.from_config(config, dtype=torch.float32)
        if name == "t5_v1_1":  # what is released has an LM head of its own
            lm.lm_head.weight = torch.nn.Parameter(0.1 * torch.randn(VOCAB, 32))
        with torch.no_grad():
            for key, weight in lm.named_parameters():
                if weight.ndim > 1 and not key.endswith("A_log"):
                    weight.mul_(2.0 if config.is_encoder_decoder else 8.0)  # the former begin wider
    return lm.eval()
