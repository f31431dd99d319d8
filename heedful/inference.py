"""Ask a model: its responses to some prompts, as records that can be scored, labelled and learned from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heedful.checkpoint import load_info
from heedful.errors import DataError
from heedful.models import best_device, load, load_tokenizer
from heedful.records import Feedback, Response, Score
from heedful.sampling import Sample, Sampling, generate
from heedful.scorers import Scorer, item_of, load_scorer, score_all
from heedful.text import BAD, GOOD, Text

Prompts = Sequence[str | Feedback]


@dataclass(frozen=True)
class Needs:
    """What a model's method needs to generate, as heedful.json has it: ids where the response begins, an id before
    each line, ids never drawn."""

    prefix: tuple[int, ...] = ()
    line_prefix: int | None = None
    suppress: tuple[int, ...] = ()


def needs_of(model: str | Path) -> Needs:
    """From heedful.json; a model without it needs nothing, but control tokens of its tokenizer are never drawn."""
    info = load_info(model)
    if info:
        return Needs(tuple(info["prefix"]), info["line_prefix"], tuple(info["suppress"]))
    vocabulary = load_tokenizer(model).get_vocab()
    return Needs(suppress=tuple(vocabulary[token] for token in (GOOD, BAD) if token in vocabulary))


def sample(
    model: str | Path,
    prompts: Prompts,
    *,
    k: int = 1,
    sampling: Sampling | None = None,
    best_by: Scorer | str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Feedback]:
    """Draw `k` responses to each prompt; one record per prompt, in order.

    Args:
        model: folder or Hub name; a model that heedful exported is asked as its method needs.
        prompts: texts, or records, whose own responses are left out.
        sampling: temperature, length and so on; `banned` and `line_prefix` are the model's own business.
        best_by: a scorer, its name or `module:function`: keep only the best of the `k`, with its score (best-of-n).
        progress: called with (responses finished, tokens drawn).
    Raises:
        DataError: no list of prompts, or a prompt does not fit the model's context; names it.
    """
    if isinstance(prompts, (str, Feedback)):
        found = "a text" if isinstance(prompts, str) else "one record"
        raise DataError(f"found {found}", where="prompts", allowed="a list of prompts", hint="write [prompt]")
    records = [_record(prompt, index) for index, prompt in enumerate(prompts)]
    if not records:
        raise DataError("no prompt to answer", allowed="at least one")
    scorer = load_scorer(best_by) if isinstance(best_by, str) else best_by
    needs, asked = needs_of(model), sampling or Sampling()
    settings = replace(asked, banned=(*asked.banned, *needs.suppress), line_prefix=needs.line_prefix)
    policy = load(model, device=best_device())
    text = Text(load_tokenizer(model), max_length=2)  # `generate` refuses what does not fit
    ids = [[*text.encode_prompt(r.prompt, line_prefix=needs.line_prefix), *needs.prefix] for r in records]
    drawn = generate(policy.lm, text, ids, settings, k=k, seed=seed, progress=progress)
    answered = [_answered(record, samples, str(model)) for record, samples in zip(records, drawn)]
    return answered if scorer is None else _best(answered, scorer)


def _record(prompt: str | Feedback, index: int) -> Feedback:
    if isinstance(prompt, str):
        return Feedback(prompt=prompt, responses=(), id=f"p{index}")
    return replace(prompt, responses=(), comparisons=(), id=prompt.id or f"p{index}")


def _answered(record: Feedback, samples: Sequence[Sample], author: str) -> Feedback:
    responses = (Response(sample.text, truncated=sample.truncated, author=author) for sample in samples)
    return replace(record, responses=tuple(responses))


def _best(records: Sequence[Feedback], scorer: Scorer) -> list[Feedback]:
    items = [
        item_of(record, response, f"{record.id}#{index}")
        for record in records
        for index, response in enumerate(record.responses)
    ]
    scores = iter(score_all(scorer, items))
    return [_best_one(record, [next(scores) for _ in record.responses]) for record in records]


def _best_one(record: Feedback, scores: Sequence[Score]) -> Feedback:
    best = max(range(len(scores)), key=lambda index: scores[index].value)  # the first of equals
    return replace(record, responses=(replace(record.responses[best], scores=(scores[best],)),))
