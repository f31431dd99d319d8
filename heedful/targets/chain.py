"""Targets that put the responses to a prompt one after the other, each behind what was said of it.

    prompt  marker1 output1 EOS  marker2 output2 EOS        mask: 0 on markers, 1 on outputs and their EOS

Chain of Hindsight, Liu et al. 2023 (arXiv:2302.02676). A chain is one branch, so that the second output sees the first.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from heedful.batch import Branch, Group
from heedful.records import Feedback, strict_pairs
from heedful.targets.markers import Family, marker, spoken
from heedful.targets.pretraining import is_document
from heedful.text import Text, require_groups

Form = Literal["chain", "good", "bad"]
Item = tuple[list[int], str | None]  # tokens, critique
TURN_END = "\n\n"  # what the responses to a prompt share up to here is the dialogue before, trained under no marker
KEYS = 2**24  # whole numbers that fp32 holds; heedful/masking.py reads them


@dataclass(frozen=True)
class Output:
    """One output of a prompt.

    Attributes:
        standing: share of its strict comparisons that it won; None where it was in none.
        shared: leading tokens that all outputs of the prompt share.
    """

    tokens: tuple[int, ...]
    standing: float | None
    critique: str | None
    shared: int = 0


@dataclass(frozen=True)
class Layout:
    """How records become rows.

    Attributes:
        forms: "chain": the outputs of a record, best last or best first; "good", "bad": each such output alone.
        last_only: of a chain only the last output is trained; the paper's equation trains all.
        critiques: what was said of an output stands in place of its marker in a chain.
        max_outputs: most outputs in a chain; best and worst are kept.
        masked: most past tokens that are masked; the share is drawn for each row.
    """

    family: Family
    forms: tuple[Form, ...] = ("chain", "good", "bad")
    last_only: bool = False
    critiques: bool = True
    max_outputs: int = 4
    masked: float = 0.0


def chains(feedback: Sequence[Feedback], *, text: Text, layout: Layout, seed: int) -> list[Group]:
    """One group a record, with one branch a chain and one for each output that stands alone.

    An output is good if it won most of its comparisons (ranks, scores and labels are comparisons, see
    `records.strict_pairs`), bad if it lost most; one between is measured by the one that opens the chain, and never
    stands alone. A refinement is better than what it refines. A chain rises or falls in standing; which, and its words,
    are drawn from (seed, record id). A single output that opens the record's chain with the same words is not repeated.
    A response that was criticised and never compared stands alone behind its critique.

    Ties, equal responses, and what does not fit are counted. A chain too long for the context loses outputs from its
    middle, best and worst last of all; it is never cut inside while another output can go.
    """
    groups = [
        group for record in feedback if not is_document(record) and (group := _chained(record, text, layout, seed))
    ]
    require_groups(groups, text)
    return groups


def has_a_better_one(record: Feedback) -> bool:
    """Whether some output of the record gets the good marker."""
    return bool(strict_pairs(record)) or any(response.refinement for response in record.responses)


# From a record to its outputs ----------------------------------------------------------------------


def _chained(record: Feedback, text: Text, layout: Layout, seed: int) -> Group | None:
    prompt, key = text.encode_prompt(record.prompt), f"{seed}:{record.id}"
    widest = max(len(marker(text, phrase)) for pair in layout.family.pairs for phrase in pair)
    items, pairs = _items(record, text)
    whole = len(prompt) + widest + max((len(tokens) for tokens, _ in items), default=0)
    text.drops.longest = max(text.drops.longest, (whole, record.id))
    if (room := text.max_length - len(prompt)) <= widest:
        text.drops.count("prompt leaves no room for a response")
        return None
    outputs = _outputs(items, pairs, text, layout, room - widest)
    if not outputs:
        text.drops.count("prompt without a preferred response")
        return None
    branches = list(_branches(outputs, text, layout, key, room))
    return text.fit(record.id, prompt, branches) if branches else None


def _items(record: Feedback, text: Text) -> tuple[list[Item], list[tuple[int, int]]]:
    """Tokens and critique of each response and refinement, and who is better than whom."""
    continues = record.prompt != ""
    pairs = list(dict.fromkeys(strict_pairs(record)))
    items: list[Item] = []
    for r in record.responses:
        items.append((text.encode_response(*r.pieces, finished=not r.truncated, continues=continues), r.critique))
    for index, response in enumerate(record.responses):
        if response.refinement:
            pairs.append((len(items), index))
            ends = not response.truncated  # what mends a cut response is cut too
            items.append((text.encode_response(response.refinement, finished=ends, continues=continues), None))
    return items, pairs


def _outputs(
    items: Sequence[Item], pairs: Sequence[tuple[int, int]], text: Text, layout: Layout, room: int
) -> list[Output]:
    """What was compared, worst first, then what was criticised only; equal texts are one output."""
    for tokens, _ in items:
        if len(tokens) > room:
            text.drops.count("response cut to the context (kept)")
    cut = [tuple(tokens[:room]) for tokens, _ in items]
    won: dict[tuple[int, ...], list[bool]] = {}
    for better, worse in pairs:
        if cut[better] == cut[worse]:
            text.drops.count("pair of equal responses")
            continue
        won.setdefault(cut[better], []).append(True)
        won.setdefault(cut[worse], []).append(False)
    standings = {tokens: sum(own) / len(own) for tokens, own in won.items()}
    if len(set(standings.values())) == 1:
        text.drops.count("prompt whose comparisons contradict each other")
        standings = {}
    said = zip(cut[::-1], (critique for _, critique in items[::-1]))
    critiques = {tokens: critique for tokens, critique in said if critique and layout.critiques}
    shared = _shared(list(standings), text)
    compared = [Output(tokens, standing, critiques.get(tokens), shared) for tokens, standing in standings.items()]
    told = [Output(tokens, None, critique) for tokens, critique in critiques.items() if tokens not in standings]
    return sorted(compared, key=lambda output: output.standing or 0.0) + told


def _shared(rows: Sequence[Sequence[int]], text: Text) -> int:
    """How many leading tokens all rows have in common, up to the end of a turn."""
    if not rows:
        return 0
    count = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows)))
    while count and not text.decode(rows[0][:count]).endswith(TURN_END):
        count -= 1
    return count


# From outputs to branches --------------------------------------------------------------------------


def _branches(outputs: list[Output], text: Text, layout: Layout, key: str, room: int) -> Iterator[Branch]:
    compared = [output for output in outputs if output.standing is not None]
    chain = None
    if "chain" in layout.forms and compared:
        chain = _chain(compared, text, layout, key, room)
        yield chain
    for number, output in enumerate(outputs):
        if output.standing is None:
            yield _laid_out([output], text, layout, f"{key}#{number}")
        elif _form(output) in layout.forms:
            single = _laid_out([replace(output, critique=None)], text, layout, f"{key}#{number}")
            if chain is None or not _opens(single, chain):
                yield single


def _form(output: Output) -> str | None:
    assert output.standing is not None
    return "good" if output.standing > 0.5 else "bad" if output.standing < 0.5 else None


def _opens(single: Branch, chain: Branch) -> bool:
    size = len(single.tokens)
    return chain.tokens[:size] == single.tokens and chain.streams["mask"][:size] == single.streams["mask"]


def _chain(outputs: list[Output], text: Text, layout: Layout, key: str, room: int) -> Branch:
    rng = random.Random(f"{key}#order")
    order = sorted(outputs, key=lambda output: (output.standing, rng.random()))
    if rng.random() < 0.5:
        order.reverse()
    while len(order) > layout.max_outputs:
        del order[len(order) // 2]
    branch = _laid_out(order, text, layout, f"{key}#chain")
    if len(branch.tokens) > room and len(order) > 1:
        text.drops.count("chain shortened to the context (kept)")
    while len(branch.tokens) > room and len(order) > 1:
        del order[len(order) // 2 if len(order) > 2 else 0]
        branch = _laid_out(order, text, layout, f"{key}#chain")
    return branch


def _laid_out(outputs: Sequence[Output], text: Text, layout: Layout, key: str) -> Branch:
    """Marker and output in turn; the words, and what is masked, are drawn from the key."""
    rng = random.Random(key)
    words = rng.choice(layout.family.pairs)
    tokens: list[int] = []
    mask: list[float] = []
    for number, output in enumerate(outputs):
        ids = marker(text, _phrase(output, outputs[0], words, layout))
        trained = float(not layout.last_only or number == len(outputs) - 1)
        tokens += [*ids, *output.tokens]
        mask += [0.0] * (len(ids) + output.shared) + [trained] * (len(output.tokens) - output.shared)
    fields = {"masked_share": rng.uniform(0, layout.masked), "masking_key": float(rng.randrange(KEYS))}
    return Branch(tokens, {"mask": mask}, fields if layout.masked else {})


def _phrase(output: Output, first: Output, words: tuple[str, str], layout: Layout) -> str:
    if output.critique:
        return spoken(layout.family, output.critique)
    assert output.standing is not None and first.standing is not None
    return words[0 if output.standing > (first.standing if output.standing == 0.5 else 0.5) else 1]
