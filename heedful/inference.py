"""Ask a model: its responses to some prompts, as records that can be scored, labelled and learned from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path

from heedful.checkpoint import load_info
from heedful.errors import ConfigError, DataError
from heedful.models import best_device, load, load_text, load_tokenizer, ordinary_ids, require_embedded
from heedful.records import Feedback, Response, Score, place_of
from heedful.sampling import Sample, Sampling, generate
from heedful.scorers import Scorer, item_of, leaves_room, load_scorer, score_all
from heedful.text import BAD, GOOD, Text, with_line_prefix

Prompts = Sequence[str | Feedback]
Drawn = list[list[Sample]]  # [prompt][k]
REFINE = "refine"  # key of a record's metadata
TURN = 2**32  # between the seeds of two turns


@dataclass(frozen=True)
class Needs:
    """What a model's method needs to generate, as heedful.json has it: ids where the response begins, an id before
    each line, ids never drawn; ids before a response that is to be bettered, where it learned to better one."""

    prefix: tuple[int, ...] = ()
    line_prefix: int | None = None
    suppress: tuple[int, ...] = ()
    worse_prefix: tuple[int, ...] = ()


def needs_of(model: str | Path) -> Needs:
    """From heedful.json; a model without it needs nothing, but control tokens of its tokenizer are never drawn."""
    info = load_info(model)
    if info:
        worse = tuple(info["worse_prefix"]) if "worse_prefix" in info else ()
        return Needs(tuple(info["prefix"]), info["line_prefix"], tuple(info["suppress"]), worse)
    vocabulary = load_tokenizer(model).get_vocab()
    return Needs(suppress=tuple(vocabulary[token] for token in (GOOD, BAD) if token in vocabulary))


def sample(
    model: str | Path,
    prompts: Prompts,
    *,
    k: int = 1,
    sampling: Sampling | None = None,
    best_by: Scorer | str | None = None,
    refine: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Feedback]:
    """Draw `k` responses to each prompt; one record per prompt, in order.

    Args:
        model: folder or Hub name; a model that heedful exported is asked as its method needs.
        prompts: texts, or records, whose own responses are left out.
        sampling: temperature, length and so on; `banned` and `line_prefix` are the model's own business.
        best_by: a scorer, its name or `module:function`: keep only the best of the `k`, with its score (best-of-n).
        refine: so many times each response is given back and a better one asked for, as Chain of Hindsight models can.
            All are kept, turn after turn; `metadata["refine"]` has the lists `turn` and `copy_rate` with an entry for
            each, see `copy_rate`; None in turn 0.
        progress: called with (responses finished, tokens drawn).
    Raises:
        DataError: no list of prompts, or a prompt does not fit the model's context; names it.
        ConfigError: `refine` of a model that did not learn it, or beside `best_by`.
    """
    if isinstance(prompts, (str, Feedback)):
        found = "a text" if isinstance(prompts, str) else "one record"
        raise DataError(f"found {found}", where="prompts", allowed="a list of prompts", hint="write [prompt]")
    records = [_record(prompt, index) for index, prompt in enumerate(prompts)]
    if not records:
        raise DataError("no prompt to answer", allowed="at least one")
    scorer = load_scorer(best_by) if isinstance(best_by, str) else best_by
    needs, asked = needs_of(model), sampling or Sampling()
    _require_refinable(refine, needs, model, is_judged=scorer is not None)
    settings = replace(asked, banned=(*asked.banned, *needs.suppress), line_prefix=needs.line_prefix)
    policy = load(model, device=best_device())
    text = load_text(model)  # `generate` refuses what does not fit
    require_embedded(policy.lm, ordinary_ids(text.tokenizer), model)
    if scorer is not None:
        _require_room(records, scorer)
    ids = [text.encode_prompt(r.prompt, line_prefix=needs.line_prefix) for r in records]
    draw = partial(generate, policy.lm, text, settings=settings)
    drawn = draw([[*prompt, *needs.prefix] for prompt in ids], k=k, seed=seed, progress=progress)
    turns = [drawn]
    for turn in range(1, refine + 1):
        turns.append(
            bettered(draw, ids, turns[-1], needs, text, seed=seed + turn * TURN, progress=_after(turns, progress))
        )
    answered = [_answered(record, samples, str(model)) for record, *samples in zip(records, *turns)]
    return answered if scorer is None else _best(answered, scorer)


def _require_room(records: Sequence[Feedback], scorer: Scorer) -> None:
    """Before anything is drawn."""
    for record in records:
        if not leaves_room(scorer, record):
            raise DataError(
                f"the prompt leaves no room for a response in the context of the scorer, {scorer.name}",
                where=record.id,
                hint="a shorter prompt, or another scorer",
            )


def copy_rate(before: str, after: str) -> float:
    """Length of the longest stretch of characters that both texts have, as a share of the second; 0 for an empty one.

    1 is a copy. What masking past tokens in training is meant to keep low.
    """
    match = SequenceMatcher(None, before, after, autojunk=False).find_longest_match()
    return match.size / len(after) if after else 0.0


def _require_refinable(refine: int, needs: Needs, model: str | Path, *, is_judged: bool) -> None:
    if refine < 0:
        raise ConfigError(f"found {refine}", where="refine", allowed="0 or more turns")
    if refine and is_judged:
        hint = "sample with refine first, then score the records"
        raise ConfigError("refine and best_by exclude each other", where="sample", hint=hint)
    if refine and not needs.worse_prefix:
        hint = "train one with chain_of_hindsight"
        raise ConfigError("the model has not learned to better a response", where=str(model), hint=hint)


def bettered(
    draw: Callable[..., Drawn],
    prompts: Sequence[Sequence[int]],
    before: Drawn,
    needs: Needs,
    text: Text,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """One better response to each: the last one behind the words for a worse one, as in a chain of two, then the words
    for a better one. Earlier ones are left out, or the chain would outgrow those of the training.

    Args:
        draw: prompts, seed and progress -> samples.
        prompts: token ids, without what the method puts before a response.
    """
    ids = [
        [*prompt, *needs.worse_prefix, *with_line_prefix(sample.tokens, text, needs.line_prefix)[0], *needs.prefix]
        for prompt, samples in zip(prompts, before)
        for sample in samples
    ]
    drawn = draw(ids, seed=seed, progress=progress)
    k = len(before[0])
    return [[sample for (sample,) in drawn[n : n + k]] for n in range(0, len(drawn), k)]


def _after(turns: Sequence[Drawn], progress: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """Progress that counts the turns before as done."""
    if progress is None:
        return None
    done = [sample for drawn in turns for samples in drawn for sample in samples]
    tokens, tell = sum(len(sample.tokens) for sample in done), progress
    return lambda finished, drawn: tell(len(done) + finished, tokens + drawn)


def _record(prompt: str | Feedback, index: int) -> Feedback:
    if isinstance(prompt, str):
        return Feedback(prompt=prompt, responses=(), id=f"p{index}")
    metadata = {name: value for name, value in prompt.metadata.items() if name != REFINE}  # of responses left out here
    return replace(prompt, responses=(), comparisons=(), id=prompt.id or f"p{index}", metadata=metadata)


def _answered(record: Feedback, turns: Sequence[Sequence[Sample]], author: str) -> Feedback:
    every = [sample for samples in turns for sample in samples]
    responses = tuple(Response(sample.text, truncated=sample.truncated, author=author) for sample in every)
    if len(turns) == 1:
        return replace(record, responses=responses)
    k = len(turns[0])
    copied = [None if n < k else copy_rate(every[n - k].text, every[n].text) for n in range(len(every))]
    told = {"turn": [n // k for n in range(len(every))], "copy_rate": copied}
    return replace(record, responses=responses, metadata={**record.metadata, REFINE: told})


def without_empty(record: Feedback) -> Feedback:
    """A record that can be read back: an empty response is none, and what was noted of it goes with it."""
    kept = [n for n, response in enumerate(record.responses) if response.text]
    told = {name: [values[n] for n in kept] for name, values in record.metadata.get(REFINE, {}).items()}
    metadata = {**record.metadata, **({REFINE: told} if told else {})}
    return replace(record, responses=tuple(record.responses[n] for n in kept), metadata=metadata)


def _best(records: Sequence[Feedback], scorer: Scorer) -> list[Feedback]:
    items = [
        item_of(record, response, f"{place_of(record)}, response {index}")
        for record in records
        for index, response in enumerate(record.responses)
    ]
    scores = iter(score_all(scorer, items))
    return [_best_one(record, [next(scores) for _ in record.responses]) for record in records]


def _best_one(record: Feedback, scores: Sequence[Score]) -> Feedback:
    best = max(range(len(scores)), key=lambda index: scores[index].value)  # the first of equals
    return replace(record, responses=(replace(record.responses[best], scores=(scores[best],)),))
