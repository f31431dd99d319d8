"""Your own scorer by module:function: found, called as it wants, and named when it fails."""

import signal
import threading
import time

import pytest

from heedful.errors import ConfigError, DataError
from heedful.scorers import Item, load_scorer, score_all
from heedful.scorers import run as scoring

SOURCE = """
import math
import time

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

def hanging(prompt, response):
    while response == "hang":
        try:
            time.sleep(0.01)
        except Exception:  # what it catches does not keep it alive
            pass
    return 1.0

hanging.timeout = 0.2

def timeless(prompt, response):
    return 1.0

timeless.timeout = "5 s"

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


# Time ----------------------------------------------------------------------------------------------


def test_a_call_that_does_not_return_is_an_error_that_names_the_item_and_the_timeout(scorers):
    scorer = load_scorer("my_scorers:hanging")
    assert scorer.score(Item("p", "quick")).value == 1.0
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"r3.*my_scorers:hanging took longer than 0.2 s.*hanging\.timeout = 300"):
        score_all(scorer, [Item("p", "hang", id="r3")])
    assert time.perf_counter() - start < 10


def test_a_hanging_call_in_a_process_of_its_own_ends_too(scorers, monkeypatch):
    monkeypatch.setattr(scoring, "PROBE_SECONDS", 0.0)
    items = [Item("p", f"quick {n}", id=f"r{n}") for n in range(3)] + [Item("p", "hang", id="r3")]
    with pytest.raises(DataError, match=r"r3.*took longer than 0.2 s"):
        score_all(load_scorer("my_scorers:hanging"), items, workers=2)


def test_an_alarm_that_was_set_before_is_set_again(scorers):
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        assert value("my_scorers:hanging", "quick") == 1.0
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.2
        time.sleep(0.3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert rung == [signal.SIGALRM]


def test_outside_the_main_thread_a_call_has_all_the_time_it_wants(scorers):
    found = []
    thread = threading.Thread(target=lambda: found.append(value("my_scorers:hanging", "quick")))
    thread.start()
    thread.join()
    assert found == [1.0]


def test_a_timeout_is_a_number_of_seconds(scorers):
    assert load_scorer("my_scorers:brevity").timeout == 60.0
    with pytest.raises(ConfigError, match=r"timeless.timeout: found '5 s'.*positive number of seconds"):
        load_scorer("my_scorers:timeless")
