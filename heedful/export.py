"""A trained model as a plain Hugging Face folder: it loads in transformers without heedful, and generates as it should.

What a method needs at inference goes where transformers looks for it, and in heedful.json for those who know heedful:

    prefix         tokens where the response begins: the tokenizer and the chat template end every prompt with them; of
                   an encoder-decoder the decoder reads them, and generation_config forces a single one
    line_prefix    a token before each line: the chat template puts it before the prompt's lines, and generation_config
                   (`sequence_bias`) forces it at the end of each line generated
    suppress       tokens never generated: `suppress_tokens` in generation_config
"""

import contextlib
import copy
import errno
import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from heedful.card import card, how_to_answer, title
from heedful.disk import (
    SPACE_MARGIN,
    discarding,
    from_json,
    replace_folder,
    require_space,
    sha256,
    sweep,
    sync_file,
    sync_folder,
    temp_path,
    to_json,
    writing,
)
from heedful.errors import ConfigError, RunError
from heedful.runs import versions

INFO, CARD, SCHEMA = "heedful.json", "README.md", 1
MAX_SHARD = "5GB"  # what the Hub shows and resumes well
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of logits, relative to the largest
HALF_TOLERANCE = 3e-2  # the same for half precision: four ulps of bfloat16
FORCE = 1e3  # added to the logit of a forced token and taken from it elsewhere; logits stay below 100
PROBE, PROBE_TEXT = 16, "a b\n"  # what the written model, and its tokenizer, are compared on
START, END, NOTE = (
    "<heedful>",
    "</heedful>",
    "{# heedful #}",
)  # name what we told a tokenizer, so that it can be taken back


def export(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    info: Mapping[str, Any],
    *,
    save: Callable[[Path, torch.dtype], None] | None = None,
    make_card: Callable[[str, Mapping[str, Any]], str] | None = None,
    how: str = "",
) -> Path:
    """Write the model, tokenizer, generation settings, heedful.json and a card; replace the folder in one step.

    Args:
        lm: weights of any float dtype; neither it nor the tokenizer is changed.
        path: a folder that does not exist, is empty, or holds an earlier export.
        info: goes into heedful.json and the card. Read here: `prefix` (text or ids), `line_prefix` (text, id or None),
            `suppress` (texts or ids), `dtype` of the stored weights (default: the model's own), `chat_template`,
            `generation` (settings for generation_config), `samples` and `metrics` (for the card).
        save, make_card: of what is written in the model's place; see `write`.
        how: the card's section on use, where there is no `make_card`; how to generate where it is empty.
    Raises:
        RunError: weights are not finite, the folder holds something else, the disk refused, or what was written does
            not give the same logits. What was there before is intact.
    """
    path = Path(path)
    _refuse_foreign(path)
    tokenizer, needs = _prepared(tokenizer, info, lm)
    if make_card is None:
        make_card = partial(card, how=how)
        if _is_pair(lm):
            begin = [lm.config.decoder_start_token_id, *_begin(needs)]
            make_card = partial(card, task="text2text-generation", how=how or how_to_answer(needs, begin))
    generation = _generation(lm, tokenizer, info, needs)
    return write(lm, tokenizer, path, dict(info) | needs, make_card=make_card, generation=generation, save=save)


def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    info: Mapping[str, Any],
    *,
    make_card: Callable[[str, Mapping[str, Any]], str],
    generation: GenerationConfig | None = None,
    save: Callable[[Path, torch.dtype], None] | None = None,
) -> Path:
    """Write a model of any task and its tokenizer as they are, with heedful.json and a card; see `export`.

    Args:
        info: goes into heedful.json; read here: `dtype`.
        make_card: name and info -> the card.
        generation: settings for generation_config, of a model that generates.
        save: writes what stands for the model into a folder, in a dtype; the whole model if not given.
    """
    path = Path(path)
    _refuse_foreign(path)
    dtype = _dtype(info, model)
    _check_weights(model, tokenizer)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, of=path.name)
    written = [p.numel() for p in model.parameters() if save is None or p.requires_grad]
    need = sum(written) * dtype.itemsize * SPACE_MARGIN
    require_space(path, need)
    temp = temp_path(path)
    with writing(path, need=need), discarding(temp), _quiet():
        _write_model(model, tokenizer, temp, dtype, generation, save)
        if save is None:
            _load_back(model, temp, dtype)
        is_automatic = tokenizer.is_fast and _tokenizer_comes_back(tokenizer, temp)
        is_automatic &= not (_is_pair(model) and len(_begin(info)) > 1)
        stored = {"prefix_is_automatic": is_automatic, "dtype": str(dtype).removeprefix("torch.")}
        _write_info(temp, path.name, dict(info) | stored, make_card)
        _sync_tree(temp)
        replace_folder(temp, path)
    return path


def load_info(path: Path | str) -> dict[str, Any]:
    """heedful.json of a model folder, with `prefix` and `suppress` as ids; empty for any other model.

    Raises:
        RunError: it is damaged, or a newer heedful wrote it.
    """
    path = Path(path) / INFO
    if not path.is_file():
        return {}
    try:
        info = from_json(path.read_bytes())
        schema = info["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError("the file is damaged", where=str(path), hint=str(error)) from error
    if schema != SCHEMA:
        raise RunError(f"the model folder has schema {schema}", where=str(path), allowed=f"schema {SCHEMA}")
    return info


# Before writing


def _refuse_foreign(path: Path) -> None:
    """A folder that is not an export of ours may be somebody's work: never replace it."""
    if path.is_dir() and (not any(path.iterdir()) or (path / INFO).is_file()):
        return
    if path.exists():
        hint = "choose another folder, or empty this one"
        raise RunError("is in the way: it holds no model that heedful exported", where=str(path), hint=hint)


def _dtype(info: Mapping[str, Any], lm: PreTrainedModel) -> torch.dtype:
    name = info.get("dtype")
    if name is None:
        return lm.dtype
    if name not in DTYPES:
        raise ConfigError(f"unknown dtype {name!r} for the exported model", allowed=", ".join(DTYPES))
    return DTYPES[name]


def _prepared(
    tokenizer: PreTrainedTokenizerBase, info: Mapping[str, Any], lm: PreTrainedModel
) -> tuple[PreTrainedTokenizerBase, dict[str, Any]]:
    """A copy of the tokenizer that adds what the method needs, and those needs as ids."""
    tokenizer = copy.deepcopy(tokenizer)
    prefix = _ids(tokenizer, info.get("prefix") or [])
    suppress = _ids(tokenizer, info.get("suppress") or [])
    line_prefix = _ids(tokenizer, [info["line_prefix"]]) if info.get("line_prefix") is not None else []
    if len(line_prefix) > 1:
        raise ConfigError(f"line_prefix {info['line_prefix']!r} is {len(line_prefix)} tokens", allowed="one token")
    needs: dict[str, Any] = {
        "prefix": prefix,
        "line_prefix": line_prefix[0] if line_prefix else None,
        "suppress": suppress,
    }
    if wrong := [i for i in (*prefix, *line_prefix, *suppress) if not 0 <= i < len(tokenizer)]:
        raise ConfigError(f"token id {wrong[0]} is not in the vocabulary", allowed=f"0 to {len(tokenizer) - 1}")
    root, end = ([], [tokenizer.eos_token_id]) if _is_pair(lm) else (_root(tokenizer), prefix)
    _forget_earlier_needs(tokenizer, root)
    if not _is_as_trained(tokenizer, root, end, lm, info):
        _put_round_every_text(tokenizer, root, end)
    if "token_type_ids" not in inspect.signature(lm.forward).parameters:  # `generate` refuses what it does not take
        _leave_out_types(tokenizer)
    tokenizer.chat_template = _chat_template(tokenizer, info.get("chat_template"), root, end, needs, lm)
    if tokenizer.chat_template is not None:
        tokenizer.split_special_tokens = False  # or the template's own tokens would be spelled out
    return tokenizer, needs | {"prefix_text": _spelled(tokenizer, prefix)}


def ended(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer that begins a text, or a pair of them, with root and ends it with EOS."""
    tokenizer = copy.deepcopy(tokenizer)
    root = _root(tokenizer)
    _forget_earlier_needs(tokenizer, root)
    _put_round_every_text(tokenizer, root, [tokenizer.eos_token_id])
    _leave_out_types(tokenizer)
    return tokenizer


def _root(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [id for id in (tokenizer.bos_token_id, tokenizer.eos_token_id) if id is not None][:1]


def _leave_out_types(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]


def _ids(tokenizer: PreTrainedTokenizerBase, tokens: str | Sequence[str | int]) -> list[int]:
    """Ids of a text, or of a list of ids and texts."""
    parts = [tokens] if isinstance(tokens, str) else tokens
    plain = {"add_special_tokens": False, "split_special_tokens": False}
    ids = [[part] if isinstance(part, int) else tokenizer(part, **plain).input_ids for part in parts]
    return [id for part in ids for id in part]


def _check_weights(lm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    for name, weight in lm.named_parameters():
        if not torch.isfinite(weight).all():
            raise RunError(f"the model is broken: {name} is not finite", hint="export an earlier checkpoint")
    if len(tokenizer) > (rows := _num_embeddings(lm)):
        raise RunError(f"the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}")


def _num_embeddings(lm: PreTrainedModel) -> int:
    weight: Any = lm.get_input_embeddings().weight
    return weight.shape[0]


# What transformers is told


def _begins_with(tokenizer: PreTrainedTokenizerBase, root: list[int]) -> bool:
    return tokenizer(PROBE_TEXT).input_ids[: len(root)] == root


def _is_pair(lm: PreTrainedModel) -> bool:
    """Whether an encoder reads the prompt and a decoder what the response begins with."""
    return bool(lm.config.is_encoder_decoder)


def _is_as_trained(
    tokenizer: PreTrainedTokenizerBase, root: list[int], end: list[int], lm: PreTrainedModel, info: Mapping[str, Any]
) -> bool:
    """Whether the tokenizer itself begins and ends a text as training did."""
    if _is_pair(lm):
        return tokenizer(PROBE_TEXT).input_ids == [*_ids(tokenizer, PROBE_TEXT), *end]
    return not end and (_begins_with(tokenizer, root) or _speaks_in_turns(tokenizer, info))


def _speaks_in_turns(tokenizer: PreTrainedTokenizerBase, info: Mapping[str, Any]) -> bool:
    """A chat model without BOS, whose template alone says how a conversation begins."""
    template = info.get("chat_template") or tokenizer.chat_template
    return tokenizer.bos_token_id is None and template is not None


def _put_round_every_text(tokenizer: PreTrainedTokenizerBase, root: list[int], prefix: list[int]) -> None:
    """Have the tokenizer begin and end every text as in training; one not made of `tokenizers` is left as it is."""
    if not tokenizer.is_fast:
        return
    named = [(name, ids) for name, ids in ((START, root), (END, prefix)) if ids]
    special = [{"id": name, "ids": ids, "tokens": tokenizer.convert_ids_to_tokens(ids)} for name, ids in named]
    before, after = (name if ids else "" for name, ids in ((START, root), (END, prefix)))
    processor = TemplateProcessing(
        single=f"{before} $A {after}".strip(), pair=f"{before} $A $B:1 {after}".strip(), special_tokens=special
    )
    tokenizer.backend_tokenizer.post_processor = processor


def _forget_earlier_needs(tokenizer: PreTrainedTokenizerBase, root: list[int]) -> None:
    """Undo what an earlier export told the tokenizer: the model may have been trained on by another method."""
    if tokenizer.is_fast and END in str(tokenizer.backend_tokenizer.post_processor):
        _put_round_every_text(tokenizer, root, [])
    if isinstance(tokenizer.chat_template, str):
        theirs = re.split(r"\{#-? heedful -?#\}", tokenizer.chat_template)[0]
        tokenizer.chat_template = theirs or None


def _chat_template(
    tokenizer: PreTrainedTokenizerBase,
    given: str | None,
    root: list[int],
    end: list[int],
    needs: Mapping[str, Any],
    lm: PreTrainedModel,
) -> Any:
    """The template given, else the tokenizer's own, with what a prompt ends in where the response begins.

    Where there is none, only a line prefix needs one: it joins the contents, for a model of text has no turns.
    """
    template = given if given is not None else tokenizer.chat_template
    ending = _spelled(tokenizer, end)
    if template is None and needs["line_prefix"] is not None:
        mark = _spelled(tokenizer, [needs["line_prefix"]])
        ending += "" if _is_pair(lm) else mark
        return NOTE + _lines_template(_spelled(tokenizer, root), mark) + _ending(ending)
    if template is None or not ending:
        return template
    if isinstance(template, dict):
        return {name: _with_prefix(part, ending) for name, part in template.items()}
    return _with_prefix(template, ending)


def _spelled(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text that the tokenizer reads as these tokens: special ones by name; `decode` may space them out."""
    special = set(tokenizer.all_special_ids)
    parts = (tokenizer.convert_ids_to_tokens(id) if id in special else tokenizer.decode([id]) for id in ids)
    return "".join(str(part) for part in parts)


def _with_prefix(template: str, prefix: str) -> str:
    return (
        template.removesuffix("\n") + NOTE + _ending(prefix)
    )  # Jinja drops that newline at a template's end, and only there


def _ending(text: str) -> str:
    """What stands where the response begins; heedful puts it there itself, and says so to the template."""
    return f"{{% if add_generation_prompt and not heedful %}}{{{{ {_quoted(text)} }}}}{{% endif %}}"


def _lines_template(start: str, mark: str) -> str:
    """The contents line by line, each after the mark. Only a newline ends a line."""
    mark = _quoted(mark)
    line = (
        f"{{% if not loop.last %}}{{{{ {mark} + line + '\\n' }}}}{{% elif line %}}{{{{ {mark} + line }}}}{{% endif %}}"
    )
    lines = f"{{% for line in message['content'].split('\\n') %}}{line}{{% endfor %}}"
    return f"{{{{ {_quoted(start)} }}}}{{% for message in messages %}}{lines}{{% endfor %}}"


def _quoted(text: str) -> str:
    """A Jinja string literal."""
    return json.dumps(text, ensure_ascii=False)


def _generation(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    info: Mapping[str, Any],
    needs: Mapping[str, Any],
) -> GenerationConfig:
    """The model's generation settings with what the method needs; special tokens are the tokenizer's."""
    settings = copy.deepcopy(lm.generation_config) if lm.generation_config is not None else GenerationConfig()
    settings.use_cache = True
    settings._from_model_config = False  # or transformers may make it anew from config.json
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(settings, name) is None:
            setattr(settings, name, getattr(tokenizer, name))
    mark = needs["line_prefix"]
    # set in any case: the model may have been exported for another method before
    settings.suppress_tokens = sorted(set(needs["suppress"]) - {mark}) or None
    settings.sequence_bias = _force_after_newline(tokenizer, mark) if mark is not None else None
    if _is_pair(lm):
        _force_first(settings, needs)
    unused = settings.update(**info.get("generation", {}))
    if unused:
        raise ConfigError(f"unknown generation setting {sorted(unused)[0]!r}", where="generation")
    return settings


def _begin(needs: Mapping[str, Any]) -> list[int]:
    """What a decoder reads behind its start token."""
    return [*needs["prefix"], *([] if needs["line_prefix"] is None else [needs["line_prefix"]])]


def _force_first(settings: GenerationConfig, needs: Mapping[str, Any]) -> None:
    """Have a decoder begin with its one token; several go into `decoder_input_ids`, as the card says."""
    first = _begin(needs)
    settings.forced_bos_token_id = first[0] if len(first) == 1 else None
    if len(first) == 1 and first[0] in (settings.suppress_tokens or ()):  # which would take away what is forced
        settings.suppress_tokens = sorted({*settings.suppress_tokens} - {*first}) or None
        settings.sequence_bias = [[first, -FORCE]]


def _force_after_newline(tokenizer: PreTrainedTokenizerBase, mark: int) -> list[list[Any]]:
    """Sequence biases under which the mark follows a token that ends a line, or BOS, and no other."""
    ends = [id for id in range(len(tokenizer)) if id != mark and str(tokenizer.decode([id])).endswith("\n")]
    if tokenizer.bos_token_id is not None:
        ends.append(tokenizer.bos_token_id)
    return [[[mark], -FORCE], *([[end, mark], 2 * FORCE] for end in ends)]


# Writing


def _write_model(
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    temp: Path,
    dtype: torch.dtype,
    generation: GenerationConfig | None,
    save: Callable[[Path, torch.dtype], None] | None,
) -> None:
    try:
        (save or partial(_save_whole, lm))(temp, dtype)
    except SafetensorError as error:
        raise as_os_error(error) from error
    try:
        if generation is not None:
            generation.save_pretrained(temp)
    except ValueError as error:
        raise RunError(f"transformers refuses the generation settings: {error}", where=str(temp)) from error
    tokenizer.save_pretrained(temp)


def _save_whole(lm: PreTrainedModel, temp: Path, dtype: torch.dtype) -> None:
    lm.save_pretrained(temp, state_dict=_cast(lm.state_dict(), dtype), max_shard_size=MAX_SHARD)
    config = json.loads((temp / "config.json").read_bytes())
    config |= {"dtype": str(dtype).removeprefix("torch."), "use_cache": True}  # checkpointing turns the cache off
    (temp / "config.json").write_text(to_json(config, indent=2) + "\n", encoding="utf-8")


def as_os_error(error: SafetensorError) -> OSError:
    """safetensors writes in Rust and tells a full disk only in its text: "... (os error 28)"."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error))


def _cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Float tensors in another dtype; tied tensors stay tied."""
    seen: dict[Any, Tensor] = {}
    cast = {}
    for name, tensor in state.items():
        view = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if view not in seen:
            seen[view] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        cast[name] = seen[view]
    return cast


def _write_info(
    temp: Path, name: str, info: dict[str, Any], make_card: Callable[[str, Mapping[str, Any]], str]
) -> None:
    files = {item.name: sha256(item) for item in sorted(temp.iterdir()) if item.is_file()}
    record = {"schema": SCHEMA, "versions": versions(), **info, "files": files}
    (temp / INFO).write_bytes((to_json(record, exact=True, indent=2) + "\n").encode())
    (temp / CARD).write_bytes(make_card(title(name, info), info).encode())


def _sync_tree(folder: Path) -> None:
    for item in sorted(folder.rglob("*")):
        if item.is_file():
            sync_file(item)
    for item in (*(item for item in folder.rglob("*") if item.is_dir()), folder):
        sync_folder(item)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers while it writes and reads a model."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


# Checking what was written


def _load_back(lm: PreTrainedModel, temp: Path, dtype: torch.dtype) -> None:
    """The folder must give this model's logits, its weights rounded as they were stored."""
    compute = torch.promote_types(lm.dtype, dtype)
    loaded: Any = type(lm).from_pretrained(
        temp, dtype=compute, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    ids = torch.arange(min(PROBE, _num_embeddings(lm)), device=lm.device)
    ids = ids[ids != (lm.config.get_text_config().pad_token_id)][None]  # a classifier passes over padding
    rounded = {name: value.to(compute) for name, value in _cast(lm.state_dict(), dtype).items()}
    expected, found = _logits(lm, rounded, ids), _logits(loaded.to(lm.device), {}, ids)
    error = ((expected - found).abs().max() / expected.abs().max().clamp(min=1e-9)).item()
    if not error <= TOLERANCE.get(compute, HALF_TOLERANCE):
        raise RunError(f"the written model differs from the trained one: logits by {error:.1e} of the largest")


def _tokenizer_comes_back(tokenizer: PreTrainedTokenizerBase, temp: Path) -> bool:
    """Whether the folder's tokenizer gives the same ids, as the class it was or as the general one.

    Some classes (GPTNeoXTokenizer in transformers 5.23) set up their special tokens anew when they load.
    """
    if _same_ids(tokenizer, temp):
        return True
    path = temp / "tokenizer_config.json"
    settings = json.loads(path.read_bytes())
    path.write_text(to_json(settings | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2), encoding="utf-8")
    if (temp / "tokenizer.json").is_file() and _same_ids(tokenizer, temp):
        return True
    path.write_text(to_json(settings, indent=2), encoding="utf-8")
    warnings.warn("transformers will not put the prefix after texts by itself; the model card says so", stacklevel=3)
    return False


def _same_ids(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return loaded(PROBE_TEXT).input_ids == tokenizer(PROBE_TEXT).input_ids


def _logits(lm: PreTrainedModel, weights: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    was_training = lm.training
    lm.eval()
    try:
        with torch.no_grad():
            call = {"input_ids": ids, "use_cache": False} | ({"decoder_input_ids": ids} if _is_pair(lm) else {})
            return torch.func.functional_call(lm, dict(weights), (), call, tie_weights=False).logits.float()
    finally:
        lm.train(was_training)
