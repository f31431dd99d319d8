"""Your own scorer by module:function: found, called as it wants, and named when it fails."""

import pytest

from heedful.errors import ConfigError, DataError
from heedful.scorers import Item, load_scorer, score_all

SOURCE = """
import math

def brevity(prompt, response):
    return -len(response)

def correct(prompt, response, answer):
    return response == answer

def either(prompt, response, answer=None):
    return 2.0 if answer else 1.0

def alone(response):
    return 1.0

def four(prompt, response, answer, more):
    return 1.0

def undefined(prompt, response):
    return math.nan

def infinite(prompt, response):
    return math.inf

def words(prompt, response):
    return "good"

def broken(prompt, response):
    return 1 / 0

class Judge:
    @staticmethod
    def score(prompt, response):
        return 0.5

CONSTANT = 3
"""


@pytest.fixture
def scorers(tmp_path, monkeypatch):
    (tmp_path / "my_scorers.py").write_text(SOURCE)
    (tmp_path / "my_broken_scorers.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def value(name, response="ab", answer=None):
    return load_scorer(name).score(Item("p", response, answer, id="r3")).value


def test_a_function_of_prompt_and_response(scorers):
    assert value("my_scorers:brevity") == -2.0
    assert load_scorer("my_scorers:brevity").needs == frozenset()


def test_a_function_that_needs_the_answer(scorers):
    assert value("my_scorers:correct", "ab", "ab") == 1.0
    assert load_scorer("my_scorers:correct").needs == {"answer"}
    with pytest.raises(DataError, match=r"r3.*answer"):
        score_all(load_scorer("my_scorers:correct"), [Item("p", "ab", id="r3")])


def test_a_function_that_takes_an_answer_where_there_is_one(scorers):
    assert value("my_scorers:either") == 1.0
    assert value("my_scorers:either", answer="ab") == 2.0
    assert load_scorer("my_scorers:either").needs == frozenset()


def test_a_static_method(scorers):
    assert value("my_scorers:Judge.score") == 0.5


@pytest.mark.parametrize("name", ["my_scorers:alone", "my_scorers:four"])
def test_a_function_of_something_else_is_refused_before_scoring(scorers, name):
    with pytest.raises(ConfigError, match=r"cannot call (alone|four)\(.*expected a function of \(prompt, response\)"):
        load_scorer(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_scorers:brevty", "did you mean 'brevity'"),
        ("my_scorrers:brevity", "no module 'my_scorrers'"),
        ("my_scorers.py:brevity", "without .py"),
        ("my_scorers:CONSTANT", "'CONSTANT' is int"),
        ("my_broken_scorers:f", "No module named 'no_such_package'"),
        ("pep8_line", "did you mean 'pep8_lines'"),
        (
            "gold",
            "expected one of exact_match, pep8_chars, pep8_lines, the folder of a reward model or ranker, or module",
        ),
        (":f", "Empty module name"),
    ],
)
def test_a_wrong_name_says_what_would_be_right(scorers, name, message):
    with pytest.raises(ConfigError, match=message):
        load_scorer(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("undefined", "returned nan: expected a finite number"),
        ("infinite", "returned inf: expected a finite number"),
        ("words", r"returned 'good' \(str\): expected a number"),
        ("broken", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_value_names_the_item(scorers, name, message):
    with pytest.raises(DataError, match=f"r3: .*{message}"):
        score_all(load_scorer(f"my_scorers:{name}"), [Item("p", "x", id="r3")])


def test_editing_the_source_is_another_version(scorers, tmp_path):
    (tmp_path / "my_twin_scorers.py").write_text(SOURCE)
    (tmp_path / "my_edited_scorers.py").write_text(SOURCE + "# edited\n")
    versions = [load_scorer(f"my_{name}:brevity").version for name in ("scorers", "twin_scorers", "edited_scorers")]
    assert versions[0] == versions[1] != versions[2]
