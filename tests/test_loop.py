"""The loop: a run that was stopped or killed ends as if it had not been, and a budget is a budget."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models import tiny

from heedful import checkpoint, loop
from heedful.batch import Branch, Group
from heedful.config import Training
from heedful.errors import NothingLeft, RunError, Stopped
from heedful.loop import train
from heedful.method import Head, Method, Mix, Schedule, term
from heedful.objectives.likelihood import advantage_weighted_nll, nll, value_regression
from heedful.policy import Policy
from heedful.runs import Run
from heedful.sources.fixed import fixed

pytestmark = pytest.mark.usefixtures("one_thread")

NLL = [term(nll, per="mask")]
AWR = [
    term(advantage_weighted_nll, per="mask", coef=0.5, beta=0.3, max_weight=9.0),
    term(value_regression, per="mask", coef=0.5),
]


class Killed(BaseException):
    """A process that is gone: nothing after it reaches the disk."""


def row(number, *, reward=False):
    tokens = tuple(3 + (7 * number + i) % 100 for i in range(3 + number % 4))
    streams = {"mask": (1.0,) * len(tokens)}
    if reward:
        streams["reward"] = tuple(-(i % 3) / 3 for i in range(len(tokens)))
    return Group(f"r{number}", (1, 5), (Branch(tokens, streams),))


ROWS = [row(number) for number in range(7)]
HELD_OUT = [row(number) for number in range(20, 23)]
METHOD = Method(source=fixed(ROWS), targets=list, objective=NLL)
TINY = {"n_embd": 8, "n_inner": 16, "n_head": 2, "n_positions": 32, "resid_pdrop": 0.1}  # dropout: resume keeps it


def policy(heads=None):
    made = Policy(tiny("gpt2", **TINY), heads).double()
    for head in made.heads.values():
        torch.nn.init.ones_(head.linear.weight)
    return made


def settings(**options):
    base = {"dtype": "float64", "batch_size": 3, "eval_every": 2, "save_every": 2, "budget": {"steps": 6}}
    return Training(**base | {"optim": {"lr": 1e-2}} | options)


def go(path, *, method=METHOD, heads=None, validation=HELD_OUT, model=None, **options):
    """Train in a folder, from its newest checkpoint where there is one; the run, the policy and the last state."""
    hooks = {name: options.pop(name) for name in ("progress", "evaluate") if name in options}
    run = Run(path)
    if not (Path(path) / "manifest.json").exists():
        run = Run.create(path, command=[], config={})
    model = model or policy(heads)
    state = train(method, model, settings(**options), run, validation=validation, **hooks)
    return run, model, state


def lines(run):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


def fingerprint(run, model):
    """Everything that must not depend on interruptions: weights, optimizer, lines, state; times left out."""
    saved = checkpoint.load_newest(run.path)
    loop_state = {k: v for k, v in saved.state["loop"].items() if k != "seconds"}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return lines(run), loop_state, saved.state["optimizer"], saved.tensors, weights


def assert_same(a, b):
    assert a[:3] == b[:3]
    for ours, theirs in zip(a[3:], b[3:]):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def die_at(step, how):
    """A progress hook that strikes after a step was taken and logged."""

    def hook(event):
        if event["step"] == step:
            how()

    return hook


def kill():
    raise Killed


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


# Stopped and resumed


@pytest.mark.parametrize("step", range(1, 7))
def test_ctrl_c_after_any_step_then_resume_ends_as_uninterrupted(tmp_path, step):
    whole = go(tmp_path / "whole")
    with pytest.raises(Stopped) as stopped:
        go(tmp_path / "cut", progress=die_at(step, interrupt))
    assert stopped.value.exit_code == 130
    assert checkpoint.steps(tmp_path / "cut")[-1] == step  # it saved
    assert_same(fingerprint(*go(tmp_path / "cut")[:2]), fingerprint(*whole[:2]))


@pytest.mark.parametrize("save_every", [1, 2, 4])
@pytest.mark.parametrize("step", range(1, 7))
def test_a_kill_after_any_step_then_resume_ends_as_uninterrupted(tmp_path, step, save_every):
    whole = go(tmp_path / "whole", save_every=save_every)
    with pytest.raises(Killed):
        go(tmp_path / "cut", progress=die_at(step, kill), save_every=save_every)
    assert_same(fingerprint(*go(tmp_path / "cut", save_every=save_every)[:2]), fingerprint(*whole[:2]))


def test_one_kill_after_another_ends_as_uninterrupted(tmp_path):
    whole = go(tmp_path / "whole")
    for step in (1, 3, 3, 5, 6):
        with pytest.raises(Killed):
            go(tmp_path / "cut", progress=die_at(step, kill))
    assert_same(fingerprint(*go(tmp_path / "cut")[:2]), fingerprint(*whole[:2]))


@pytest.mark.parametrize("place", ["_restore_best", "_evaluate"])
def test_a_kill_while_the_run_finishes_repeats_no_line(tmp_path, monkeypatch, place):
    whole = go(tmp_path / "whole")
    real = getattr(loop._Loop, place)

    def die_at_the_end(self):
        if self.state.step == 6:
            kill()
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, place, die_at_the_end)
        with pytest.raises(Killed):
            go(tmp_path / "cut")
    assert_same(fingerprint(*go(tmp_path / "cut")[:2]), fingerprint(*whole[:2]))


def test_a_kill_inside_a_save_then_resume_ends_as_uninterrupted(tmp_path, monkeypatch):
    whole = go(tmp_path / "whole")
    real = checkpoint.save
    for number in range(4):
        count = iter(range(100))

        def die(*args, number=number, count=count, **options):
            if next(count) == number:
                kill()
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", die)
            with pytest.raises(Killed):
                go(tmp_path / f"cut{number}")
        assert_same(fingerprint(*go(tmp_path / f"cut{number}")[:2]), fingerprint(*whole[:2]))


def test_a_finished_run_that_is_called_again_changes_nothing(tmp_path):
    first = go(tmp_path)
    before = fingerprint(*first[:2])
    assert_same(fingerprint(*go(tmp_path)[:2]), before)


def test_heads_and_their_optimizer_resume_too(tmp_path):
    heads = {"value": Head(bias=True, detach=False)}
    rows = [row(number, reward=True) for number in range(7)]
    method = replace(METHOD, source=fixed(rows), objective=AWR, heads=heads)
    options = {"method": method, "heads": heads, "validation": rows[:2]}
    whole = go(tmp_path / "whole", **options)
    with pytest.raises(Killed):
        go(tmp_path / "cut", progress=die_at(5, kill), **options)
    assert_same(fingerprint(*go(tmp_path / "cut", **options)[:2]), fingerprint(*whole[:2]))


def test_a_mix_resumes_too(tmp_path):
    mix = Mix(
        [row(number) for number in range(30, 35)], [term(nll, per="mask", coef=0.5, name="mix_nll")], batch_size=2
    )
    method = replace(METHOD, mixes=(mix,))
    whole = go(tmp_path / "whole", method=method)
    with pytest.raises(Killed):
        go(tmp_path / "cut", progress=die_at(5, kill), method=method)
    assert_same(fingerprint(*go(tmp_path / "cut", method=method)[:2]), fingerprint(*whole[:2]))
    assert {"nll", "mix_nll", "loss"} <= lines(whole[0])[0].keys()


IN_ANOTHER_PROCESS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import test_loop
test_loop.go(Path(sys.argv[2]), progress=test_loop.die_at(5, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


def test_a_run_killed_in_another_process_goes_on_in_this_one(tmp_path):
    whole = go(tmp_path / "whole")
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(Path(__file__).parent), str(tmp_path / "cut")]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    assert checkpoint.steps(tmp_path / "cut")[-1] == 4
    assert_same(fingerprint(*go(tmp_path / "cut")[:2]), fingerprint(*whole[:2]))


# Ctrl-C


def test_ctrl_c_puts_the_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match="continue with --resume"):
        go(tmp_path, progress=die_at(1, interrupt))
    assert signal.getsignal(signal.SIGINT) is before


# Budgets


def num_steps(tmp_path, **options):
    run, _, state = go(tmp_path, validation=(), **options)
    logged = [line["step"] for line in lines(run)]
    assert logged == list(range(1, state.step + 1))
    return state.step


def test_a_budget_in_steps(tmp_path):
    assert num_steps(tmp_path, budget={"steps": 4}) == 4


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 5), (0.5, 2), (3, 7)])  # seven rows, three a step
def test_a_budget_in_epochs_rounds_up_to_a_step(tmp_path, epochs, steps):
    assert num_steps(tmp_path, budget={"epochs": epochs}) == steps


@pytest.mark.parametrize(
    ("budget", "ends"),
    [({"steps": 6}, [2, 4, 6]), ({"epochs": 1}, [3, 6, 9]), ({}, [5, 10, 15]), ({"tokens": 120}, None)],
)
def test_rounds_share_the_budget_of_a_run_or_repeat_their_epochs(tmp_path, budget, ends):
    collected = []

    def targets(rows):
        collected.append(loop_steps(tmp_path))
        return list(rows)

    method = replace(METHOD, targets=targets, schedule=Schedule(rounds=3, epochs=2))
    run, _, state = go(tmp_path, validation=(), method=method, budget=budget, optim={"lr": 1.0, "warmup": 0})
    rates = [line["learning_rate"] for line in lines(run)]
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.8 and rates[-1] < 0.2  # one decay over all rounds
    if ends:
        assert [*collected[1:], state.step] == ends
    else:
        assert 0 < collected[1] < collected[2] < state.step
        assert state.tokens - 120 < max(group.num_tokens for group in ROWS)


@pytest.mark.parametrize(
    ("rounds", "budget", "asked"),
    [
        (2, {"steps": 1}, [0]),
        (3, {"steps": 2}, [0, 1]),
        (5, {"steps": 2}, [0, 2]),  # the first step takes the share of the second round too
        (2, {"tokens": 1}, [0]),
        (2, {"seconds": 1e-9}, [0]),
        (3, {"epochs": 0.1}, [0, 1, 2]),
    ],
)
def test_no_round_is_drawn_that_the_budget_leaves_nothing_for(tmp_path, rounds, budget, asked):
    found = []

    class Asked:
        def collect(self, round_index, policy=None):
            found.append(round_index)
            return ROWS

    method = replace(METHOD, source=Asked(), schedule=Schedule(rounds=rounds))
    *_, state = go(tmp_path, validation=(), method=method, budget=budget)
    assert found == asked
    assert state.step == len(found)


def barren(empty):
    """Rounds of all rows but for some, which leave nothing; and which of them were asked."""
    asked = []

    class Numbered:
        def collect(self, round_index, policy=None):
            asked.append(round_index)
            return [round_index]

    def targets(samples):
        if samples[0] in empty:
            raise NothingLeft("nothing is good")
        return ROWS

    return replace(METHOD, source=Numbered(), targets=targets), asked


@pytest.mark.filterwarnings("ignore:round ")
@pytest.mark.parametrize(
    ("schedule", "empty", "expected", "logged"),
    [
        (Schedule(rounds=None, pass_rounds=lambda: 2), {1, 3}, [0, 1, 2, 3, 4], [1, 1]),  # each goes on
        (Schedule(rounds=None, pass_rounds=lambda: 2), {1, 2, 3, 4}, [0, 1, 2], [1, 2]),  # until a pass is empty
        (Schedule(rounds=3, epochs=1), {1}, [0, 1], [1]),  # where each round is a pass
    ],
)
def test_a_later_round_that_teaches_nothing_loses_nothing_and_no_run_goes_on_for_ever(
    tmp_path, schedule, empty, expected, logged
):
    method, asked = barren(empty)
    method = replace(method, schedule=schedule)
    budget = {"steps": 9} if schedule.rounds is None else {}  # three steps a round
    run, model, state = go(tmp_path, method=method, budget=budget)
    assert asked == expected
    assert [line["empty_rounds"] for line in lines(run) if "empty_rounds" in line] == logged
    assert state.step == 3 * (len(asked) - len(logged))
    assert_same(fingerprint(*go(tmp_path, method=method, budget=budget)[:2]), fingerprint(run, model))  # it is over


def test_it_is_said_which_round_teaches_nothing(tmp_path):
    method, _ = barren({1})
    with pytest.warns(UserWarning, match="round 1 teaches nothing: nothing is good"):
        go(tmp_path, method=replace(method, schedule=Schedule(rounds=2)))


def test_a_first_round_that_teaches_nothing_is_an_error(tmp_path):
    method, _ = barren({0})
    with pytest.raises(NothingLeft, match="nothing is good"):
        go(tmp_path, method=replace(method, schedule=Schedule(rounds=2)))


@pytest.mark.filterwarnings("ignore:round ")
@pytest.mark.parametrize("step", [3, 4])
def test_a_kill_round_a_round_that_teaches_nothing_changes_nothing(tmp_path, step):
    method = replace(barren({1})[0], schedule=Schedule(rounds=None, pass_rounds=lambda: 2))
    whole = go(tmp_path / "whole", method=method)
    with pytest.raises(Killed):
        go(tmp_path / "cut", method=method, progress=die_at(step, kill))
    assert_same(fingerprint(*go(tmp_path / "cut", method=method)[:2]), fingerprint(*whole[:2]))


def loop_steps(path):
    """Steps logged so far."""
    return len(Run(path).metrics())


def test_without_a_budget_it_is_one_epoch_or_what_the_method_says(tmp_path):
    assert num_steps(tmp_path / "one", budget={}) == 3
    assert num_steps(tmp_path / "two", budget={}, method=replace(METHOD, schedule=Schedule(epochs=2))) == 5


@pytest.mark.parametrize("budget", [1, 30, 50, 77, 100])
def test_a_budget_in_tokens_ends_with_the_row_that_reaches_it(tmp_path, budget):
    run, _, state = go(tmp_path, validation=(), budget={"tokens": budget})
    tokens = [line["tokens"] for line in lines(run)]
    assert tokens[-1] == state.tokens >= budget > max([0, *tokens[:-1]])
    assert state.tokens - budget < max(group.num_tokens for group in ROWS)


def test_tokens_count_prompts_and_responses_once(tmp_path):
    _, _, state = go(tmp_path, validation=(), batch_size=7, budget={"steps": 1})
    assert state.tokens == sum(2 + len(group.branches[0].tokens) for group in ROWS)


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(loop.time, "monotonic", lambda: self.now)


def test_a_budget_in_seconds_counts_training_only(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    real = loop.Learner.update

    def slow_update(self, *args, **options):
        clock.now += 10
        return real(self, *args, **options)

    def slow_evaluation(model, step):
        clock.now += 1000
        return {}

    monkeypatch.setattr(loop.Learner, "update", slow_update)
    _, _, state = go(tmp_path, evaluate=slow_evaluation, budget={"seconds": 45}, eval_every=1)
    assert (state.step, state.seconds) == (5, 50)


def test_the_learning_rate_follows_the_budget(tmp_path):
    run, *_ = go(tmp_path, validation=(), budget={"steps": 4}, optim={"lr": 1.0, "warmup": 0.5})
    assert [line["learning_rate"] for line in lines(run)] == pytest.approx([0.25, 0.75, 0.75, 0.25])


def test_no_step_of_a_warmup_or_a_decay_is_for_nothing(tmp_path):
    for unit, amount in (("steps", 4), ("tokens", 60), ("epochs", 2)):
        run, *_ = go(tmp_path / unit, validation=(), budget={unit: amount}, optim={"lr": 1.0, "warmup": 0.5})
        assert all(line["learning_rate"] > 0 for line in lines(run))


# What is logged


def test_a_step_and_an_evaluation_have_their_names(tmp_path):
    run, *_ = go(tmp_path)
    first = run.metrics()[0]
    assert list(first) == ["step", "tokens", "epoch", "seconds", "nll", "loss", "grad_norm", "learning_rate"]
    evaluations = [line for line in run.metrics() if "eval_loss" in line]
    assert [list(line) for line in evaluations] == [["step", "tokens", "eval_nll", "eval_loss"]] * 3
    assert [line["step"] for line in evaluations] == [2, 4, 6]


def test_an_epoch_is_a_pass_over_the_rows(tmp_path):
    run, *_ = go(tmp_path, validation=())  # seven rows, three a step
    assert [line["epoch"] for line in run.metrics()] == [0.4286, 0.8571, 1.2857, 1.7143, 2.1429, 2.5714]


def test_held_out_rows_are_not_trained(tmp_path, monkeypatch):
    seen = set()
    real = loop.Learner.update

    def update(self, work, *args, **options):
        seen.update(group.id for _, groups in work for group in groups)
        return real(self, work, *args, **options)

    monkeypatch.setattr(loop.Learner, "update", update)
    go(tmp_path)
    assert seen == {group.id for group in ROWS}


def test_progress_tells_the_step_the_speed_and_the_time_left(tmp_path):
    events = []
    go(tmp_path, progress=events.append)
    assert [event["step"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1]["done"] == 1.0 and events[-1]["seconds_left"] == 0
    assert all({"tokens", "tokens_per_second", "loss", "metrics"} <= event.keys() for event in events)


# The best checkpoint


def scripted(scores):
    values = iter(scores)
    return lambda model, step: {"score": next(values)}


@pytest.mark.parametrize(
    ("direction", "scores", "best"),
    [
        ("max", [1.0, 3.0, 2.0], 4),
        ("min", [1.0, 3.0, 2.0], 2),
        ("max", [1.0, 1.0, 1.0], 2),  # the first of equals
        ("max", [0.0, -1.0, -2.0], 2),  # 0 is a score
        ("max", [math.nan, 1.0, 0.5], 4),  # a NaN is never the best
        ("min", [math.nan, 1.0, math.inf], 4),
        ("max", [0.0, 1.0, 2.0], 6),
    ],
)
def test_the_weights_of_the_best_evaluation_are_kept(tmp_path, direction, scores, best):
    method = replace(METHOD, schedule=Schedule(select=("score", direction)))
    seen, score = {}, scripted(scores)

    def evaluate(model, step):
        seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
        return score(model, step)

    _, model, state = go(tmp_path, method=method, evaluate=evaluate, keep=1)
    assert (state.best_step, state.best, state.best_metrics["score"]) == (best, scores[best // 2 - 1], state.best)
    assert all(torch.equal(value, seen[best][name]) for name, value in model.state_dict().items())


def test_where_nothing_was_evaluated_the_last_weights_stay(tmp_path):
    run, model, state = go(tmp_path, validation=())
    assert (state.best, state.best_step, state.metrics) == (None, 0, {})
    last = checkpoint.load_newest(run.path)
    assert last.step == 6
    assert all(torch.equal(model.state_dict()[n], last.tensors[f"policy.{n}"]) for n in model.state_dict())


def test_only_the_newest_checkpoints_and_the_best_are_kept(tmp_path):
    method = replace(METHOD, schedule=Schedule(select=("score", "max")))
    run, *_ = go(tmp_path, method=method, evaluate=scripted([9, 1, 1, 1]), budget={"steps": 8}, save_every=1, keep=2)
    assert checkpoint.steps(run.path) == [2, 7, 8]


# Errors of a method, and numbers that are not finite


def test_a_stream_that_nobody_reads_is_an_error(tmp_path):
    rows = [Group("a", (1,), (Branch((5,), {"mask": (1.0,), "weight": (2.0,)}),))]
    with pytest.raises(AssertionError, match=r"streams \['weight'\] are made by the targets and read by no term"):
        go(tmp_path, method=replace(METHOD, source=fixed(rows)), validation=())
    assert not checkpoint.steps(tmp_path)


def test_two_terms_of_one_name_are_an_error(tmp_path):
    mix = Mix(ROWS, NLL, batch_size=2)
    with pytest.raises(AssertionError, match="share a name"):
        go(tmp_path, method=replace(METHOD, mixes=(mix,)))


def test_a_loss_that_is_not_finite_names_step_term_and_record(tmp_path):
    bad = Group("bad", (1,), (Branch((5,), {"mask": (math.inf,)}),))
    with pytest.raises(RunError, match=r"step \d: nll, loss, grad_norm is not finite.*\(records bad\)"):
        go(tmp_path, method=replace(METHOD, source=fixed([*ROWS, bad])), validation=())


def test_a_broken_step_leaves_the_run_resumable(tmp_path):
    def explode(self, *args, **options):
        raise RunError("nll is not finite", where="step 5")

    whole = go(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        real = loop.Learner.update
        patch.setattr(
            loop.Learner,
            "update",
            lambda self, work, progress, where, **options: (explode if where == "step 5" else real)(
                self, work, progress, where=where, **options
            ),
        )
        with pytest.raises(RunError, match="step 5"):
            go(tmp_path / "cut")
    assert_same(fingerprint(*go(tmp_path / "cut")[:2]), fingerprint(*whole[:2]))


def test_the_state_on_disk_is_plain_json(tmp_path):
    run, *_ = go(tmp_path)
    text = (checkpoint.load_newest(run.path).path / "state.json").read_text()
    assert json.loads(text)["loop"]["step"] == 6
