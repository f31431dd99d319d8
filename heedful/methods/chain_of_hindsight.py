"""Chain of Hindsight: learn responses behind words that say how good they are, then ask with the good words (Liu et
al. 2023, arXiv:2302.02676).

source      fixed comparisons: pairs, rankings, ratings, or critiques and refinements
targets     better and worse responses in one chain, each behind a marker; markers and prompt are not trained
objective   nll, mean over tokens of responses, + pretrain_coef * nll of plain documents where there are any
Deviations: each output of a record is seen once alone or first, and the chain in one order that is drawn, where the
release has both and repeats them; a marker is a line; rows are not packed. See docs/methods/chain_of_hindsight.md.
Run: heedful train chain_of_hindsight --model MODEL --feedback FILE --out runs/chain_of_hindsight
"""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from heedful.config import Strict
from heedful.errors import DataError
from heedful.method import Inputs, Method, Mix, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.chain import Form, Layout, chains, has_a_better_one
from heedful.targets.markers import FAMILIES, marker
from heedful.targets.pretraining import Documents, is_document
from heedful.text import Text

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {"optim": {"betas": (0.9, 0.95)}}  # paper v6; it gives no learning rate, and 512 rows a step
FEEDBACK = frozenset({"pairs", "critiques", "refinements"})


class Config(Strict):
    """What stands before a response, which rows there are, and what keeps the model from copying and forgetting."""

    markers: Literal["answer", "summary", "code", "varied"] = "answer"  # see targets/markers.py
    forms: tuple[Form, ...] = Field(("chain", "good", "bad"), min_length=1)  # chains, and outputs alone; release: all
    loss: Literal["all", "last"] = "all"  # outputs of a chain that are trained; the paper's equation and the code
    critiques: bool = True  # what was said of a response stands in place of its marker in a chain
    max_outputs: int = Field(4, ge=2)  # in a chain; the paper has pairs only
    past_token_masking: float = Field(0.05, ge=0, le=1)  # most of the past that is masked; paper v6 (the code: 0)
    pretrain_coef: float = Field(1.5, ge=0)  # lambda; paper v6 (the code: 1.0, later 0.01)
    pretrain_rows: int = Field(256, ge=1)  # documents a step: 4 for each row, the paper's 2048 to 512


def build(config: Config, inputs: Inputs) -> Method:
    """Chain of Hindsight as a source, targets and an objective.

    Raises:
        DataError: nothing is better than anything else, and the good marker would never be learned.
    """
    if not any(has_a_better_one(record) for record in inputs.feedback):
        hint = "give comparisons, ranks, scores or refinements beside the critiques"
        raise DataError("no response is better than another", where="chain_of_hindsight", hint=hint)
    layout = Layout(
        family=FAMILIES[config.markers],
        forms=config.forms,
        last_only=config.loss == "last",
        critiques=config.critiques,
        max_outputs=config.max_outputs,
        masked=config.past_token_masking,
    )
    return Method(
        source=fixed(inputs.feedback),
        targets=partial(chains, text=inputs.text, layout=layout, seed=inputs.seed),
        objective=[term(nll, per="mask")],
        mixes=_pretraining(config, inputs),
        inference=_markers(inputs.text, layout),
        has_dropout=not config.past_token_masking,  # which takes its place
    )


def _pretraining(config: Config, inputs: Inputs) -> list[Mix]:
    """The paper's lambda * L_P; nothing without documents."""
    documents = [record for record in inputs.feedback if is_document(record)]
    if not documents or not config.pretrain_coef:
        return []
    objective = [term(nll, per="mask", coef=config.pretrain_coef, name="pretrain_nll")]
    return [Mix(Documents(documents, inputs.text), objective, config.pretrain_rows)]


def _markers(text: Text, layout: Layout) -> dict[str, list[int]]:
    """Generation begins behind the good marker; the bad one stands before a response that is to be bettered."""
    good, bad = layout.family.pairs[0]
    return {"prefix": marker(text, good), "worse_prefix": marker(text, bad)}
