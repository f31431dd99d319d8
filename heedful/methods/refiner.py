"""The refiner of ILF: a response mended as its critique says, or, with `writes: critique`, the critique itself (Chen et
al. 2023, arXiv:2303.16749, section 3; small models do not refine without it).

source      fixed records with refinements (or critiques)
targets     a question that holds prompt, response and critique; the refinement and its EOS are all that is trained
objective   nll, mean over tokens of what is written
Deviations: see docs/methods/refiner.md.
Run: heedful train refiner --model MODEL --feedback FILE --out runs/refiner
"""

from functools import partial
from typing import Any, Literal

from heedful.config import Strict
from heedful.editing import FORMS, INFO, how_to_ask
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.refine import written

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {  # those of the paper's policy, of 6 billion parameters
    "optim": {"lr": 5e-6, "weight_decay": 0.0},
    "batch_size": 32,
}
FEEDBACK = frozenset({"refinements"})


class Config(Strict):
    """What is written."""

    writes: Literal["refinement", "critique"] = "refinement"  # of a response; a critique makes it ILF's critic


def feedback(config: Config) -> frozenset[str]:
    """What is to be written must be there; a refinement without a critique is learned from an empty one."""
    return FEEDBACK if config.writes == "refinement" else frozenset({"critiques"})


def build(config: Config, inputs: Inputs) -> Method:
    """The refiner as a source, targets and an objective."""
    form = FORMS[config.writes]
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(written, text=inputs.text, form=form),
        objective=[term(nll, per="mask")],
        schedule=Schedule(epochs=2),  # where no budget is given; as ILF's
        inference={INFO: form.to_json()},
        how=how_to_ask(form),
    )
