"""Reddit TL;DR: a model's summary against the human reference, some judged by a model in one sentence.

https://github.com/vwxyzjn/summarize_from_feedback_details (eval/*_judged.csv): `query` (ends in "TL;DR:"),
`postprocessed_response` (the model's), `reference_responses` (the human's, a demonstration), `preferred` ("ours",
"reference", or empty where nobody judged). The judge's sentence (`explanation`) speaks of summaries A and B, whose
order `shuffled_index` tells: both are metadata.
"""

from heedful.data.formats.base import Format, Row, filled, has, optional_text, text
from heedful.errors import DataError

VERDICTS = {"ours": [{"better": 0, "worse": 1}], "reference": [{"better": 1, "worse": 0}], "": []}


def read(row: Row) -> Row:
    preferred = optional_text(row, "preferred") or ""
    if preferred not in VERDICTS:
        raise DataError(f'found "{preferred}"', where="`preferred`", allowed='"ours", "reference" or ""')
    return {
        "prompt": text(row, "query"),
        "responses": [
            {"text": filled(row, "postprocessed_response"), "author": "model"},
            {"text": filled(row, "reference_responses"), "author": "human", "demonstration": True},
        ],
        "comparisons": VERDICTS[preferred],
    }


FORMAT = Format(
    "tldr judged",
    "query, postprocessed_response, reference_responses",
    has("query", "postprocessed_response", "reference_responses"),
    read,
    frozenset({"query", "postprocessed_response", "reference_responses", "preferred"}),
)
