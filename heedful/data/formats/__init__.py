"""The shapes of feedback files, one reader a family, told apart by their columns.

A reader turns one row into one or several native rows (plain objects as in the record's JSON), which then pass the same
validation as everyone's. The order below matters: the first shape that matches a file's first row reads it all.
"""

import difflib

from heedful.data.formats import (
    alpaca,
    bbh,
    conversations,
    defacto,
    finegrained,
    gsm8k,
    halueval,
    openai,
    pandalm,
    segments,
    tldr,
    transcripts,
    trl,
    ultrafeedback,
)
from heedful.data.formats.base import Format, Row, is_list
from heedful.errors import DataError
from heedful.records import RECORD, unknown_field


def _is_native(row: Row) -> bool:
    return is_list(row, "responses") or ("prompt" in row and set(row) <= set(RECORD))


NATIVE = Format("native", "prompt, responses", _is_native, lambda row: row, None)

FORMATS: tuple[Format, ...] = (
    NATIVE,
    ultrafeedback.RAW,
    finegrained.FORMAT,
    openai.WEBGPT,
    openai.SUMMARIES,
    openai.RATINGS,
    tldr.FORMAT,
    halueval.FORMAT,
    defacto.FORMAT,
    gsm8k.SOLUTIONS,
    gsm8k.FORMAT,
    bbh.FORMAT,
    segments.FORMAT,
    transcripts.SCORED,
    pandalm.FORMAT,
    alpaca.FORMAT,
    conversations.SHAREGPT_PAIR,
    conversations.SHAREGPT,
    trl.PREFERENCE,
    trl.LABELLED,
    trl.COMPLETION,
    conversations.MESSAGES,
    trl.DOCUMENT,
    trl.PROMPT,
)

USUAL = "columns such as prompt, responses; prompt, completion; prompt, chosen, rejected; messages; text"

# Names that a column of a file in one of the two weakest shapes (a lone `text`, a lone `prompt`) must not nearly have.
TELLING = ("prompt", "messages", "completion", "chosen", "rejected", "responses", "conversations")


def detect(row: Row, where: str) -> Format:
    """The shape of a file, from its first row.

    Raises:
        DataError: no shape has these columns; says which are known, and which column looks misspelt.
    """
    for shape in FORMATS:
        if shape.matches(row):
            if shape in (trl.DOCUMENT, trl.PROMPT):
                _refuse_misspelt(row, shape, where)
            return shape
    if _nearly(row, "responses") and _nearly(row, "prompt"):
        raise unknown_field(next((name for name in row if name not in RECORD), "responses"), RECORD, where=where)
    columns = ", ".join(f"`{name[:40]}`" for name in list(row)[:12]) or "none"
    raise DataError(f"no known shape has the columns {columns}", where=where, allowed=USUAL, hint=_map_hint(row))


def _nearly(row: Row, name: str) -> bool:
    return bool(difflib.get_close_matches(name, list(row), n=1, cutoff=0.8))


def _refuse_misspelt(row: Row, shape: Format, where: str) -> None:
    for name in row:
        near = difflib.get_close_matches(name[:60], [word for word in TELLING if word not in row], n=1, cutoff=0.8)
        if near and name not in (shape.used or ()):
            raise DataError(
                f"unknown column `{name}`",
                where=where,
                allowed=shape.columns,
                hint=f"did you mean `{near[0]}`? if not, say what the columns are with --map",
            )


def _map_hint(row: Row) -> str:
    words = [word for word in TELLING if word not in row]
    near = [word for name in row for word in difflib.get_close_matches(name[:60], words, n=1, cutoff=0.8)]
    return (f"did you mean `{near[0]}`? else " if near else "") + (
        'say what they are with --map, as in --map prompt=question --map "responses[0].text=answer"'
    )
