"""Guards, on texts that can be redone on paper."""

import ast
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.tasks.pep8.guards import (
    ShapeDistance,
    bigrams,
    closed,
    divergence,
    guard,
    is_degenerate,
    parse,
    shape_distance,
    summarise,
)

PROMPT = "def total(rows):\n    count = 0\n"


def compiles(prompt, response):
    return guard(prompt, response).compiles


def test_guards_of_an_ordinary_response():
    response = "    # add\n    for row in rows:\n        count += row\n    return count\n"
    found = guard(PROMPT, response)
    assert found.counted_lines == 3
    assert found.comment_share == pytest.approx(1 / 4)
    assert found.compiles
    assert found.line_length == (20 + 16) / 2  # of 9, 16, 20, 20 characters, the middle two are 16 and 20
    assert not found.crashed


def test_comment_share_counts_rows_of_comments_and_lone_strings():
    assert guard("", "# one\nx = 1\n\n").comment_share == 1 / 2
    assert guard("", '"""One.\n\nTwo.\n"""\nx = 1\n').comment_share == 3 / 4  # blank rows aside
    assert guard("", '"""One.\nTwo.\nThree\n').comment_share == 1.0  # never closed
    assert guard("", "pass\n").comment_share == 0.0
    assert guard("", "x = 'text'  # words\n").comment_share == 0.0


def test_distinct_3_is_the_share_of_different_word_triples():
    assert guard("", "a b c d\n").distinct_3 == 1.0
    assert guard("", "a b a b a\n").distinct_3 == 2 / 3  # aba, bab, aba


def test_copy_rate_is_the_share_of_word_quintuples_from_the_prompt():
    assert guard("x = f(a)\n", "x = f(b)\n").copy_rate == 0.0
    assert guard("x = f(a)\n", "x = f(a)\n").copy_rate == 1.0
    assert guard("x = f(a)\n", "y = f(a)\n").copy_rate == 1 / 2  # of "y = f ( a" and "= f ( a )"


def test_an_empty_response_has_no_rates():
    found = guard(PROMPT, "")
    assert (found.counted_lines, found.compiles) == (0, False)
    assert [found.comment_share, found.distinct_3, found.copy_rate, found.line_length] == [None] * 4


def test_means_leave_out_what_has_none_and_see_what_is_said_everywhere():
    same = summarise([("", "a = b\n"), ("", "a = b\n"), ("", "")])
    assert same["counted_lines"] == pytest.approx(2 / 3)
    assert same["distinct_3"] == 1.0
    assert same["distinct_3_overall"] == 1 / 2
    assert same["compiles_share"] == pytest.approx(2 / 3)
    assert same["crashes"] == 0
    assert summarise([])["line_length"] == 0.0


# Does it parse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (PROMPT, "    return count\n"),
        (PROMPT, "    if count:\n"),  # a body is to come
        (PROMPT, "    try:\n        count += 1\n"),  # a handler is to come
        (PROMPT, "    try:\n        for row in rows:\n            try:\n                f()\n"),
        (PROMPT, "    try:\n        f()\n    except OSError:\n"),
        (PROMPT, "    match rows:\n"),
        (PROMPT, "    @cache\n"),
        (PROMPT, "    x = 1\n\n\ny = 2\n"),
        ("        x = 1\n", "        y = 2\n"),  # a prompt from within blocks
        ("        x = 1\n    y = 2\n", "z = 3\n"),
        ("        x = 1\n", "    else:\n        y = 2\n"),
        ("", "x = '\\d'\n"),  # a warning is no error
        (PROMPT, "    return 1"),  # no newline
    ],
)
def test_what_parses_when_it_is_ended(prompt, response):
    assert compiles(prompt, response)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (PROMPT, "    x = = 1\n"),
        (PROMPT, "    x = f(1\n"),
        (PROMPT, '    x = """1\n'),
        (PROMPT, "    if x\n        y\n"),
        (PROMPT, "      y = 1\n"),
        (PROMPT, "    else:\n        x = 1\n"),
        (PROMPT, "    except OSError:\n        x = 1\n"),
        (PROMPT, "    try:\n        x = 1\n    y = 2\n"),
        ("", "    x = 1\n"),
        ("def f(:\n", "    x = 1\n"),
        (PROMPT, "    x = '\0'\n"),
        (PROMPT, "    # only words\n"),  # parses, and counts nothing
        (PROMPT, "    pass\n"),
    ],
)
def test_what_does_not_parse_or_does_not_count(prompt, response):
    assert not compiles(prompt, response)


def test_the_ending_is_the_least_that_helps():
    assert closed("", "x = 1\n") == "x = 1\n"
    assert closed("", "if x:\n") == "if x:\n    pass\n"
    assert closed("", "try:\n    @a\n") == "try:\n    @a\n    def _(): pass\nfinally: pass\n"
    assert closed("    x = 1\n", "") == "if True:\n    x = 1\n"


# Shape ---------------------------------------------------------------------------------------------


def test_bigrams_are_of_the_response_alone():
    assert bigrams("x = f(1)\n", "y = 2\n") == Counter(
        {("Module", "Assign"): 1, ("Assign", "Name"): 1, ("Assign", "Constant"): 1}
    )


def test_bigrams_hang_below_the_prompts_nodes_and_leave_the_ending_out():
    assert bigrams(PROMPT, "    if count:\n") == Counter({("FunctionDef", "If"): 1, ("If", "Name"): 1})


def test_rows_from_a_syntax_error_on_have_no_shape():
    assert bigrams(PROMPT, "    x = 1\n    y = = 2\n    z = 3\n") == bigrams(PROMPT, "    x = 1\n")
    assert bigrams(PROMPT, "    x = = 1\n") == Counter()
    assert bigrams("x = = 1\n", "y = 2\n") == Counter()


def test_bigrams_of_a_prompt_from_within_a_block():
    assert bigrams("        x = f(1)\n", "    return\n") == Counter({("If", "Return"): 1})


def test_divergence_by_hand():
    a, b = ("A", "a"), ("B", "b")
    assert divergence({a: 2, b: 2}, {a: 5, b: 5}) == 0.0
    assert divergence({a: 1}, {b: 1}) == 1.0
    assert divergence({}, {a: 1}) == 1.0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): (log2(4/3) + (log2(2/3) + log2(2)) / 2) / 2
    by_hand = (math.log2(4 / 3) + (math.log2(2 / 3) + 1) / 2) / 2
    assert divergence({a: 3}, {a: 1, b: 1}) == pytest.approx(by_hand)
    assert divergence({a: 1, b: 1}, {a: 3}) == pytest.approx(by_hand)


def test_the_distance_varies_with_the_files_that_are_drawn():
    """Half the files are all A and half all B, so resamples differ; when all are alike, none does."""
    a, b = Counter({("A", "a"): 1}), Counter({("B", "b"): 1})
    assert shape_distance([a + b] * 20, a + b).resampled.std() == pytest.approx(0.0, abs=1e-12)
    varied = shape_distance([a, b] * 10, a + b)
    assert varied.value == pytest.approx(0.0, abs=1e-12)
    assert 0.001 < varied.resampled.std() < 0.1
    assert (shape_distance([a, b] * 10, a + b).resampled == varied.resampled).all()  # the same seed
    assert shape_distance([], a).value == 1.0


def test_degenerate_is_beyond_three_deviations_of_the_difference():
    noise = np.random.default_rng(0).normal(size=2000)
    noise = 0.01 * (noise - noise.mean()) / noise.std(ddof=1)
    base = ShapeDistance(0.10, 0.10 + noise)
    assert is_degenerate(ShapeDistance(0.131, np.full(2000, 0.131)), base)
    assert not is_degenerate(ShapeDistance(0.129, np.full(2000, 0.129)), base)
    assert is_degenerate(ShapeDistance(0.101, 0.101 + noise), base)  # the same files are as far off in both: paired
    assert not is_degenerate(ShapeDistance(0.131, 0.131 - noise), base)  # its own noise counts
    assert not is_degenerate(base, base)


def test_short_clean_nonsense_is_degenerate_against_real_code():
    """What `pep8_lines` cannot see: a hundred different assignments of one letter to another."""
    source = ast.unparse(ast.parse(Path(ast.__file__).read_text()))
    functions = [block + "\n" for block in source.split("\n\n") if block.startswith("    def ")]
    texts = [block.partition("\n")[::2] for block in functions if block.count("\n") > 4]
    shapes = [bigrams(head + "\n", body) for head, body in texts[:60]]
    real = sum(shapes[:30], Counter())
    base = shape_distance(shapes[30:], real)
    nonsense = "        a = b\n        c = d\n        e = f\n        g = h\n        i = j\n"
    fake = shape_distance([bigrams(head + "\n", nonsense) for head, _ in texts[30:60]], real)
    assert is_degenerate(fake, base)
    assert not is_degenerate(base, base)


pieces = [
    "x",
    " ",
    "    ",
    "\n",
    "=",
    "(",
    ")",
    '"""',
    "#",
    "def f():",
    "if x:",
    "try:",
    "@a",
    "\\",
    "1",
    "match x:",
    "\0",
]
python_like = st.lists(st.sampled_from(pieces), max_size=25).map("".join) | st.text(max_size=30)


@settings(deadline=None)
@given(python_like, python_like)
def test_any_text_has_guards(prompt, response):
    found = guard(prompt, response)
    for share in (found.comment_share, found.distinct_3, found.copy_rate):
        assert share is None or 0.0 <= share <= 1.0
    assert all(count > 0 for count in bigrams(prompt, response).values())
    assert parse(closed(prompt, response))[0] is None or isinstance(parse(closed(prompt, response))[0], ast.Module)
