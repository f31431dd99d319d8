"""Targets of a ranker: a question about responses, and after it the two verdicts of which one is right."""

import random
from collections.abc import Collection, Sequence

from heedful.batch import Branch, Group, Pair
from heedful.records import Feedback, prompt_text
from heedful.targets.pair import preferred_pairs
from heedful.text import Text, require_groups
from heedful.verdict import Form


def compared_verdicts(
    feedback: Sequence[Feedback], *, text: Text, form: Form, orders: str, seed: int, both: Collection[str] = ()
) -> list[Group]:
    """One group a strict pair: both responses in the prompt, and the two verdicts as branches of one token.

    Streams: `mask` on the right verdict, `verdict` on both. A pair of equal responses, before or after they are cut,
    says nothing and is dropped; counted.

    Args:
        orders: "random": whether the better comes first is drawn from the seed, the record's id and the pair, so that
            neither batches nor the order of the file change it. "both": two groups a pair.
        both: ids of records that have both whatever `orders` is: a preference for a place must not choose a checkpoint.
    """
    groups = []
    for record in feedback:
        for better, worse in preferred_pairs(record, text):
            flips = random.Random(f"{seed}:{record.id}:{better}:{worse}").random() < 0.5
            for is_flipped in (False, True) if orders == "both" or record.id in both else (flips,):
                indices = (worse, better) if is_flipped else (better, worse)
                if group := _compared(record, indices, text, form, right=int(is_flipped)):
                    groups.append(group)
    require_groups(groups, text)
    return groups


def single_verdicts(feedback: Sequence[Feedback], *, text: Text, form: Form) -> list[Group]:
    """One group a compared response: the first verdict counts once for each pair that it won, the second once for each
    that it lost. Streams as in `compared_verdicts`.

    The same sum as two examples a pair, as SLiC-HF has them; a response is read once, whatever the number of its pairs.
    """
    groups = []
    for record in feedback:
        pairs = preferred_pairs(record, text)
        for index in sorted({index for pair in pairs for index in pair}):
            counts = [sum(pair[place] == index for pair in pairs) for place in (0, 1)]
            found = form.question(text, prompt_text(record.prompt), [record.responses[index].text], id=record.id)
            if found:
                groups.append(_asked(f"{record.id}#{index}", found[0], form.verdict_ids(text), counts))
    require_groups(groups, text)
    return groups


def _compared(record: Feedback, indices: Sequence[int], text: Text, form: Form, *, right: int) -> Group | None:
    responses = [record.responses[index].text for index in indices]
    found = form.question(text, prompt_text(record.prompt), responses, id=record.id)
    if found is None:
        return None
    question, (first, second) = found
    if first == second:
        text.drops.count("pair of equal responses")
        return None
    counts = [float(right == place) for place in (0, 1)]
    return _asked(f"{record.id}#{indices[0]}-{indices[1]}", question, form.verdict_ids(text), counts)


def _asked(id: str, question: Sequence[int], verdicts: Sequence[int], counts: Sequence[float]) -> Group:
    """The group of a question; `counts` says how often each verdict is right."""
    branches = [Branch((token,), {"mask": (float(n),), "verdict": (1.0,)}) for token, n in zip(verdicts, counts)]
    pairs = [Pair(right, 1 - right, float(n)) for right, n in enumerate(counts) if n]
    return Group(id, tuple(question), tuple(branches), tuple(pairs))
