"""score_all: in order, on every core, never the same text twice."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from heedful.errors import DataError, RunError
from heedful.records import Score
from heedful.scorers import Item, ScoreCache, load_scorer, score_all
from heedful.scorers import run as scoring
from heedful.scorers.run import content_key

MODULE = """
import os, sys, time

def slow(prompt, response):
    print("to be ignored")
    time.sleep(0.02)
    return float(response)

def process(prompt, response):
    time.sleep(0.02)
    return os.getpid()

def picky(prompt, response):
    time.sleep(0.02)
    if response == "30":
        raise ValueError("thirty")
    return 1.0

def deadly(prompt, response):
    time.sleep(0.02)
    if response == "30":
        os._exit(7)
    return 1.0
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "pooled_scorers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(scoring, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(scoring, "CHUNK_SECONDS", 0.1)
    return "pooled_scorers"


@dataclass
class Counting:
    """Scores a number by itself and remembers what it was asked."""

    name: str = "counting"
    version: str = "1"
    needs: frozenset = frozenset()
    asked: list = field(default_factory=list)

    def score(self, item):
        self.asked.append(item.response)
        return Score(self.name, float(item.response), self.version, count=1, length=2)


def numbers(*values):
    return [Item("p", str(value), id=f"r{value}") for value in values]


def test_scores_come_in_order_and_equal_items_are_scored_once():
    scorer = Counting()
    assert [score.value for score in score_all(scorer, numbers(3, 1, 3, 2))] == [3, 1, 3, 2]
    assert sorted(scorer.asked) == ["1", "2", "3"]


def test_nothing_to_score():
    assert score_all(Counting(), []) == []


def test_progress_counts_items_up_to_all_of_them(tmp_path):
    seen = []
    score_all(Counting(), numbers(1, 2, 2), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    score_all(Counting(), numbers(1), cache=tmp_path / "cache.jsonl")
    seen.clear()
    score_all(Counting(), numbers(1, 4), cache=tmp_path / "cache.jsonl", progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]


# The cache -----------------------------------------------------------------------------------------


def test_a_cached_score_is_the_score(tmp_path):
    path = tmp_path / "deep" / "cache.jsonl"
    first, second = Counting(), Counting()
    scores = score_all(first, numbers(1, 2), cache=path)
    assert score_all(second, numbers(2, 1, 3), cache=path) == [scores[1], scores[0], Score("counting", 3.0, "1", 1, 2)]
    assert second.asked == ["3"]


def test_another_version_prompt_or_answer_is_another_score():
    item = Item("p", "1", "a")
    keys = {
        content_key(Counting(), item),
        content_key(Counting(version="2"), item),
        content_key(Counting(name="other"), item),
        content_key(Counting(), Item("q", "1", "a")),
        content_key(Counting(), Item("p", "1")),
        content_key(Counting(), Item("p1", "", "a")),
    }
    assert len(keys) == 6
    assert content_key(Counting(), Item("p", "1", "a", id="elsewhere")) in keys  # an id is no content


def test_lines_that_cannot_be_read_are_counted_and_scored_again(tmp_path):
    path = tmp_path / "cache.jsonl"
    score_all(Counting(), numbers(1, 2, 3), cache=path)
    rows = path.read_text().splitlines()
    del (without_value := json.loads(rows[1]))["value"]
    path.write_text("\n".join([rows[0], json.dumps(without_value), "[1]", "\0\xff", '{"key": NaN}', rows[2][:40]]))
    cache, scorer = ScoreCache(path), Counting()
    assert cache.num_corrupt == 5
    assert [score.value for score in score_all(scorer, numbers(1, 2, 3), cache=cache)] == [1, 2, 3]
    assert scorer.asked == ["2", "3"]
    again = ScoreCache(path)
    assert (len(again), again.num_corrupt) == (3, 5)  # the torn last line got its end before the new ones


def test_two_writers_share_a_file(tmp_path):
    path = tmp_path / "cache.jsonl"
    writers = [ScoreCache(path), ScoreCache(path)]
    with ThreadPoolExecutor(2) as threads:
        for i in range(100):
            threads.submit(writers[i % 2].add, {f"{i:064d}": Score("s", float(i), count=0, length=i)})
    both = ScoreCache(path)
    assert (len(both), both.num_corrupt) == (100, 0)


def test_what_was_scored_before_a_failure_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "PROBE_SECONDS", 0)
    monkeypatch.setattr(scoring, "CHUNK_SECONDS", 0)
    path = tmp_path / "cache.jsonl"
    with pytest.raises(DataError, match="rx: counting failed: ValueError"):
        score_all(Counting(), [*numbers(1, 2), Item("p", "x", id="rx")], cache=path)
    assert len(ScoreCache(path)) == 2


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the score cache"):
        score_all(Counting(), numbers(1), cache=tmp_path / "file" / "cache.jsonl")


# Processes -----------------------------------------------------------------------------------------


def test_processes_give_the_same_scores_in_the_same_order(module):
    items = numbers(*range(40))
    scores = score_all(load_scorer(f"{module}:slow"), items, workers=2)
    assert [score.value for score in scores] == list(range(40))


def test_long_work_is_shared_and_short_work_stays(module, monkeypatch):
    monkeypatch.setattr(scoring, "POOL_PAYS_SECONDS", 0.2)
    scorer = load_scorer(f"{module}:process")
    short = {score.value for score in score_all(scorer, numbers(1, 2))}
    assert short == {os.getpid()}
    long = {score.value for score in score_all(scorer, numbers(*range(40)))}
    assert len(long) > 1 or len(os.sched_getaffinity(0)) == 1


def test_an_error_in_a_process_names_its_item(module):
    with pytest.raises(DataError, match=r"r30: .*ValueError: thirty"):
        score_all(load_scorer(f"{module}:picky"), numbers(*range(40)), workers=2)


def test_a_process_that_dies_is_an_error_and_not_a_hang(module):
    with pytest.raises(RunError, match="exit code 7"):
        score_all(load_scorer(f"{module}:deadly"), numbers(*range(40)), workers=2)


def test_a_scorer_that_cannot_travel_is_used_here(monkeypatch):
    monkeypatch.setattr(scoring, "PROBE_SECONDS", 0)
    scorer = Counting()
    scorer.close = lambda: None  # not picklable
    assert [score.value for score in score_all(scorer, numbers(2, 1), workers=2)] == [2, 1]


UNGUARDED = """
from heedful.scorers import Item, load_scorer, run, score_all
run.PROBE_SECONDS = 0.0
print("started")
print(len(score_all(load_scorer("pep8_lines"), [Item("", f"x = {i}\\n") for i in range(20)], workers=2)))
"""


def test_a_script_without_a_main_guard_runs_once(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("started\n20\n", "")
