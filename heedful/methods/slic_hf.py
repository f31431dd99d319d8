"""SLiC-HF: calibrate the likelihood of responses with comparisons (Zhao et al. 2023, arXiv:2305.10425).

source      fixed comparisons ("direct" in the paper); with a judge, samples of the start model that it ranks
            ("sample-rank"): every match of a tournament is a pair, or pairs are drawn from a scored list
targets     all responses to a prompt as one group with its pairs, and the response that is imitated beside
objective   hinge on the gap of summed log-probabilities, mean over pairs, + nll_coef * nll of the imitated response
No reference model is kept: the nll holds the policy where it was. `loss` names those of the parent (Zhao et al. 2022,
arXiv:2210.00045), which read scores, and `kl_coef` adds its other regulariser.
Deviations: the paper gives no lambda and no reduction of the nll; here it is the mean over tokens. Start from an SFT
model. Without a judge all pairs of a ranking are used.
Run: heedful train slic_hf --model MODEL --feedback FILE --out runs/slic_hf
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.measures import WinRate
from heedful.method import Inputs, Method, Schedule, TermSpec, term
from heedful.objectives.calibration import expected_score, list_hinge, margin_hinge, rank_hinge
from heedful.objectives.divergence import kl_from_start
from heedful.objectives.likelihood import nll
from heedful.records import Feedback
from heedful.sampling import Sampling
from heedful.scorers import Comparer, load_scorer
from heedful.sources.fixed import fixed
from heedful.sources.policy import Judge, PolicySamples, one_per_prompt
from heedful.sources.ranking import readable, scored, tournament
from heedful.targets.calibration import calibration_groups, with_candidates, with_places
from heedful.targets.relabel import best_judged, imitated_response

NEEDS: dict[str, tuple[str, ...]] = {"judge": ("ranker", "reward_model")}
TRAINING: dict[str, Any] = {  # the paper's rate and batch; the rest it does not state
    "optim": {"lr": 1e-5, "weight_decay": 0.0, "decay": "constant"},
    "batch_size": 32,
}
FEEDBACK = frozenset({"pairs"})
REFERENCES = {"demonstration": imitated_response, "best": best_judged}
HINGES: Mapping[str, Callable[..., Any]] = {"rank": rank_hinge, "margin": margin_hinge, "list": list_hinge}
FIELDS = {"list": with_places, "reward": with_candidates}  # that only one loss reads
DRAWING = ("num_samples", "temperature", "top_k", "max_tokens")  # settings that only a judge gives a meaning


class Config(Strict):
    """How much likelier the better response should be, what holds the rest in place, and who says what is better."""

    loss: Literal["rank", "margin", "list", "reward"] = "rank"  # the paper's; the others are the parent's
    margin: float = Field(1.0, ge=0)  # delta, nats of a whole response; the paper's; RSO finds 20 better
    nll_coef: float = Field(0.1, ge=0)  # lambda, of the mean over the imitated tokens; no source names one
    kl_coef: float = Field(0.0, ge=0)  # of the parent's KL from the start along them; above 0 the start is kept
    reference: Literal["demonstration", "best"] = "demonstration"  # or the best compared, where a record has none
    judge: str | None = None  # folder of a ranker or reward model, for sample-rank; without one, direct
    num_samples: int = Field(8, ge=2)  # m, the paper's; of each prompt
    temperature: float = Field(0.7, gt=0)  # the paper's
    top_k: int = Field(40, ge=0)  # the paper's; 0 keeps all tokens
    max_tokens: int = Field(128, ge=1)  # of a sample, and of an answer that is measured

    @model_validator(mode="after")
    def _read_where_set(self):
        defaults = type(self).model_fields
        changed = [name for name in DRAWING if getattr(self, name) != defaults[name].default]
        if changed and self.judge is None:
            raise ValueError(f"found {changed[0]} without a judge: only with one responses are drawn")
        if self.loss == "reward" and self.margin != defaults["margin"].default:
            raise ValueError(f"found margin {self.margin:g} with loss reward, which has none")
        return self


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where the model answers them and a judge says which answer is better."""
    return FEEDBACK if config.judge is None else frozenset({"prompts"})


def build(config: Config, inputs: Inputs) -> Method:
    """SLiC-HF as a source, targets and an objective; with a judge, selected by its win rate against the start."""
    judge = None if config.judge is None else load_scorer(config.judge)
    plays = isinstance(judge, Comparer) and config.loss == "rank"
    is_drawn = judge is not None and not plays and config.loss in ("rank", "margin")  # lists take all pairs
    targets = partial(
        calibration_groups,
        text=inputs.text,
        reference=REFERENCES[config.reference],
        is_scored=config.loss != "rank",
        fields=FIELDS.get(config.loss),
        most=config.num_samples if is_drawn else None,
        seed=inputs.seed,
    )
    method = Method(source=fixed(inputs.feedback), targets=targets, objective=_objective(config))
    if judge is None:
        return method
    prompts, held_out = (readable(one_per_prompt(part), judge) for part in (inputs.feedback, inputs.held_out))
    return replace(
        method,
        source=_samples(config, inputs, prompts, partial(tournament if plays else scored, judge=judge)),
        measures=[WinRate(judge, held_out, inputs.text, config.max_tokens)],
        schedule=Schedule(select=("win_rate", "max")),
        judges={str(config.judge): judge.version},
    )


def _samples(config: Config, inputs: Inputs, prompts: Sequence[Feedback], judge: Judge) -> PolicySamples:
    sampling = Sampling(max_tokens=config.max_tokens, temperature=config.temperature, top_k=config.top_k)
    return PolicySamples(prompts, inputs.text, sampling, config.num_samples, judge, seed=inputs.seed)


def _objective(config: Config) -> list[TermSpec]:
    along: dict[str, Any] = {"per": "reference", "streams": {"mask": "reference"}}
    if config.loss == "reward":
        loss = term(expected_score, per="prompt")
    else:
        loss = term(HINGES[config.loss], per="pair_weight", margin=config.margin)
    anchor = [term(kl_from_start, coef=config.kl_coef, **along)] if config.kl_coef else []
    return [loss, term(nll, coef=config.nll_coef, **along), *anchor]
