"""Responses that the policy gives to prompts, judged: what methods learn from that ask the model itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heedful.errors import DataError
from heedful.method import WHOLE, Cost, Say, Share
from heedful.policy import Policy
from heedful.records import Feedback, Response, place_of, prompt_text
from heedful.rollout import DRAWS
from heedful.sampling import Sample, Sampling, generate
from heedful.schedule import stable_seed, step_rows
from heedful.text import Text

AUTHOR = "policy"
TOKENS, CALLS = "sampled_tokens", "scorer_calls"  # keys of a record's metadata: what it cost
LOGP = "sampled_logp"  # the sum of the logs of the tokens of all that were drawn

Judge = Callable[[Sequence[Feedback]], list[Feedback]]
Watch = Callable[[Sequence[Feedback]], dict[str, float]]


@dataclass(frozen=True)
class PolicySamples:
    """Several responses of the policy to each prompt, drawn anew each round, as somebody judges them.

    A round is one record a prompt: the different responses that were drawn and are not empty, or all of these, behind
    the prompt's demonstration if there is one, which is not judged. A prompt that leaves no room for a response stays
    without one.

    Args:
        prompts: records, one for each prompt.
        judge: gives records their comparisons or scores, and adds its calls to their metadata; see ranking.py.
        seed: with the round, the prompt's place and the draw it decides every token.
        distinct: equal responses are one; else they stay as they were drawn.
        watch: what is logged of a round, from its records.
    """

    prompts: Sequence[Feedback]
    text: Text
    sampling: Sampling
    num_samples: int
    judge: Judge
    seed: int = 0
    distinct: bool = True
    watch: Watch | None = None

    def collect(
        self,
        round_index: int,
        policy: Policy | None = None,
        share: Share = WHOLE,
        *,
        before: Callable[[], Sequence[Feedback]] = tuple,
        say: Say | None = None,
    ) -> list[Feedback]:
        """The judged samples of a share of the prompts.

        Raises:
            DataError: no prompt leaves room for a response.
        """
        assert policy is not None, "samples are drawn from a policy"
        encoded = askable(self.prompts, self.text, self.sampling.max_tokens)
        places = range(share.first, len(self.prompts), share.of)
        asked = [n for n in places if n in encoded]
        settings = replace(self.sampling, banned=(*self.sampling.banned, *self.text.control_ids))
        drawn = generate(
            policy.lm,
            self.text,
            [encoded[n] for n in asked],
            settings,
            k=self.num_samples,
            seed=stable_seed(self.seed, round_index),
            keys=asked,
            progress=counted(say, len(asked) * self.num_samples),
        )
        found = dict(zip(asked, drawn))
        return self.judge([answered(self.prompts[n], found.get(n, ()), distinct=self.distinct) for n in places])

    def cost(self, samples: Sequence[Feedback]) -> Cost:
        """The tokens and calls that records have in their metadata."""
        parts = (Cost(record.metadata[TOKENS], record.metadata.get(CALLS, {})) for record in samples)
        return sum(parts, Cost())

    def metrics(self, samples: Sequence[Feedback]) -> dict[str, float]:
        """What was asked for."""
        return self.watch(samples) if self.watch else {}


def of_round(
    places: Sequence[int], num_prompts: int, *, seed: int, round_index: int, share: Share
) -> tuple[list[int], list[int]]:
    """A share of the prompts of a round, in passes over all of them, each in an order of its own; and for each a key
    that decides its draws: its place, and how often it stood in the round before, so that a prompt that two passes
    bring into one round is answered anew.

    Args:
        places: of the prompts that can be asked, in order.
    """
    picked = step_rows(places, num_prompts, seed=seed, round_index=0, index=round_index)
    seen: dict[int, int] = {}
    keys = []
    for place in picked:
        seen[place] = seen.get(place, -1) + 1
        keys.append(place + seen[place] * (places[-1] + 1))
    return picked[share.first :: share.of], keys[share.first :: share.of]


def counted(say: Say | None, total: int) -> Callable[[int, int], None] | None:
    """Progress of `generate`, told as responses that are done, of how many."""
    return None if say is None else lambda done, tokens: say(done, total)


def askable(
    prompts: Sequence[Feedback], text: Text, max_tokens: int, *, prefix: Sequence[int] = ()
) -> dict[int, list[int]]:
    """Token ids of each prompt that leaves room for a response, by its place, with the prefix behind them.

    Raises:
        DataError: none does.
    """
    encoded = [[*text.encode_prompt(record.prompt), *prefix] for record in prompts]
    fits = {n: ids for n, ids in enumerate(encoded) if len(ids) + max_tokens <= text.max_length}
    if not fits:
        size, place = min(((len(ids), place_of(one)) for ids, one in zip(encoded, prompts)), default=(0, "none"))
        room = text.max_length - size
        raise DataError(
            f"no prompt leaves room for {max_tokens} tokens: the shortest has {size}, that of {place}",
            allowed=f"{text.max_length} tokens together",
            hint=f"--set method.max_tokens={room}" if room > 0 else "shorter prompts, or a model with a longer context",
        )
    return fits


def one_per_prompt(feedback: Sequence[Feedback]) -> list[Feedback]:
    """The first record of each prompt with a demonstration, else the first; documents are none."""
    found: dict[Any, Feedback] = {}
    for record in feedback:
        key = prompt_text(record.prompt)
        if key and (key not in found or (_shown(record) and not _shown(found[key]))):
            found[key] = record
    return list(found.values())


def answered(record: Feedback, samples: Sequence[Sample], *, distinct: bool = True) -> Feedback:
    """The record's prompt with these responses, each text once or as often as it was drawn, and what drawing them cost
    and how likely they were."""
    texts: dict[str, bool] = {}
    for sample in samples:
        texts.setdefault(sample.text, sample.truncated)
    drawn = list(texts.items()) if distinct else [(sample.text, sample.truncated) for sample in samples]
    own = [Response(text, truncated=truncated, author=AUTHOR) for text, truncated in drawn if text]
    cost: dict[str, float] = {TOKENS: sum(len(sample.tokens) for sample in samples)}
    if not distinct:
        cost |= {DRAWS: len(samples), LOGP: sum(logp for sample in samples for logp in sample.logp)}
    return Feedback(
        prompt=record.prompt,
        responses=(*_shown(record)[:1], *own),
        id=record.id,
        answer=record.answer,
        source=record.source,
        metadata={**record.metadata, **cost},
        where=record.where,
    )


def _shown(record: Feedback) -> list[Response]:
    """Demonstrations, without what was said of them."""
    return [
        Response(r.text, demonstration=True, truncated=r.truncated, author=r.author, segments=r.segments)
        for r in record.responses
        if r.demonstration
    ]
