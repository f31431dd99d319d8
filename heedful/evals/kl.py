"""How far a model has moved from its base, where it matters: on its own responses."""

from collections.abc import Sequence

import torch

from heedful.batch import Branch, Group
from heedful.evals.likelihood import read_tokens
from heedful.policy import Policy
from heedful.sampling import Sample
from heedful.text import Text, with_line_prefix

Side = tuple[Policy, Sequence[Sequence[int]]]  # a model and the prompts as it sees them


def kl_per_response(
    policy: Side, base: Side, text: Text, samples: Sequence[Sample], line_prefix: int | None, banned: Sequence[int]
) -> list[float]:
    """KL(policy || base) in nats, summed over each response; not negative by construction.

    At every token of a sampled response the whole next-token distributions (temperature 1, `banned` out) are compared:
    an exact expectation per step, on contexts the policy visits. The policy sees its control tokens, the base none.
    """
    groups = _groups(policy[1], samples, text, line_prefix)
    plain = _groups(base[1], samples, text, None)
    with torch.no_grad():
        readings = read_tokens(policy[0], groups, banned=banned, reference=(base[0], plain))
    return [reading.kl.sum().item() for reading in readings]


def _groups(
    prompts: Sequence[Sequence[int]], samples: Sequence[Sample], text: Text, line_prefix: int | None
) -> list[Group]:
    groups = []
    for n, (prompt, sample) in enumerate(zip(prompts, samples, strict=True)):
        tokens, own = with_line_prefix(sample.tokens, text, line_prefix)
        groups.append(Group(str(n), prompt, (Branch(tokens, {"mask": own}),)))
    return groups
