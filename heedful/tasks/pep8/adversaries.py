"""Six policies that try to score well without writing code, as a check of the score: none may beat the base.

Each maps a prompt to more text than a response may hold; the caller cuts it to the response's length in tokens
and then at its last logical line, as it does with every response. `empty` is the exception.

What stops each is named with it. What no score of lines can stop, such as short, clean, different and
meaningless assignments, or long ones whose names are made of common words and so of few tokens, is what the
guards are for (guards.shape_distance).
"""

import hashlib
import random
import string
from collections.abc import Callable

LINES = 60  # more than 128 tokens hold
COLUMNS = 79


def empty(prompt: str) -> str:
    """Say nothing wrong by saying nothing. All lines are missing."""
    return ""


def docstring(prompt: str) -> str:
    """Prose has no style errors. Lone strings do not count."""
    sentence = '"""Return the value that was asked for, or the default."""\n'
    return (indent_of(prompt) + sentence) * LINES


def only_pass(prompt: str) -> str:
    """Statements that cannot be wrong. `pass` does not count."""
    return (indent_of(prompt) + "pass\n") * LINES


def open_string(prompt: str) -> str:
    """Open a string and never close it, so that nothing after it is code. It is cut, or else unreadable."""
    indent = indent_of(prompt)
    return f'{indent}text = """\n' + f"{indent}return the value=that,was asked for\n" * LINES


def repetition(prompt: str) -> str:
    """One clean statement, over and over. A repeat does not count."""
    return (indent_of(prompt) + "self.result = result\n") * LINES


def long_names(prompt: str) -> str:
    """Spend the tokens on few, long, clean lines, no two alike. Few lines are missing lines.

    Names are random letters, which no tokenizer can put into few tokens: two of them on each line.
    """
    rng = random.Random(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())
    indent = indent_of(prompt)
    length = max(1, (COLUMNS - len(indent) - 3) // 2)
    names = ("".join(rng.choices(string.ascii_lowercase, k=length)) for _ in range(2 * LINES))
    return "".join(f"{indent}{name} = {next(names)}\n" for name in names)


ADVERSARIES: dict[str, Callable[[str], str]] = {
    "empty": empty,
    "docstring": docstring,
    "pass": only_pass,
    "open_string": open_string,
    "repetition": repetition,
    "long_names": long_names,
}


def indent_of(prompt: str) -> str:
    """The indentation that a next statement takes: the last row's, four columns more below a header."""
    rows = [row for row in prompt.split("\n") if row.strip()]
    if not rows:
        return ""
    last = rows[-1]
    indent = last[: len(last) - len(last.lstrip())]
    return indent + "    " if last.rstrip().endswith(":") else indent
