"""LoRA: two small matrices beside each linear layer learn, and the model itself stays as it was (Hu et al. 2021, eq. 3,
arXiv:2106.09685).

    W x + alpha / rank * B A x        A: [rank, in], drawn; B: [out, rank], zeros

peft puts them inside the Hugging Face model it is given, which stays that model. So whatever reads it reads them too
(tree batches, sampling, evaluation), and one copy of the weights is in memory: before the first update the model is its
base to the bit, and the log-probabilities of the start (reference.py) are the base's. Rows of the embedding and of the
LM head that are new to the model, such as those of control tokens, are trained themselves, and no other row.

A folder with an adapter is read back as its base with the adapter merged: a model like any other.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file

from heedful.config import Lora
from heedful.disk import from_json
from heedful.errors import ConfigError, RunError
from heedful.export import load_info

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CLASSIFIER = "SEQ_CLS"  # what peft calls the task of a reward model
HEAD = "score.weight"  # a reward model's
NAME = "default"  # peft's, of the one adapter in a model
OWN = re.compile(r"\.(lora_A|lora_B|trainable_tokens_delta)\.")  # in the name of a weight that peft added
TOKENS = ".token_adapter"  # round an embedding, some of whose rows are trained
PROBE = 12  # tokens that are read before and after adapters are put in


class Base(NamedTuple):
    """The model that an adapter belongs to: its folder or Hub name, and what its weights hash to."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Adapters:
    """What was put into a language model.

    Attributes:
        tuner: peft's, round the model.
    """

    tuner: Any
    base: Base

    def merge(self) -> None:
        """Add the adapters to the weights, in place: the model is a plain one again, and nothing of it frozen."""
        lm = self.tuner.merge_and_unload().requires_grad_(True)
        vars(lm).pop("peft_config", None)  # peft 0.18 leaves it

    @property
    def config(self) -> Any:
        """peft's settings, as they are written beside an adapter."""
        return self.tuner.peft_config[NAME]


# Putting adapters in


def add(
    lm: PreTrainedModel, lora: Lora, *, base: Base, new: Sequence[int] = (), has_lm_head: bool = True, seed: int = 0
) -> Adapters:
    """Freeze a language model and put adapters beside its linear layers; it computes what it did, to the bit.

    Args:
        new: token ids whose rows are trained.
        has_lm_head: whether tokens go through the LM head; not in a reward model.
        seed: of the A matrices.
    Raises:
        ConfigError: peft is not installed, or the settings do not fit this model.
    """
    peft = require_peft()
    _require_targets(lm, lora)
    before = _read(lm)
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        trainable_token_indices=_trained_rows(lm, new, has_lm_head=has_lm_head),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in lm.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            tuner = peft.LoraModel(lm, config, NAME)
        except ValueError as error:
            raise ConfigError(str(error), where="lora.targets") from error
    if not torch.equal(_read(lm), before):
        what = f"adapters that have learned nothing change what {type(lm).__name__} computes"
        raise ConfigError(what, where="lora", hint="train the whole model, without lora")
    return Adapters(tuner, base)


def require_peft() -> Any:
    """The package peft.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import peft
    except ImportError:
        hint = "pip install 'heedful[adapters]'"
        raise ConfigError("adapters need peft, which is not installed", where="lora", hint=hint) from None
    return peft


def _require_targets(lm: PreTrainedModel, lora: Lora) -> None:
    """peft passes over a name that no layer has, where another name is one's."""
    head = lm.get_output_embeddings()
    linear = [n for n, m in lm.named_modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head]
    named = () if isinstance(lora.targets, str) else lora.targets
    for target in named:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = sorted({name.rpartition(".")[2] for name in linear})
            what = f"{type(lm).__name__} has no linear layer {target!r} beside its LM head"
            raise ConfigError(what, where="lora.targets", allowed=f"all-linear, or some of {', '.join(known)}")


def _trained_rows(lm: PreTrainedModel, new: Sequence[int], *, has_lm_head: bool) -> dict[str, list[int]] | None:
    """Module name -> rows, as peft takes them; an LM head that shares the embedding's weights goes with it."""
    if not new:
        return None
    embedding: Any = lm.get_input_embeddings()
    head: Any = lm.get_output_embeddings()
    if has_lm_head and getattr(head, "bias", None) is not None:  # peft leaves it out of its forward
        hint = "train the whole model, without lora; or start from a model that knows its control tokens"
        raise ConfigError(f"the LM head of {type(lm).__name__} has a bias beside new tokens", where="lora", hint=hint)
    modules = [embedding] if head.weight is embedding.weight or not has_lm_head else [embedding, head]
    return {name: list(new) for name, module in lm.named_modules() if any(module is one for one in modules)}


@torch.no_grad()
def _read(lm: PreTrainedModel) -> Tensor:
    is_training = lm.training
    ids = torch.arange(PROBE, device=lm.device) % lm.config.get_text_config().vocab_size
    answer = {"decoder_input_ids": ids[None]} if lm.config.is_encoder_decoder else {}
    logits = lm.eval()(ids[None], use_cache=False, **answer).logits
    lm.train(is_training)
    return logits


# What a model with adapters is without them


def identify(lm: PreTrainedModel, path: str | Path) -> Base:
    """A model as the base of adapters: by its full path, so that they find it from anywhere, or its Hub name."""
    return Base(str(Path(path).resolve()) if Path(path).is_dir() else str(path), _sha256(lm))


def _sha256(lm: PreTrainedModel) -> str:
    """What tells one base from another: its weights without a head, so that a reward model has its language model's."""
    digest = hashlib.sha256()
    for name, weight in sorted(lm.base_model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain_weights(lm: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The weights of the plain model that computes the same: adapters merged, one at a time, names as without them.

    Without adapters, or with some that have learned nothing, they are the model's own to the bit.
    """
    modules: dict[str, Any] = dict(lm.named_modules())
    for key, weight in sorted(lm.state_dict().items()):
        name, is_wrapped, rest = key.partition(".base_layer.")
        if OWN.search(key):
            continue
        if is_wrapped and rest == "weight":
            weight = _merged(modules[name], weight)
        yield f"{name.removesuffix(TOKENS)}.{rest}" if is_wrapped else key, weight.detach()


def _merged(layer: Any, weight: Tensor) -> Tensor:
    if hasattr(layer, "trainable_tokens_delta"):
        return layer.get_merged_weights([NAME])
    return weight + layer.get_delta_weight(NAME) if layer.lora_B[NAME].weight.any() else weight


def stored(model: nn.Module) -> dict[str, Tensor]:
    """Every weight that peft added to a model, as an adapter's file names them, each once."""
    return {_stored_name(name): weight for name, weight in model.named_parameters() if OWN.search(name)}


def _stored_name(name: str) -> str:
    return "base_model.model." + name.replace(f".modules_to_save.{NAME}", "").replace(f".{NAME}", "")


# Reading an adapter's folder


def find(path: str | Path) -> Path | None:
    """The folder of an adapter by its path or Hub name; None for what is no adapter."""
    options = {f"_raise_exceptions_for_{fault}": False for fault in ("gated_repo", "missing_entries")}
    try:
        found = cached_file(str(path), CONFIG, _raise_exceptions_for_connection_errors=False, **options)
    except (OSError, ValueError):  # what is wrong with the name is told where the model is read
        return None
    return Path(found).parent if found else None


def is_reward(folder: Path) -> bool:
    """Whether the adapter makes a reward model of its base."""
    return _settings(folder).get("task_type") == CLASSIFIER


def base_of(folder: Path) -> str:
    """The folder or Hub name of the model that an adapter belongs to.

    Raises:
        RunError: it names none, or one that is gone.
    """
    name = _settings(folder).get("base_model_name_or_path")
    hint = f"put the place of its base into base_model_name_or_path of {CONFIG}"
    if not isinstance(name, str) or not name:
        raise RunError("the adapter does not say which model it belongs to", where=str(folder), hint=hint)
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise RunError(f"the base of the adapter is not there: {name}", where=str(folder), hint=hint)
    return name


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        settings = from_json(path.read_bytes())
    except ValueError as error:
        raise RunError("the file is damaged", where=str(path), hint=str(error)) from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        found = settings.get("peft_type") if isinstance(settings, dict) else settings
        raise RunError(f"found an adapter of type {found}", where=str(path), allowed="LORA")
    return settings


def merge_from(folder: Path, lm: PreTrainedModel) -> None:
    """Add an adapter to the weights of its base, in place.

    Raises:
        RunError: it was made for another base, lacks weights such as a reward model's head, or is damaged.
    """
    peft = require_peft()
    tensors = _tensors(folder)
    _require_own_base(folder, lm)
    config = peft.LoraConfig.from_pretrained(str(folder))
    config.inference_mode = False
    if is_reward(folder):
        _require_head(folder, tensors)
        config.modules_to_save = ["score"]
    _make_room(lm, config.trainable_token_indices)
    try:
        with warnings.catch_warnings():  # that fan_in_fan_out is what it must be
            warnings.simplefilter("ignore", UserWarning)
            tuner = peft.LoraModel(lm, config, NAME)
    except ValueError as error:
        raise _misfit(folder, str(error)) from error
    own = {_stored_name(name): weight for name, weight in lm.named_parameters() if weight.requires_grad}
    _require_same_shapes(folder, own, tensors)
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(tensors[name])
    Adapters(tuner, Base(base_of(folder), "")).merge()


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = cached_file(str(folder), WEIGHTS, _raise_exceptions_for_missing_entries=False)
    if file is None:
        hint = "convert pickle files (*.bin) once, in a place you trust, with save_pretrained"
        raise RunError("the adapter has no weights", where=str(folder), allowed=WEIGHTS, hint=hint)
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        hint = "the file may be cut: copy or download it again"
        raise RunError(f"cannot load its weights: {error}", where=str(file), hint=hint) from error


def _require_own_base(folder: Path, lm: PreTrainedModel) -> None:
    info = load_info(folder)
    if info and info["base_sha256"] != _sha256(lm):
        raise _misfit(folder, "its weights have another sha256")


def _require_head(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if f"base_model.model.{HEAD}" not in tensors:
        what = f"the adapter of a reward model lacks its head, {HEAD}: a random one would score"
        raise RunError(what, where=str(folder), hint="save it again with modules_to_save: [score]")


def _make_room(lm: PreTrainedModel, rows: Mapping[str, Sequence[int]] | Sequence[int] | None) -> None:
    """Embeddings for the tokens that were new when the adapter was trained; it brings their values."""
    known = rows.values() if isinstance(rows, Mapping) else [rows or ()]
    size = 1 + max((id for ids in known for id in ids), default=-1)
    embedding: Any = lm.get_input_embeddings()
    if size > embedding.weight.shape[0]:
        lm.resize_token_embeddings(size, mean_resizing=False)


def _require_same_shapes(folder: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name in sorted(own.keys() | tensors.keys()):
        needed, found = (list(side[name].shape) if name in side else None for side in (own, tensors))
        if needed != found:
            short = name.removeprefix("base_model.model.")
            raise _misfit(folder, f"{short} has the shape {found or '(none)'}, not {needed or '(none)'}")


def _misfit(folder: Path, why: str) -> RunError:
    hint = f"put the place of its own base into base_model_name_or_path of {CONFIG}"
    return RunError(
        f"the adapter was made for another base than {base_of(folder)}: {why}", where=str(folder), hint=hint
    )
