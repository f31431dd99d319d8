"""A trained reward model as a plain Hugging Face folder: AutoModelForSequenceClassification with one label.

Its logit is the reward at the last token that is not padding, as it was trained: `heedful_reward_offset` in
config.json is what heedful's own scorer subtracts. The tokenizer joins a prompt and a response as in training.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from heedful.card import card, fenced
from heedful.errors import RunError
from heedful.export import ended, write
from heedful.policy import Policy
from heedful.reward import OFFSET, Centre

NO_GENERATION: Mapping[str, Any] = {"prefix": [], "line_prefix": None, "suppress": []}  # as every heedful.json has them
ALLOWED = "a model such as Llama, Qwen, Mistral, Gemma, GPT-2, GPT-NeoX or OPT"
JOINED = "root + prompt + response + EOS; no EOS where the response was cut"


def export_reward_model(
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | str,
    info: Mapping[str, Any],
    centre: Centre,
    *,
    save: Callable[[Path, torch.dtype], None] | None = None,
    make_card: Callable[[str, Mapping[str, Any]], str] | None = None,
) -> Path:
    """Write trunk and reward head as a sequence classifier; what is refused is as for `export.export`.

    Args:
        save, make_card: of what is written in the model's place; see `export.write`.
    """
    classifier = classifier_of(policy.lm)
    classifier.score = policy.heads["reward"].get_submodule("linear")
    config = classifier.config.get_text_config()
    config.pad_token_id = tokenizer.pad_token_id
    setattr(classifier.config, OFFSET, centre.offset)
    over = f"{centre.num_responses} {centre.over}"
    known = {"reward_offset": centre.offset, "reward_offset_is_mean_over": over, "text": JOINED}
    make_card = make_card or partial(card, task="text-classification", how=_how_to_score(over))
    info = {**info, **NO_GENERATION, **known}
    return write(classifier.eval(), ended(tokenizer), path, info, make_card=make_card, save=save)


def classifier_of(lm: PreTrainedModel) -> Any:
    """A sequence classifier round the very trunk of a language model, its one-label head still without weights.

    Raises:
        RunError: transformers has none for this architecture that reads a bias-free linear head.
    """
    if lm.config.is_encoder_decoder:
        name = type(lm).__name__
        raise RunError(
            f"the sequence classifier of {name} is more than its trunk and one number, which is what a reward model is",
            where=str(lm.name_or_path),
            allowed=ALLOWED,
        )
    config = copy.deepcopy(lm.config)
    config.num_labels = 1
    config.id2label, config.label2id = {0: "reward"}, {"reward": 0}
    kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if kind is not None:
        with torch.device("meta"):  # nothing of its own is kept
            classifier = kind(config)
        head = getattr(classifier, "score", None)
        if classifier.base_model_prefix == lm.base_model_prefix and isinstance(head, nn.Linear) and head.bias is None:
            setattr(classifier, classifier.base_model_prefix, lm.base_model)
            return classifier
    raise RunError(
        f"transformers has no sequence classifier for {type(lm).__name__}, so a reward model could not be exported",
        where=lm.name_or_path or "",
        allowed=ALLOWED,
    )


def _how_to_score(over: str) -> str:
    code = fenced(
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'model = AutoModelForSequenceClassification.from_pretrained("FOLDER")\n'
        'rows = tokenizer(["PROMPT"], ["RESPONSE"], padding=True, return_tensors="pt")\n'
        "model(**rows).logits[:, 0]"
    )
    words = (
        "One number for a response, higher is better. The tokenizer puts BOS before the prompt and EOS after the "
        "response, as in training; take EOS from a response that was cut. A conversation goes through "
        "`apply_chat_template` with `add_generation_prompt=True`, and its ids before those of the response and EOS. "
        "Pad on the right; on the left, a model with learned positions such as GPT-2 needs `position_ids`."
    )
    shift = (
        f"Rewards are as they were trained and mean nothing but their differences. `{OFFSET}` in config.json is their "
        f"mean over {over}: subtract it and those have 0 on average. heedful does, other tools do not."
    )
    return f"## How to score\n\n{code}\n\n{words}\n\n{shift}"
