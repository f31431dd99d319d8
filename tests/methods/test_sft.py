"""SFT: the checkpoint that a judge scores highest."""

import pytest
from models import tiny
from tiny_text import letters

import heedful
from heedful.errors import ConfigError
from heedful.records import Feedback, Response

pytestmark = pytest.mark.usefixtures("one_thread")

JUDGE = "tiny_judge:early"
SHOWN = [Feedback(f"say {n}:", (Response("zyx", demonstration=True),), id=f"r{n}") for n in range(15)]


def train(folder, out="run", *, resume=False, **method):
    if not (folder / "base").exists():
        tiny("llama").save_pretrained(folder / "base")
        letters().save_pretrained(folder / "base")
    settings = {
        "budget": {"steps": 12},
        "batch_size": 4,
        "optim": {"lr": 3e-3, "decay": "constant"},
        "validation": 0.2,
        "eval_every": 2,
        "probes": 0,
        "method": method,
    }
    return heedful.train(
        "sft", model=folder / "base", feedback=SHOWN, out=folder / out, settings=settings, command=[], resume=resume
    )


def test_v10_the_judge_chooses_the_checkpoint_where_the_loss_would_choose_another(tmp_path):
    """It prefers characters that stand early in Unicode, the demonstrations are the latest letters."""
    run = train(tmp_path, judge=JUDGE, max_tokens=6)
    measured = [row for row in run.metrics() if "judge_score" in row]
    by_judge = max(measured, key=lambda row: row["judge_score"])
    by_loss = min(measured, key=lambda row: row["eval_loss"])
    assert by_judge["step"] != by_loss["step"]
    assert run.manifest["selected_step"] == by_judge["step"]
    assert run.manifest["metrics"]["judge_score"] == by_judge["judge_score"]
    assert train(tmp_path, "by_loss").manifest["selected_step"] == by_loss["step"]


def test_what_judging_cost_is_in_the_ledger(tmp_path):
    run = train(tmp_path, judge=JUDGE, max_tokens=6)
    evaluations, held_out = 6, 3
    assert run.manifest["ledger"]["scorer_calls"] == {JUDGE: evaluations * held_out}
    assert 0 < run.manifest["ledger"]["sampled_tokens"] <= evaluations * held_out * 6


@pytest.mark.parametrize("max_tokens", [1, 64])
def test_tokens_of_an_answer_that_nobody_judges_are_refused(tmp_path, max_tokens):
    with pytest.raises(ConfigError, match="found max_tokens without a judge"):
        train(tmp_path, max_tokens=max_tokens)


def test_a_judge_that_compares_is_refused(tmp_path):
    records = [Feedback(f"q{n}", (Response("a", rank=1), Response("b", rank=2)), id=f"p{n}") for n in range(8)]
    train(tmp_path, "first")  # makes the base
    ranker = heedful.train(
        "ranker", model=tmp_path / "base", feedback=records, out=tmp_path / "ranker", settings={"budget": {"steps": 1}}
    )
    with pytest.raises(ConfigError, match="which scores no response by itself"):
        train(tmp_path, judge=str(ranker.path))
