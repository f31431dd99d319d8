"""ILF: imitation learning from language feedback (Scheurer et al. 2023, arXiv:2303.16755; of programs Chen et al. 2023,
arXiv:2303.16749).

source      rounds: a response, what is said of it, several refinements by a refiner, and which of them is best
targets     the prompt and that refinement; neither the critique nor the response is in the input
objective   nll, mean over tokens of the refinement
Deviations: see docs/methods/ilf.md.
Run: heedful train ilf --model MODEL --feedback FILE --set method.refiner=runs/refiner --out runs/ilf
"""

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.refiner import form_of
from heedful.sampling import Sampling
from heedful.scorers.folder import model_folder, version_of
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import load_pointwise, readable
from heedful.sources.refined import PEP8, RECORDS, ByInstructed, Critic, Refined, by_judge, criticised, samples_of
from heedful.targets.refine import chosen_refinements

NEEDS: dict[str, tuple[str, ...]] = {"refiner": ("refiner",), "judge": ("reward_model",)}
TRAINING: dict[str, Any] = {  # of the programs, for models of 6 billion parameters
    "optim": {"lr": 5e-6, "weight_decay": 0.0},
    "batch_size": 32,
}
FEEDBACK = frozenset({"critiques"})
EPOCHS = 2  # over a round, where no budget is given; the programs'
WRITER = "the folder of a run of refiner, as in --set method.refiner=runs/refiner"


class Config(Strict):
    """Who criticises, who refines, and who chooses."""

    refiner: str = "refiner"  # folder of a model that writes refinements
    critic: str = RECORDS  # the records' critiques of their responses; pep8; or the folder of a refiner of critiques
    judge: str | None = None  # chooses by score: a scorer of one response, or the folder of a reward model
    instruct_rm: str | None = None  # chooses by asking this instructed model whether the critique was taken in
    only_better: bool = False  # choose none that the judge does not score above the response it refines
    num_refinements: int = Field(5, ge=1)  # N; the paper's on summaries, 30 on programs
    rounds: int = Field(1, ge=1)  # the paper's main results have one
    max_tokens: int = Field(128, ge=1)  # of a response, a critique, a refinement; the paper's summaries have 48
    temperature: float = Field(1.0, gt=0)  # of refinements; the paper's on summaries, 0.8 on programs
    top_p: float = Field(0.95, gt=0, le=1)  # of refinements; the paper's on summaries

    @model_validator(mode="after")
    def _read_where_set(self):
        if self.judge and self.instruct_rm:
            raise ValueError("found judge and instruct_rm: one of them chooses")
        if self.only_better and not (self.judge or self.instruct_rm):
            raise ValueError("found only_better with neither judge nor instruct_rm, which say what is better")
        if self.rounds > 1 and self.critic == RECORDS:
            raise ValueError(f"found rounds {self.rounds} with critic records, whose responses stay the same")
        return self


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where somebody else criticises."""
    return FEEDBACK if config.critic == RECORDS else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """ILF as a source, targets and an objective; with a judge selected by its mean score of answers."""
    models = {name: _folder(name, writes) for name, writes in _writers(config)}
    judge = load_pointwise(config.judge) if config.judge else None
    prompts = criticised(inputs.feedback) if config.critic == RECORDS else one_per_prompt(inputs.feedback)
    plain = Sampling(max_tokens=config.max_tokens)
    critic = str(models[config.critic]) if config.critic in models else config.critic
    select = ByInstructed(model_folder(Path(config.instruct_rm), allowed="a model")) if config.instruct_rm else None
    source = Refined(
        samples_of(readable(prompts, judge) if judge else prompts, inputs.text, plain, inputs.seed),
        None if config.critic == RECORDS else Critic(critic, plain),
        models[config.refiner],
        Sampling(max_tokens=config.max_tokens, temperature=config.temperature, top_p=config.top_p),
        config.num_refinements,
        by_judge(judge) if judge else select,
        config.only_better,
    )
    versions = {name: version_of(folder) for name, folder in models.items()}
    if select:
        versions[str(config.instruct_rm)] = version_of(select.folder)
    method = partial(
        Method,
        source=source,
        targets=partial(chosen_refinements, text=inputs.text),
        objective=[term(nll, per="mask")],
    )
    if judge is None:
        return method(schedule=Schedule(rounds=config.rounds, epochs=EPOCHS), judges=versions)
    held_out = readable(one_per_prompt(inputs.held_out), judge)
    return method(
        measures=[MeanScore(judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(rounds=config.rounds, epochs=EPOCHS, select=("judge_score", "max")),
        judges=versions | {str(config.judge): judge.version},
    )


def _writers(config: Config) -> list[tuple[str, str]]:
    """The models that write, and what; the scorers and the records write nothing."""
    found = [(config.refiner, "refinement")]
    return found if config.critic in (RECORDS, PEP8) else [*found, (config.critic, "critique")]


def _folder(name: str, writes: str) -> Path:
    folder = model_folder(Path(name), allowed=WRITER)
    form_of(folder, writes)  # refused now, not when it is asked
    return folder
