"""Four simulated labelers: the gold score through noisy eyes, with habits.

A labeler sees each response's utility u, the gold score plus the labeler's own taste, and judges

    v = u + T * g,    g drawn from a standard Gumbel distribution (centred)

so that, leaving ties aside, it prefers response i to j with the Bradley-Terry probability
sigmoid((u_i - u_j) / T), and ranks K responses by Plackett and Luce. Values within `tie * T` of the best of
their group are tied (for two responses that is Rao and Kupper's model, theta = exp(tie)).

The temperature T is set so that two labelers who both prefer one of a pair agree on it in 73% of cases, as
InstructGPT's did (72.6 +- 1.5%, Ouyang et al. 2022, arXiv:2203.02155, section 3.4): `calibrate` finds it for
given responses.

Everything said comes from one draw: ranks, pairs, ratings and label of a judgement never contradict each other.
A draw depends on (seed, id, labeler, response text) alone, so that neither the order of the responses nor the
other prompts change a judgement, and equal texts are tied.
"""

import hashlib
import json
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, groupby
from statistics import fmean

from heedful.errors import DataError
from heedful.records import Comparison, Feedback, Response
from heedful.scorers.pep8 import PEP8Chars, PEP8Lines, critique
from heedful.scorers.protocol import Item
from heedful.scorers.reading import IGNORED, missing_headers, read, split_rows

AGREEMENT = 0.73
TEMPERATURE = 0.1
TIE = 0.25  # nats: two equally good responses are tied with probability 1 - 2 / (1 + exp(TIE)) = 0.12
GOOD = -0.2  # the utility from which on a response is called good
WORST = -0.75  # the utility of a 1 on the scale; 0 is a 7
TOP_RATING = 7
REFINE_SECONDS = 5.0
EULER_GAMMA = 0.5772156649015329  # mean of the standard Gumbel distribution
GUIDELINE = (
    "Which continuation follows PEP 8 more closely? Count the lines with a style error, not the errors; "
    "lines that say nothing new are worth nothing."
)


@dataclass(frozen=True)
class Labeler:
    """A simulated person.

    Attributes:
        temperature: T, in points of gold score.
        brevity: points a response gains per 100 characters that it is shorter than the mean of its rivals.
        leniency: points added before rating and labelling; it moves no preference.
        tie: half-width of a tie, in units of T.
    """

    name: str
    temperature: float = TEMPERATURE
    brevity: float = 0.0
    leniency: float = 0.0
    tie: float = TIE


def panel(temperature: float = TEMPERATURE) -> tuple[Labeler, ...]:
    """The four labelers."""
    return (
        Labeler("even", temperature),
        Labeler("strict", temperature, leniency=-0.1),
        Labeler("lenient", temperature, leniency=0.1),
        Labeler("brief", temperature, brevity=0.1),
    )


def judge(
    prompt: str, responses: Sequence[str], labeler: Labeler, *, seed: int, id: str, refinements: bool = True
) -> Feedback:
    """What the labeler says about the responses to one prompt, in every form that feedback takes.

    Ranks with ties and all their pairs (a tie has strength 0), a label, a rating from 1 to 7 as `score`, a
    critique and a refinement where there is something to mend. The gold score itself is not in it.

    Args:
        id: the record's; with `seed` it decides the noise.
        refinements: they cost about as much as everything else together.
    """
    check_texts(responses, id)
    utilities = tastes(prompt, responses, labeler)
    noisy = [u + labeler.temperature * gumbel(seed, id, labeler.name, r) for u, r in zip(utilities, responses)]
    values = tied(noisy, labeler.tie * labeler.temperature)
    judged = [
        Response(
            text,
            rank=rank,
            score=float(rating(value + labeler.leniency)),
            label="good" if value + labeler.leniency >= GOOD else "bad",
            critique=critique(prompt, text),
            refinement=refine(prompt, text) if refinements else None,
            truncated=True,  # responses are cut, never finished: no method may learn that they end
        )
        for text, rank, value in zip(responses, ranks(values), values)
    ]
    return Feedback(prompt, tuple(judged), id=id, comparisons=pairs(values), labeler=labeler.name, guideline=GUIDELINE)


def oracle(prompt: str, responses: Sequence[str], *, id: str) -> Feedback:
    """The gold score's own judgement, without noise: for tests, and for methods that may see the truth."""
    check_texts(responses, id)
    items = [Item(prompt, text, id=id) for text in responses]
    golds = [PEP8Lines().score(item) for item in items]
    values = [gold.value for gold in golds]
    judged = [
        Response(
            item.response,
            rank=rank,
            score=gold.value,
            label="good" if gold.value >= GOOD else "bad",
            scores=(gold, PEP8Chars().score(item)),
            truncated=True,
        )
        for item, gold, rank in zip(items, golds, ranks(values))
    ]
    return Feedback(prompt, tuple(judged), id=id, comparisons=pairs(values), labeler="oracle")


def check_texts(responses: Sequence[str], id: str) -> None:
    for index, text in enumerate(responses):
        if not text:
            raise DataError("nothing to judge", where=f"{id}: responses[{index}]", allowed="a text that is not empty")


# From utility to judgement -------------------------------------------------------------------------


def tastes(prompt: str, responses: Sequence[str], labeler: Labeler) -> list[float]:
    """Utility of each response to this labeler: gold score, and its length against the mean."""
    mean_length = fmean(map(len, responses))
    return [
        PEP8Lines().score(Item(prompt, text)).value + labeler.brevity * (mean_length - len(text)) / 100
        for text in responses
    ]


def gumbel(*key: object) -> float:
    """A draw from the Gumbel distribution with mean 0, decided by the key alone."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    uniform = (int.from_bytes(digest[:6], "big") + 0.5) / 2**48  # strictly between 0 and 1
    return -math.log(-math.log(uniform)) - EULER_GAMMA


def tied(values: Sequence[float], width: float) -> list[float]:
    """The values with those tied made equal: from the best down, all within `width` of a group's best join
    it, and the group takes its mean."""
    result = list(values)
    left = sorted(range(len(values)), key=lambda i: -values[i])
    while left:
        group = [i for i in left if values[left[0]] - values[i] <= width]
        mean = fmean(values[i] for i in group)
        for i in group:
            result[i] = mean
        left = left[len(group) :]
    return result


def ranks(values: Sequence[float]) -> list[int]:
    """1 for the best; a response's rank is one more than the number of better ones."""
    return [1 + sum(other > value for other in values) for value in values]


def pairs(values: Sequence[float]) -> tuple[Comparison, ...]:
    """All pairs, the better first; of equals the earlier, with strength 0."""
    ordered = [(i, j) if values[i] >= values[j] else (j, i) for i, j in combinations(range(len(values)), 2)]
    return tuple(Comparison(i, j, 1.0 if values[i] > values[j] else 0.0) for i, j in ordered)


def rating(value: float) -> int:
    """The 7-point scale: 7 at 0 and above, 1 at WORST and below, in equal steps."""
    return min(TOP_RATING, max(1, round(TOP_RATING - (TOP_RATING - 1) * value / WORST)))


# In words ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def refine(prompt: str, response: str) -> str | None:
    """The response as autopep8 mends it, in its place; None where that fails, takes too long, touches the
    prompt or does not raise the gold score."""
    if not read(prompt, response).findings:
        return None
    context = "".join(missing_headers(prompt, response)) + prompt
    try:
        with time_limit(REFINE_SECONDS):
            mended = run_autopep8(context, response)
    except Exception:  # autopep8 raises whatever its guesses run into; a person would give up too
        return None
    if not mended.startswith(context):
        return None
    before, after = (PEP8Lines().score(Item(prompt, text)).value for text in (response, mended[len(context) :]))
    return mended[len(context) :] if after > before else None


def run_autopep8(context: str, response: str) -> str:
    """The context and the mended response; rows of the context are out of autopep8's range."""
    import autopep8  # slow to import, and it replaces one of pycodestyle's checks when it is

    first = len(split_rows(context + "."))
    rows = [first, first + len(split_rows(response))]
    return autopep8.fix_code(context + response, options={"line_range": rows, "ignore": list(IGNORED)})


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in the body after so long; no limit where the system has no timer signal, or off the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# How far labelers agree ----------------------------------------------------------------------------


def agreement(judgements: Sequence[Feedback]) -> float | None:
    """Of the pairs that two labelers both decided, the share decided alike; None if there are none.

    Args:
        judgements: of one or many records by several labelers; those with one id judged the same responses.
    """
    alike = []
    for _, group in groupby(sorted(judgements, key=lambda one: one.id), key=lambda one: one.id):
        decided = [{(c.better, c.worse) for c in one.comparisons if c.strength} for one in group]
        for a, b in combinations(decided, 2):
            alike += [pair in b for pair in a if pair in b or pair[::-1] in b]
    return fmean(alike) if alike else None


def expected_agreement(samples: Sequence[tuple[str, Sequence[str]]], labelers: Sequence[Labeler]) -> float:
    """`agreement` without drawing noise: pair by pair, from the probabilities of either preference.

    Args:
        samples: (prompt, responses) of each record.
    """
    alike = decided = 0.0
    for prompt, responses in samples:
        utilities = [tastes(prompt, responses, labeler) for labeler in labelers]
        different = [(i, j) for i, j in combinations(range(len(responses)), 2) if responses[i] != responses[j]]
        for (one, a), (other, b) in combinations(zip(utilities, labelers), 2):
            for i, j in different:
                (win_a, lose_a), (win_b, lose_b) = preference(one[i] - one[j], a), preference(other[i] - other[j], b)
                alike += win_a * win_b + lose_a * lose_b
                decided += (win_a + lose_a) * (win_b + lose_b)
    return alike / decided


def preference(gap: float, labeler: Labeler) -> tuple[float, float]:
    """Rao-Kupper probabilities that the first of two responses is preferred, and that the second is."""
    x = gap / labeler.temperature
    return sigmoid(x - labeler.tie), sigmoid(-x - labeler.tie)


def sigmoid(x: float) -> float:
    return (1 + math.tanh(x / 2)) / 2


def calibrate(
    samples: Sequence[tuple[str, Sequence[str]]], labelers: Sequence[Labeler], *, target: float = AGREEMENT
) -> float:
    """The temperature at which these labelers agree on these responses to `target`, by bisection."""
    low, high = 1e-3, 10.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        warm = [replace(labeler, temperature=middle) for labeler in labelers]
        low, high = (middle, high) if expected_agreement(samples, warm) > target else (low, middle)
    return math.sqrt(low * high)
