"""Targets that rewrite the instruction by the outcome: whatever was answered is a right answer to some instruction.

    question  instruction  output EOS        mask: 0 on the instruction, 1 on the output and its EOS

Hindsight instruction relabeling, Zhang et al. 2023 (HIR, arXiv:2302.05206). The instruction follows the question, where
an answer begins, so that the question is read once for all instructions, and by the encoder where there is one; the
paper has it first. An instruction is a line of its own, with the same words in training and at inference.
"""

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile
from typing import NamedTuple

from heedful.batch import DISTRIBUTION, Branch, Group, Pair
from heedful.errors import NothingLeft
from heedful.records import Feedback, Response
from heedful.targets.markers import marker
from heedful.targets.pair import response_tokens
from heedful.text import Text, require_groups

Ids = tuple[int, ...]
ROUND = "round"  # key of a record's metadata: when its responses were drawn

# Name -> (what asks for a good answer, what asks for a bad one).
INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    # HIR's code; of its two spellings the one that it samples, evaluates and contrasts with.
    "question": ("Solve the question with correct answer.", "Solve the question with wrong answer."),
    "code": ("# Write clean code.", "# Write careless code."),  # ours; a comment, so that the text stays code
}
CRITIQUE = "Follow this description: {}"  # ours; no released experiment learns from critiques


class Instructions(NamedTuple):
    """The tokens that ask for a good answer, and those that ask for a bad one."""

    positive: Ids
    negative: Ids


def instructions(words: str | tuple[str, str], text: Text) -> Instructions:
    """Of a name in `INSTRUCTIONS`, or of two texts."""
    positive, negative = INSTRUCTIONS[words] if isinstance(words, str) else words
    return Instructions(tuple(marker(text, positive)), tuple(marker(text, negative)))


@dataclass(frozen=True)
class Layout:
    """How judged responses become rows.

    Attributes:
        is_whole: where something is imitated the whole next-token distribution is read, not the token alone.
        contrast: "two_way": the output behind the opposite instruction as well; "n_way": behind `num_contexts` - 1
            (question, instruction) of other outputs; "none".
        good_only: rows of good responses alone: filtered imitation.
        windows: parts of an output that are learned by themselves, beside the whole.
        critiques: a response with a critique is what the critique describes.
        balance: good and bad outputs weigh the same in all.
    """

    instructions: Instructions
    is_whole: bool = False
    contrast: str = "none"
    num_contexts: int = 2
    good_only: bool = False
    windows: int = 0
    critiques: bool = False
    balance: bool = False

    @property
    def imitated(self) -> str:
        """Name of the stream on what is imitated: what it weighs."""
        return DISTRIBUTION if self.is_whole else "imitated"


@dataclass(frozen=True)
class Example:
    """One output with the instruction that it fulfils.

    Attributes:
        record: index of its record in the feedback.
        opposite: an instruction that it does not fulfil.
        given: leading tokens of the output that are read and not learned.
        is_good: None where a critique stands for the verdict.
    """

    record: int
    id: str
    question: Ids
    instruction: Ids
    opposite: Ids
    given: Ids
    output: Ids
    is_good: bool | None
    weight: float = 1.0


def hindsight(feedback: Sequence[Feedback], *, text: Text, layout: Layout, seed: int) -> list[Group]:
    """One group for each record: the question once, and all judged responses to it, with windows of them; of n-way
    contrasts, whose contexts are other questions, one for each response and window.

    A response is judged where it has a label; others, and demonstrations, are passed over. A good one fulfils the
    positive instruction, a bad one the negative. Streams: `mask` on the output in all contexts, where there is a
    contrast, and `layout.imitated` on it behind its own instruction. Two-way contrasts are pairs; of n-way ones the
    field `example` says which context is the output's own.

    Raises:
        NothingLeft: nothing is judged; or with `good_only` nothing is good.
    """
    found = [one for n, record in enumerate(feedback) for one in _examples(n, record, text, layout, seed)]
    if layout.good_only:
        _require_good(found)
        text.drops.count("bad response", sum(not one.is_good for one in found))
        found = [one for one in found if one.is_good]
    else:
        _warn_of_one_verdict(found)
    found = _balanced(found) if layout.balance else found
    if layout.contrast == "n_way":
        groups = [_among_contexts(one, found, text, layout, seed) for one in found]
    else:
        by_record = groupby(found, key=lambda one: one.record)
        groups = [_beside_opposites(feedback[n].id, list(examples), layout) for n, examples in by_record]
    require_groups(groups, text)
    return groups


def relabelled(asked_for_good: bool, is_good: bool) -> bool:
    """Which instruction, the positive one or not, an output fulfils: the one that was given where the verdict is that
    it was followed, else the other (the paper's phi)."""
    is_followed = asked_for_good == is_good
    return asked_for_good if is_followed else not asked_for_good


# From records to examples --------------------------------------------------------------------------


def _examples(number: int, record: Feedback, text: Text, layout: Layout, seed: int) -> Iterator[Example]:
    question = tuple(text.encode_prompt(record.prompt))
    for index, response in enumerate(record.responses):
        if layout.critiques and response.critique:
            positive = marker(text, CRITIQUE.format(response.critique.strip()))
            opposite = _other_critique(record, index, text) or layout.instructions.positive
            whole = Example(number, "", question, tuple(positive), tuple(opposite), (), (), None)
        elif response.label and not response.demonstration:
            is_good = response.label == "good"
            own, opposite = layout.instructions[:: 1 if relabelled(True, is_good) else -1]
            whole = Example(number, "", question, own, opposite, (), (), is_good)
        else:
            continue
        output = tuple(response_tokens(record, index, text))
        whole = replace(whole, id=f"{record.id}#{index}", output=output)
        if fitted := _fitted(whole, text):
            yield fitted
            yield from _windows(fitted, record, response, text, layout, seed)


def _other_critique(record: Feedback, index: int, text: Text) -> list[int]:
    """The first that says something else of another response to the prompt; nothing where there is none."""
    said = [r.critique.strip() for r in record.responses if r.critique]
    own = str(record.responses[index].critique).strip()
    other = next((critique for critique in said if critique != own), "")
    return marker(text, CRITIQUE.format(other)) if other else []


def _fitted(example: Example, text: Text) -> Example | None:
    """The example with its output cut to the context behind the longer instruction, or None, counted."""
    before = len(example.question) + max(len(example.instruction), len(example.opposite))
    whole, room = before + len(example.output), text.max_length - before
    text.drops.longest = max(text.drops.longest, (whole, example.id))
    if room < 1:
        text.drops.count("prompt leaves no room for a response")
        return None
    text.drops.count("response cut to the context (kept)", int(len(example.output) > room))
    return replace(example, output=example.output[:room])


def window(length: int, rng: random.Random) -> tuple[int, int]:
    """A part [i, j) of so many tokens as HIR's code draws it: i even and below length - 3, j - i odd; three tokens or
    fewer stay whole."""
    if length <= 3:
        return 0, length
    start = rng.choice(range(0, length - 3, 2))
    return start, rng.choice(range(start + 1, length + 1, 2))


def _windows(
    whole: Example, record: Feedback, response: Response, text: Text, layout: Layout, seed: int
) -> Iterator[Example]:
    """Parts of an output, each behind what precedes it. With an `answer`, the part of a wrong output up to the window's
    end is right where it is the answer, and then it ends, or occurs in it; otherwise the verdict is the whole's."""
    rng = random.Random(f"{seed}:{record.metadata.get(ROUND, 0)}:{whole.id}:{response.text}")
    for number in range(layout.windows if whole.is_good is not None else 0):
        start, stop = window(len(whole.output), rng)
        if (start, stop) == (0, len(whole.output)):
            continue
        example = replace(whole, id=f"{whole.id}:{number}", given=whole.output[:start], output=whole.output[start:stop])
        found, answer = _bare(text.decode(whole.output[:stop])), _bare(record.answer or "")
        if not whole.is_good and stop < len(whole.output) and found and found in answer:
            end = (text.eos_id,) if found == answer and whole.output[stop - 1] != text.eos_id else ()
            own, opposite = layout.instructions
            example = replace(example, instruction=own, opposite=opposite, output=example.output + end, is_good=True)
        yield example


def _bare(words: str) -> str:
    """As HIR's code compares answers: without spaces and full stops, in small letters."""
    return "".join(words.split()).replace(".", "").lower()


def _balanced(examples: Sequence[Example]) -> list[Example]:
    """Good and bad ones with weights whose sums are equal; a critique's example keeps its own."""
    verdicts = [one.is_good for one in examples if one.is_good is not None]
    counts = {is_good: verdicts.count(is_good) for is_good in set(verdicts)}
    if len(counts) < 2:
        return list(examples)
    weights = {is_good: len(verdicts) / (2 * count) for is_good, count in counts.items()}
    return [one if one.is_good is None else replace(one, weight=weights[one.is_good]) for one in examples]


def _require_good(examples: Sequence[Example]) -> None:
    if examples and not any(one.is_good for one in examples):
        raise NothingLeft(
            f"none of {len(examples)} responses is good: nothing is left to imitate",
            hint="more samples, a lower method.threshold, a better start; or hir, which learns from bad ones too",
        )


def _warn_of_one_verdict(examples: Sequence[Example]) -> None:
    verdicts = {one.is_good for one in examples if one.is_good is not None}
    if len(verdicts) == 1:
        which = "good" if verdicts == {True} else "bad"
        warnings.warn(
            f"all responses of a round are {which}: only one instruction is imitated; look at method.threshold",
            stacklevel=3,
        )


# From examples to groups ---------------------------------------------------------------------------


def _beside_opposites(id: str, examples: Sequence[Example], layout: Layout) -> Group:
    """The question of one record with each output behind its instruction, and beside that behind the opposite one."""
    branches: list[Branch] = []
    pairs: list[Pair] = []
    for one in examples:
        branches.append(_branch(one.instruction, one, layout, is_own=True))
        if layout.contrast == "two_way":
            branches.append(_branch(one.opposite, one, layout, is_own=False))
            pairs.append(Pair(len(branches) - 2, len(branches) - 1, one.weight))
    return Group(id, examples[0].question, tuple(branches), tuple(pairs))


def _among_contexts(example: Example, others: Sequence[Example], text: Text, layout: Layout, seed: int) -> Group:
    """The output behind its own question and instruction, and behind those of other outputs; what all of these begin
    with is the prompt."""
    size = len(example.given) + len(example.output)
    own = (*example.question, *example.instruction)
    contexts = {(*other.question, *other.instruction): None for other in others}
    rivals = [one for one in contexts if one != own and one[0] == own[0] and len(one) + size <= text.max_length]
    count = min(layout.num_contexts - 1, len(rivals))
    drawn = [own, *random.Random(f"{seed}:{example.id}:contexts").sample(rivals, count)]
    shared = max(1, sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*drawn))))
    branches = [_branch(ids[shared:], example, layout, is_own=n == 0) for n, ids in enumerate(drawn)]
    return Group(example.id, own[:shared], tuple(branches))


def _branch(before: Sequence[int], example: Example, layout: Layout, *, is_own: bool) -> Branch:
    skipped = [0.0] * (len(before) + len(example.given))
    size, weight = len(example.output), example.weight if is_own else 0.0
    streams = {layout.imitated: [*skipped, *[weight] * size]}
    if layout.contrast != "none":
        streams["mask"] = [*skipped, *[1.0] * size]
    fields = {"example": weight} if layout.contrast == "n_way" else {}
    return Branch((*before, *example.given, *example.output), streams, fields)
