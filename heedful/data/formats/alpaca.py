"""Alpaca's demonstrations: `instruction`, `input` (often empty), `output`.

https://github.com/tatsu-lab/stanford_alpaca; the prompts are those of its train.py, word for word. Known defect: a few
empty outputs (dropped, counted).
"""

from heedful.data.formats.base import Format, Row, filled, has, optional_text

HEAD = "Below is an instruction that describes a task"
ASK = "Write a response that appropriately completes the request."
WITH_INPUT = (
    HEAD + ", paired with an input that provides further context. " + ASK + "\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = HEAD + ". " + ASK + "\n\n### Instruction:\n{instruction}\n\n### Response:"


def prompt_of(row: Row) -> str:
    """The prompt of a row with `instruction` and perhaps `input`."""
    instruction, given = filled(row, "instruction"), optional_text(row, "input")
    template = WITH_INPUT if given is not None else WITHOUT_INPUT
    return template.format(instruction=instruction, input=given or "")


def read(row: Row) -> Row:
    return {
        "prompt": prompt_of(row),
        "responses": [{"text": filled(row, "output"), "demonstration": True}],
    }


FORMAT = Format(
    "alpaca",
    "instruction, input, output",
    has("instruction", "output"),
    read,
    frozenset({"instruction", "input", "output", "text"}),  # `text` repeats the rest, laid out
)
