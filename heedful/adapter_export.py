"""An adapter alone as a plain peft folder: it loads beside its base in peft, without heedful, and in heedful by itself.

adapter_config.json          peft's settings, and the base's folder or Hub name
adapter_model.safetensors    the two matrices of each layer, rows of new tokens, a reward model's head
tokenizer, generation_config.json, heedful.json, README.md      as beside a whole model; see export.py
"""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from heedful.adapters import CLASSIFIER, HEAD, WEIGHTS, Adapters, stored
from heedful.card import card, fenced, how_to_generate
from heedful.export import export
from heedful.policy import Policy
from heedful.reward import Centre
from heedful.reward_export import export_reward_model

WRITERS = {  # what peft calls the task of a language model, and reads it with, by whether it has an encoder
    False: ("CAUSAL_LM", "AutoPeftModelForCausalLM"),
    True: ("SEQ_2_SEQ_LM", "AutoPeftModelForSeq2SeqLM"),
}
OWN_SETTINGS = ', generation_config=GenerationConfig.from_pretrained("FOLDER")'  # peft takes the base's otherwise


def export_adapter(
    adapters: Adapters,
    lm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    info: Mapping[str, Any],
    *,
    how: str = "",
) -> Path:
    """Write the adapter of a language model; the rest is as for `export.export`."""
    task, reader = WRITERS[lm.config.is_encoder_decoder]
    how = how or how_to_generate(info, reader, OWN_SETTINGS)
    return export(
        lm,
        tokenizer,
        path,
        {**info, **_base(adapters)},
        save=partial(_save, adapters, task, stored(lm)),
        make_card=partial(card, how=how, library="peft", kind="adapter"),
    )


def export_reward_adapter(
    adapters: Adapters,
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    info: Mapping[str, Any],
    centre: Centre,
) -> Path:
    """Write the adapter of a reward model with its head, always; the rest is as for `export_reward_model`."""
    head = policy.heads["reward"].get_parameter("linear.weight")
    how = _how_to_score(f"{centre.num_responses} {centre.over}")
    return export_reward_model(
        policy,
        tokenizer,
        path,
        {**info, **_base(adapters)},
        centre,
        save=partial(_save, adapters, CLASSIFIER, stored(policy.lm) | {f"base_model.model.{HEAD}": head}),
        make_card=partial(card, task="text-classification", how=how, library="peft", kind="adapter"),
    )


def _base(adapters: Adapters) -> dict[str, str]:
    return {"base": adapters.base.name, "base_sha256": adapters.base.sha256}


def _save(adapters: Adapters, task: str, tensors: Mapping[str, Tensor], folder: Path, dtype: torch.dtype) -> None:
    config = copy.copy(adapters.config)
    config.task_type, config.base_model_name_or_path, config.inference_mode = task, adapters.base.name, True
    config.target_modules = sorted(config.target_modules)  # of a set, whose order is another in each process
    config.modules_to_save = [HEAD.partition(".")[0]] if task == CLASSIFIER else None
    config.save_pretrained(folder)
    save_file({name: _stored(weight, dtype) for name, weight in tensors.items()}, folder / WEIGHTS)


def _stored(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.detach().to("cpu", dtype).contiguous()


def _how_to_score(over: str) -> str:
    code = fenced(
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'model = AutoPeftModelForSequenceClassification.from_pretrained("FOLDER", num_labels=1)\n'
        "model.config.pad_token_id = tokenizer.pad_token_id\n"
        'rows = tokenizer(["PROMPT"], ["RESPONSE"], padding=True, return_tensors="pt")\n'
        "model(**rows).logits[:, 0]"
    )
    words = (
        "One number for a response, higher is better. The tokenizer puts BOS before the prompt and EOS after the "
        f"response, as in training. `reward_offset` in heedful.json is the mean reward over {over}: subtract it and "
        "those have 0 on average. heedful does, other tools do not."
    )
    return f"## How to score\n\n{code}\n\n{words}"
