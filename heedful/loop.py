"""The one loop that runs every method: collect, targets, update, log, evaluate, save. It knows no method by name."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from heedful import checkpoint, rounds, schedule
from heedful.batch import Group
from heedful.config import Training
from heedful.errors import RunError, Stopped
from heedful.learner import Learner, Work, require_own_names, require_read
from heedful.method import Cost, Method, anchored
from heedful.policy import Policy
from heedful.reference import reads_reference, with_reference
from heedful.runs import Run
from heedful.schedule import Limit
from heedful.signals import stop_requested
from heedful.state import State

log = logging.getLogger(__name__)

Evaluate = Callable[[Policy, int], Mapping[str, float]]


def train(
    method: Method,
    policy: Policy,
    training: Training,
    run: Run,
    *,
    validation: Sequence[Group] = (),
    evaluate: Evaluate | None = None,
    progress: Callable[[Mapping[str, Any]], None] | None = None,
    cache: Path | None = None,
) -> State:
    """Run a method to the end of its budget, from the newest checkpoint where the run has one.

    Afterwards the policy holds the weights of the best evaluation by `method.schedule.select`, or the last where there
    was none.

    Args:
        validation: groups for `eval_loss`; never trained.
        evaluate: more metrics, called with the policy and the step at every evaluation.
        progress: called after each step with step, tokens, tokens_per_second, seconds_left and the step's metrics; and
            while a round is drawn with step, round, drawn and of_responses.
        cache: folder for the log-probabilities of the start; in the run folder if not given.
    """
    timing = method.schedule
    learner = Learner(policy, training, ema=timing.ema, rates=method.rates, restarts=timing.restart)
    frozen_tokens, asked = 0, rounds.begin(method.measures, learner)
    if reads_reference(method):
        samples, _ = rounds.collect(method.source, learner, run, 0)
        folder = cache or run.path / "reference"
        plan = partial(schedule.planned, training=training, epochs=method.schedule.epochs)
        method, validation, frozen_tokens = with_reference(method, samples, validation, learner, folder, plan)
    loop = _Loop(method, learner, run, validation, evaluate, progress)
    with stop_requested() as stop:
        loop.go(stop)
    if anchored(method.objective):
        frozen_tokens += loop.state.tokens  # each goes through the start as well
    loop.state.frozen_tokens += frozen_tokens
    loop.state.add(asked)
    return loop.state


class _Loop:
    def __init__(self, method, learner, run, validation, evaluate, progress):
        self.method, self.learner, self.run = method, learner, run
        self.validation, self.evaluate, self.progress = validation, evaluate, progress or (lambda event: None)
        self.state = State()
        self.started = time.monotonic()

    def go(self, stop) -> None:
        require_own_names([self.method.objective, *(mix.objective for mix in self.method.mixes)])
        for mix in self.method.mixes:
            require_read(mix.objective, mix.groups)
        self._resume()
        budget, plan = self.learner.training.budget, self.method.schedule
        while not schedule.is_over(budget, self.state, plan.rounds, plan.pass_rounds()):
            if groups := self._groups():
                self._round(groups, stop)
            self.state.round_index, self.state.index = schedule.next_round(budget, self.state, plan.rounds), 0
            self._leave_if_asked(stop)
        if self.state.evaluated != self.state.step:  # a run that was killed while it finished has its last numbers
            self._evaluate()
        self._save()
        self._restore_best()

    def _groups(self) -> list[Group]:
        state = self.state
        with self._selected():
            samples, is_first = self._samples(state.round_index), not state.step
        groups = rounds.rows(self.method.targets, samples, state.round_index, is_first=is_first)
        state.empty_rounds = 0 if groups else state.empty_rounds + 1
        if not groups and self.learner.accelerator.is_main_process:
            self.run.log(step=state.step, tokens=state.tokens, empty_rounds=state.empty_rounds)
        require_read([*self.method.objective, *self.method.statistics], groups)
        return groups

    def _selected(self) -> AbstractContextManager[None]:
        """Where a round begins with the weights of the start, those that the round before it led to: its best."""
        state = self.state
        if not self.method.schedule.restart or state.index or state.round_best is None:
            return nullcontext()
        return self.learner.holding(checkpoint.load_step(self.run.path, state.round_best_step).tensors)

    def _round(self, groups: Sequence[Group], stop) -> None:
        limit, plan = self._limit(groups), self.method.schedule
        if plan.restart and self.state.round_index and not self.state.index:
            self.learner.restart()  # now that its samples are drawn
            self.state.round_best = None
        if not self.state.step and limit(self.state):
            hint = "give more seconds, or a budget in tokens"
            raise RunError("the round's samples took the whole budget: nothing was trained", hint=hint)
        self.started = time.monotonic()  # tokenising is not training time
        while not limit(self.state):
            self._step(groups, limit)
            self._leave_if_asked(stop)
        if plan.restart and self.state.evaluated != self.state.step:
            self._evaluate()  # the next round begins without these weights

    def _leave_if_asked(self, stop) -> None:
        if code := int(self.learner.largest(stop.exit_code)):
            self._save()
            raise Stopped(code)

    def _samples(self, round_index: int) -> Sequence[Any]:
        started, has_begun = time.monotonic(), self.state.index > 0
        source, say = self.method.source, partial(self._drawn, round_index)
        samples, cost = rounds.collect(source, self.learner, self.run, round_index, has_begun=has_begun, say=say)
        if not has_begun:  # or the state that was resumed has it
            self.state.add(cost)
            self.state.seconds += self.learner.largest(time.monotonic() - started) if cost != Cost() else 0.0
            if self.learner.accelerator.is_main_process and (watched := rounds.watched(source, samples)):
                self.run.log(step=self.state.step, tokens=self.state.tokens, round=round_index, **watched)
        most, seed = self.method.schedule.replay, self.learner.training.seed
        return rounds.replayed(samples, self.run, round_index, most=most, seed=seed)

    def _drawn(self, round_index: int, done: int, of: int) -> None:
        self.progress({"step": self.state.step, "round": round_index, "drawn": done, "of_responses": of})

    def _step(self, groups: Sequence[Group], limit: Limit) -> None:
        state, training = self.state, self.learner.training
        torch.manual_seed(schedule.stable_seed(training.seed, state.step))  # dropout, the same after a resume
        work = [(mix.objective, self._rows(mix.groups, mix.batch_size, state.step)) for mix in self.method.mixes]
        rows = self._rows(groups, training.batch_size, state.index)
        size = limit.fit(state, [row.num_tokens for row in rows], beside=_num_tokens(work))
        work.insert(0, (self.method.objective, rows[:size]))
        tokens = _num_tokens(work)
        progress, statistics = limit.middle(state, tokens), self.method.statistics
        metrics = self.learner.update(work, progress, statistics=statistics, where=f"step {state.step + 1}")
        state.step, state.index, state.tokens = state.step + 1, state.index + 1, state.tokens + tokens
        state.critic_tokens += self.learner.critic_tokens(work)
        now = time.monotonic()
        state.seconds, self.started = self.learner.largest(state.seconds + now - self.started), now
        self._log(metrics, limit)
        if state.step % training.eval_every == 0 and limit.progress(state) < 1:
            self._evaluate()
        if state.step % training.save_every == 0:
            self._save()

    def _rows(self, groups: Sequence[Group], size: int, index: int) -> list[Group]:
        return schedule.step_rows(
            groups, size, seed=self.learner.training.seed, round_index=self.state.round_index, index=index
        )

    def _limit(self, groups: Sequence[Group]) -> Limit:
        training, plan = self.learner.training, self.method.schedule
        rounds = plan.rounds, plan.pass_rounds(), plan.restart
        return Limit(training.budget, len(groups), training.batch_size, plan.epochs, *rounds)

    def _log(self, metrics: Mapping[str, float], limit: Limit) -> None:
        if not self.learner.accelerator.is_main_process:
            return
        state = self.state
        epoch = round(state.index / limit.steps_per_epoch, 4)  # passes over the round's rows
        seconds = round(state.seconds, 3)
        self.run.log(step=state.step, tokens=state.tokens, epoch=epoch, seconds=seconds, **metrics)
        done = limit.progress(state)
        left = state.seconds * (1 - done) / done if done else math.nan
        speed = state.tokens / max(state.seconds, 1e-9)
        self.progress(asdict(state) | dict(metrics) | {"done": done, "seconds_left": left, "tokens_per_second": speed})

    def _evaluate(self) -> None:
        if not self.validation and not self.evaluate and not self.method.measures:
            return
        state, method = self.state, self.method
        with self.learner.averaged():
            metrics = (
                self.learner.losses(method.objective, self.validation, method.statistics) if self.validation else {}
            )
            measured, cost = rounds.measure(method.measures, self.learner)
            state.add(cost)
            metrics |= measured
            if self.evaluate:
                metrics |= self.evaluate(self.learner.policy, state.step)
        if self.learner.accelerator.is_main_process:
            self.run.log(step=state.step, tokens=state.tokens, **metrics)
        if state.note(metrics, method.schedule.select):
            self._save()
        self.started = time.monotonic()  # evaluation is not training time

    def _save(self) -> None:
        self.learner.accelerator.wait_for_everyone()
        if self.learner.accelerator.is_main_process:
            tensors, optimizer = self.learner.tensors()
            state = {"loop": asdict(self.state), "optimizer": optimizer, "offsets": self.run.offsets()}
            kept = {"keep": self.learner.training.keep, "protect": self.state.kept}
            checkpoint.save(self.run.path, self.state.step, tensors, state, **kept)
        self.learner.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        found = checkpoint.load_newest(self.run.path)
        if found is None:
            if self.learner.accelerator.is_main_process:
                self.run.cut({})  # lines of a process that died before its first checkpoint
            return
        self.state = State(**found.state["loop"])
        self.learner.load(found.tensors, found.state["optimizer"])
        if self.learner.accelerator.is_main_process:
            self.run.cut(found.state["offsets"])
        log.info("resumed at step %d of %s", self.state.step, Path(self.run.path).name)

    def _restore_best(self) -> None:
        if self.state.best is not None and self.state.best_step != self.state.step:
            self.learner.load(checkpoint.load_step(self.run.path, self.state.best_step).tensors)
        if self.learner.ema:
            self.learner.policy.load_learned(self.learner.ema)


def _num_tokens(work: Work) -> int:
    return sum(group.num_tokens for _, groups in work for group in groups)
