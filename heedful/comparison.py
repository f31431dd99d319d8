"""Every method on the same task at the same budget: one row each, whatever happens to the others."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from heedful import schedule
from heedful.arms import BEST_OF_N, Arm, read_arms
from heedful.config import Strict, merge, parse, unknown
from heedful.data.kinds import count_kinds, missing
from heedful.disk import read_lines, write_lines
from heedful.errors import ConfigError, DataError, Stopped
from heedful.evals.summary import compare_pairs, measure, summarize
from heedful.inference import needs_of
from heedful.methods import feedback_of, load_method
from heedful.records import Feedback
from heedful.results import Ledger, Metric, Results, Row, row_name, write
from heedful.runs import Run
from heedful.tasks import Evaluation, Reference, Subject, Task
from heedful.tasks.named import load_task
from heedful.training import learnable, read_settings, train

REWARD = "reward_model"  # where some row needs one, all are measured by it too
TEXT = frozenset({"documents", "responses", "prompts"})  # what holds no judgement

Say = Callable[[Mapping[str, Any]], None]


class Budget(Strict):
    """What each method may spend: tokens or seconds of training, and how many labels it sees."""

    tokens: int | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)
    labels: int | None = Field(None, gt=0)


def compare(
    task: Task | str | Path,
    *,
    methods: Sequence[str] | None = None,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    budget: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    command: Sequence[str] | None = None,
    progress: Say | None = None,
) -> Results:
    """Measure the task's references, then train and measure each method with each seed.

    results.json is written after every row, so that an interrupted comparison loses one row at most; a method that
    fails is a row with its error. With `resume`, finished rows are kept and an unfinished training goes on from its
    newest checkpoint.

    Args:
        task: a task, its name, or a feedback file.
        methods: those of the task if not given; `method/variant` for a variant the task has, ["all"] for all.
        budget: as `Budget`; the same for every method, the task's own if not given.
        settings: laid over the task's recipe of every method.
    """
    task = load_task(str(task)) if isinstance(task, (str, Path)) else task
    arms = read_arms(methods, task)
    for key in settings or {}:
        if key in ("seed", "budget"):
            hint = "--seeds 3, or --seeds 0,5,7" if key == "seed" else "--budget tokens=200000"
            raise ConfigError(f"{key} is not a method's to set: it is the same for all", where="--set", hint=hint)
    if isinstance(own := (settings or {}).get("method"), Mapping):
        _require_shared(arms, own)
    needs = {arm: arm.needs(merge(task.settings(arm.name), settings or {})) for arm in arms}
    asked = dict(task.budget) | dict(budget or {}) if _only_labels(budget) else dict(budget or {})
    limits = parse(Budget, asked, where="budget")
    config = {
        "task": task.name,
        "methods": [arm.name for arm in arms],
        "seeds": list(seeds),
        "budget": limits.model_dump(),
    }
    config |= {"settings": dict(settings or {}), "describe": dict(task.describe())}
    _training_budget(limits)
    run = Run.start(out, command=command or sys.argv, config=config, seed=seeds[0], resume=resume)
    with run.lock():
        return _Comparison(task, run, limits, dict(settings or {}), progress or (lambda event: None)).go(needs, seeds)


def _require_shared(arms: Sequence[Arm], own: Mapping[str, Any]) -> None:
    """A method's own setting is laid over every arm.

    Raises:
        ConfigError: some of them lack it; names them, and those that have it.
    """
    known = {arm.name: load_method(arm.method).Config.model_fields for arm in arms if arm.method != BEST_OF_N}
    for key in own if known else ():
        able = [name for name, fields in known.items() if key in fields]
        if not able:
            every = dict.fromkeys(field for fields in known.values() for field in fields)
            raise unknown(key, "setting", list(every), where="--set method")
        if len(able) < len(known):
            without = ", ".join(name for name in known if name not in able)
            allowed = "a setting of every method that is compared"
            hint = f"--methods {','.join(able)} compares those that have it"
            raise ConfigError(f"not a setting of {without}", where=f"--set method.{key}", allowed=allowed, hint=hint)


class _Comparison:
    def __init__(self, task: Task, run: Run, budget: Budget, settings: Mapping[str, Any], say: Say):
        self.task, self.run, self.budget, self.settings, self.say = task, run, budget, settings, say
        self.results = Results(schema_version=1, task=task.name, base=shown(task.base), budget=_given(budget))
        self.without_reward: set[int] = set()  # seeds whose reward model could not be trained
        self.new_bases: set[int] = set()  # seeds whose base is measured now, and so all that is measured against it

    def go(self, arms: Mapping[Arm, Mapping[str, str]], seeds: Sequence[int]) -> Results:
        """All rows, and what they say together.

        Args:
            arms: with what each needs trained before it, by role.
        """
        self.task.prepare(self.run.path, _training_budget(self.budget), self.say)
        self.results = self.results.model_copy(update={"seeds": list(seeds), "base": shown(self.task.base)})
        references = list(self.task.references())
        self.num_rows = (len(references) + len(arms)) * len(seeds)
        self.has_reward = any(REWARD in needs.values() for needs in arms.values())
        for seed in seeds:
            for reference in references:
                self._row(_reference_row(reference, seed), partial(self._refer, reference=reference, seed=seed))
            for arm, needs in arms.items():
                tier = arm.tier(merge(self.task.settings(arm.name), self.settings))
                row = Row(method=arm.method, variant=arm.variant, tier=tier, seed=seed)
                self._row(row, partial(self._answer, arm=arm, needs=needs, seed=seed))
        self.results, problems = summarize(self.results, self.run.path)
        if primary := self.results.primary:
            self.results, more = compare_pairs(self.results, self.run.path, primary)
            problems += more
        write(self.run.path, self.results)
        self.run.finish(problems=problems)
        return self.results

    def _row(self, row: Row, work: Callable[[Row], Row]) -> None:
        """One row: from disk where it is finished, else made now; a failure is a row too."""
        done = self._finished(row)
        if done is None:
            self.new_bases |= {row.seed} if row.method == "base" else set()
            self.say({"row": row.name, "stage": "start", "number": len(self.results.rows) + 1, "of": self.num_rows})
            try:
                done = work(row)
            except Stopped:
                raise
            except Exception as error:
                trace = self.run.path / "errors" / f"{row.name}.txt"
                trace.parent.mkdir(exist_ok=True)
                trace.write_text(traceback.format_exc(), encoding="utf-8")
                done = row.model_copy(update={"status": "failed", "error": f"{type(error).__name__}: {error}"})
            write_lines(self._row_path(row), [done.model_dump()])
        self.results = self.results.model_copy(update={"rows": [*self.results.rows, done]})
        write(self.run.path, self.results)
        self.say({"row": row.name, "stage": "done", "result": done})

    def _finished(self, row: Row) -> Row | None:
        path = self._row_path(row)
        if not path.exists() or row.seed in self.new_bases:
            return None
        found = Row.model_validate(read_lines(path)[0])
        return found if found.is_measured else None

    def _row_path(self, row: Row) -> Path:
        return self.run.path / "rows" / f"{row.name}.jsonl"

    def _refer(self, row: Row, reference: Reference, seed: int) -> Row:
        if reference.run is None:
            return self._measure(row, reference.subject, seed, Ledger())
        return self._measure(row, reference.subject, seed, _ledger(Run(reference.run), labels=0))

    def _answer(self, row: Row, arm: Arm, needs: Mapping[str, str], seed: int) -> Row:
        """Train what the arm needs, then the arm itself, and measure it."""
        needed = {role: self._prerequisite(name, seed) for role, name in needs.items()}
        costs = {name: needed[role][1] for role, name in needs.items()}
        begins, model = self.task.beginning(arm.name), self.task.start
        if begins:
            model, costs[begins] = self._prerequisite(begins, seed)
        if arm.method == BEST_OF_N:
            best = next(one.subject for one in self.task.references() if one.method == BEST_OF_N)
            return self._measure(row, replace(best, judge=needed["judge"][0]), seed, Ledger().including(costs))
        roles = {role: str(model.resolve()) for role, (model, _) in needed.items()}
        settings = merge(self.settings, {"method": roles} if roles else {})
        if lack := missing(self._reads(arm, settings), count_kinds(self.task.feedback(arm.name))):
            return row.model_copy(update={"status": "skipped", "error": lack})
        folder = f"methods/{row.name}"
        trained, cost = self._train(row.name, arm, folder, seed, settings, model)
        subject = Subject(trained.model_path, run=trained.path, **asdict(needs_of(trained.model_path)))
        cost = cost.including(costs) if costs else cost
        return self._measure(row.model_copy(update={"run": folder}), subject, seed, cost)

    def _prerequisite(self, method: str, seed: int) -> tuple[Path, Ledger]:
        """A model that rows need, trained once for all of them, from the same labels with the same budget."""
        arm = Arm(*method.split("/"))
        name = row_name(arm.method, arm.variant, seed)
        settings = {name: value for name, value in self.settings.items() if name != "method"}  # those are the arms' own
        run, cost = self._train(name, arm, f"needs/{name}", seed, settings, self.task.start)
        return run.model_path, cost

    def _reward_model(self, seed: int) -> Path | None:
        """What all rows are measured by too, where some need one; where it cannot be trained, those fail by
        themselves."""
        if not self.has_reward or seed in self.without_reward:
            return None
        try:
            return self._prerequisite(REWARD, seed)[0]
        except Stopped:
            raise
        except Exception:
            self.without_reward.add(seed)
            return None

    def _train(
        self, name: str, arm: Arm, folder: str, seed: int, settings: Mapping[str, Any], model: str | Path
    ) -> tuple[Run, Ledger]:
        """One training; a finished one is there already."""
        recipe = merge(self.task.settings(arm.name), settings)
        recipe |= {"seed": seed, "budget": _training_budget(self.budget)}
        reads = self._reads(arm, settings)
        able = learnable(arm.method, self.task.feedback(arm.name), read_settings(arm.method, recipe)[1])
        feedback = _within(able, self.budget.labels, seed=seed)
        run = train(
            arm.method,
            model=model,
            feedback=feedback,
            out=self.run.path / folder,
            settings=recipe,
            resume=True,
            progress=lambda event: self.say({"row": name, "stage": "train", **event}),
            cache=self.run.path / "reference",
        )
        return run, _ledger(run, labels=0 if reads <= TEXT else sum(map(_num_labels, feedback)))

    def _reads(self, arm: Arm, settings: Mapping[str, Any]) -> frozenset:
        """The kinds of feedback that can feed an arm."""
        recipe = merge(self.task.settings(arm.name), settings)
        return feedback_of(arm.method, read_settings(arm.method, recipe)[1])

    def _measure(self, row: Row, subject: Subject, seed: int, ledger: Ledger) -> Row:
        self.run.read_test(self.task.split, row=row.name)
        reward = self._reward_model(seed)
        started = time.monotonic()
        found = self.task.evaluate(
            subject,
            seed=seed,
            base_samples=self._base_samples(seed),
            reward=reward,
            progress=lambda stage: self.say({"row": row.name, "stage": stage}),
        )
        values = [{"id": id, "seed": seed, **metrics} for id, metrics in found.per_prompt.items()]
        write_lines(self.run.path / "eval" / f"{row.name}.jsonl", values)
        write_lines(self.run.path / "samples" / f"{row.name}.jsonl", found.samples)
        write_lines(self.run.path / "course" / f"{row.name}.jsonl", found.course)
        update: dict[str, Any] = {
            "metrics": metrics_of(self.task, found),
            "per_prompt": f"eval/{row.name}.jsonl",
            "ledger": ledger.model_copy(
                update=found.ledger
                | {"flops": ledger.flops + found.ledger.get("flops", 0.0)}
                | ({} if ledger.seconds else {"seconds": time.monotonic() - started})
            ),
        }
        if found.degenerate:
            update |= {"status": "degenerate", "error": found.degenerate}
        return row.model_copy(update=update)

    def _base_samples(self, seed: int) -> list[dict[str, Any]] | None:
        rows = (row for row in self.results.rows if row.method == "base" and row.is_measured and row.seed == seed)
        base = next(rows, None)
        return read_lines(self.run.path / "samples" / f"{base.name}.jsonl") if base else None


def _training_budget(budget: Budget) -> dict[str, float]:
    given = {name: value for name, value in _given(budget).items() if name != "labels"}
    if len(given) > 1:
        raise ConfigError("a comparison has one budget of training", where="--budget", allowed="tokens or seconds")
    return given


def _within(feedback: Sequence[Feedback], labels: int | None, *, seed: int) -> Sequence[Feedback]:
    """Records drawn at random until they hold the budget's labels, counted as the ledger counts them; a response in
    scored segments that would exceed it is cut.

    Raises:
        DataError: every record has more.
    """
    if labels is None:
        return feedback
    kept: list[Feedback] = []
    for record in sorted(feedback, key=lambda record: schedule.stable_seed(seed, record.id)):
        if (size := _num_labels(record)) <= labels:
            kept.append(record)
            labels -= size
        elif labels and len(record.responses) == 1:
            kept.append(_cut(record, labels))
            labels = 0
    if not kept:
        fewest = min(map(_num_labels, feedback))
        raise DataError(f"found {labels}", where="--budget labels", allowed=f"{fewest} or more, for one record")
    return kept


def _cut(record: Feedback, labels: int) -> Feedback:
    (response,) = record.responses
    segments = response.segments[:labels]
    text = "".join(segment.text for segment in segments)
    return replace(record, responses=(replace(response, text=text, segments=segments, truncated=True),))


def _num_labels(record: Feedback) -> int:
    """One a response; of a response in scored segments, one a segment."""
    return sum(len(response.segments) or 1 for response in record.responses)


def _ledger(run: Run, *, labels: int) -> Ledger:
    """What a finished training cost."""
    cost = run.manifest["ledger"]
    return Ledger(
        labels=labels,
        train_tokens=cost["train_tokens"],
        frozen_tokens=cost.get("frozen_tokens", 0),
        sampled_tokens=cost.get("sampled_tokens", 0),
        scorer_calls=cost.get("scorer_calls", {}),
        flops=cost["flops"],
        seconds=cost["seconds"],
        peak_memory_bytes=cost["peak_memory"],
    )


def metrics_of(task: Task, found: Evaluation) -> dict[str, Metric]:
    """What was measured of one subject, by metric, with intervals over prompts."""
    metrics = {}
    groups = {id: row["group"] for id, row in found.per_prompt.items() if "group" in row}
    for name, kind in task.metrics.items():
        values = {id: row[name] for id, row in found.per_prompt.items() if row.get(name) is not None}
        if values:
            metrics[name] = measure(values, unit=kind.unit, direction=kind.direction, groups=groups)
        elif name in found.totals:
            metrics[name] = Metric(value=found.totals[name], unit=kind.unit, direction=kind.direction)
    return metrics


def _reference_row(reference: Reference, seed: int) -> Row:
    return Row(method=reference.method, variant=reference.variant, tier=reference.tier, seed=seed)


def shown(model: str | Path) -> str:
    """A model's name in results: one that ships by its place in the package, so that no two machines differ."""
    package = Path(__file__).parent
    path = Path(model)
    return str(path.relative_to(package.parent)) if path.is_relative_to(package) else str(model)


def _only_labels(budget: Mapping[str, float] | None) -> bool:
    """Whether nobody said how long to train."""
    return set(budget or ()) <= {"labels"}


def _given(budget: Budget) -> dict[str, Any]:
    return {name: value for name, value in budget if value is not None}
