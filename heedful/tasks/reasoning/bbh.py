"""A file of BIG-Bench Hard as a task that any model can be measured on and nothing is trained on.

    heedful eval MODEL --task bbh/examples.jsonl.gz

Of its tasks the twelve of the HIR paper are asked, which those of the reasoning task are made after. Each question is
asked without examples, its answer ends with the line, and has to be the target and nothing else.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from heedful.data import FeedbackFile
from heedful.errors import ConfigError, DataError
from heedful.models import best_device, load, load_text
from heedful.policy import Policy
from heedful.records import Feedback, prompt_text
from heedful.sampling import Sampling, generate
from heedful.scorers import Item, load_scorer, score_all
from heedful.tasks import Evaluation, MetricKind, Reference, Subject
from heedful.tasks.pep8.assets import ASSETS
from heedful.tasks.reasoning.families import FAMILIES
from heedful.text import Text
from heedful.training import require_context

FORMAT = "bbh"  # the name of the files' shape
ANSWER_TOKENS = 96  # word_sorting has answers of some twenty words
JUDGE = "exact_match"


class BigBenchHard:
    """The questions of a file and their evaluation; there is nothing to learn from.

    Args:
        file: what `load_feedback` returned, of format `bbh`.
        model: folder or Hub name; the embedded base of the pep8 task where none is given.
        num_prompts: ask only so many, of all tasks in turn, of those that leave room for an answer.
    Raises:
        DataError: it has no question of the twelve tasks.
    """

    name = "bbh"
    split = "test"
    methods: Sequence[str] = ()
    every: Sequence[str] = ()
    budget: Mapping[str, float] = {}

    def __init__(self, file: FeedbackFile, *, model: str | Path | None = None, num_prompts: int | None = None):
        self.file = file
        self.base = self.start = model or ASSETS / "base"
        self.records, self.num_prompts = _in_turn(file), num_prompts
        if not self.records:
            raise DataError(
                f"no record of {len(file)} is of a task that is asked",
                where=file.path,
                allowed=f"rows whose `task` is one of {', '.join(FAMILIES)}",
            )

    @cached_property
    def metrics(self) -> Mapping[str, MetricKind]:
        """The mean over the questions, and each task by its name."""
        names = ("accuracy", *dict.fromkeys(record.metadata["task"] for record in self.records))
        return {name: MetricKind("share", "higher") for name in names} | {"length": MetricKind("characters", "none")}

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """Nothing is made."""

    def feedback(self, name: str) -> Sequence[Feedback]:
        """None.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "a file of BIG-Bench Hard is there to measure models by, and its authors ask that none is trained on it",
            where=self.file.path,
            hint="heedful compare reasoning trains on questions of the same kinds",
        )

    def settings(self, name: str) -> Mapping[str, Any]:
        """None: see `feedback`."""
        return {}

    def describe(self) -> Mapping[str, Any]:
        """The file by its bytes, and how many questions are asked at most."""
        asked = len(self.records[: self.num_prompts])
        return {"file": Path(self.file.path).name, "sha256": self.file.sha256, "prompts": asked}

    def beginning(self, name: str) -> str | None:
        """Nothing is trained on it."""
        return None

    def references(self) -> Sequence[Reference]:
        """The model."""
        return [Reference("base", "", None, Subject(self.base))]

    def evaluate(
        self,
        subject: Subject,
        *,
        seed: int,
        base_samples: Sequence[Mapping[str, Any]] | None = None,
        reward: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """The likeliest answer to each question that leaves room for one; those that do not are warned of, and left
        out.

        Raises:
            DataError: none leaves room.
        """
        policy = load(subject.model, device=best_device())
        text = load_text(subject.model, max_length=require_context(policy))
        prompts = self._fitting(text, subject)
        (progress or (lambda message: None))("answering")
        items = self._answers(policy, text, subject, prompts, seed)
        found = Evaluation()
        for item, score in zip(items, score_all(load_scorer(JUDGE), items)):
            record = self.records[int(item.id)]
            id, task = record.id, record.metadata["task"]
            found.per_prompt[id] = {"accuracy": score.value, task: score.value, "length": len(item.response)}
            shown = {"prompt_id": id, "prompt": item.prompt, "response": item.response, "answer": item.answer}
            found.samples.append(shown | {"accuracy": score.value})
        return found

    def _fitting(self, text: Text, subject: Subject) -> dict[int, list[int]]:
        """The first prompts that leave room for an answer, by their place."""
        encoded = [
            [*text.encode_prompt(record.prompt, line_prefix=subject.line_prefix), *subject.prefix]
            for record in self.records
        ]
        fits = {n: ids for n, ids in enumerate(encoded) if len(ids) + ANSWER_TOKENS <= text.max_length}
        lost = f"{len(encoded) - len(fits)} of {len(encoded)} questions"
        if not fits:
            raise DataError(f"{lost} leave no room for an answer in {text.max_length} tokens", where=str(subject.model))
        if len(fits) < len(encoded):
            warnings.warn(f"{lost} leave no room for an answer in {text.max_length} tokens: left out", stacklevel=2)
        return dict(list(fits.items())[: self.num_prompts])

    def _answers(
        self, policy: Policy, text: Text, subject: Subject, prompts: Mapping[int, list[int]], seed: int
    ) -> list[Item]:
        """Items whose id is the question's place."""
        settings = Sampling(
            max_tokens=ANSWER_TOKENS,
            temperature=0.0,
            stop=("\n",),
            banned=tuple(subject.suppress),
            line_prefix=subject.line_prefix,
        )
        drawn = generate(policy.lm, text, list(prompts.values()), settings, seed=seed)
        return [
            Item(prompt_text(self.records[n].prompt), sample.text, self.records[n].answer, str(n))
            for n, (sample,) in zip(prompts, drawn)
        ]


def _in_turn(file: FeedbackFile) -> list[Feedback]:
    """The records of the tasks that are asked, one of each after the other, so that the first are of all."""
    own = {task: [record for record in file if record.metadata.get("task") == task] for task in FAMILIES}
    places = {record.id: n for records in own.values() for n, record in enumerate(records)}
    return sorted((record for records in own.values() for record in records), key=lambda record: places[record.id])
