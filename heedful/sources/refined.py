"""Responses that were criticised and mended: what ILF learns from (Scheurer et al. 2023, arXiv:2303.16755)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean

from heedful.editing import CHOSEN, WORDINGS
from heedful.method import WHOLE, Cost, Say, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response, Score, prompt_text, score_of
from heedful.refiner import Instructed, Writer, load_instructed, load_writer
from heedful.sampling import Sample, Sampling
from heedful.schedule import stable_seed
from heedful.scorers import Scorer
from heedful.scorers.pep8 import critique as pep8_critique
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.sources.policy import CALLS, TOKENS, PolicySamples, counted
from heedful.sources.ranking import scored
from heedful.text import Text

CRITIC, REFINER = 1, 2  # parts of the seed, so that no two models draw by the same numbers
INSTRUCTED = "instruct_rm"  # as the ledger names it
RECORDS, PEP8 = "records", "pep8"  # who criticises, where it is no model

Select = Callable[[Sequence[Feedback]], list[Feedback]]


@dataclass(frozen=True)
class Critic:
    """Says what is wrong with a response.

    Args:
        name: `PEP8` for pycodestyle's messages, or the folder of a model that writes critiques.
    """

    name: str
    sampling: Sampling

    def criticised(self, records: Sequence[Feedback], keys: Sequence[int], seed: int) -> list[Feedback]:
        """Each record's only response with its critique; without one where there is nothing to say. What a model wrote
        is in the record's cost. Of a response that was cut pycodestyle reads whole lines, and only these stay."""
        if self.name == PEP8:
            records = [_whole_lines(record) for record in records]
            found = [(pep8_critique(prompt_text(r.prompt), r.responses[0].text) or "", 0) for r in records]
        else:
            asked = [self._writer.form.fields(record, record.responses[0]) for record in records]
            drawn = self._writer.draw(asked, self.sampling, k=1, seed=seed, keys=keys)
            found = [(several[0].text, len(several[0].tokens)) if several else ("", 0) for several in drawn]
        return [_criticised(record, words, tokens) for record, (words, tokens) in zip(records, found, strict=True)]

    @cached_property
    def _writer(self) -> Writer:
        return load_writer(Path(self.name), "critique")


@dataclass(frozen=True)
class Refined:
    """Refinements of criticised responses, and which of them is chosen; one record a response.

    A record's first response is the one that was criticised; those behind it are its different refinements.
    Responses are drawn from the policy; those of records that have a critique are these.

    Args:
        drawn: asks the policy; its records are judged by nobody.
        critic: None where the records have critiques.
        refiner: folder of a model that writes refinements.
        num_refinements: N, draws for each response.
        select: gives each response its score; None chooses the first refinement that was drawn.
        only_better: choose none that does not score above what it refines.
    """

    drawn: PolicySamples
    critic: Critic | None
    refiner: Path
    sampling: Sampling
    num_refinements: int
    select: Select | None
    only_better: bool

    def collect(
        self,
        round_index: int,
        policy: Policy | None = None,
        share: Share = WHOLE,
        *,
        before: Callable[[], Sequence[Feedback]] = tuple,
        say: Say | None = None,
    ) -> list[Feedback]:
        """The records of a share of the prompts, each with its response, critique and refinements."""
        places = list(range(share.first, len(self.drawn.prompts), share.of))
        seed = stable_seed(self.drawn.seed, round_index)
        if self.critic is None:
            records = [self.drawn.prompts[n] for n in places]
        else:
            records = [_alone(record) for record in self.drawn.collect(round_index, policy, share, say=say)]
            answered = [n for n, record in enumerate(records) if record.responses]
            told = self.critic.criticised(
                [records[n] for n in answered], [places[n] for n in answered], stable_seed(seed, CRITIC)
            )
            for n, record in zip(answered, told, strict=True):
                records[n] = record
        return self._chosen(self._refined(records, places, stable_seed(seed, REFINER), say))

    def _refined(
        self, records: Sequence[Feedback], places: Sequence[int], seed: int, say: Say | None
    ) -> list[Feedback]:
        asked = [n for n, record in enumerate(records) if record.responses and record.responses[0].critique is not None]
        fields = [self._writer.form.fields(records[n], records[n].responses[0]) for n in asked]
        keys = [places[n] for n in asked]
        progress = counted(say, len(asked) * self.num_refinements)
        drawn = self._writer.draw(
            fields, self.sampling, k=self.num_refinements, seed=seed, keys=keys, progress=progress
        )
        found = dict(zip(asked, drawn, strict=True))
        return [_with_refinements(record, found[n]) if n in found else record for n, record in enumerate(records)]

    def _chosen(self, records: Sequence[Feedback]) -> list[Feedback]:
        """With the scores of all responses to compare, and which refinement is best."""
        rival = [n for n, record in enumerate(records) if len(record.responses) > 1]
        select = self.select if rival else None
        judged = dict(zip(rival, select([records[n] for n in rival]), strict=True)) if select else {}
        return [_with_choice(judged.get(n, one), self.only_better) for n, one in enumerate(records)]

    @cached_property
    def _writer(self) -> Writer:
        return load_writer(self.refiner, "refinement")

    def cost(self, samples: Sequence[Feedback]) -> Cost:
        """The tokens that policy, critic and refiner drew, and calls, as records have them in their metadata."""
        parts = (Cost(record.metadata[TOKENS], record.metadata.get(CALLS, {})) for record in samples)
        return sum(parts, Cost())

    def metrics(self, samples: Sequence[Feedback]) -> dict[str, float]:
        """What to watch of a round: the shares of responses that were criticised, and that have a refinement that was
        chosen; of those chosen the share that copies the response; and where they are scored, scores before and
        after."""
        pairs = [(r.responses[0], r.responses[r.metadata[CHOSEN]]) for r in samples if CHOSEN in r.metadata]
        criticised = [bool(r.responses) and r.responses[0].critique is not None for r in samples]
        found = {"criticised": fmean(criticised), "chosen": len(pairs) / len(samples)}
        if pairs:
            found["copied"] = fmean(before.text == after.text for before, after in pairs)
        scores = [(a, b) for a, b in ((score_of(before), score_of(after)) for before, after in pairs)
                  if a is not None and b is not None]  # fmt: skip
        if scores:
            found |= {"score_before": fmean(a for a, _ in scores), "score": fmean(b for _, b in scores)}
        return found


def criticised(feedback: Sequence[Feedback]) -> list[Feedback]:
    """One record for each response that somebody criticised; documents have none."""
    return [
        Feedback(
            record.prompt,
            (
                Response(
                    response.text, critique=response.critique, truncated=response.truncated, author=response.author
                ),
            ),
            id=f"{record.id}#{index}",
            answer=record.answer,
            source=record.source,
            metadata={**record.metadata, TOKENS: 0},
            where=record.where,
        )
        for record in feedback
        for index, response in enumerate(record.responses)
        if response.critique and record.prompt
    ]


def by_judge(judge: Scorer) -> Select:
    """Each response scored by itself."""
    return partial(scored, judge=judge)


@dataclass(frozen=True)
class ByInstructed:
    """Each response scored by whether it takes the critique in, the criticised one too; see `Instructed`."""

    folder: Path

    def __call__(self, records: Sequence[Feedback]) -> list[Feedback]:
        asked = [
            (prompt_text(record.prompt), record.responses[0].text, record.responses[0].critique or "", response.text)
            for record in records
            for response in record.responses
        ]
        scores = iter(self._model.scores(asked))
        return [self._scored(record, [next(scores) for _ in record.responses]) for record in records]

    def _scored(self, record: Feedback, scores: Sequence[float]) -> Feedback:
        calls = {INSTRUCTED: len(WORDINGS) * len(scores)}
        responses = (replace(r, scores=(Score(INSTRUCTED, s),)) for r, s in zip(record.responses, scores, strict=True))
        return replace(record, responses=tuple(responses), metadata={**record.metadata, CALLS: calls})

    @cached_property
    def _model(self) -> Instructed:
        return load_instructed(self.folder)


def samples_of(prompts: Sequence[Feedback], text: Text, sampling: Sampling, seed: int) -> PolicySamples:
    """One response of the policy to each prompt, which nobody judges."""
    return PolicySamples(prompts, text, sampling, 1, list, seed=seed)


def _alone(record: Feedback) -> Feedback:
    """A drawn record without the demonstration before its response."""
    return replace(record, responses=tuple(r for r in record.responses if not r.demonstration))


def _whole_lines(record: Feedback) -> Feedback:
    """The response up to its last whole logical line where it was cut; as it is where there is none."""
    (response,) = record.responses
    text = cut_at_last_logical_line(prompt_text(record.prompt), response.text) if response.truncated else response.text
    return replace(record, responses=(replace(response, text=text or response.text),))


def _with_cost(record: Feedback, tokens: int) -> Feedback:
    return replace(record, metadata={**record.metadata, TOKENS: record.metadata[TOKENS] + tokens})


def _criticised(record: Feedback, words: str, tokens: int) -> Feedback:
    response = replace(record.responses[0], critique=words or None)
    return replace(_with_cost(record, tokens), responses=(response,))


def _with_refinements(record: Feedback, samples: Sequence[Sample]) -> Feedback:
    """The different refinements behind the response, none of them empty; one ends where the response and it do."""
    first, texts = record.responses[0], dict[str, bool]()
    for sample in samples:
        texts.setdefault(sample.text, sample.truncated)
    own = [Response(t, truncated=first.truncated or cut, author="refiner") for t, cut in texts.items() if t]
    found = _with_cost(record, sum(len(sample.tokens) for sample in samples))
    return replace(found, responses=(first, *own))


def _with_choice(record: Feedback, only_better: bool) -> Feedback:
    """With the index of the best refinement; what another round chose, where its file is read, is forgotten."""
    best = _best(record, only_better)
    metadata = {key: value for key, value in record.metadata.items() if key != CHOSEN}
    return replace(record, metadata=metadata if best is None else {**metadata, CHOSEN: best})


def _best(record: Feedback, only_better: bool) -> int | None:
    scores = [score for score in map(score_of, record.responses) if score is not None]
    if len(record.responses) < 2 or len(scores) < len(record.responses):
        return 1 if len(record.responses) > 1 else None
    best = max(range(1, len(scores)), key=scores.__getitem__)
    return None if only_better and scores[best] <= scores[0] else best
