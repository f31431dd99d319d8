"""Reading a response with pycodestyle: what a logical line is, whose it is, and where reading stops."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heedful.scorers import reading
from heedful.scorers.reading import cut_at_last_logical_line, read, split_rows


def kinds(prompt, response):
    """(first row, last row, kind) of each line, to be read beside the text."""
    return [(line.first_row, line.last_row, line.kind) for line in read(prompt, response).lines]


def codes(prompt, response):
    return [(finding.row, finding.code) for finding in read(prompt, response).findings]


def test_each_kind_of_line():
    prompt = "import os\n"
    response = (
        "x = 1\n"  # row 1: code
        '"""Text."""\n'  # row 2: a lone string
        "pass\n"  # row 3
        "...\n"  # row 4
        "# words\n"  # row 5
        "\n"  # row 6: blank, no line at all
        "y = (1,\n     2)\n"  # rows 7 and 8: one line
        "x  =  1  # again\n"  # row 9: the words of row 1
        "import os\n"  # row 10: a line of the prompt
    )
    assert kinds(prompt, response) == [
        (1, 1, "code"),
        (2, 2, "empty"),
        (3, 3, "empty"),
        (4, 4, "empty"),
        (5, 5, "comment"),
        (7, 8, "code"),
        (9, 9, "repeat"),
        (10, 10, "repeat"),
    ]


@pytest.mark.parametrize(
    "line", ['"a" "b"', '("text")', "pass; pass", '"a"; ...', "f'{x}'", "rb'x'", "()", "pass  # a comment"]
)
def test_lines_of_nothing_but_strings_pass_and_ellipsis_are_empty(line):
    assert kinds("", f"{line}\n") == [(1, 1, "empty")]


@pytest.mark.parametrize("line", ["x = 'text'", "'a' + b", "passed", "return 'a'", "f('a')"])
def test_lines_that_only_contain_such_things_are_code(line):
    assert kinds("", f"{line}\n") == [(1, 1, "code")]


def test_a_statement_split_over_two_rows_repeats_the_same_one_on_one_row():
    assert kinds("x = f(1, 2)\n", "x = f(1,\n      2)\n") == [(1, 2, "repeat")]


def test_findings_before_the_response_are_the_prompts():
    assert codes("x=1\ny=2\n", "z=3\n") == [(1, "E225")]


def test_the_prompts_lines_are_the_context_of_the_response():
    assert codes("def f():\n    return 1\n", "x = 1\n") == [(1, "E305")]  # expected 2 blank lines after function
    assert codes("x = 1\n", "import os\n") == [(1, "E402")]  # import not at top of file
    assert codes("if x:\n\ty = 1\n", "if x:\n    y = 1\n") == [(2, "E101")]  # tabs and spaces mixed


def test_a_response_may_continue_a_row_of_the_prompt():
    """The prompt's half has E225 before its `=`; the response adds E222 after it and finishes the line."""
    assert codes("x=", "  1\n") == [(1, "E222")]
    assert kinds("x=", "  1\n") == [(1, 1, "code")]
    assert kinds("x = 1", "\ny = 2\n") == [(2, 2, "code")]  # row 1 only got its newline from the response


def test_a_line_that_begins_in_the_prompt_is_the_responses_if_it_ends_there():
    assert kinds("x = f(1,\n", "      2)\n") == [(0, 1, "code")]


def test_a_prompt_may_start_inside_blocks():
    prompt = "        x = 1\n    return x\n"  # inside two blocks, then one
    assert kinds(prompt, "\n\ny = 2\n") == [(3, 3, "code")]
    assert codes(prompt, "\n\ny=2\n") == [(3, "E225")]


def test_an_indented_response_to_an_empty_prompt_is_an_error_of_its_own():
    assert codes("", "    x = 1\n") == [(1, "E113")]


def test_an_unclosed_bracket_breaks_the_line_it_is_in_and_hides_the_rest():
    response = "x = 1\ny = f(2,\nz=3\n"
    assert kinds("", response) == [(1, 1, "code"), (2, 3, "broken")]
    assert (3, "E901") in codes("", response)


def test_an_unclosed_triple_quote_breaks_the_line_it_opens_in():
    assert kinds("", 'x = 1\n"""Text\ny = 2\n') == [(1, 1, "code"), (2, 3, "broken")]


@pytest.mark.parametrize(
    "row", ["y = 'text", "y = 1 ? 2", "y = $", "y = )", "y = (1]", "y = `x`", "y = €", "y = 1 \\ + 2", "y = \0"]
)
def test_rows_that_python_cannot_split_stop_the_reading_there(row):
    response = f"x = 1\n{row}\nz=3\n"
    assert kinds("", response) == [(1, 1, "code"), (2, 3, "broken")]
    assert (2, "E901") in codes("", response)
    assert (3, "E225") not in codes("", response)


def test_a_dedent_to_no_level_breaks_from_its_row_on():
    response = "if x:\n        y = 1\n    z = 2\nw = 3\n"
    assert kinds("", response) == [(1, 1, "code"), (2, 2, "code"), (3, 4, "broken")]


def test_brackets_that_match_again_are_not_an_error():
    assert [kind for *_, kind in kinds("", "x = [(1), {2: 3}]\nf'{x!r:>{w}}'\n")] == ["code", "empty"]


@pytest.mark.parametrize("comment", ["# noqa", "# NoQA", "# noqa: E225", "# nopep8"])
def test_noqa_has_no_power(comment):
    assert codes("", f"x=1  {comment}\n") == [(1, "E225")]
    assert codes("", f'x = """{comment}\n{"a" * 40} {"a" * 40}"""\n') == [(2, "E501")]


def test_findings_about_the_end_of_the_file_are_off():
    assert codes("", "x = 1") == []  # W292
    assert codes("", "x = 1\n\n\n") == []  # W391


@pytest.mark.parametrize("mark", ["\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x0b"])
def test_only_newlines_end_rows(mark):
    assert len(read("", f"x = '{mark}'\ny=1\n").rows) == 2
    assert (2, "E225") in codes("", f"x = '{mark}'\ny=1\n")


def test_carriage_returns_end_rows_as_in_a_file_opened_as_text():
    assert codes("", "x = 1\r\ny=2\rz=3\n") == [(2, "E225"), (3, "E225")]


def test_a_crash_of_pycodestyle_is_one_e902_at_the_line_it_was_reading(monkeypatch):
    def check_that_fails(logical_line):
        if "spam" in logical_line:
            raise IndexError("no such line")

    checks = [*reading.OPTIONS.logical_checks, ("check_that_fails", check_that_fails, ["logical_line"])]
    monkeypatch.setattr(reading.OPTIONS, "logical_checks", checks)
    read.cache_clear()
    found = read("", "x = 1\nspam = (1,\n        2)\nz=3\n")
    read.cache_clear()
    assert found.crash == "IndexError: no such line"
    assert [(line.first_row, line.last_row, line.kind) for line in found.lines] == [(1, 1, "code"), (2, 4, "broken")]
    assert [(f.row, f.code) for f in found.findings] == [(2, "E902")]


def test_a_configuration_lying_about_changes_nothing(tmp_path, monkeypatch):
    Path(tmp_path, "setup.cfg").write_text("[pycodestyle]\nignore = E225\nmax-line-length = 200\n")
    monkeypatch.chdir(tmp_path)
    read.cache_clear()
    assert codes("", "x=1\n") == [(1, "E225")]


PLAIN = """
import pycodestyle, sys
from pathlib import Path
from heedful.scorers.reading import IGNORED, OPTIONS, read, split_rows

class Report(pycodestyle.BaseReport):
    def init_file(self, *rest):
        super().init_file(*rest)
        self.found = []
    def error(self, row, column, text, check):
        if not self._ignore_code(text[:4]):
            self.found.append((row, column, text[:4], text[5:]))

style = pycodestyle.StyleGuide(reporter=Report, select=(), ignore=IGNORED, max_line_length=79)
for kind in ("physical", "logical"):
    assert getattr(style.options, kind + "_checks") == getattr(OPTIONS, kind + "_checks")
compared = 0
for path in sys.argv[1:]:
    rows = split_rows(Path(path).read_text().replace("noqa", "quiet"))
    rows = [row.replace(" = ", "= ", 1) if i % 5 == 0 else row for i, row in enumerate(rows)]
    pycodestyle.Checker(lines=list(rows), options=style.options).check_all()
    for cut in range(0, len(rows), 40):
        want = sorted((row - cut, *rest) for row, *rest in style.options.report.found if row > cut)
        got = read("".join(rows[:cut]), "".join(rows[cut:])).findings
        assert [(f.row, f.column, f.code, f.text) for f in got] == want, (path, cut)
        compared += len(want)
import autopep8  # replaces a check of pycodestyle's
read.cache_clear()
assert read("", "x = f(1,\\n    2)\\n").findings[0].code == "E128"
print(compared)
"""


def test_on_code_that_tokenises_the_findings_are_pycodestyles_own():
    """Wherever a file is cut in prompt and response. In a process of its own: autopep8 changes pycodestyle."""
    files = sorted(Path(reading.__file__).parent.glob("*.py"))
    done = subprocess.run([sys.executable, "-c", PLAIN, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300  # findings compared


# Cutting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "kept"),
    [
        ("x = 1\ny = 2\n", "x = 1\ny = 2\n"),
        ("x = 1\ny = 2", "x = 1\n"),  # the last row may go on
        ("x = 1\ny = (2,\n     3\n", "x = 1\n"),
        ('x = 1\ny = """2\n3\n', "x = 1\n"),
        ("x = 1\ny = 2 + \\\n", "x = 1\n"),
        ("x = 1\n# words\n\n", "x = 1\n# words\n\n"),
        ("x = 1\n# words\ny = [\n", "x = 1\n"),
        ("x = 1\nif x:\n", "x = 1\nif x:\n"),
        ("x = (1,", ""),
        ("", ""),
        ("x = 1\r\ny = 2\r\nz", "x = 1\r\ny = 2\r\n"),
        ("if x:\n        y = 1\n    z = 2\nw = (3,\n", "if x:\n        y = 1\n    z = 2\nw = (3,\n"),  # a real error
    ],
)
def test_only_what_the_end_cuts_short_is_cut(response, kept):
    assert cut_at_last_logical_line("", response) == kept
    assert cut_at_last_logical_line("def f():\n    pass\n", response) == kept


def test_a_bracket_left_open_by_the_prompt_is_closed_by_the_response_or_not_at_all():
    assert cut_at_last_logical_line("x = f(\n", "    1)\ny = 2\n") == "    1)\ny = 2\n"
    assert cut_at_last_logical_line("x = f(\n", "    1,\n    2,\n") == ""


def test_a_cut_response_inside_blocks_stays_whole():
    assert cut_at_last_logical_line("        x = 1\n", "    y = 2\nz = 3\nw") == "    y = 2\nz = 3\n"


pieces = st.sampled_from(
    ["x", " ", "    ", "\t", "\n", "=", "(", ")", "[", "]", '"', "'", '"""', "#", " noqa", "def f():", "if", ":", ";"]
    + [
        "pass",
        "\\",
        "\r",
        "\x0c",
        "\0",
        "\ufeff",
        "é",
        "€",
        "0",
        "1_",
        "f'",
        "{",
        "}",
        "!",
        "lambda",
        "@",
        "\u2028",
        ",",
    ]
)
python_like = st.lists(pieces, max_size=40).map("".join)


@settings(deadline=None)
@given(python_like | st.text(max_size=60), python_like | st.text(max_size=60))
@example("\ufeff", "x=1\n")
@example("", "\ufeff")
@example("x = 1\r", "\ny = 2\n")
def test_any_text_can_be_read_and_cut(prompt, response):
    found = read(prompt, response)
    assert found.crash is None or found.crash.split(":")[0].endswith("Error")
    assert all(1 <= finding.row <= max(1, len(found.rows)) for finding in found.findings)
    assert all(1 <= line.last_row <= len(found.rows) and line.first_row <= line.last_row for line in found.lines)
    cut = cut_at_last_logical_line(prompt, response)
    assert response.startswith(cut)
    assert cut_at_last_logical_line(prompt, cut) == cut
    assert "".join(split_rows(response)) == response
