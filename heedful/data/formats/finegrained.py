"""FineGrainedRLHF: four answers with all six preferences, and for the first the spans that are wrong and a correction.

https://github.com/allenai/FineGrainedRLHF, tasks/qa_feedback/data: `question`, `passages` ([title, sentence, ...]),
`prediction 1` to `4`, `preference` (1v2, 1v3, 1v4, 2v3, 2v4, 3v4: 1 the first, 2 the second, 0 neither), `feedback`
{errors[{error type, start, end}], missing-info, corrected-prediction}, `gold`.

The first answer is cut at the spans: a faulty segment scores -1, any other 0; the kinds of error become flags, the
correction its refinement. `gold` is a fifth response, a demonstration nobody compared. The prompt follows the authors'
("question: ... context: wikipage: ... text: ..."), and ends in a line "answer:" of ours, since a decoder needs a
border where their encoder-decoder has none. Preferences can be cyclic; `inspect` counts such records.
"""

from itertools import combinations

from heedful.data.formats.base import Format, Row, column, filled, has, items, optional_text, others, text
from heedful.errors import DataError

PREDICTIONS = tuple(f"prediction {n}" for n in (1, 2, 3, 4))
PAIRS = tuple(combinations(range(4), 2))
NOTES = ("errors", "missing-info")
USED = frozenset({"question", "passages", "gold", "preference", "feedback", *PREDICTIONS})


def read(row: Row) -> Row:
    feedback = column(row, "feedback", dict, "an object")
    responses: list[Row] = [{"text": filled(row, name)} for name in PREDICTIONS]
    responses[0] |= _judged(responses[0]["text"], feedback)
    if gold := optional_text(row, "gold"):
        responses.append({"text": gold, "author": "gold", "demonstration": True})
    return {
        "prompt": _prompt(row),
        "responses": responses,
        "comparisons": [_comparison(*pair, choice) for pair, choice in zip(PAIRS, items(row, "preference", int, 6))],
        "metadata": others(row, USED) | {name: feedback[name] for name in NOTES if feedback.get(name)},
    }


def _judged(answer: str, feedback: Row) -> Row:
    errors, missing = (items(feedback, name, dict) if feedback.get(name) is not None else [] for name in NOTES)
    kinds = dict.fromkeys(text(error, "error type") for error in [*errors, *missing])
    spans = sorted((column(e, "start", int, "an offset"), column(e, "end", int, "an offset")) for e in errors)
    return {
        "segments": cut(answer, spans),
        "flags": list(kinds),
        "refinement": optional_text(feedback, "corrected-prediction"),
    }


def cut(answer: str, spans: list[tuple[int, int]]) -> list[Row]:
    """The answer as segments: -1 inside any of the spans (sorted, they may overlap), 0 outside."""
    segments, done = [], 0
    for start, end in spans:
        if not 0 <= start < end <= len(answer):
            raise DataError(
                f"found {start} to {end}", where="`errors`", allowed=f"offsets within {len(answer)} characters"
            )
        segments += [{"text": answer[done:start], "score": 0}, {"text": answer[max(start, done) : end], "score": -1}]
        done = max(done, end)
    return [segment for segment in [*segments, {"text": answer[done:], "score": 0}] if segment["text"]]


def _comparison(a: int, b: int, choice: int) -> Row:
    if choice not in (0, 1, 2):
        raise DataError(f"found {choice}", where="`preference`", allowed="0, 1 or 2")
    better, worse = (b, a) if choice == 2 else (a, b)
    return {"better": better, "worse": worse, "strength": int(choice > 0)}


def _prompt(row: Row) -> str:
    passages = items(row, "passages", list) if row.get("passages") is not None else []
    pages = [_page(items({"passages": passage}, "passages", str)) for passage in passages if passage]
    context = " context: " + " ".join(pages) if pages else ""
    return f"question: {text(row, 'question')}{context}\nanswer:\n"


def _page(passage: list[str]) -> str:
    title, *body = passage
    return f"wikipage: {title} text: {' '.join(' '.join(body).split())}"


FORMAT = Format(
    "finegrained rlhf",
    "question, prediction 1 to 4, preference, feedback",
    has("question", "preference", "feedback", *PREDICTIONS),
    read,
    None,
)
