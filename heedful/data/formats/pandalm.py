"""PandaLM's test set: two models' responses to one instruction, judged by three people each.

https://github.com/WeOpenML/PandaLM, data/testset-v1.json: `instruction`, `input` (often empty), `response1`,
`response2`, and a column an annotator: 1 or 2 for the better response, 0 for a tie. Each column is one record, by its
labeler. The prompts are Alpaca's, whose models most of the responses come from. Known defects: an empty response in one
row of twenty (dropped, counted); pairs that annotators disagree on were taken out by the authors, so agreement is
flattering; the instructions' authors ask not to train on them.
"""

import re

from heedful.data.formats.alpaca import prompt_of
from heedful.data.formats.base import Format, Row, column, filled, has, others
from heedful.errors import DataError

ANNOTATOR = re.compile(r"annotator\d+")
USED = frozenset({"instruction", "input", "response1", "response2"})


def read(row: Row) -> list[Row]:
    names = [name for name in row if ANNOTATOR.fullmatch(name)] or ["annotator1"]
    shared = {
        "prompt": prompt_of(row),
        "responses": [{"text": filled(row, "response1")}, {"text": filled(row, "response2")}],
        "metadata": others(row, USED | set(names)),
    }
    choices = [column(row, name, int, "0, 1 or 2") for name in names]
    return [shared | {"labeler": name, "comparisons": [_comparison(name, c)]} for name, c in zip(names, choices)]


def _comparison(name: str, choice: int) -> Row:
    if choice not in (0, 1, 2):
        raise DataError(f"found {choice}", where=f"`{name}`", allowed="0, 1 or 2")
    better, worse = (1, 0) if choice == 2 else (0, 1)
    return {"better": better, "worse": worse, "strength": int(choice > 0)}


FORMAT = Format(
    "pandalm",
    "instruction, response1, response2, annotator1, ...",
    has("instruction", "response1", "response2", "annotator1"),
    read,
    None,
)
