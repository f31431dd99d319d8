"""DeFacto: a model's summary of an article, whether its facts are right, what is wrong in words, and a correction.

https://github.com/microsoft/DeFacto: `article`, `abstract` (the reference, a demonstration), `candidate` (the model's),
`has_error` (true is bad), `intrinsic_error`, `extrinsic_error` (flags), `feedback`{summary, explanation, instruction,
evidence}. The critique is the explanation and, on a line of its own, the instruction; the edited summary is the
refinement, empty where there was no error. The article gets a line "TL;DR:" of ours behind it, as OpenAI's posts have.
"""

from heedful.data.formats.base import (
    Format,
    Row,
    column,
    filled,
    flag,
    has,
    label,
    optional,
    optional_text,
    others,
    text,
)

FLAGS = ("intrinsic_error", "extrinsic_error")
USED = frozenset({"article", "abstract", "candidate", "doc_id", "has_error", "feedback", *FLAGS})


def read(row: Row) -> Row:
    feedback = column(row, "feedback", dict, "an object")
    notes = {name: feedback[name] for name in ("evidence", "instruction_list") if feedback.get(name)}
    return {
        "prompt": text(row, "article") + "\n\nTL;DR:\n",
        "responses": [
            {
                "text": filled(row, "candidate"),
                "author": "model",
                "label": label(not flag(row, "has_error")),
                "flags": [name for name in FLAGS if optional(row, name, bool, "true or false")],
                "critique": _critique(feedback),
                "refinement": optional_text(feedback, "summary"),
            },
            {"text": filled(row, "abstract"), "author": "reference", "demonstration": True},
        ],
        "metadata": others(row, USED) | notes | {"doc_id": row.get("doc_id")},
    }


def _critique(feedback: Row) -> str | None:
    parts = [optional_text(feedback, name) for name in ("explanation", "instruction")]
    return "\n".join(part for part in parts if part) or None


FORMAT = Format(
    "defacto",
    "article, abstract, candidate, has_error, feedback",
    has("article", "abstract", "candidate", "has_error", "feedback"),
    read,
    None,
)
