"""HIR: relabel the policy's own answers with the instruction that they turned out to fulfil (Zhang et al. 2023,
hindsight instruction relabeling, arXiv:2302.05206).

source      rounds: answers drawn behind the positive instruction at temperature 1, each judged good or bad
targets     each output behind the instruction that it fulfils, and behind the opposite one; windows of outputs as well
objective   nll with smoothed labels + contrast_coef * contrast of the instructions - entropy_coef * entropy
`contrast: two_way` is the released code's, `n_way` the paper's. Samples of earlier rounds are replayed.
Deviations: the instruction follows the question. See docs/methods/hir.md.
Run: heedful train hir --model MODEL --feedback FILE --set method.judge=exact_match --out runs/hir
"""

from functools import partial
from math import ceil
from typing import Any, Literal

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.errors import ConfigError
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, TermSpec, term
from heedful.objectives.hindsight import instruction_gap, n_way_contrast, token_entropy, two_way_contrast
from heedful.objectives.likelihood import nll, smoothed_nll
from heedful.sampling import Sampling
from heedful.sources.hindsight import asked, attempts
from heedful.targets.hindsight import Instructions, Layout, hindsight, instructions

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {  # the paper's Table 7; a constant rate and no decay are the code's
    "optim": {"lr": 5e-4, "weight_decay": 0.0, "decay": "constant", "warmup": 0.0},
    "batch_size": 16,  # prompts: with four answers each the 64 of Table 7
}
FEEDBACK = frozenset({"answers"})


class Drawing(Strict):
    """Who judges, what is asked, and how a round is made; `farl` has the same."""

    judge: str = "exact_match"  # or another scorer of one response, or the folder of a reward model
    threshold: float = 1.0  # a response is good from this score on; a right answer has 1 in exact_match
    instructions: Literal["question", "code"] = "question"  # see targets/hindsight.py
    own_instructions: tuple[str, str] | None = None  # in their place: what asks for a good answer, and for a bad one
    num_prompts: int | None = Field(None, ge=1)  # of a round; None: all, as in the code
    num_samples: int = Field(4, ge=1)  # of each prompt; Table 7
    temperature: float = Field(1.0, gt=0)  # Table 7
    max_tokens: int = Field(256, ge=1)  # of a response; the code's
    inner_epochs: int = Field(10, ge=1)  # passes over a round; Table 7
    replay: float | None = Field(1.0, gt=0)  # most of all rounds' samples to learn from, in rounds; None: new ones only
    smoothing: float = Field(0.2, ge=0, lt=1)  # of labels; Table 7


class Config(Drawing):
    """What is learned from a verdict, and how much each term counts."""

    contrast: Literal["two_way", "n_way", "none"] = "two_way"  # the code's; the paper's is n_way
    contrast_coef: float = Field(1.0, ge=0)  # alpha; Table 7
    entropy_coef: float = Field(0.001, ge=0)  # beta; Table 7
    num_contexts: int = Field(4, ge=2)  # n of n_way, the output's own among them; the paper's is the batch
    windows: int = Field(1, ge=0)  # parts of each output that are learned as well
    relabel: Literal["verdict", "critique"] = "verdict"  # critique: the file's critiqued responses as well
    balance: bool = False  # good and bad responses of a round weigh the same

    @model_validator(mode="after")
    def _read_where_set(self):
        if self.contrast != "n_way" and self.num_contexts != type(self).model_fields["num_contexts"].default:
            raise ValueError(f"found num_contexts {self.num_contexts} with contrast {self.contrast}: only n_way has it")
        return self


def feedback(config: Drawing) -> frozenset[str]:
    """Prompts are enough where the judge needs no answer; where it does, a prompt without one is an error by name."""
    return frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """HIR as a source, targets and an objective.

    Raises:
        ConfigError: n-way contrast of an encoder-decoder.
    """
    if config.contrast == "n_way" and not inputs.text.joins:
        why = "an output stands behind several questions, and a model with an encoder reads one of them"
        raise ConfigError(why, where="method.contrast", allowed="two_way or none with such a model")
    words = instructions(config.own_instructions or config.instructions, inputs.text)
    layout = Layout(
        words,
        is_whole=config.smoothing > 0 or config.entropy_coef > 0,
        contrast=config.contrast,
        num_contexts=config.num_contexts,
        windows=config.windows,
        critiques=config.relabel == "critique",
        balance=config.balance,
    )
    return drawing(config, inputs, words, layout, [*supervised(config.smoothing, layout), *_further(config, layout)])


def drawing(config: Drawing, inputs: Inputs, words: Instructions, layout: Layout, objective: list[TermSpec]) -> Method:
    """A method that learns from its own judged answers, and answers behind the positive instruction."""
    source = attempts(
        inputs,
        config.judge,
        threshold=config.threshold,
        prefix=words.positive,
        sampling=Sampling(max_tokens=config.max_tokens, temperature=config.temperature),
        num_samples=config.num_samples,
        num_prompts=config.num_prompts,
        critiques=layout.critiques,
    )
    held_out = asked(inputs.held_out, source.judge)
    greedy: dict[str, Any] = {"prefix": words.positive, "temperature": 0.0}  # the code's
    return Method(
        source=source,
        targets=partial(hindsight, text=inputs.text, layout=layout, seed=inputs.seed),
        objective=objective,
        measures=[MeanScore(source.judge, held_out, inputs.text, config.max_tokens, inputs.seed, **greedy)],
        schedule=Schedule(
            rounds=None,
            epochs=config.inner_epochs,
            pass_rounds=source.pass_rounds,
            replay=None
            if config.replay is None
            else ceil(config.replay * min(source.num_prompts, len(source.prompts))),
            select=("judge_score", "max"),
        ),
        inference={"prefix": list(words.positive)},
        has_dropout=layout.contrast == "none",
        judges={config.judge: source.judge.version},
    )


def supervised(smoothing: float, layout: Layout) -> list[TermSpec]:
    """The likelihood of outputs behind the instruction that they fulfil."""
    along: dict[str, Any] = {"per": layout.imitated, "streams": {"mask": layout.imitated}}
    return [term(smoothed_nll, smoothing=smoothing, **along) if smoothing else term(nll, **along)]


def _further(config: Config, layout: Layout) -> list[TermSpec]:
    along: dict[str, Any] = {"per": layout.imitated, "streams": {"mask": layout.imitated}}
    entropy = [term(token_entropy, coef=-config.entropy_coef, **along)] if config.entropy_coef else []
    if config.contrast == "two_way":
        smoothed = term(two_way_contrast, per="pair_weight", coef=config.contrast_coef, smoothing=config.smoothing)
        return [smoothed, *entropy, term(instruction_gap, per="pair_weight", coef=0.0)]
    if config.contrast == "n_way":
        return [term(n_way_contrast, per="example", coef=config.contrast_coef), *entropy]
    return entropy
