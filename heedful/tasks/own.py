"""The user's own feedback file as a task: which method learns most from it, on prompts it has not seen, at what
cost?"""

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.batch import Branch, Group
from heedful.config import read_yaml
from heedful.data import FeedbackFile
from heedful.data.kinds import count_kinds, missing
from heedful.data.split import split_feedback
from heedful.disk import sha256
from heedful.errors import DataError
from heedful.evals import best_of_n as bests
from heedful.evals.capability import NATS_PER_BIT
from heedful.evals.likelihood import read_tokens
from heedful.evals.rouge import rouge_l
from heedful.methods import HELPING, METHODS, STARTING, load_method
from heedful.models import best_device, commit, load, load_text
from heedful.policy import Policy
from heedful.records import Feedback, Response, place_of, prompt_text, strict_pairs
from heedful.sampling import Sample, Sampling, best_of_n, generate
from heedful.scorers import Comparer, Item, RewardModelScorer, item_of, leaves_room, load_scorer, num_calls, score_all
from heedful.targets.relabel import imitated_response
from heedful.tasks import Evaluation, MetricKind, Reference, Subject
from heedful.tasks.pep8.assets import ASSETS
from heedful.text import Text, with_line_prefix
from heedful.training import require_context

SHARES = {"train": 0.8, "selection": 0.05, "test": 0.15}
MAX_PROMPTS = 200  # of the evaluation
NUM_SAMPLES = 32  # prompts that are answered where no judge asks for more
RESPONSE_TOKENS = 128
PREFIX_TOKENS = 1  # the most that a method puts before a response
BEST_OF = 4
SAMPLING: Mapping[str, Any] = {"temperature": 0.7, "top_p": 0.9}
RECIPE = Path(__file__).parents[1] / "recipes" / "own" / "common.yaml"

Rows = dict[tuple[int, int], list[list[int]]]  # a response (record, index): its tokens, a document's in chunks


class OwnFile:
    """A feedback file split by prompt, a model, and a judge if there is one.

    Args:
        file: what `load_feedback` returned.
        model: folder or Hub name; the embedded base where none is given.
        judge: a scorer's name or `module:function`; win rate against the base is measured where it is given.
        num_prompts: evaluate on the first so many held-out prompts only.
        split: "test" for results, "selection" for choosing settings.
    Raises:
        DataError: too few prompts to hold any out, nothing to measure, or records without what the judge needs.
        ConfigError: conversations, and the model has no chat template.
    """

    def __init__(
        self,
        file: FeedbackFile,
        *,
        model: str | Path | None = None,
        judge: str | None = None,
        num_prompts: int | None = None,
        split: str = "test",
    ):
        self.file, self.split = file, split
        self.base = self.start = model or ASSETS / "base"
        self.name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(file.path).name.split(".")[0]) or "own"
        self.judge = load_scorer(judge) if judge else None
        parts = split_feedback(file, shares=SHARES, max_per_user=None, prefix=0)
        self.train_part = parts.parts["train"]
        self.held_out = _one_per_prompt(parts.parts[split])[: num_prompts or MAX_PROMPTS]
        if not self.train_part or not self.held_out:
            raise DataError(
                f"{len(file)} records leave {len(self.train_part)} to train on and {len(self.held_out)} to measure on",
                where=file.path,
                allowed="feedback on at least a few dozen prompts",
            )
        if not {"win_rate", "pref_accuracy", "bits_per_byte"} & set(self.metrics):
            raise DataError(
                f"all {len(self.held_out)} held-out records have bad responses only, so there is nothing to measure",
                where=file.path,
                allowed="a held-out prompt with a response that is not labelled bad",
                hint="or judge answers with --judge",
            )
        self._require_what_the_judge_needs()
        self._require_chat_template()

    @property
    def metrics(self) -> Mapping[str, MetricKind]:
        """What this file and judge allow to be measured."""
        found: dict[str, MetricKind] = {}
        if self.judge is not None:
            found["win_rate"] = MetricKind("share", "higher")
            found["judge_score"] = MetricKind("score", "higher")
            found |= dict.fromkeys((bests.KL, bests.BOUND), MetricKind("nats per response", "lower"))
        if any(strict_pairs(record) for record in self.held_out):
            found["pref_accuracy"] = MetricKind("share", "higher")
            found["pref_accuracy_per_token"] = MetricKind("share", "higher")
        if any(imitated_response(record) is not None for record in self.held_out):
            found["bits_per_byte"] = MetricKind("bits", "lower")
        if any(_references(record) for record in self.held_out):
            found["rouge_l"] = MetricKind("", "none")  # of the answer; see evals/rouge.py for why no way is better
        found["reward"] = MetricKind("score", "higher")
        found["length"] = MetricKind("characters", "none")
        return found

    @cached_property
    def methods(self) -> Sequence[str]:
        """All that the file alone can feed; `every` has those too that a reward model must be trained for first.

        Raises:
            DataError: none can learn from it.
        """
        able = [name for name in self.every if not _asks_judge(name)]
        if not able:
            raise DataError("no method can learn from it", where=self.file.path, hint="see `heedful data inspect`")
        return able

    @cached_property
    def every(self) -> Sequence[str]:
        """All that the file can feed: it has no variants."""
        kinds = count_kinds(self.train_part)
        writing = [name for name in METHODS if name not in (*HELPING, *STARTING)]
        return [name for name in writing if missing(load_method(name).FEEDBACK, kinds) is None]

    @cached_property
    def budget(self) -> Mapping[str, float]:
        """One pass over every response of the training part, its prompt once, in tokens of this model."""
        text = load_text(self.base)
        texts = [prompt_text(record.prompt) for record in self.train_part]
        texts += [response.text for record in self.train_part for response in record.responses]
        return {"tokens": sum(len(text.encode(piece)) + 1 for piece in texts)}

    def prepare(self, folder: Path, budget: Mapping[str, float], say: Callable[[Mapping[str, Any]], None]) -> None:
        """Nothing is made: the file and the model are there.

        Raises:
            DataError: nothing held out fits the model's context.
        """
        self._fitting(load_text(self.base, max_length=require_context(load(self.base))))

    def feedback(self, name: str) -> Sequence[Feedback]:
        """The training part; each method takes the records that can feed it."""
        return self.train_part

    def settings(self, name: str) -> Mapping[str, Any]:
        """One recipe for all; `--set` changes it."""
        return read_yaml(RECIPE)

    def describe(self) -> Mapping[str, Any]:
        """The file, its split and its kinds of feedback, the model's weights and the judge: other ones are another
        comparison."""
        return {
            "file": Path(self.file.path).name if self.file.sha256 else self.file.path,  # known by its bytes
            "sha256": self.file.sha256,
            "split": self.split,
            "train": len(self.train_part),
            "prompts": len(self.held_out),
            "kinds": count_kinds(self.file),
            "model": str(self.base),
            "weights": _weights(self.base),
            "judge": {"name": self.judge.name, "version": self.judge.version} if self.judge else None,
        }

    def beginning(self, name: str) -> str | None:
        """Every method begins with the model that was given."""
        return None

    def references(self) -> Sequence[Reference]:
        """The base; with a judge also the best of a few of its samples."""
        rows = [Reference("base", "", None, Subject(self.base))]
        if self.judge is not None:
            rows.append(Reference("best_of_n", f"n{BEST_OF}", 3, Subject(self.base, num_samples=BEST_OF)))
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
        """Read the held-out responses, then answer held-out prompts.

        Of both the same for every method: those that fit the context with any method's control tokens.
        """
        policy = load(subject.model, device=best_device())
        text = load_text(subject.model, max_length=require_context(policy))
        say = progress or (lambda message: None)
        found = Evaluation()
        readable, asked = self._fitting(text)
        if base_samples is None:
            self._warn(readable, asked, text)
        say("reading held-out responses")
        self._read(policy, text, subject, found, readable)
        say("sampling")
        self._sample(policy, text, subject, found, seed, base_samples, asked[: None if self.judge else NUM_SAMPLES])
        if reward is not None:
            self._reward(found, RewardModelScorer(reward))
        return found

    def _require_what_the_judge_needs(self) -> None:
        for name in sorted(self.judge.needs) if self.judge else ():
            lacking = [record for record in self.held_out if getattr(record, name, None) is None]
            if self.judge and lacking:
                raise DataError(
                    f"{self.judge.name} needs `{name}`, which {len(lacking)} of {len(self.held_out)} held-out records "
                    f"lack: the first is {place_of(lacking[0])}",
                    where=self.file.path,
                    allowed=f"records with `{name}`",
                    hint=f"read it from a column with --map {name}=COLUMN, or take another --judge",
                )

    def _require_chat_template(self) -> None:
        prompts = (record.prompt for record in (*self.held_out, *self.train_part))
        if conversation := next((prompt for prompt in prompts if not isinstance(prompt, str)), None):
            load_text(self.base).encode_prompt(conversation)

    def _fitting(self, text: Text) -> tuple[Rows, list[int]]:
        """The responses that can be read, and the records whose prompt can be answered.

        Raises:
            DataError: none, so that nothing would be measured.
        """
        readable: Rows = {}
        asked = []
        for n, record in enumerate(self.held_out):
            plain = len(text.encode_prompt(record.prompt)) + PREFIX_TOKENS
            by_line = len(text.encode_prompt(record.prompt, line_prefix=text.bos_id))
            fits = max(plain + RESPONSE_TOKENS, by_line + 2 * RESPONSE_TOKENS) < text.max_length
            if fits and (self.judge is None or leaves_room(self.judge, record)):
                asked.append(n)
            for index, response in enumerate(record.responses):
                ids = text.encode_response(
                    *response.pieces, finished=not response.truncated, continues=record.prompt != ""
                )
                marked, own = with_line_prefix(ids, text, text.bos_id)
                if record.prompt == "" and ids:
                    readable[n, index] = _chunks(text, marked, own)
                elif max(plain + len(ids), by_line + len(marked)) <= text.max_length:
                    readable[n, index] = [ids]
        self._require_any(readable, asked, text)
        return readable, asked

    def _require_any(self, readable: Rows, asked: Collection[int], text: Text) -> None:
        where, hint = f"a context of {text.max_length} tokens", "take a model with a longer context"
        if self.judge and not asked:
            raise DataError(
                f"no held-out prompt leaves room for an answer of {RESPONSE_TOKENS} tokens and as many control tokens, "
                "or for one in the judge's context, so there is none to judge",
                where=where,
                hint=hint,
            )
        records = enumerate(self.held_out)
        if not self.judge and not any(
            (n, imitated_response(r)) in readable or _pairs(r, n, readable) for n, r in records
        ):
            raise DataError(
                "no held-out response fits it after its prompt, so nothing is measured", where=where, hint=hint
            )

    def _warn(self, readable: Collection, asked: Collection, text: Text) -> None:
        num_responses = sum(len(record.responses) for record in self.held_out)
        if len(readable) < num_responses or len(asked) < len(self.held_out):
            warnings.warn(
                f"{num_responses - len(readable)} of {num_responses} held-out responses are not read and "
                f"{len(self.held_out) - len(asked)} of {len(self.held_out)} prompts not answered, by any method: with "
                f"control tokens they would not fit the context of {text.max_length} tokens, or that of the judge",
                stacklevel=2,
            )

    def _read(self, policy: Policy, text: Text, subject: Subject, found: Evaluation, readable: Rows) -> None:
        groups = []
        for (n, _), rows in readable.items():
            prompt = _encode(text, self.held_out[n], subject)
            for row in rows:
                tokens, own = with_line_prefix(row, text, subject.line_prefix)
                groups.append(Group(self.held_out[n].id, prompt, (Branch(tokens, {"mask": own}),)))
        read = (reading.logp.double() for reading in read_tokens(policy, groups, banned=subject.suppress))
        logp = {key: torch.cat([next(read) for _ in rows]) for key, rows in readable.items()}
        for n, record in enumerate(self.held_out):
            values = found.per_prompt.setdefault(record.id, {})
            if conversation := record.metadata.get("conversation"):  # its turns are not independent
                values["group"] = str(conversation)
            values |= _preference(record, n, logp)
            best = imitated_response(record)
            if best is not None and (n, best) in logp:
                bits = -logp[n, best].sum().item() / NATS_PER_BIT
                values["bits_per_byte"] = [bits, len(record.responses[best].text.encode())]

    def _sample(
        self,
        policy: Policy,
        text: Text,
        subject: Subject,
        found: Evaluation,
        seed: int,
        base_samples: Sequence[Mapping[str, Any]] | None,
        places: Sequence[int],
    ) -> None:
        asked = [(n, self.held_out[n], _encode(text, self.held_out[n], subject)) for n in places]
        if not asked:
            return
        settings = Sampling(
            max_tokens=RESPONSE_TOKENS, banned=tuple(subject.suppress), line_prefix=subject.line_prefix, **SAMPLING
        )
        prompts = [ids for _, _, ids in asked]
        keys = [n for n, _, _ in asked]
        drawn = generate(policy.lm, text, prompts, settings, k=subject.num_samples, seed=seed, keys=keys)
        items = [[_item(record, s) for s in several] for (_, record, _), several in zip(asked, drawn)]
        scores = self._scores(items)
        chosen = best_of_n(drawn, scores)
        picked = [several.index(sample) for several, sample in zip(drawn, chosen)]
        answers = [(several[pick], own[pick]) for several, own, pick in zip(items, scores, picked)]
        rows = {row["prompt_id"]: row for row in base_samples or () if "judge_score" in row}
        base = {place_of(record): rows[record.id] for _, record, _ in asked if record.id in rows}  # as items are named
        is_base = base_samples is None and subject == Subject(self.base)
        for (_, record, _), sample, judged in zip(asked, chosen, self._judged(answers, None if is_base else base)):
            row: dict[str, Any] = {"prompt_id": record.id, "prompt": prompt_text(record.prompt)}
            row["response"] = sample.text
            found.per_prompt[record.id] |= {"length": len(sample.text), **judged}
            if references := _references(record):
                found.per_prompt[record.id]["rouge_l"] = max(rouge_l(sample.text, text) for text in references)
            kept = {"judge_score": judged["judge_score"]} if "judge_score" in judged else {}
            found.samples.append(row | kept | {"truncated": sample.truncated})
        if self.judge and subject.num_samples > 1:
            for (_, record, _), own in zip(asked, scores):
                moved = {bests.KL: bests.best_of_n_kl(own, len(own)), bests.BOUND: bests.kl_bound(len(own))}
                found.per_prompt[record.id] |= moved
            tokens = sum(len(sample.tokens) for several in drawn for sample in several)
            found.ledger |= {"sampled_tokens": tokens, "flops": policy.forward_flops(tokens)}
            found.ledger["scorer_calls"] = {self.judge.name: num_calls(self.judge, [len(s) for s in drawn])}

    def _reward(self, found: Evaluation, scorer: RewardModelScorer) -> None:
        records = {record.id: record for record in self.held_out}
        read = [sample for sample in found.samples if leaves_room(scorer, records[sample["prompt_id"]])]
        answers = [(s["prompt_id"], Response(s["response"], truncated=s["truncated"])) for s in read]
        scores = score_all(scorer, [item_of(records[id], answer, place_of(records[id])) for id, answer in answers])
        for sample, score in zip(read, scores):
            found.per_prompt[sample["prompt_id"]]["reward"] = sample["reward"] = score.value

    def _scores(self, items: Sequence[Sequence[Item]]) -> list[list[float]]:
        """Of the answers to each prompt; 0 without a judge, and from one that compares where there is nothing to
        compare with."""
        if self.judge is None or (isinstance(self.judge, Comparer) and all(len(several) == 1 for several in items)):
            return [[0.0] * len(several) for several in items]
        scores = iter(score_all(self.judge, [item for several in items for item in several]))
        return [[next(scores).value for _ in several] for several in items]

    def _judged(
        self, answers: Sequence[tuple[Item, float]], base: Mapping[str, Mapping[str, Any]] | None
    ) -> list[dict[str, float]]:
        """`judge_score` of each answer, and `win_rate` where the base answered too; where it failed, nothing is
        measured against it. From a judge that compares, the former is the probability of beating the base.

        Args:
            base: its samples by the names of items; None where these are its own, which draw.
        """
        if self.judge is None:
            return [{} for _ in answers]
        if isinstance(self.judge, Comparer):
            return _compared(self.judge, [item for item, _ in answers], base)
        return [_scored(own, own if base is None else base.get(i.id, {}).get("judge_score")) for i, own in answers]


def _scored(own: float, rival: float | None) -> dict[str, float]:
    return {"judge_score": own} | ({} if rival is None else {"win_rate": _win(own, rival)})


def _compared(
    judge: Comparer, answers: Sequence[Item], base: Mapping[str, Mapping[str, Any]] | None
) -> list[dict[str, float]]:
    if base is None:
        return [_scored(0.5, 0.5) for _ in answers]
    both = [(item, _answered(item, base[item.id])) for item in answers if item.id in base]
    chances = dict(zip((item.id for item, _ in both), judge.preferences(both), strict=True))
    return [_scored(chances[item.id], 0.5) if item.id in chances else {} for item in answers]


def _item(record: Feedback, sample: Sample) -> Item:
    return item_of(record, Response(sample.text, truncated=sample.truncated), place_of(record))


def _answered(item: Item, row: Mapping[str, Any]) -> Item:
    """The same prompt with the response of a row."""
    return replace(item, response=row["response"], truncated=row["truncated"])


def _weights(model: str | Path) -> Mapping[str, str]:
    """The sha256 of each file of weights in a folder; of a Hub name its commit."""
    if Path(model).is_dir():
        return {file.name: sha256(file) for file in sorted(Path(model).glob("*.safetensors"))}
    return {"commit": commit(str(model))}


def _one_per_prompt(records: Sequence[Feedback]) -> list[Feedback]:
    """The first record with a response of each prompt, or of each document, so that it counts once; of equal ids the
    later ones get a number, because values are kept by id."""
    first: dict[str, Feedback] = {}
    for record in records:
        if record.responses:
            first.setdefault(prompt_text(record.prompt) or record.responses[0].text, record)
    known, taken = {record.id for record in first.values()}, set[str]()
    for key, record in first.items():
        if record.id in taken:
            name = next(name for n in count(2) if (name := f"{record.id}#{n}") not in known | taken)
            first[key] = record = replace(record, id=name)
        taken.add(record.id)
    return list(first.values())


def _chunks(text: Text, marked: Sequence[int], own: Sequence[float]) -> list[list[int]]:
    """A document in rows as training has them, cut where it would be with a control token before each line, so that
    every method reads the same rows."""
    narrow = text.within(text.max_length - PREFIX_TOKENS)  # a row in mid-line begins with one too
    chunks = (group.branches[0] for group in narrow.chunks("", Branch(marked, {"mask": own})))
    return [[id for id, is_own in zip(chunk.tokens, chunk.streams["mask"]) if is_own] for chunk in chunks]


def _encode(text: Text, record: Feedback, subject: Subject) -> list[int]:
    return [*text.encode_prompt(record.prompt, line_prefix=subject.line_prefix), *subject.prefix]


def _pairs(record: Feedback, n: int, read: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Indices (better, worse) of responses that are both read."""
    return [pair for pair in strict_pairs(record) if all((n, index) in read for index in pair)]


def _preference(record: Feedback, n: int, logp: Mapping[tuple[int, int], Tensor]) -> dict[str, list[float]]:
    """[pairs ordered right, pairs] by the likelihood of the whole response, and by its mean over tokens; a draw is
    half.

    The first favours short responses, the second does not; neither is a reward.
    """
    pairs = _pairs(record, n, logp)
    if not pairs:
        return {}
    right = sum(_win(logp[n, a].sum().item(), logp[n, b].sum().item()) for a, b in pairs)
    right_mean = sum(_win(logp[n, a].mean().item(), logp[n, b].mean().item()) for a, b in pairs)
    return {"pref_accuracy": [right, len(pairs)], "pref_accuracy_per_token": [right_mean, len(pairs)]}


def _references(record: Feedback) -> list[str]:
    return [response.text for response in record.responses if response.demonstration]


def _win(mine: float, other: float) -> float:
    return 0.5 if mine == other else float(mine > other)


def _asks_judge(name: str) -> bool:
    """Whether a method with its defaults asks a trained judge while it learns."""
    module = load_method(name)
    own = module.Config().model_dump()
    return any(own[role] in able for role, able in module.NEEDS.items())
