"""UltraFeedback: several models' answers to an instruction, each rated on four aspects with a critique.

https://huggingface.co/datasets/openbmb/UltraFeedback: `instruction`, `completions[]` of {model, response,
annotations{aspect: {Rating, Rationale}}, overall_score, critique}. `overall_score` is the score (1 to 10), the aspects
stand beside it; a rating of "N/A" is left out. Its binarized form has TRL's columns and is read by trl.py. Known
defects: before December 2023, many of the 2,628 answers with an overall score of 10 should have had 1; rows without an
answer are dropped, counted.
"""

from collections.abc import Iterator

from heedful.data.formats.base import Format, Row, Unusable, is_list, items, optional, optional_text, others, text


def read(row: Row) -> Row:
    completions = items(row, "completions", dict)
    if not completions:
        raise Unusable("no completion")
    return {
        "prompt": text(row, "instruction") + "\n",
        "responses": [_response(completion) for completion in completions],
    }


def _response(completion: Row) -> Row:
    if not text(completion, "response").strip():
        raise Unusable("an empty response")
    return {
        "text": completion["response"],
        "author": optional_text(completion, "model"),
        "score": others(completion, frozenset()).get("overall_score"),
        "critique": optional_text(completion, "critique"),
        "scores": list(_ratings(optional(completion, "annotations", dict, "an object") or {})),
    }


def _ratings(annotations: Row) -> Iterator[Row]:
    for aspect, annotation in annotations.items():
        rating = annotation.get("Rating") if isinstance(annotation, dict) else None
        if isinstance(rating, str) and rating.strip().isdecimal():
            yield {"scorer": aspect, "value": int(rating)}


RAW = Format(
    "ultrafeedback",
    "instruction, completions",
    lambda row: isinstance(row.get("instruction"), str) and is_list(row, "completions"),
    read,
    frozenset({"instruction", "completions"}),
)
