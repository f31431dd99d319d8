"""Models that write about a response or judge what was written: a refiner or critic from its folder, and InstructRM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.batch import Branch, Group
from heedful.editing import INFO, NO, WORDINGS, YES, Form
from heedful.errors import ConfigError, DataError
from heedful.export import load_info
from heedful.models import best_device, load, load_text, ordinary_ids, require_embedded
from heedful.policy import Policy, context_length
from heedful.ranker import first_verdicts
from heedful.records import Message
from heedful.sampling import Sample, Sampling, generate
from heedful.text import Text

UNBOUNDED = 2**20  # tokens, where a model has positions without end


@dataclass(frozen=True)
class Writer:
    """A language model that answers a form's question in words."""

    policy: Policy
    text: Text
    form: Form

    def draw(
        self,
        asked: Sequence[Sequence[str]],
        sampling: Sampling,
        *,
        k: int,
        seed: int,
        keys: Sequence[int],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Sample]]:
        """`k` answers to each question; none to one that leaves no room for them.

        Args:
            asked: the fields of each question, see `Form.question`.
            keys, progress: as for `generate`.
        """
        questions = [self.form.question(self.text, fields, room=sampling.max_tokens) for fields in asked]
        fits = [n for n, question in enumerate(questions) if question is not None]
        prompts = [question for question in questions if question is not None]
        own = [keys[n] for n in fits]
        drawn = generate(self.policy.lm, self.text, prompts, sampling, k=k, seed=seed, keys=own, progress=progress)
        found = dict(zip(fits, drawn, strict=True))
        return [found.get(n, []) for n in range(len(asked))]


def form_of(folder: Path, writes: str) -> Form:
    """What the model in a folder is asked, without loading it.

    Raises:
        ConfigError: it writes something else.
    """
    info = load_info(folder)
    found = Form.from_json(info[INFO]) if INFO in info else None
    if found is None or found.writes != writes:
        what = f"a model that writes a {found.writes}" if found else "a model that nobody taught to"
        allowed = f"the folder of `heedful train refiner --set method.writes={writes}`"
        raise ConfigError(f"it is asked for a {writes}, and is {what}", where=str(folder), allowed=allowed)
    return found


def load_writer(folder: Path, writes: str) -> Writer:
    """A model from a folder that `heedful train refiner` wrote, on CUDA where there is any."""
    form = form_of(folder, writes)
    policy = load(folder, device=best_device()).eval()
    text = load_text(folder, max_length=load_info(folder)["max_length"])
    require_embedded(policy.lm, ordinary_ids(text.tokenizer), folder)
    return Writer(policy, text, form)


@dataclass(frozen=True)
class Instructed:
    """InstructRM: any instructed model, asked whether a text has taken a critique in.

        score = mean over wordings of  P(yes) / (P(yes) + P(no))

    Scheurer et al. 2023 (arXiv:2303.16755): probabilities are averaged, not their logs. With a chat template the
    question is a turn of the user's.
    """

    policy: Policy
    text: Text

    @property
    def is_chat(self) -> bool:
        """Whether the model is asked in turns."""
        return self.text.tokenizer.chat_template is not None

    def scores(self, asked: Sequence[tuple[str, str, str, str]]) -> list[float]:
        """In (0, 1), higher is better.

        Args:
            asked: context, response, critique and refinement.
        """
        answers = [self.text.encode(word, continues=not self.is_chat)[0] for word in (YES, NO)]
        if answers[0] == answers[1]:
            raise ConfigError(
                f"the tokenizer begins {YES} and {NO} with one token", allowed="one that tells them apart"
            )
        groups = [self._group(wording, fields, answers) for fields in asked for wording in WORDINGS]
        each = first_verdicts(self.policy, groups)
        return [sum(each[n : n + len(WORDINGS)]) / len(WORDINGS) for n in range(0, len(each), len(WORDINGS))]

    def _group(self, wording: str, fields: tuple[str, str, str, str], answers: Sequence[int]) -> Group:
        context, response, critique, refinement = fields
        words = wording.format(context=context, response=response, critique=critique, refinement=refinement)
        prompt = self.text.encode_prompt((Message("user", words),) if self.is_chat else words)
        if len(prompt) >= self.text.max_length:
            what = f"the question about a refinement has {len(prompt)} tokens"
            raise DataError(what, allowed=f"fewer than {self.text.max_length}, the context of the model that is asked")
        return Group("", tuple(prompt), tuple(Branch((id,), {"verdict": (1.0,)}) for id in answers))


def load_instructed(folder: Path) -> Instructed:
    """Any language model, as a judge of refinements."""
    policy = load(folder, device=best_device()).eval()
    return Instructed(policy, load_text(folder, max_length=context_length(policy.lm) or UNBOUNDED))
