"""OpenAI's comparisons: WebGPT's answers, and the summaries of "Learning to summarize from human feedback".

    WebGPT      question{full_text}, answer_0, answer_1, score_0, score_1     https://huggingface.co/datasets/openai/webgpt_comparisons
    summaries   info{...}, summaries[2]{text, policy}, choice, worker         https://github.com/openai/summarize-from-feedback
    ratings     info{...}, summary{text, policy, axes{overall, ...}}, worker  the same, "axis" files

The scores of WebGPT are the strength of a preference, from -1 to 1, equal where there is none. Posts are laid out as
the authors' models read them; a question gets a line break behind it. Quotes are metadata; `tokens_0` and `tokens_1`,
which repeat question and answer as GPT-2 ids, are left out.
"""

from heedful.data.formats.base import (
    Format,
    Row,
    column,
    compare,
    filled,
    has,
    items,
    number,
    optional,
    optional_text,
    others,
    text,
)
from heedful.errors import DataError

POST = "SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
ARTICLE = "Article:\n\n{article}\n\nTL;DR:"
REFERENCE = "ref"


def read_webgpt(row: Row) -> Row:
    question = column(row, "question", (dict, str), "text, or an object with `full_text`")
    return {
        "prompt": (question if isinstance(question, str) else text(question, "full_text")) + "\n",
        "responses": [{"text": filled(row, "answer_0")}, {"text": filled(row, "answer_1")}],
        "comparisons": [compare(0, number(row, "score_0"), 1, number(row, "score_1"))],
    }


def read_summaries(row: Row) -> Row:
    summaries = items(row, "summaries", dict, size=2)
    choice = column(row, "choice", int, "0 or 1")
    if choice not in (0, 1):
        raise DataError(f"found {choice}", where="`choice`", allowed="0 or 1")
    return {
        "prompt": _prompt(row),
        "responses": [_summary(item) for item in summaries],
        "comparisons": [{"better": choice, "worse": 1 - choice}],
        "labeler": row.get("worker"),
    }


def read_rating(row: Row) -> Row:
    """One summary with ratings from 1 to 7; `overall` is its score, the other axes stand beside it."""
    summary = column(row, "summary", dict, "an object")
    axes = others(optional(summary, "axes", dict, "an object") or {}, frozenset())
    scores = [{"scorer": name, "value": value} for name, value in axes.items()]
    return {
        "prompt": _prompt(row),
        "responses": [
            _summary(summary)
            | {
                "score": axes.get("overall"),
                "critique": optional_text(summary, "note"),
                "scores": scores,
            }
        ],
        "labeler": row.get("worker"),
    }


def _summary(item: Row) -> Row:
    """A summary and who wrote it; the policy `ref` is the author of the post, and what it wrote a demonstration."""
    author = optional_text(item, "policy")
    return {"text": filled(item, "text"), "author": author} | ({"demonstration": True} if author == REFERENCE else {})


def _prompt(row: Row) -> str:
    info = column(row, "info", dict, "an object")
    if info.get("post") is None:
        return ARTICLE.format(article=text(info, "article"))
    title, subreddit = (optional_text(info, name) or "" for name in ("title", "subreddit"))
    return POST.format(subreddit=subreddit, title=title, post=text(info, "post"))


WEBGPT = Format(
    "webgpt comparisons",
    "question, answer_0, answer_1, score_0, score_1",
    has("question", "answer_0", "answer_1", "score_0", "score_1"),
    read_webgpt,
    frozenset({"question", "answer_0", "answer_1", "score_0", "score_1", "tokens_0", "tokens_1"}),
)
SUMMARIES = Format(
    "summary comparisons",
    "info, summaries, choice",
    has("info", "summaries", "choice"),
    read_summaries,
    frozenset({"summaries", "choice", "worker"}),
)
RATINGS = Format(
    "summary ratings", "info, summary", has("info", "summary"), read_rating, frozenset({"summary", "worker"})
)
