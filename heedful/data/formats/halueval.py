"""HaluEval (general): one answer a query, hallucinated or not, with the offending passages as free text.

https://github.com/RUCAIBox/HaluEval: `user_query`, `chatgpt_response`, `hallucination` ("yes" is bad, "no" good),
`hallucination_spans`. Where every passage is found in the answer, it is cut there: -1 inside, 0 outside; an answer
without hallucination is one segment of 0. Known defect: some passages are paraphrased ("Incomplete answer") and not to
be found; those answers keep their label alone, and are counted. The query gets a line break behind it.
"""

from heedful.data.formats.base import Format, Row, filled, has, items, label, optional_text, text
from heedful.data.formats.finegrained import cut
from heedful.errors import DataError


def read(row: Row) -> Row:
    verdict = text(row, "hallucination").strip().lower()
    if verdict not in ("yes", "no"):
        raise DataError(f'found "{verdict}"', where="`hallucination`", allowed='"yes" or "no"')
    answer = filled(row, "chatgpt_response")
    return {
        "id": optional_text(row, "ID"),
        "prompt": text(row, "user_query") + "\n",
        "responses": [
            {
                "text": answer,
                "label": label(verdict == "no"),
                "segments": [{"text": answer, "score": 0}] if verdict == "no" else _segments(row, answer),
                "flags": ["hallucination"] if verdict == "yes" else [],
            }
        ],
    }


def _segments(row: Row, answer: str) -> list[Row]:
    spans = _spans(row, answer)
    return cut(answer, sorted(span for span in spans if span)) if spans and all(spans) else []


def _spans(row: Row, answer: str) -> list[tuple[int, int] | None]:
    spans = "hallucination_spans"
    passages = [passage for passage in (items(row, spans, str) if row.get(spans) is not None else []) if passage]
    starts = [answer.find(passage) for passage in passages]
    return [(start, start + len(passage)) if start >= 0 else None for start, passage in zip(starts, passages)]


def _remark(row: Row) -> str | None:
    if str(row["hallucination"]).strip().lower() == "yes" and not _segments(row, row["chatgpt_response"]):
        return "hallucinated passages not found in the answer (label only)"
    return None


FORMAT = Format(
    "halueval",
    "user_query, chatgpt_response, hallucination",
    has("user_query", "chatgpt_response", "hallucination"),
    read,
    frozenset({"ID", "user_query", "chatgpt_response", "hallucination"}),
    _remark,
)
