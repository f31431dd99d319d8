"""The card of a model folder: what was trained, how to use it, numbers and samples, in Markdown."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from heedful.disk import to_json


def title(name: str, info: Mapping[str, Any]) -> str:
    """A run calls every folder of a model the same, which tells nobody what it is."""
    return str(info.get("method", name)) if name == "model" else name


def card(
    name: str,
    info: Mapping[str, Any],
    *,
    task: str = "text-generation",
    how: str = "",
    library: str = "transformers",
    kind: str = "model",
) -> str:
    """The model card: what was done, how to use it, numbers and samples. Text of models and users is escaped.

    Args:
        task: as the Hub calls it.
        how: the section on use, in Markdown; how to generate where it is empty.
        library, kind: what reads it, and what it is.
    """
    head: dict[str, Any] = {"library_name": library, "pipeline_tag": task}
    head["tags"] = ["heedful", *([info["method"]] if "method" in info else [])]
    parts = [f"---\n{yaml.safe_dump(head, sort_keys=False)}---", f"# {escape(name)}"]
    parts.append(f"Trained with heedful from feedback; a plain {library} {kind}.")
    hidden = {"samples", "metrics", "chat_template", "generation"}
    rows = {key: value for key, value in info.items() if key not in hidden and value not in (None, [], {}, "")}
    parts.append(_table(("what", "value"), rows.items()))
    parts.append(how or how_to_generate(info))
    if info.get("metrics"):
        parts.append("## Numbers\n\n" + _table(("metric", "value"), info["metrics"].items()))
    for sample in info.get("samples", ()):
        parts.append(f"## A sample\n\n{fenced(sample['prompt'])}\n\nThe model:\n\n{fenced(sample['response'])}")
    return "\n\n".join(parts) + "\n"


def how_to_generate(info: Mapping[str, Any], auto: str = "AutoModelForCausalLM", options: str = "") -> str:
    """The section of a card on use.

    Args:
        auto: the class that reads the folder.
        options: what `generate` is given beside a prompt, with a comma before it.
    """
    lines = [
        "## How to generate",
        fenced(
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            f'model = {auto}.from_pretrained("FOLDER")\n'
            f'model.generate(**tokenizer("PROMPT", return_tensors="pt"){options})'
        ),
    ]
    if info.get("prefix") and info.get("prefix_is_automatic"):
        lines.append("The tokenizer puts BOS before every text and the method's prefix after it; add neither by hand.")
    elif info.get("prefix"):
        lines.append("Put BOS before every text and the token ids `prefix` (in heedful.json) after it.")
    return "\n\n".join(lines + _on_lines(info))


def how_to_answer(needs: Mapping[str, Any], begin: Sequence[int]) -> str:
    """The section on use of an encoder-decoder.

    Args:
        begin: what its decoder reads before the response: the start token, and tokens of the method.
    """
    lines = [
        "## How to generate",
        fenced(
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            'model = AutoModelForSeq2SeqLM.from_pretrained("FOLDER")\n'
            'model.generate(**tokenizer("PROMPT", return_tensors="pt"))'
        ),
        "The encoder reads the prompt, which the tokenizer ends with EOS, and the decoder writes the response.",
    ]
    if len(begin) > 2:
        lines.append(
            f"The response begins with tokens of the method: `generate` with `decoder_input_ids` [{list(begin)}]."
        )
    elif len(begin) > 1:
        lines.append("generation_config makes the decoder begin with the token of the method.")
    return "\n\n".join(lines + _on_lines(needs))


def _on_lines(info: Mapping[str, Any]) -> list[str]:
    if info.get("line_prefix") is None:
        return []
    return ["Each line follows a control token: use `apply_chat_template`, which marks the prompt's lines."]


def _table(header: tuple[str, str], rows) -> str:
    cells = [f"| {escape(str(key))} | {escape(_shown(value))} |" for key, value in rows]
    return "\n".join([f"| {header[0]} | {header[1]} |", "|---|---|", *cells])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is, in one line."""
    one_line = re.sub(r"\s+", " ", text)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", html.escape(one_line))


def fenced(text: str) -> str:
    """A code block that no run of backticks in the text can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
