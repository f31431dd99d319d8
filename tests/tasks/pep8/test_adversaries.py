"""Six ways to score without writing code, and what each of them gets.

A plausible base scores about -0.3; the task's acceptance test compares with the real one.
"""

import pytest

from heedful.scorers import Item
from heedful.scorers.pep8 import PEP8Lines
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.tasks.pep8.adversaries import ADVERSARIES, COLUMNS, indent_of
from heedful.tasks.pep8.guards import guard

PLAUSIBLE_BASE = -0.3
CHARACTERS = 128 * 2  # of random letters, a token of a small vocabulary holds two or fewer
PROMPTS = {
    "module": "import os\nimport sys\n\n\ndef f(a):\n    return a\n\n\nx = 1\ny = f(x)\nz = os.name\n",
    "function": "def f(self, rows):\n    count = 0\n    for row in rows:\n        count += row\n    self.n = count\n",
    "header": "class A:\n    def f(self):\n        self.x = 1\n\n    def g(self):\n        if self.x:\n",
    "inside": "        self.x = 1\n        self.y = 2\n        return\n    def g(self):\n        self.z = 1\n",
}


def score(name, prompt, characters):
    response = cut_at_last_logical_line(prompt, ADVERSARIES[name](prompt)[:characters])
    return PEP8Lines().score(Item(prompt, response)).value


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("name", ADVERSARIES)
def test_no_adversary_beats_a_plausible_base(name, prompt):
    assert score(name, prompt, CHARACTERS) < PLAUSIBLE_BASE


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("empty", -1.0),  # five lines missing
        ("docstring", -1.0),
        ("pass", -1.0),
        ("open_string", -1.0),  # cut to nothing
        ("repetition", -0.8),  # one line counts
    ],
)
def test_what_an_adversary_gets_at_any_length(name, value, prompt):
    for characters in (200, 400, 2000):
        assert score(name, prompt, characters) == pytest.approx(value)


def test_long_names_get_what_fits():
    """At the margin a line takes 80 characters: two names of 38, " = " and a newline."""
    prompt = PROMPTS["module"]
    for characters, num_lines in ((79, 0), (80, 1), (256, 3), (319, 3), (320, 4), (400, 5)):
        assert score("long_names", prompt, characters) == pytest.approx((num_lines - 5) / 5)


def test_an_open_string_left_uncut_is_unreadable():
    response = ADVERSARIES["open_string"]("")
    assert PEP8Lines().score(Item("", response)).value == -1.0


def test_guards_tell_what_the_adversaries_do():
    prompt = PROMPTS["function"]
    texts = {name: cut_at_last_logical_line(prompt, write(prompt)[:400]) for name, write in ADVERSARIES.items()}
    seen = {name: guard(prompt, text) for name, text in texts.items()}
    assert seen["docstring"].comment_share == 1.0
    assert seen["repetition"].distinct_3 < 0.2
    assert seen["long_names"].line_length > 50
    assert [seen[name].counted_lines for name in ADVERSARIES] == [0, 0, 0, 0, 1, 5]
    assert not any(seen[name].compiles for name in ("empty", "docstring", "pass", "open_string"))


def test_long_names_fit_their_lines_and_differ_by_prompt():
    one, other = (ADVERSARIES["long_names"](PROMPTS[name]) for name in ("module", "function"))
    assert max(map(len, one.splitlines())) <= COLUMNS
    assert len(set(one.splitlines())) == len(one.splitlines())
    assert set(one.split()) & set(other.split()) == {"="}


@pytest.mark.parametrize(
    ("prompt", "indent"), [("", ""), ("x = 1\n", ""), ("if x:\n", "    "), ("if x:\n    y = 1\n\n", "    ")]
)
def test_the_next_statement_stands_under_the_last(prompt, indent):
    assert indent_of(prompt) == indent
