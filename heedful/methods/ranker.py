"""The ranker of SLiC-HF: which of two responses is better, asked as text (Zhao et al. 2023, arXiv:2305.10425, 2.3).

source      fixed comparisons
targets     a question that holds the prompt and both responses; the verdict, one token, is all that is trained
objective   nll of the right verdict
`form: pointwise` is the paper's other model: one response in the question, and "Good" or "Bad" after it.
Deviations: the paper's are T5 models that read the question and write the verdict; here a causal model, or a T5, reads
it, behind a last marker. Which response comes first is drawn once a pair, as in RSO (arXiv:2309.06657).
Run: heedful train ranker --model MODEL --feedback FILE --out runs/ranker
"""

from functools import partial
from typing import Any, Literal

from pydantic import model_validator

from heedful.config import Strict
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.comparison import comparison_accuracy
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.verdict import compared_verdicts, single_verdicts
from heedful.verdict import FORMS, INFO, how_to_ask

NEEDS: dict[str, str] = {}
TRAINING: dict[str, Any] = {  # the paper's batch; its rate, 1e-3, is one of T5 and Adafactor
    "optim": {"lr": 1e-5, "weight_decay": 0.0, "decay": "constant"},
    "batch_size": 128,
}
FEEDBACK = frozenset({"pairs"})


class Config(Strict):
    """What is asked, and in which order."""

    form: Literal["pairwise", "pointwise"] = "pairwise"  # the paper's ranker, or its Good/Bad model
    orders: Literal["random", "both"] = "random"  # in which two responses are shown: one drawn from the seed; pairwise

    @model_validator(mode="after")
    def _order_of_two_only(self):
        if self.orders == "both" and self.form != "pairwise":
            raise ValueError(f"found orders both with form {self.form}: only pairwise shows two responses")
        return self


def build(config: Config, inputs: Inputs) -> Method:
    """The ranker as a source, targets and an objective; accuracy is logged beside it and chooses the checkpoint."""
    form = FORMS[config.form]
    layout = partial(single_verdicts, text=inputs.text, form=form)
    if config.form == "pairwise":
        both = frozenset(record.id for record in inputs.held_out)  # measured in both orders, as it is asked
        layout = partial(
            compared_verdicts, text=inputs.text, form=form, orders=config.orders, seed=inputs.seed, both=both
        )
    accuracy = term(
        comparison_accuracy, per="pair_weight", coef=0.0, name="accuracy", streams={"reward": "verdict_logp"}
    )
    asked = {"form": config.form, **form.to_json(), "verdict_ids": form.verdict_ids(inputs.text)}
    return Method(
        source=fixed(inputs.feedback),
        targets=layout,
        objective=[term(nll, per="mask"), accuracy],
        schedule=Schedule(select=("eval_accuracy", "max")),
        inference={INFO: asked},
        how=how_to_ask(asked, inputs.text.start_id),
    )
