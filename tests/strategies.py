"""Hypothesis strategies for records: whatever a valid feedback file can say."""

from hypothesis import strategies as st

from heedful.records import Comparison, Feedback, Message, Response, Score, Segment

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8)
FILLED = TEXT.filter(bool)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=2,
)
MESSAGE = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), TEXT)
PROMPT = TEXT | st.lists(MESSAGE, min_size=1, max_size=3).map(tuple)
SCORE = st.builds(Score, FILLED, NUMBER, FILLED, st.none() | NUMBER, st.none() | st.integers(0, 999))


def tuples(items, size=2):
    """Short tuples of whatever `items` draws."""
    return st.lists(items, max_size=size).map(tuple)


@st.composite
def responses(draw, *, ranked: bool):
    """One response; a cut of its text into segments joins to the text again."""
    pieces = draw(st.lists(FILLED, min_size=1, max_size=3))
    segments = tuple(Segment(piece, draw(NUMBER)) for piece in pieces) if draw(st.booleans()) else ()
    return Response(
        text="".join(pieces),
        rank=draw(st.integers(1, 5)) if ranked else None,
        score=draw(st.none() | NUMBER),
        label=draw(st.none() | st.sampled_from(["good", "bad"])),
        critique=draw(st.none() | TEXT),
        refinement=draw(st.none() | TEXT),
        demonstration=draw(st.booleans()),
        truncated=draw(st.booleans()),
        scores=draw(tuples(SCORE)),
        segments=segments,
        flags=draw(tuples(FILLED)),
        author=draw(st.none() | TEXT),
    )


@st.composite
def records(draw):
    """A valid record of any kind."""
    ranked = draw(st.booleans())
    answers = draw(st.lists(responses(ranked=ranked), max_size=4).map(tuple))
    pairs = [(i, j) for i in range(len(answers)) for j in range(len(answers)) if i != j]
    compared = draw(tuples(st.sampled_from(pairs))) if pairs else ()
    prompt = draw(PROMPT)
    return Feedback(
        prompt=prompt if prompt or answers else "?",
        responses=answers,
        id=draw(TEXT),
        answer=draw(st.none() | TEXT),
        comparisons=tuple(Comparison(i, j, draw(st.floats(0, 9))) for i, j in compared),
        labeler=draw(st.none() | TEXT),
        user=draw(st.none() | TEXT),
        guideline=draw(st.none() | TEXT),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        source=draw(st.none() | TEXT),
        metadata=draw(st.dictionaries(TEXT, JSON, max_size=2)),
    )
