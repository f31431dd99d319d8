"""Methods on feedback and models so small that a test can train them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from models import tiny
from tiny_text import letters, make_text, scored
from torch import Tensor, nn

from heedful.batch import Group, TreeBatch, collate
from heedful.config import Training, parse
from heedful.editing import CHOSEN, FORMS, INFO
from heedful.export import export
from heedful.learner import Learner
from heedful.method import Inputs, Method, Outputs, anchored
from heedful.methods import METHODS, load_method
from heedful.policy import Policy
from heedful.records import Feedback, Response
from heedful.reference import reads_reference, with_reference
from heedful.rollout import DRAWS, KL_COEF, ROLLOUTS
from heedful.text import Text

TINY = "tiny"  # stands for the folder of `tiny_writer`
DRAWING = {  # what a method that learns from its own samples must be told
    name: {"judge": "tiny_judge:early", "num_prompts": 4, "num_samples": number, "max_tokens": 5}
    for name, number in (("ppo", 1), ("rloo", 3), ("grpo", 3), ("raft", 3), ("hir", 3), ("farl", 3))
} | {
    "rest_em": {"judge": "tiny_judge:early", "num_samples": 4, "max_tokens": 5, "threshold": -0.8},
    "ilf": {"refiner": TINY, "critic": "pep8", "judge": "tiny_judge:early", "num_refinements": 3, "max_tokens": 5},
}
for name in ("hir", "farl"):
    DRAWING[name] |= {"threshold": -0.85, "inner_epochs": 2}
# Every method, and the variants whose code differs.
VARIANTS = {name: (name, DRAWING.get(name, {})) for name in METHODS} | {
    "awr_paper": ("awr", {"value_head": "paper"}),
    "conditional_lines": ("conditional", {"lines": True}),
    "dpo_ipo_per_token": ("dpo", {"loss": "ipo_per_token"}),
    "ranker_pointwise": ("ranker", {"form": "pointwise"}),
    "reward_model_plackett_luce": ("reward_model", {"loss": "plackett_luce"}),
    "grpo_unbiased": ("grpo", DRAWING["grpo"] | {"form": "unbiased", "kl": "reward"}),
    "hir_n_way": ("hir", DRAWING["hir"] | {"contrast": "n_way", "num_contexts": 3, "balance": True}),
    "slic_hf_kl": ("slic_hf", {"kl_coef": 0.5}),
    "slic_hf_list": ("slic_hf", {"loss": "list"}),
    "slic_hf_margin": ("slic_hf", {"loss": "margin"}),
    "slic_hf_reward": ("slic_hf", {"loss": "reward"}),
}
SCORES = [0.0, -0.25, 0.0, -1.0, -0.5]


def mixed_feedback(size: int = 8) -> list[Feedback]:
    """Documents and prompted responses of scored lines, finished and cut; the tokens "ab" and "cd" merge."""
    records = []
    for n in range(size):
        lines = [(f"ab{n}cd\n" * (1 + n % 2), SCORES[(n + i) % 5]) for i in range(1 + n % 3)]
        lines = [(part + "\n", score) for text, score in lines for part in text.splitlines()]
        records.append(scored(*lines, prompt="" if n % 4 == 0 else f"q{n}\n", id=f"r{n}", truncated=n % 3 == 0))
    return records


def compared_feedback(size: int = 8) -> list[Feedback]:
    """Two to four ranked responses to a prompt, ties among them; "ab" and "cd" merge."""
    records = []
    for n in range(size):
        ranks = [(1, 2), (2, 1, 1), (1, 3, 2, 3)][n % 3]
        texts = [f"ab{n}" + "cd" * (i + n % 2) + "xyzw"[i] for i in range(len(ranks))]
        responses = [Response(t, rank=r, truncated=n % 4 == 3) for t, r in zip(texts, ranks)]
        records.append(Feedback(f"q{n}\n", tuple(responses), id=f"r{n}"))
    return records


def drawn_feedback(size: int = 8) -> list[Feedback]:
    """Rounds as a policy might have drawn them: three responses to a prompt, some cut, with numbers of their tokens."""
    text = make_text(merges=[("a", "b"), ("c", "d")])
    records = []
    for n in range(size):
        drawn, responses = [], []
        for k in range(3):
            is_cut = (n + k) % 4 == 3
            tokens = text.encode_response(f"ab{n}" + "cd" * k, finished=not is_cut)
            numbers = [-4.5 - 0.1 * ((n + k + t) % 5) for t in range(len(tokens))]
            more = {"ref_logp": [logp - 0.05 * k for logp in numbers], "value": [0.1 * t for t in range(len(tokens))]}
            reward = 0.3 * k - 0.1 * n
            drawn.append({"tokens": tokens, "logp": numbers, "reward": reward, "is_cut": is_cut} | more)
            responses.append(Response(f"ab{n}" + "cd" * k, score=reward - 0.6, truncated=is_cut))
        records.append(
            Feedback(
                f"q{n}\n",
                tuple(responses),
                id=f"r{n}",
                metadata={ROLLOUTS: drawn, KL_COEF: 0.02, CHOSEN: n % 3, DRAWS: 3},
            )
        )
    return records


def judged_feedback(size: int = 8) -> list[Feedback]:
    """Rounds as HIR's source makes them: good and bad responses, some cut, some with an answer to be held against."""
    records = []
    for n in range(size):
        good, bad = f"ab{n}cdxy", f"ab{n}" + "cdz" * (1 + n % 3)
        responses = [Response(good, label="good", truncated=n % 4 == 3), Response(bad, label="bad")]
        records.append(
            Feedback(f"q{n}\n", responses[:: 1 if n % 2 else -1], id=f"r{n}", answer=good if n % 2 else None)
        )
    return records


def refined_feedback(size: int = 8) -> list[Feedback]:
    """Responses with a critique, or none, and a refinement, some cut; "ab" and "cd" merge."""
    records = []
    for n in range(size):
        critique = f"no {n}" if n % 3 else None
        mended = Response(f"ab{n}cd", critique=critique, refinement="cd" * (1 + n % 2), truncated=n % 4 == 3)
        records.append(Feedback(f"q{n}\n", (mended, Response("xy", critique="say more")), id=f"r{n}"))
    return records


def tiny_writer(folder: Path, writes: str = "refinement") -> Path:
    """A random model that is asked to refine, or to criticise."""
    if not folder.exists():
        info = {"method": "refiner", INFO: FORMS[writes].to_json(), "max_length": 256}
        tokenizer = letters()
        export(tiny("gpt2", vocab_size=len(tokenizer), seed=1), tokenizer, folder, info)
    return folder


@cache
def _writer() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def named(config: dict, folder: Path | None = None) -> dict:
    """The settings with the folder of a model in the place of its name."""
    if config.get("refiner") != TINY:
        return config
    return config | {"refiner": str(tiny_writer(folder or Path(_writer().name) / "refiner"))}


def _with_scores(record: Feedback) -> Feedback:
    responses = tuple(replace(response, score=1.0 / (response.rank or 1)) for response in record.responses)
    return replace(record, responses=responses)


def feedback_for(variant: str, size: int = 8) -> list[Feedback]:
    """Ranked responses for the methods that learn from pairs and not from segments, with scores for losses that read
    them, scored text for the others."""
    name, config = VARIANTS[variant]
    if name in ("hir", "farl"):
        return judged_feedback(size)
    if name in DRAWING:
        return drawn_feedback(size)
    kinds = load_method(name).FEEDBACK
    if name == "refiner":
        return refined_feedback(size)
    if config.get("loss") in ("list", "margin", "reward"):
        return [_with_scores(record) for record in compared_feedback(size)]
    return compared_feedback(size) if "pairs" in kinds and "segments" not in kinds else mixed_feedback(size)


@dataclass(frozen=True)
class Built:
    """A method with its tokenizer and its training rows."""

    method: Method
    text: Text
    groups: list[Group]


def build(name: str, feedback: Sequence[Feedback], *, text: Text | None = None, **config) -> Built:
    """A method as `heedful.training.prepare` builds it, with the rows of its first round."""
    text = text or make_text(merges=[("a", "b"), ("c", "d")], control=True)
    module = load_method(name)
    config = named(DRAWING.get(name, {}) | config)
    method = module.build(parse(module.Config, config), Inputs(feedback=feedback, text=text))
    samples = feedback if name in DRAWING else method.source.collect(0)
    return Built(method, text, list(method.targets(samples)))


def build_variant(name: str, feedback: Sequence[Feedback], **options) -> Built:
    """As `build`, by a key of `VARIANTS`; thresholds are 0 so that both sides of them occur."""
    method, config = VARIANTS[name]
    has_threshold = "threshold" in load_method(method).Config.model_fields and "threshold" not in config
    threshold = {"threshold": 0.0} if has_threshold else {}
    if method == "filtering":
        threshold = {"threshold": -0.3}
    return build(method, feedback, **{**threshold, **config, **options})


def steps(built: Built, count: int, *, model: nn.Module | None = None, **options) -> tuple[list[dict], nn.Module]:
    """Train `count` steps on all rows at once, in float64: what each step logged, and the model."""
    model = model or fresh(built)
    if stream := anchored(built.method.objective):
        model.keep_start(stream)
    training = Training(**{"dtype": "float64", "optim": {"lr": 1e-3, "warmup": 0.0, "decay": "constant"}} | options)
    learner = Learner(model, training)
    statistics = built.method.statistics
    work = [(built.method.objective, rows(built, learner))]
    return [_step(learner, work, n, count, statistics) for n in range(count)], model


def _step(learner: Learner, work: list, number: int, count: int, statistics) -> dict:
    torch.manual_seed(number)  # as the loop does
    return learner.update(work, number / count, statistics=statistics)


def rows(built: Built, learner: Learner) -> list[Group]:
    """A method's rows as the loop trains them: with the log-probabilities of the start where they are read."""
    if not reads_reference(built.method):
        return built.groups
    method, _, _ = with_reference(built.method, built.method.source.collect(0), (), learner, None, list)
    return list(method.targets(()))


def loss(built: Built, model: nn.Module) -> float:
    """The whole objective on all rows at once."""
    learner = Learner(model, Training(dtype="float64"))
    return learner.losses(built.method.objective, rows(built, learner), built.method.statistics)["eval_loss"]


def fresh(built: Built) -> Policy:
    """A random model in float64 with the method's heads, and its start where the objective reads how far it is."""
    policy = Policy(tiny("gpt2"), built.method.heads).double()
    if stream := anchored(built.method.objective):
        policy.keep_start(stream)
    return policy


class Table(nn.Module):
    """A model whose optimum can be written down: one row of logits for each preceding token, or one for all.

    Args:
        unigram: what stands before changes nothing.
    """

    reads_trees = True

    def __init__(self, vocabulary: int, *, unigram: bool = False, heads=()):
        super().__init__()
        assert not heads, "a table has no hidden state"
        self.unigram = unigram
        self.logits = nn.Parameter(torch.zeros(1 if unigram else vocabulary, vocabulary, dtype=torch.float64))

    def forward(self, batch: TreeBatch, *, reads_value: bool = False) -> Outputs:
        """Log-probabilities by look-up; there are no values."""
        before = batch.tokens.gather(1, batch.predecessor) * (0 if self.unigram else 1)
        every = self.logits.log_softmax(-1)[before]
        logp = every.gather(-1, batch.tokens[..., None]).squeeze(-1)
        entropy = -(every.exp() * every).sum(-1)
        return Outputs(logp=logp * batch.predicted, entropy=entropy, vocabulary_logp=every.mean(-1))

    def p(self, token: int, before: int = 0) -> float:
        """Probability of a token after another."""
        return self.logits.softmax(-1)[0 if self.unigram else before, token].item()


def converge(built: Built, *, unigram: bool = False, count: int = 400) -> Table:
    """The table that a method's objective leads to."""
    table = Table(len(built.text.tokenizer), unigram=unigram)
    optim = {"lr": 0.5, "warmup": 0.0, "decay": "cosine", "weight_decay": 0.0, "clip": 1e9}
    return steps(built, count, model=table, optim=optim)[1]


def words(counts: dict[tuple[str, float], int]) -> list[Feedback]:
    """(text, score) -> so many documents of that one segment, without an end."""
    many = [(text, score) for (text, score), count in counts.items() for _ in range(count)]
    return [scored((text, score), id=str(n), truncated=True) for n, (text, score) in enumerate(many)]


def logp_gradient(built: Built, *, value: float = 0.0) -> Tensor:
    """Gradient of the divided objective at each token's log-probability: where a method pushes, and how hard."""
    batch = collate(built.groups, tree=False, dtype=torch.float64)
    logp = torch.full(batch.tokens.shape, -1.0, dtype=torch.float64, requires_grad=True)
    outputs = Outputs(logp=logp, value=torch.full_like(logp, value))
    terms = [spec(outputs, batch) for spec in built.method.objective]
    sum(term.coef * term.total / batch.read(term.per).sum() for term in terms).backward()
    return logp.grad


def good_and_bad(size: int = 20) -> list[Feedback]:
    """Prompts with a good and a bad response each, no two alike."""
    letters = "bcdfghjklmnpqrstvwxz"
    records = []
    for n in range(size):
        word = letters[n % 20] + letters[(3 * n + 7) % 20]
        good = Response(word + "oo", score=0.0)
        bad = Response(word[::-1] + "ee", score=-1.0)
        records.append(Feedback(f"{letters[n]}?", (good, bad) if n % 2 else (bad, good), id=str(n)))
    return records
