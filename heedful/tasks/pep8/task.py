"""The embedded task: write clean Python, learned from every kind of feedback, judged by pycodestyle."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from heedful.config import merge, read_yaml
from heedful.evals import best_of_n as bests
from heedful.evals.capability import likelihood_of_documents
from heedful.evals.kl import kl_per_response
from heedful.inference import TURN, Needs, bettered, copy_rate
from heedful.models import best_device, load, load_tokenizer
from heedful.policy import Policy
from heedful.records import Feedback, Response, Segment, from_json
from heedful.sampling import Sample, Sampling, best_of_n, generate
from heedful.scorers import Item, score_all
from heedful.scorers.pep8 import PEP8Chars
from heedful.scorers.reading import cut_at_last_logical_line, split_rows
from heedful.tasks import Evaluation, MetricKind, Reference, Subject
from heedful.tasks.pep8.answers import gold_scores, rewards
from heedful.tasks.pep8.assets import ASSETS, read
from heedful.tasks.pep8.course import course_of, course_of_best, course_to
from heedful.tasks.pep8.guards import ShapeDistance, bigrams, guard, is_degenerate, shape_distance, summarise
from heedful.tasks.pep8.labelers import oracle
from heedful.text import Text

RESPONSE_TOKENS = 128
BEST_OF = 16
KL_PROMPTS = 64  # of the prompts, at most, evenly spread: two more forwards of each are dear
SAMPLING: Mapping[str, Any] = {"temperature": 0.7, "top_p": 0.9}  # Korbak et al. 2023, released code
RECIPES = Path(__file__).parents[2] / "recipes" / "pep8"
LINE_SCORED = ("mle", "filtering", "conditional", "unlikelihood", "rwr", "awr")
JUDGED = ("slic_hf", "dpo", "kto", "chain_of_hindsight")  # learn from the labelers' word, and have no other text
LABELERS = "labelers"  # the variant of another method that learns from it too
BASELINES = ("mle", "sft", "conditional", "unlikelihood")  # of what learns from comparisons
LEARNED_REWARD = ("slic_hf/sample_rank", "best_of_n/reward_model")
# The same by a reward model that the gold score taught.
NOISELESS = (
    "slic_hf/sample_rank_oracle",
    "best_of_n/oracle",
    "ppo/oracle",
)
# Learn from their own samples, by a learned reward, or as `method/gold` by the gold score.
ROUNDS = ("ppo", "rloo", "grpo", "raft", "rest_em", "hir")
BEGINNING = dict.fromkeys(("ppo", "ppo/ptx", "ppo/oracle"), "rl_start")  # InstructGPT's; the others begin with the base
WITH_TEXT = ("rl_start", "ppo")  # read documents too
EVERY = (
    *LINE_SCORED,
    "sft",
    "rl_start",
    *JUDGED,
    *(f"{name}/{LABELERS}" for name in BASELINES),
    *LEARNED_REWARD,
    *ROUNDS,
    "ppo/ptx",
    "ilf",
    *(f"{name}/gold" for name in (*ROUNDS, "farl", "ilf")),
    "ppo/gold_ptx",
    *NOISELESS,
)
COMPARED = ("sft", "filtering", "slic_hf", "dpo", "chain_of_hindsight")  # what fits a quarter of an hour


class PEP8:
    """Prompts, feedback and evaluation of the embedded task.

    Args:
        split: "test" for results, "selection" for choosing settings.
        base, conditional_base: model folders; those that ship by default.
        num_prompts: evaluate on the first so many prompts only.
    """

    name = "pep8"
    methods: Sequence[str] = COMPARED
    every: Sequence[str] = EVERY
    budget: Mapping[str, float] = {"tokens": 200_000}
    metrics: Mapping[str, MetricKind] = {
        "gold": MetricKind("score", "higher"),
        "clean_share": MetricKind("share", "higher"),
        "reward": MetricKind("score", "higher"),
        "refine_gain": MetricKind("score", "higher"),
        "refine_copy_rate": MetricKind("share", "none"),
        "pep8_chars": MetricKind("findings per 100 characters, negative", "higher"),
        "bits_per_byte_clean": MetricKind("bits", "lower"),
        "bits_per_byte_dirty": MetricKind("bits", "lower"),
        "name_accuracy": MetricKind("share", "higher"),
        "compiles_share": MetricKind("share", "higher"),
        "kl_to_base": MetricKind("nats per response", "lower"),
        bests.KL: MetricKind("nats per response", "lower"),
        bests.BOUND: MetricKind("nats per response", "lower"),
        "length": MetricKind("characters", "none"),
        "counted_lines": MetricKind("lines", "none"),
        "comment_share": MetricKind("share", "none"),
        "distinct_3": MetricKind("share", "none"),
        "copy_rate": MetricKind("share", "none"),
        "line_length": MetricKind("characters", "none"),
        "ast_distance": MetricKind("bits", "lower"),
        "crashes": MetricKind("responses", "lower"),
    }

    def __init__(
        self,
        *,
        split: str = "test",
        base: str | Path = ASSETS / "base",
        conditional_base: str | Path = ASSETS / "base_conditional",
        num_prompts: int | None = None,
    ):
        self.split, self.base, self.start, self.conditional_base = split, base, base, conditional_base
        prompts = [row for row in read("prompts") if row["split"] == split]
        prompts.sort(key=lambda row: number_in_file(row["id"]))  # so that the first are of as many files as can be
        self.prompts = prompts[:num_prompts]
        self.documents = read("heldout") if split == "test" else []  # it is of the test split's files

    # What methods learn from

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """Nothing: all of it ships."""

    def feedback(self, name: str) -> Sequence[Feedback]:
        """Scored lines for the pretraining objectives, clean-author bodies for SFT; the labelers' word for others, and
        for these as `method/labelers`."""
        if name in LINE_SCORED:
            return [line_scored(row) for row in read("corpus")]
        if name == "reward_model/oracle":
            return self._oracle
        documents = [plain(row) for row in read("corpus")] if name.partition("/")[0] in WITH_TEXT else []
        if name in ("sft", "rl_start"):
            return [*(demonstration(row) for row in read("demonstrations")), *documents]
        return [*(from_json(row) for row in read("feedback")), *documents]

    @cached_property
    def _oracle(self) -> list[Feedback]:
        """The responses that the labelers judged, as the gold score does."""
        records = [from_json(row) for row in read("feedback")]
        return [oracle(str(r.prompt), [one.text for one in r.responses], id=r.id) for r in records]

    def settings(self, name: str) -> Mapping[str, Any]:
        """The task's recipe: common settings and the method's, or the variant's, own."""
        common, path = read_yaml(RECIPES / "common.yaml"), recipe_path(name)
        return merge(common, read_yaml(path) if path.exists() else {})

    def describe(self) -> Mapping[str, Any]:
        """What is asked, and the sha256 of the list of all files that ship and their sha256."""
        return {
            "assets": hashlib.sha256((ASSETS / "manifest.json").read_bytes()).hexdigest(),
            "split": self.split,
            "prompts": len(self.prompts),
            "sampling": {**SAMPLING, "max_tokens": RESPONSE_TOKENS},
        }

    # What is measured

    @cached_property
    def text(self) -> Text:
        """The task's tokenizer."""
        return Text(load_tokenizer(ASSETS / "tokenizer"), max_length=1024)

    @cached_property
    def base_policy(self) -> Policy:
        """The base, for KL."""
        return load(self.base, device=best_device())

    def beginning(self, name: str) -> str | None:
        """Where InstructGPT's PPO starts, for its PPO."""
        return BEGINNING.get(name)

    def references(self) -> Sequence[Reference]:
        """The base, the conditionally pretrained base in three readings, and best-of-n of the base under the gold
        score."""
        good, bad = suppress = self.text.control_ids
        rows = [
            Reference("base", "", None, Subject(self.base, suppress=suppress)),
            Reference("best_of_n", f"n{BEST_OF}", 3, Subject(self.base, suppress=suppress, num_samples=BEST_OF)),
        ]
        rows += [
            Reference(
                "conditional_base", variant, None, Subject(self.conditional_base, line_prefix=token, suppress=suppress)
            )
            for variant, token in (("good", good), ("bad", bad), ("none", None))
        ]
        return rows

    def evaluate(
        self,
        subject: Subject,
        *,
        seed: int,
        base_samples: Sequence[Mapping[str, Any]] | None = None,
        reward: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """Sample once a prompt, score, and read held-out text."""
        policy = load(subject.model, device=best_device())
        say = progress or (lambda message: None)
        say("sampling")
        found, samples = self._sample(policy, subject, seed)
        say("scoring")
        self._score(found)
        if reward is not None:
            self._reward(found, reward)
        say("reading held-out text")
        self._read(policy, subject, found, samples)
        self._guard(found, base_samples)
        if not found.course:
            found.course = course_of(subject.run) or course_to(found, base_samples or ())
        return found

    def _sample(self, policy: Policy, subject: Subject, seed: int) -> tuple[Evaluation, list]:
        settings = Sampling(
            max_tokens=RESPONSE_TOKENS,
            stop_at_eos=False,
            banned=tuple(subject.suppress),
            line_prefix=subject.line_prefix,
            **SAMPLING,
        )
        prompts = [self._encode(row["prompt"], subject) for row in self.prompts]
        draw = partial(generate, policy.lm, self.text, settings=settings)
        drawn = draw(prompts, k=subject.num_samples, seed=seed)
        texts = [
            [cut_at_last_logical_line(row["prompt"], sample.text) for sample in several]
            for row, several in zip(self.prompts, drawn)
        ]
        golds = gold_scores(self.prompts, texts)
        judged = golds if subject.judge is None else rewards(subject.judge, self.prompts, texts)
        chosen, num = best_of_n(drawn, judged), subject.num_samples
        found = Evaluation(course=course_of_best(judged, golds) if num > 1 else [])
        for row, several, cut, scores, own, sample in zip(self.prompts, drawn, texts, golds, judged, chosen):
            index = several.index(sample)
            moved = {bests.KL: bests.best_of_n_kl(own, num), bests.BOUND: bests.kl_bound(num)} if num > 1 else {}
            found.per_prompt[row["id"]] = {"gold": scores[index], "group": file_of(row["id"]), **moved}
            found.samples.append(
                {"prompt_id": row["id"], "prompt": row["prompt"], "response": cut[index], "gold": scores[index]}
            )
        if subject.worse_prefix:
            self._refine(found, subject, draw, chosen, seed)
        if subject.num_samples > 1:  # a way to answer, and its cost; one answer a prompt is how all are measured
            calls = sum(map(len, texts))
            judge = "reward_model" if subject.judge else "pep8_lines"
            tokens = calls * RESPONSE_TOKENS
            found.ledger = {"sampled_tokens": tokens, "scorer_calls": {judge: calls}}
            found.ledger["flops"] = policy.forward_flops(tokens)
        return found, chosen

    def _refine(self, found: Evaluation, subject: Subject, draw: Callable, chosen: Sequence[Sample], seed: int) -> None:
        """What a turn more gains, where a model has learned to better a response: its own is given back once."""
        needs = Needs(tuple(subject.prefix), subject.line_prefix, worse_prefix=tuple(subject.worse_prefix))
        prompts = [self.text.encode_prompt(row["prompt"], line_prefix=subject.line_prefix) for row in self.prompts]
        again = bettered(draw, prompts, [[one] for one in chosen], needs, self.text, seed=seed + TURN)
        cut = [cut_at_last_logical_line(row["prompt"], one.text) for row, (one,) in zip(self.prompts, again)]
        for row, sample, text, (gold,) in zip(
            self.prompts, found.samples, cut, gold_scores(self.prompts, [[text] for text in cut])
        ):
            values = found.per_prompt[row["id"]]
            values["refine_gain"] = gold - values["gold"]
            values["refine_copy_rate"] = copy_rate(sample["response"], text)
            sample["refined"] = text

    def _score(self, found: Evaluation) -> None:
        items = [Item(s["prompt"], s["response"], id=s["prompt_id"]) for s in found.samples]
        for sample, chars in zip(found.samples, score_all(PEP8Chars(), items)):
            values = found.per_prompt[sample["prompt_id"]]
            one = guard(sample["prompt"], sample["response"])
            values["clean_share"] = float(values["gold"] == 0)
            values["pep8_chars"] = [chars.value * chars.length, chars.length] if chars.length else None
            values["compiles_share"] = float(one.compiles)
            values["length"] = len(sample["response"])
            values |= {
                name: getattr(one, name)
                for name in ("counted_lines", "comment_share", "distinct_3", "copy_rate", "line_length")
            }

    def _reward(self, found: Evaluation, model: Path) -> None:
        texts = [[sample["response"]] for sample in found.samples]
        for sample, (value,) in zip(found.samples, rewards(model, self.prompts, texts)):
            found.per_prompt[sample["prompt_id"]]["reward"] = sample["reward"] = value

    def _read(self, policy: Policy, subject: Subject, found: Evaluation, samples: Sequence) -> None:
        banned = self.text.control_ids
        readings = likelihood_of_documents(policy, self.text, self.documents, subject.line_prefix, banned)
        for document, (bits, size, hits, names) in zip(self.documents, readings):
            style = document["style"]
            values: dict[str, Any] = {f"bits_per_byte_{style}": [bits, size]}
            if style == "clean" and names:
                values["name_accuracy"] = [hits, names]
            found.per_prompt[document["id"]] = values | {"group": document["id"].partition(":")[2].rpartition(":")[0]}
        if subject.num_samples > 1:  # the model's distribution is not what its best answers are drawn from
            return
        step = math.ceil(len(self.prompts) / KL_PROMPTS)
        asked, chosen = self.prompts[::step], samples[::step]
        mine = [self._encode(row["prompt"], subject) for row in asked]
        theirs = [self.text.encode_prompt(row["prompt"]) for row in asked]
        sides = (policy, mine), (self.base_policy, theirs)
        kl = kl_per_response(*sides, self.text, chosen, subject.line_prefix, banned)
        for row, value in zip(asked, kl):
            found.per_prompt[row["id"]]["kl_to_base"] = value

    def _guard(self, found: Evaluation, base_samples: Sequence[Mapping[str, Any]] | None) -> None:
        shape = self._shape(found.samples)
        summary = summarise((s["prompt"], s["response"]) for s in found.samples)
        found.totals = {"ast_distance": shape.value, "crashes": summary["crashes"]}
        base = self._shape(base_samples) if base_samples else shape
        if is_degenerate(shape, base):
            found.degenerate = (
                f"its code is {shape.value:.3f} bits from real code in shape, the base's {base.value:.3f}"
            )

    def _shape(self, samples: Sequence[Mapping[str, Any]]) -> ShapeDistance:
        by_file: dict[str, Counter] = {}
        for sample in samples:
            counts = by_file.setdefault(file_of(sample["prompt_id"]), Counter())
            counts.update(bigrams(sample["prompt"], sample["response"]))
        return shape_distance(list(by_file.values()), self._real_shape)

    @cached_property
    def _real_shape(self) -> Counter:
        return sum((bigrams(row["prompt"], row["body"]) for row in self.prompts), Counter())

    def _encode(self, prompt: str, subject: Subject) -> list[int]:
        return [*self.text.encode_prompt(prompt, line_prefix=subject.line_prefix), *subject.prefix]


def recipe_path(name: str) -> Path:
    """The recipe of a method, or of one in a variant: `sft/labelers` has `sft-labelers.yaml`."""
    return RECIPES / f"{name.replace('/', '-')}.yaml"


def file_of(prompt_id: str) -> str:
    """The source file of a prompt: `json/decoder.py` of `json/decoder.py:2`."""
    return prompt_id.rpartition(":")[0]


def number_in_file(prompt_id: str) -> int:
    """Which of its file's prompts it is, 2 of `json/decoder.py:2`."""
    return int(prompt_id.rpartition(":")[2])


def line_scored(row: Mapping[str, Any]) -> Feedback:
    """A document whose segments are its lines, each with minus its findings per character."""
    parts = [
        Segment(line, 0.0 - count / len(line))
        for line, count in zip(split_rows(row["text"]), row["findings"], strict=True)
    ]
    return Feedback(prompt="", responses=(Response(row["text"], segments=tuple(parts)),), id=row["id"], source="pep8")


def plain(row: Mapping[str, Any]) -> Feedback:
    """A document of which nothing is said."""
    return Feedback(prompt="", responses=(Response(row["text"]),), id=row["id"], source="pep8")


def demonstration(row: Mapping[str, Any]) -> Feedback:
    """A prompt and what a clean author wrote next, cut like any response."""
    response = Response(row["response"], demonstration=True, truncated=True)
    return Feedback(prompt=row["prompt"], responses=(response,), id=row["id"], source="pep8")
