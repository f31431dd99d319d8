"""SFT: supervised finetuning on demonstrations (InstructGPT step 1, Ouyang et al. 2022, section 3.5, arXiv:2203.02155).

source      fixed demonstrations; where a record has none, its best judged response
targets     the prompt is masked, the response and its EOS are trained
objective   nll, mean over response tokens
With a `judge` the checkpoint is the one whose answers to held-out prompts it scores highest, as in the paper; without
one that of the lowest loss.
Run: heedful train sft --feedback pep8 --out runs/sft
"""

from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.measures import MeanScore
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.sources.policy import one_per_prompt
from heedful.sources.ranking import load_pointwise, readable
from heedful.targets.relabel import demonstrations

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("reward_model",)}
TRAINING: dict[str, Any] = {}
FEEDBACK = frozenset({"demonstrations", "imitable"})


class Config(Strict):
    """Who chooses the checkpoint."""

    judge: str | None = None  # folder of a reward model, or any scorer of one response
    max_tokens: int = Field(128, ge=1)  # of an answer that is judged

    @model_validator(mode="after")
    def _read_where_set(self):
        if self.judge is None and self.max_tokens != type(self).model_fields["max_tokens"].default:
            raise ValueError("found max_tokens without a judge: only with one answers are drawn")
        return self


def build(config: Config, inputs: Inputs) -> Method:
    """SFT as a source, targets and an objective; selected by the mean score of a judge, where there is one."""
    method = Method(
        source=fixed(inputs.feedback),
        targets=partial(demonstrations, text=inputs.text),
        objective=[term(nll, per="mask")],
    )
    if config.judge is None:
        return method
    judge = load_pointwise(config.judge)
    held_out = readable(one_per_prompt(inputs.held_out), judge)
    return replace(
        method,
        measures=[MeanScore(judge, held_out, inputs.text, config.max_tokens, inputs.seed)],
        schedule=Schedule(select=("judge_score", "max")),
        judges={config.judge: judge.version},
    )
