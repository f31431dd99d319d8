"""BIG-Bench Hard: questions with the answer a checker compares with.

https://github.com/suzgunmirac/BIG-Bench-Hard has one file a task with `input` and `target`; here the files are joined,
and a column `task` names each. The prompt is the question and "\\nAnswer:". Its authors ask that nothing is trained on
it: it is read to measure models by.
"""

from heedful.data.formats.base import Format, Row, filled, text

USED = frozenset({"task", "input", "target"})


def read(row: Row) -> Row:
    metadata = {"task": filled(row, "task")}
    prompt = filled(row, "input") + "\nAnswer:"
    return {"prompt": prompt, "responses": [], "answer": text(row, "target"), "source": "bbh", "metadata": metadata}


FORMAT = Format("bbh", "task, input, target", lambda row: set(row) == USED, read, USED)
