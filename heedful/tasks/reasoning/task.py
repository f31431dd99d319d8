"""The reasoning task: teach a small model that answers carelessly to answer right, from verdicts that a program gives.

Twelve tasks in the manner of BIG-bench, as in the experiments of HIR (Zhang et al. 2023, arXiv:2302.05206, section 5).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from heedful.config import merge, read_yaml
from heedful.evals.kl import kl_per_response
from heedful.models import best_device, load, load_text
from heedful.policy import Policy
from heedful.records import Feedback
from heedful.sampling import Sample, Sampling, best_of_n, generate
from heedful.scorers import Item, RewardModelScorer, load_scorer, score_all
from heedful.tasks import Evaluation, MetricKind, Reference, Subject
from heedful.tasks.reasoning.assets import ASSETS
from heedful.tasks.reasoning.families import FAMILIES, questions
from heedful.tasks.reasoning.lessons import lessons, right, unanswered
from heedful.tasks.reasoning.question import Question
from heedful.tasks.reasoning.supervision import counted_tasks
from heedful.text import Text

RECIPES = Path(__file__).parents[2] / "recipes" / "reasoning"
NUM_TRAIN = 2000  # questions of each task that methods learn from
NUM_ASKED = {"selection": 30, "test": 60}  # of each task
ANSWER_TOKENS = 12  # six words, a space and the end fit
BEST_OF = 8
JUDGE = "exact_match"
DEMONSTRATED = ("sft",)  # learn from right answers; the others from what the judge says of the model's own
CHECKED = ("ppo", "rloo", "grpo", "hir", "farl", "rest_em", "raft")
COMPARED = ("sft", "farl", "ppo", "hir", "rest_em")


@dataclass(frozen=True)
class Asked:
    """A question of an evaluation."""

    id: str
    task: str
    question: Question


class Reasoning:
    """Questions, feedback and evaluation of the task.

    Args:
        split: "test" for results, "selection" for choosing settings; their structures are in no training question.
        base: model folder; the one that ships by default.
        num_prompts: evaluate on so many questions only, of all tasks in turn.
        per_task: questions of each task; `NUM_ASKED` of them by default.
        counted: the tasks whose mean is the accuracy; those that `supervision.json` counts by default.
    """

    name = "reasoning"
    budget: Mapping[str, float] = {"tokens": 200_000}

    def __init__(
        self,
        *,
        split: str = "test",
        base: str | Path = ASSETS / "base",
        num_prompts: int | None = None,
        per_task: int | None = None,
        counted: Sequence[str] | None = None,
    ):
        self.split, self.base, self.start = split, base, base
        self.counted = counted_tasks() if counted is None else counted
        self.asked = _in_turn(split, per_task or NUM_ASKED[split])[:num_prompts]

    @property
    def methods(self) -> Sequence[str]:
        """Those of `COMPARED` that have a recipe."""
        return [name for name in COMPARED if recipe_path(name).exists()]

    @property
    def every(self) -> Sequence[str]:
        """All that have a recipe: a file in recipes/reasoning is all that another one needs."""
        return [name for name in (*DEMONSTRATED, *CHECKED) if recipe_path(name).exists()]

    @property
    def metrics(self) -> Mapping[str, MetricKind]:
        """The mean over the counted tasks, and each task by its name."""
        shares = ("accuracy", "accuracy_sampled", "right_form")
        tasks = {name: MetricKind("share", "higher") for name in (*shares, *FAMILIES)}
        kl, length = MetricKind("nats per response", "lower"), MetricKind("characters", "none")
        return tasks | {"reward": MetricKind("score", "higher"), "kl_to_base": kl, "length": length}

    # What methods learn from

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """Nothing: the base ships, and the questions are made as they are read."""

    @cached_property
    def _demonstrations(self) -> Sequence[Feedback]:
        return lessons(NUM_TRAIN, answers=right)

    @cached_property
    def _prompts(self) -> Sequence[Feedback]:
        return lessons(NUM_TRAIN, answers=unanswered)

    def feedback(self, name: str) -> Sequence[Feedback]:
        """The same questions for all: with the right answer to imitate, or with one to check against alone."""
        return self._demonstrations if name in DEMONSTRATED else self._prompts

    def settings(self, name: str) -> Mapping[str, Any]:
        """The task's recipe: common settings and the method's own."""
        common, path = read_yaml(RECIPES / "common.yaml"), recipe_path(name)
        return merge(common, read_yaml(path) if path.exists() else {})

    def describe(self) -> Mapping[str, Any]:
        """What is asked, by its sha256, which tasks count, and the sha256 of the list of files that ship."""
        text = "\n".join(f"{one.id} {one.question.text} {one.question.answer}" for one in self.asked)
        return {
            "assets": hashlib.sha256((ASSETS / "manifest.json").read_bytes()).hexdigest(),
            "split": self.split,
            "prompts": len(self.asked),
            "questions": hashlib.sha256(text.encode()).hexdigest(),
            "counted": list(self.counted),
        }

    # What is measured

    @cached_property
    def base_policy(self) -> Policy:
        """The base, for KL."""
        return load(self.base, device=best_device())

    def beginning(self, name: str) -> str | None:
        """Every method begins with the base."""
        return None

    def references(self) -> Sequence[Reference]:
        """The base, and the best of a few of its samples by the checker: whether it can be right at all."""
        suppress = load_text(self.base).control_ids
        return [
            Reference("base", "", None, Subject(self.base, suppress=suppress)),
            Reference("best_of_n", f"n{BEST_OF}", 3, Subject(self.base, suppress=suppress, num_samples=BEST_OF)),
        ]

    def evaluate(
        self,
        subject: Subject,
        *,
        seed: int,
        base_samples: Sequence[Mapping[str, Any]] | None = None,
        reward: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """Answer every question once by the most likely tokens, and once at temperature 1, on which KL is measured.

        With `num_samples` the answer is the best of so many samples at temperature 1, and nothing else is measured.
        """
        policy = load(subject.model, device=best_device())
        text = load_text(subject.model)
        say = progress or (lambda message: None)
        say("answering")
        found = Evaluation()
        draw = partial(_draw, policy, text, self.asked, subject, seed=seed)
        if subject.num_samples > 1:
            self._best(draw(k=subject.num_samples, temperature=1.0), subject, policy, found)
            return found
        self._score(found, [one for (one,) in draw(k=1, temperature=0.0)])
        sampled = [one for (one,) in draw(k=1, temperature=1.0)]
        for one, value in zip(self.asked, verdicts(self.asked, sampled)):
            if one.task in self.counted:
                found.per_prompt[one.id]["accuracy_sampled"] = value
        say("comparing with the base")
        self._compare(found, policy, text, subject, sampled)
        if reward is not None:
            self._reward(found, reward)
        return found

    def _score(self, found: Evaluation, samples: Sequence[Sample]) -> None:
        for one, sample, value in zip(self.asked, samples, verdicts(self.asked, samples)):
            values: dict[str, Any] = {one.task: value, "group": one.question.structure, "length": len(sample.text)}
            values["right_form"] = float(not sample.truncated and has_right_form(one.question, sample.text))
            if one.task in self.counted:
                values["accuracy"] = value
            found.per_prompt[one.id] = values
            shown = {"prompt_id": one.id, "prompt": one.question.prompt, "response": sample.text}
            found.samples.append(shown | {"answer": one.question.answer, "accuracy": value})

    def _best(self, drawn: list[list[Sample]], subject: Subject, policy: Policy, found: Evaluation) -> None:
        """One answer a question, chosen by the checker or by the subject's judge, and what it cost."""
        several = [[(one, sample) for sample in samples] for one, samples in zip(self.asked, drawn)]
        flat = [pair for pairs in several for pair in pairs]
        if subject.judge is None:
            scores = iter(verdicts([one for one, _ in flat], [sample for _, sample in flat]))
        else:
            items = [item(one, sample.text) for one, sample in flat]
            scores = iter([score.value for score in score_all(RewardModelScorer(subject.judge), items)])
        self._score(found, best_of_n(drawn, [[next(scores) for _ in pairs] for pairs in several]))
        tokens = sum(len(sample.tokens) for _, sample in flat)
        judge = JUDGE if subject.judge is None else "reward_model"
        found.ledger = {"sampled_tokens": tokens, "scorer_calls": {judge: len(flat)}}
        found.ledger["flops"] = policy.forward_flops(tokens)

    def _compare(
        self, found: Evaluation, policy: Policy, text: Text, subject: Subject, samples: Sequence[Sample]
    ) -> None:
        mine = [_encode(text, one.question, subject) for one in self.asked]
        theirs = [text.encode_prompt(one.question.prompt) for one in self.asked]
        sides = (policy, mine), (self.base_policy, theirs)
        for one, value in zip(
            self.asked, kl_per_response(*sides, text, samples, subject.line_prefix, text.control_ids)
        ):
            found.per_prompt[one.id]["kl_to_base"] = value

    def _reward(self, found: Evaluation, model: Path) -> None:
        items = [item(one, sample["response"]) for one, sample in zip(self.asked, found.samples)]
        for one, sample, score in zip(self.asked, found.samples, score_all(RewardModelScorer(model), items)):
            found.per_prompt[one.id]["reward"] = sample["reward"] = score.value


def recipe_path(name: str) -> Path:
    """The recipe of a method on this task."""
    return RECIPES / f"{name.replace('/', '-')}.yaml"


def _in_turn(split: str, number: int) -> list[Asked]:
    """The questions of a split, one of each task after the other, so that the first are of all."""
    several = [list(islice(questions(task, split), number)) for task in FAMILIES]
    return [Asked(f"{task}:{split}:{n}", task, own[n]) for n in range(number) for task, own in zip(FAMILIES, several)]


def item(one: Asked, response: str) -> Item:
    """An answer as scorers read it."""
    return Item(one.question.prompt, response, one.question.answer, one.id)


def verdicts(asked: Sequence[Asked], samples: Sequence[Sample]) -> list[float]:
    """1 for each right answer, 0 for each wrong one, by the judge that methods learn from too."""
    items = [item(one, sample.text) for one, sample in zip(asked, samples, strict=True)]
    return [score.value for score in score_all(load_scorer(JUDGE), items)]


def has_right_form(question: Question, response: str) -> bool:
    """Whether it is one of the options; of free text, a number, or the words of the question."""
    given = response.strip()
    if question.options:
        return given in (question.answer, *question.wrong)
    if question.answer.isdigit():
        return given.isdigit()
    return sorted(given.split()) == sorted(question.answer.split())


def _draw(
    policy: Policy,
    text: Text,
    asked: Sequence[Asked],
    subject: Subject,
    *,
    k: int,
    temperature: float,
    seed: int,
) -> list[list[Sample]]:
    settings = Sampling(
        max_tokens=ANSWER_TOKENS,
        temperature=temperature,
        banned=tuple(subject.suppress),
        line_prefix=subject.line_prefix,
    )
    prompts = [_encode(text, one.question, subject) for one in asked]
    return generate(policy.lm, text, prompts, settings, k=k, seed=seed)


def _encode(text: Text, question: Question, subject: Subject) -> list[int]:
    return [*text.encode_prompt(question.prompt, line_prefix=subject.line_prefix), *subject.prefix]
