"""Models and tokenizers read from a folder or the Hub: safetensors only, and no code that ships with them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from heedful import adapters, encoder_decoder
from heedful.errors import RunError
from heedful.method import Head
from heedful.policy import Policy, embedding
from heedful.probing import probe
from heedful.text import Text

NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory|ALLOC_FAILED")  # CUDA, Linux, Windows, cuBLAS
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model")
KINDS = {
    AutoModelForCausalLM: "a causal language model",
    AutoModelForSeq2SeqLM: "an encoder-decoder",
    AutoModelForSequenceClassification: "a reward model",
}
CLASSIFIERS = ("score.weight", "classification_head.out_proj.weight")  # heads of decoders alone, and of the T5 family


def best_device() -> torch.device:
    """Where a model is asked fastest: on CUDA where there is any; a training finds its own, one for each process."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    path: str | Path,
    *,
    heads: Mapping[str, Head] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Policy:
    """A policy from a folder or a Hub name. Weights must be safetensors; code that ships with a model is never run.
    An adapter is merged into its base.

    Args:
        seed: of heads that start at random weights.

    Raises:
        RunError: no such model, weights in pickle only, cut, missing or of another shape, too little memory, an
            architecture that needs its own code, a head that `Policy` does not compute, or an adapter of another base.
    """
    lm = read_weights(AutoModelForCausalLM if start_token(path) is None else AutoModelForSeq2SeqLM, path, dtype)
    with _out_of_memory(path):
        policy = Policy(lm, heads, seed=seed).to(device, dtype)
    probe(policy)
    return policy


def read_weights(auto: Any, path: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model of a class of `KINDS` from a folder or a Hub name, with every weight that its class has; see `load`."""
    _require_folder(path)
    if folder := adapters.find(path):
        return _merged(auto, folder).to(dtype)
    lm, missing = _read_files(auto, path, dtype)
    _require_weights(path, missing)
    return lm


def _merged(auto: Any, folder: Path) -> Any:
    """A language model's adapter, or a reward model's, which brings its own head, in its base."""
    adapters.require_peft()
    base, is_reward = adapters.base_of(folder), auto is AutoModelForSequenceClassification
    if adapters.is_reward(folder) != is_reward:
        found = "an adapter of a language model" if is_reward else "an adapter of a reward model, which writes no text"
        raise RunError(found, where=str(folder), allowed=KINDS[auto])
    if is_reward:
        with _no_report():  # that its head is drawn: it comes with the adapter
            lm, missing = _read_files(auto, base, torch.float32, num_labels=1)
        _require_weights(base, [name for name in missing if name != adapters.HEAD])
        lm.config.get_text_config().pad_token_id = load_tokenizer(folder).pad_token_id
    else:
        lm = read_weights(auto, base, torch.float32)
    with _out_of_memory(folder):
        adapters.merge_from(folder, lm)
    return lm


def _read_files(auto: Any, path: str | Path, dtype: torch.dtype, **options: Any) -> tuple[PreTrainedModel, list[str]]:
    """A model, and the names of the weights that its files lack."""
    _refuse_pickle(path)
    _require_file(path, "a model", "config.json")
    try:
        with _out_of_memory(path):
            loaded: Any = auto.from_pretrained(
                path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **options
            )
    except (OSError, ValueError) as error:
        raise RunError(f"cannot load {KINDS[auto]}: {error}", where=str(path)) from error
    except (SafetensorError, RuntimeError) as error:
        raise RunError(
            f"cannot load its weights: {error}",
            where=str(path),
            hint="a file may be cut, or config.json another model's: copy or download it again",
        ) from error
    lm, found = loaded
    if auto is not AutoModelForSequenceClassification and found["unexpected_keys"] & {*CLASSIFIERS}:
        # with tied weights nothing lacks
        raise RunError("a reward model, which writes no text", where=str(path), allowed=KINDS[auto])
    return lm, sorted(found["missing_keys"])


def _config(path: str | Path) -> PreTrainedConfig | None:
    """A model's configuration; None where it cannot be read, and whoever loads the model says why."""
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError):
        return None


def start_token(path: str | Path) -> int | None:
    """The decoder's start token of an encoder-decoder in a folder or on the Hub; None for a decoder alone.

    Raises:
        RunError: an encoder-decoder that heedful cannot read.
    """
    folder = adapters.find(path)
    config = _config(adapters.base_of(folder) if folder else path)
    return None if config is None else encoder_decoder.start_token(config, str(path))


def load_text(path: str | Path, *, max_length: int = 2) -> Text:
    """The tokenizer that belongs to a model, with heedful's rules for this kind of model round it."""
    return Text(load_tokenizer(path), max_length=max_length, start_id=start_token(path))


def load_tokenizer(path: str | Path):
    """The tokenizer that belongs to a model."""
    _require_folder(path)
    _require_file(path, "a tokenizer", *TOKENIZER_FILES)
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot load a tokenizer: {error}", where=str(path)) from error


def identify_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of a vocabulary: of its tokens with their ids, the special ones named."""
    known = [sorted(tokenizer.get_vocab().items()), sorted(tokenizer.special_tokens_map.items())]
    return hashlib.sha256(json.dumps(known, default=str).encode()).hexdigest()


def ordinary_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that text can have. A special token may lack a row, as many a <pad> does that somebody added."""
    special = set(tokenizer.all_special_ids)
    return [id for id in tokenizer.get_vocab().values() if id not in special]


def require_embedded(lm: PreTrainedModel, ids: Sequence[int], path: str | Path) -> None:
    """Refuse a tokenizer some of whose ordinary ids the model does not embed: it is another model's."""
    rows = embedding(lm).shape[0]
    if strange := [id for id in ids if id >= rows]:
        raise RunError(
            f"the tokenizer does not match: {len(strange)} of its tokens have no row in the model, which embeds {rows}",
            where=str(path),
            hint="put the model's own tokenizer into the folder",
        )


def commit(name: str) -> str:
    """The commit that a Hub name stands for, the folder that its files are kept in."""
    try:
        return Path(str(cached_file(name, "config.json"))).parent.name
    except (OSError, ValueError) as error:
        raise RunError(f"cannot load a language model: {error}", where=name) from error


def _require_folder(path: str | Path) -> None:
    """What is written as a path is looked for on this disk alone: no name on the Hub begins like one."""
    is_path = Path(path).is_absolute() or str(path).startswith((".", "~")) or Path(path).exists()
    if is_path and not Path(path).is_dir():
        what = "a file, not a folder" if Path(path).exists() else "no such folder"
        hint = "give the folder of a model, or its name on the Hub such as owner/name"
        raise RunError(what, where=str(path), hint=hint)


def _require_file(path: str | Path, what: str, *patterns: str) -> None:
    folder = Path(path)
    if folder.is_dir() and not any(match for pattern in patterns for match in folder.glob(pattern)):
        is_run = any((folder / "model" / name).is_file() for name in ("config.json", adapters.CONFIG))
        hint = f"did you mean {folder / 'model'}?" if is_run else "give a folder that save_pretrained wrote"
        raise RunError(f"the folder does not hold {what}", where=str(path), allowed=" or ".join(patterns), hint=hint)


def _require_weights(path: str | Path, missing: Sequence[str]) -> None:
    """transformers would draw them at random, with no more than a warning."""
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise RunError(
            f"its files lack weights of the model: {shown}",
            where=str(path),
            hint="config.json may be another model's, or a file not all there: copy or download it again",
        )


@contextmanager
def _no_report() -> Iterator[None]:
    """Keep transformers from telling what it misses."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


@contextmanager
def _out_of_memory(path: str | Path) -> Iterator[None]:
    """Tell too little memory from a damaged file."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
            raise
        hint = "end what else uses memory, or take a smaller model"
        raise RunError("out of memory while its weights were loaded", where=str(path), hint=hint) from error


def _refuse_pickle(path: str | Path) -> None:
    folder = Path(path)
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        raise RunError(
            "the weights are pickle files (*.bin), which can run code when they are read",
            where=str(path),
            allowed="*.safetensors",
            hint="convert them once, in a place you trust, with save_pretrained",
        )
