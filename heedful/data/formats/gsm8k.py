"""GSM8K: worked answers to maths questions, and four models' solutions marked right or wrong.

https://github.com/openai/grade-school-math: `question`, `answer` ("...\\n#### 72"); example_model_solutions adds
`ground_truth` ("...\\nA: 72") and one column a model of {is_correct, solution}. The question gets a line break behind
it, as in the authors' dataset.py; calculator notes <<48/2=24>> stay. What stands behind the mark is the `answer` for a
checker. Any file of exactly `question` and `answer` is read the same way, without a checker's answer where the mark is
missing.
"""

from heedful.data.formats.base import Format, Row, filled, flag, has, label, others, text

MARKS = ("#### ", "\nA: ")


def read(row: Row) -> Row:
    answer = filled(row, "answer")
    return _row(row, answer, [{"text": answer, "demonstration": True}])


def read_solutions(row: Row) -> Row:
    models = [name for name in row if _is_solution(row[name])]
    solutions = [
        {"text": filled(row[name], "solution"), "label": label(flag(row[name], "is_correct")), "author": name}
        for name in models
    ]
    truth = filled(row, "ground_truth")
    native = _row(row, truth, [*solutions, {"text": truth, "author": "ground_truth", "demonstration": True}])
    return native | {"metadata": others(row, frozenset({"question", "ground_truth", *models}))}


def _row(row: Row, worked: str, responses: list[Row]) -> Row:
    marked = [worked.rpartition(mark)[2].strip() for mark in MARKS if mark in worked]
    return {"prompt": text(row, "question") + "\n", "responses": responses, "answer": next(iter(marked), None)}


def _is_solution(value: object) -> bool:
    return isinstance(value, dict) and {"is_correct", "solution"} <= set(value)


FORMAT = Format(
    "question-answer",
    "question, answer",
    lambda row: set(row) == {"question", "answer"},
    read,
    frozenset({"question", "answer"}),
)
SOLUTIONS = Format(
    "gsm8k solutions",
    "question, ground_truth, a column a model of {is_correct, solution}",
    lambda row: has("question", "ground_truth")(row) and any(map(_is_solution, row.values())),
    read_solutions,
    None,
)
