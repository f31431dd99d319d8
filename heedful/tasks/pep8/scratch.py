"""The pretraining paper's own experiment in small: six objectives from random weights, on the same scored text.

Korbak et al. 2023 (arXiv:2302.08582), section 4, with lines of Python scored by pycodestyle. The arms share random
weights, text, batch size and token budget; the MLE arm is the base that the others are measured against.
"""

import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from heedful.config import unknown
from heedful.errors import RunError
from heedful.records import Feedback
from heedful.tasks import Evaluation, Reference, Subject
from heedful.tasks.pep8.base import TRAINING, documents, initialise
from heedful.tasks.pep8.clean import require_ruff
from heedful.tasks.pep8.corpus import build
from heedful.tasks.pep8.task import PEP8
from heedful.training import train

# Released PEP8 recipes: AWR's alpha and beta and unlikelihood's alpha are of that task; a learning rate for a model of
# this size, the same for all arms, takes the place of 8e-4 to 1e-3.
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "mle": {},
    "filtering": {"quantile": 0.5},
    "conditional": {"threshold": 0.0, "lines": True},
    "unlikelihood": {"threshold": 0.0, "alpha": 0.01},
    "rwr": {"beta": 10.0},
    "awr": {"alpha": 0.05, "beta": 1.0},
}


class PHFPEP8(PEP8):
    """The pep8 task with everything trained from random weights.

    Args:
        corpus: a folder written by `heedful.tasks.pep8.corpus`; where none is given it is built, in minutes, from the
            running interpreter's library in the folder of the comparison.

    Raises:
        RunError: no corpus is given and ruff, which its making needs, is not installed.
    """

    name = "phf-pep8"
    methods: Sequence[str] = tuple(name for name in OBJECTIVES if name != "mle")  # which is the base
    every: Sequence[str] = methods
    budget: Mapping[str, float] = {"tokens": 6_000_000}

    def __init__(self, *, split: str = "test", num_prompts: int | None = None, corpus: Path | None = None):
        super().__init__(split=split, num_prompts=num_prompts)
        self.corpus = corpus
        self.run: Path | None = None  # of the base, once `prepare` has trained it
        if corpus is None:
            require_ruff()

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """The text, random weights for all arms, and the MLE arm trained from them."""
        if self.corpus is None:
            self.corpus = folder / "corpus"
            if not (self.corpus / "manifest.json").is_file():
                say({"row": "corpus", "stage": "cleaning and restyling Python's own library"})
                build(self.corpus, root=Path(sysconfig.get_path("stdlib")))
        say({"row": "corpus", "stage": "scoring its lines"})
        self.start = initialise(folder / "init")
        trained = train(
            "mle",
            model=self.start,
            feedback=self.feedback("mle"),
            out=folder / "methods" / "base-s0",
            settings=dict(self.settings("mle")) | {"budget": dict(budget)},
            resume=True,
            progress=lambda event: say({"row": "base-s0", "stage": "train", **event}),
        )
        self.run, self.base = trained.path, trained.model_path
        self.__dict__.pop("base_policy", None)

    @cached_property
    def _documents(self) -> list[Feedback]:
        assert self.corpus, "prepare() makes it"
        return list(documents(self.corpus, "base", scored=True))

    def feedback(self, name: str) -> Sequence[Feedback]:
        """The base split's text, each line scored."""
        return self._documents

    def settings(self, name: str) -> Mapping[str, Any]:
        """One recipe for all arms, and the objective's own settings."""
        if name not in OBJECTIVES:
            raise unknown(name, "objective", list(OBJECTIVES), where=self.name)
        return {**TRAINING, "method": dict(OBJECTIVES[name])}

    def references(self) -> Sequence[Reference]:
        """The MLE arm, whose model `prepare` trained."""
        assert self.run, "prepare() makes it"
        return [Reference("base", "", None, Subject(self.base, suppress=self.text.control_ids), self.run)]

    def evaluate(self, subject: Subject, **options: Any) -> Evaluation:
        """As the pep8 task does, against the base that `prepare` trained.

        Raises:
            RunError: it has not.
        """
        if self.run is None:
            raise RunError(
                "no base to measure against, which `heedful compare phf-pep8` trains and measures its models with",
                where=self.name,
                hint="--task pep8 asks the same prompts, and measures against the embedded base",
            )
        return super().evaluate(subject, **options)
