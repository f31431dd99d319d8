"""Korbak et al. 2023's scored corpora: a document as `texts` (its sentences or lines) and their `scores`.

https://huggingface.co/tomekkorbak (pii-pile-chunk*, detoxify-pile-chunk*). Their score counts misalignment, 0 the best;
here a higher score is better, so it is negated: R = -s, as in the paper.
"""

from heedful.data.formats.base import Format, Row, Unusable, is_list, items


def read(row: Row) -> Row:
    texts = items(row, "texts", str)
    scores = items(row, "scores", (int, float), size=len(texts))
    pieces = [{"text": piece, "score": -score} for piece, score in zip(texts, scores) if piece]
    if not pieces:
        raise Unusable("an empty document")
    return {"prompt": "", "responses": [{"text": "".join(texts), "segments": pieces}]}


FORMAT = Format(
    "scored segments",
    "texts, scores (lists)",
    lambda row: is_list(row, "texts") and is_list(row, "scores"),
    read,
    frozenset({"texts", "scores"}),
)
