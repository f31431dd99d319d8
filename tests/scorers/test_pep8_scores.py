"""From findings to numbers, on texts that can be redone on paper."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.records import Score
from heedful.scorers import Item
from heedful.scorers.pep8 import VERSION, PEP8Chars, PEP8Lines, line_findings, lines_score, segments_by_line
from heedful.scorers.reading import read

PROMPT = "def total(rows):\n    count = 0\n"


def lines(response, prompt=PROMPT, **settings):
    return PEP8Lines(**settings).score(Item(prompt, response))


def test_bad_and_missing_lines_over_five():
    response = (
        "    for row in rows:\n"  # 1
        "        count+=row\n"  # 2, bad: E225
        "        pass\n"  # says nothing
        "    # done\n"  # a comment
        "    count  =  0\n"  # repeats the prompt's line; its faults are nobody's
        "    return count\n"  # 3
    )
    score = lines(response)
    assert (score.length, score.count) == (3, 1)
    assert score.value == pytest.approx(-(1 + 2) / 5)  # 2 of 5 lines missing


def test_from_five_lines_on_the_score_is_the_share_of_bad_lines():
    response = "    a = 1\n    b=2\n    c = 3\n    d = 4\n    e = [ 5]\n    f = 6\n"  # b: E225, e: E201
    assert lines(response).value == pytest.approx(-2 / 6)


def test_two_findings_on_one_line_make_one_bad_line():
    assert lines("    a=[ 1]\n    b = 2\n    c = 3\n    d = 4\n    e = 5\n").value == pytest.approx(-1 / 5)


def test_a_finding_on_the_second_row_of_a_statement_is_the_statements():
    response = "    a = (1,\n         2 )\n    b = 2\n    c = 3\n    d = 4\n    e = 5\n"  # E202 on row 2
    assert lines(response).value == pytest.approx(-1 / 5)


def test_clean_code_scores_zero():
    score = lines("    a = 1\n    b = 2\n    c = 3\n    d = 4\n    e = 5\n")
    assert score == Score("pep8_lines", 0.0, VERSION, count=0, length=5)
    assert str(score.value) == "0.0"  # not minus zero


def test_saying_nothing_scores_minus_one():
    for response in ("", "\n\n", "    pass\n", '    """Text."""\n', "    # words\n", "    count = 0\n"):
        assert lines(response).value == -1.0


def test_lines_after_an_error_are_not_counted_and_the_broken_one_is_bad():
    response = "    a = 1\n    b = 2\n    c = )\n    d = 4\n    e = 5\n    f = 6\n"
    score = lines(response)
    assert (score.length, score.count) == (3, 1)  # a, b, and the broken line from c on
    assert score.value == pytest.approx(-(1 + 2) / 5)


def test_findings_of_a_line_that_does_not_count_do_not_count_either():
    assert lines("    pass ;\n    a = 1\n    b = 2\n    c = 3\n    d = 4\n    e = 5\n").value == 0.0  # E203, E703


def test_a_prompt_that_nobody_can_read_leaves_nothing_to_count():
    assert lines("    a = 1\n", prompt="x = )\n").value == -1.0


def test_min_lines_is_a_setting_with_a_version_of_its_own():
    score = lines("    a = 1\n", min_lines=2)
    assert score.value == pytest.approx(-1 / 2)
    assert score.version != VERSION


def test_the_version_names_what_the_number_depends_on():
    assert "pycodestyle" in VERSION
    assert "python3." in VERSION


@pytest.mark.parametrize(
    ("counted", "bad", "value"),
    [(0, 0, -1.0), (1, 0, -0.8), (1, 1, -1.0), (4, 2, -0.6), (5, 0, 0.0), (10, 5, -0.5), (10, 10, -1.0)],
)
def test_lines_score_by_hand(counted, bad, value):
    assert lines_score(counted, bad) == pytest.approx(value)


def test_chars_is_minus_the_findings_per_hundred_characters():
    response = "a=1\nb = [ 2]\n"  # E225 and E201 in 4 + 9 characters
    assert PEP8Chars().score(Item("", response)) == Score("pep8_chars", -100 * 2 / 13, VERSION, count=2, length=13)


def test_chars_counts_findings_that_belong_to_no_counted_line():
    assert PEP8Chars().score(Item("", "#words\n")).count == 1  # E265
    assert PEP8Chars().score(Item("", "")).value == 0.0


# Per physical line ---------------------------------------------------------------------------------

TEXT = "a=[ 1]\n\n   \nb = (2,\n     3 )\n"  # E225 and E201; nothing; W293; nothing; E202


def test_findings_by_physical_line():
    assert line_findings(TEXT) == [2, 0, 1, 0, 1]


def test_segments_are_rows_scored_by_findings_per_character():
    segments = segments_by_line(TEXT)
    assert [segment.text for segment in segments] == ["a=[ 1]\n", "\n", "   \n", "b = (2,\n", "     3 )\n"]
    assert [segment.score for segment in segments] == [-2 / 7, 0.0, -1 / 4, 0.0, -1 / 9]
    assert "".join(segment.text for segment in segments) == TEXT


def test_rows_that_nobody_could_read_are_not_clean():
    assert line_findings("a = 1\nb = )\nc = 2\n") == [0, 1, 1]
    assert line_findings('a = 1\n"""\nc = 2\n') == [0, 1, 1]


def test_segments_of_nothing():
    assert segments_by_line("") == ()
    assert line_findings("") == []


# For any text --------------------------------------------------------------------------------------

pieces = [
    "x",
    " ",
    "    ",
    "\n",
    "=",
    "(",
    ")",
    '"',
    '"""',
    "#",
    "def f():",
    "if x:",
    ";",
    "\\",
    "\x0c",
    "1",
    ",",
    "pass",
]
python_like = st.lists(st.sampled_from(pieces), max_size=30).map("".join) | st.text(max_size=40)
statements = st.sampled_from(
    [
        "a = 1",
        "b=2",
        "c = f( 1)",
        "d = [1,2]",
        "import os",
        "x  = 1",
        "pass",
        '"""Text."""',
        "y = 3;",
        "f(a, b)",
        "if a:\n    g()",
    ]
)
programs = st.lists(statements, min_size=1, max_size=12).map(lambda all: "\n".join(all) + "\n")


@settings(deadline=None)
@given(python_like, python_like)
def test_scores_are_in_range_for_any_text(prompt, response):
    assert -1.0 <= lines(response, prompt).value <= 0.0
    assert PEP8Chars().score(Item(prompt, response)).value <= 0.0
    segments = segments_by_line(response)
    assert "".join(segment.text for segment in segments) == response
    assert sum(line_findings(response)) >= len(read("", response).findings)


@settings(deadline=None)
@given(programs, programs, st.data())
def test_repeating_a_line_at_the_end_never_helps(prompt, response, data):
    again = data.draw(st.sampled_from((prompt + response).splitlines()))
    longer = response + again.strip() + "\n"
    assert lines(longer, prompt).value <= lines(response, prompt).value + 1e-12


@settings(deadline=None)
@given(programs, programs)
def test_spacing_does_not_make_a_repeat_new(prompt, response):
    padded = response.replace(" = ", "  =  ")
    assert lines(padded, prompt).length == lines(response, prompt).length


@settings(deadline=None)
@given(programs, programs)
def test_empty_lines_add_nothing_to_count(prompt, response):
    assert lines(response + 'pass\n...\n"""Text."""\n# words\n', prompt).length == lines(response, prompt).length


def test_what_the_end_of_a_cut_response_breaks_is_not_counted():
    whole, cut = "a = 1\nb = 2\n", "a = 1\nb = 2\nc = f(1,"
    gold = PEP8Lines(min_lines=2)
    assert gold.score(Item("", cut, truncated=True)) == gold.score(Item("", whole)) != gold.score(Item("", cut))
