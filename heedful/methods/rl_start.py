"""The model that InstructGPT's PPO starts from: a short SFT with a tenth of pretraining text (Ouyang et al. 2022,
appendix C.3, arXiv:2203.02155). Another model than its SFT baseline, which is trained for 16 epochs on demonstrations
alone.

source      fixed demonstrations, and documents
targets     the response and its EOS, the prompt masked; of the documents as many rows as make their share
objective   nll, mean over the tokens of both
Run: heedful train rl_start --model MODEL --feedback FILE --out runs/rl_start
"""

from functools import partial
from typing import Any

from pydantic import Field

from heedful.config import Strict
from heedful.method import Inputs, Method, Schedule, term
from heedful.objectives.likelihood import nll
from heedful.sources.fixed import fixed
from heedful.targets.pretraining import demonstrations_and_documents, documents_of

NEEDS: dict[str, tuple[str, ...]] = {}
TRAINING: dict[str, Any] = {  # the paper's, of 1.3B parameters
    "optim": {"lr": 5e-6, "betas": (0.9, 0.95), "weight_decay": 0.0, "warmup": 0.0, "decay": "cosine", "final": 0.1},
    "batch_size": 32,
}
FEEDBACK = frozenset({("demonstrations", "documents"), ("imitable", "documents")})


class Config(Strict):
    """How much pretraining text is mixed in."""

    document_share: float = Field(0.1, gt=0, lt=1)  # of the rows; the paper's


def build(config: Config, inputs: Inputs) -> Method:
    """The starting policy as a source, targets and an objective: two epochs, as the paper's."""
    documents_of(inputs.feedback, "document_share", config.document_share)
    targets = partial(demonstrations_and_documents, text=inputs.text, share=config.document_share)
    return Method(
        source=fixed(inputs.feedback),
        targets=targets,
        objective=[term(nll, per="mask")],
        schedule=Schedule(epochs=2),
    )
