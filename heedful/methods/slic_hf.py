"""SLiC-HF: calibrate the likelihood of responses with comparisons (Zhao et al. 2023, arXiv:2305.10425).

source      fixed comparisons ("direct" in the paper), or samples of the start model that a judge ranks
            ("sample-rank"): every match of a tournament is a pair, or pairs are drawn from a scored list
targets     all responses to a prompt as one group with its pairs, and the response that is imitated beside
objective   hinge on the gap of summed log-probabilities, mean over pairs, + nll_coef * nll of the imitated response
No reference model is kept: the nll holds the policy where it was. `loss` names those of the parent (Zhao et al. 2022,
arXiv:2210.00045), which read scores, and `kl_coef` adds its other regulariser.
Either way a judge, where there is one, chooses the checkpoint by its win rate against the start.
Deviations: the paper gives no lambda and no reduction of the nll; here it is the mean over tokens. Start from an SFT
model. Direct takes all pairs of a ranking.
Run: heedful train slic_hf --model MODEL --feedback FILE --out runs/slic_hf
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from pydantic import Field, model_validator

from heedful.config import Strict
from heedful.measures import WinRate
from heedful.method import Inputs, Method, Schedule, Source, TermSpec, term
from heedful.objectives.calibration import expected_score, list_hinge, margin_hinge, rank_hinge
from heedful.objectives.comparison import comparison_accuracy, comparison_gap
from heedful.objectives.divergence import kl_from_start
from heedful.objectives.likelihood import nll
from heedful.records import Feedback
from heedful.sampling import Sampling
from heedful.scorers import Comparer, Scorer, load_scorer
from heedful.sources.fixed import fixed
from heedful.sources.policy import PolicySamples, one_per_prompt
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
MEASURED = [  # of the log-probabilities of the pairs
    term(comparison_accuracy, per="pair_weight", coef=0.0, name="accuracy", streams={"reward": "response_logp"}),
    term(comparison_gap, per="pair_weight", coef=0.0, name="gap", streams={"reward": "response_logp"}),
]
DRAWING = ("num_samples", "temperature", "top_k")  # settings of samples that are learned from


class Config(Strict):
    """How much likelier the better response should be, what holds the rest in place, and who says what is better."""

    loss: Literal["rank", "margin", "list", "reward"] = "rank"  # the paper's; the others are the parent's
    margin: float = Field(1.0, ge=0)  # delta, nats of a whole response; the paper's; RSO finds 20 better
    nll_coef: float = Field(0.1, ge=0)  # lambda, of the mean over the imitated tokens; no source names one
    kl_coef: float = Field(0.0, ge=0)  # of the parent's KL from the start along them; above 0 the start is kept
    reference: Literal["demonstration", "best"] = "demonstration"  # or the best compared, where a record has none
    judge: str | None = None  # folder of a ranker or reward model; it chooses the checkpoint, and ranks samples
    source: Literal["direct", "sample_rank"] | None = None  # None: sample_rank with a judge, direct without
    num_samples: int = Field(8, ge=2)  # m, the paper's; of each prompt
    temperature: float = Field(0.7, gt=0)  # the paper's
    top_k: int = Field(40, ge=0)  # the paper's; 0 keeps all tokens
    max_tokens: int = Field(128, ge=1)  # of a sample, and of an answer that is measured

    @model_validator(mode="after")
    def _read_where_set(self):
        defaults = type(self).model_fields
        changed = [name for name in (*DRAWING, "max_tokens") if getattr(self, name) != defaults[name].default]
        if self.source == "sample_rank" and self.judge is None:
            raise ValueError("found source sample_rank without a judge, which ranks the samples")
        if changed and self.judge is None:
            raise ValueError(f"found {changed[0]} without a judge: only with one responses are drawn")
        if changed and self.source == "direct" and changed[0] in DRAWING:
            raise ValueError(f"found {changed[0]} with source direct, which learns from no samples")
        if self.loss == "reward" and self.margin != defaults["margin"].default:
            raise ValueError(f"found margin {self.margin:g} with loss reward, which has none")
        return self

    @property
    def samples(self) -> bool:
        """Whether the pairs are those of the model's own samples."""
        return self.judge is not None and self.source != "direct"


def feedback(config: Config) -> frozenset[str]:
    """Prompts are enough where the model answers them and a judge says which answer is better."""
    return frozenset({"prompts"}) if config.samples else FEEDBACK


def build(config: Config, inputs: Inputs) -> Method:
    """SLiC-HF as a source, targets and an objective; with a judge, selected by its win rate against the start."""
    judge = None if config.judge is None else load_scorer(config.judge)
    plays = isinstance(judge, Comparer) and config.loss == "rank"
    is_drawn = config.samples and not plays and config.loss in ("rank", "margin")  # lists take all pairs
    targets = partial(
        calibration_groups,
        text=inputs.text,
        reference=REFERENCES[config.reference],
        is_scored=config.loss != "rank",
        fields=FIELDS.get(config.loss),
        most=config.num_samples if is_drawn else None,
        seed=inputs.seed,
    )
    source: Source = fixed(inputs.feedback)
    if judge is not None and config.samples:
        source = _samples(config, inputs, judge, tournament if plays else scored)
    method = Method(source=source, targets=targets, objective=_objective(config), has_dropout=False)
    if judge is None:
        return method
    held_out = readable(one_per_prompt(inputs.held_out), judge)
    return replace(
        method,
        measures=[WinRate(judge, held_out, inputs.text, config.max_tokens)],
        schedule=Schedule(select=("win_rate", "max")),
        judges={str(config.judge): judge.version},
    )


def _samples(config: Config, inputs: Inputs, judge: Scorer, rank: Callable[..., list[Feedback]]) -> PolicySamples:
    sampling = Sampling(max_tokens=config.max_tokens, temperature=config.temperature, top_k=config.top_k)
    prompts = readable(one_per_prompt(inputs.feedback), judge)
    ranked = partial(rank, judge=judge)
    return PolicySamples(prompts, inputs.text, sampling, config.num_samples, ranked, seed=inputs.seed)


def _objective(config: Config) -> list[TermSpec]:
    along: dict[str, Any] = {"per": "reference", "streams": {"mask": "reference"}}
    if config.loss == "reward":
        loss = term(expected_score, per="prompt")
    else:
        loss = term(HINGES[config.loss], per="pair_weight", margin=config.margin)
    anchor = [term(kl_from_start, coef=config.kl_coef, **along)] if config.kl_coef else []
    return [loss, term(nll, coef=config.nll_coef, **along), *anchor, *(() if config.loss == "reward" else MEASURED)]
