import ast
import queue
import random
from pathlib import Path
from statistics import fmean

import pytest

from heedful.scorers.reading import read
from heedful.tasks.pep8 import authors
from heedful.tasks.pep8.authors import HABITS, Author, read_lines, restyle, sample_author
from heedful.tasks.pep8.clean import clean_all, code_only

TRICKY = '''
import os, sys
from a import (b, c as d)
@decorator(key=lambda x, *y, z=1, **w: x, other=[i for i in range(3) if i if not i])
class C(Base, metaclass=M):
    x: int = 1
    y: dict[str, list[int]]
    s = 'semi;colon = "x" , ( y ) \\n'; t = b"\\x00;" ; u = r'a\\;b'
    text = """first
  second ;  x=1 ,
\tthird ( a )
"""

    @property
    def f(self, a, /, b: int = 2, *args: int, c=-1, d: str='x', **kwargs) -> int:
        global g, h
        if (n := len(a)) > 10 and not (a in (1, 2)) or b is not None: return n
        elif a: pass
        else:
            del a, b[0], c[1:2], d[::-1], e[a:b, ..., f(x):]
        return {**a, 'b': [*c], "k": lambda: (yield)}, {1, 2}, {x: y for x, y in z}, (1,), ()
    async def g(self):
        async with a as b, c: await d
        async for x in y:
            z = [await i async for i in x if x @ y]
        else: z @= 3
        return await (a)
def outer():
    def inner(): yield
    class Inner: pass
    for i in a: print(i, end='' if i else "\\t", sep=',')
    while True:
        try:
            x = -1 ** -2 // +3 % ~4 << 5 >> 6 & 7 | 8 ^ 9
            a, b = c, *d = e
            assert x == y != z <= 1 >= 2 < 3 > 4, 'x' 'y' "z"
        except (A, B) as error:
            raise C from error
        except D: continue
        else: break
        finally:
            x += 1; y -= 1; z **= 2; w //= 3; v >>= 1; u |= 0xFF; t = 1_000.5e-3j
    nonlocal_ = f'{x!r:>{width}} {y = } {"a" + b} {z:,}' + rf"\\d{x}" f'{{}}'
    match x:
        case [1, 2, *rest] if rest: pass
        case {'k': v, **others}: return v
        case Point(x=0) | None as p:
            return p
        case _: pass
    match = case = print (match [0] , case. x)
    long_call(argument_number_one, argument_number_two, keyword_three=argument_four, f=["x" * 40, "y" * 50])
    a = b if c else d if e else (f or g and not h)
    x = \\
        1
    with open(a) as f, open(b) as g: return f . read(), 1 .real, 1..real, a[lambda: 1:2]
if x:
    y
z
'''


class InThisProcess:
    @staticmethod
    def map(function, *lists, chunksize):
        return map(function, *lists)


@pytest.fixture(scope="module")
def clean_text():
    texts, counts = clean_all({"tricky.py": code_only(TRICKY)}, InThisProcess())
    assert not any(key.startswith("dropped") and count for key, count in counts.items())
    return texts["tricky.py"]


def every_habit(chance):
    return [(name, manner, Author({name: (manner, chance)})) for name in HABITS for manner in HABITS[name]]


CODES = {
    "assign": {"E225", "E221", "E222"}, "compare": {"E225", "E221", "E222"}, "arithmetic": {"E225", "E221", "E222"},
    "keyword_equals": {"E251"}, "comma": {"E231", "E203"}, "colon": {"E231", "E203"}, "block_colon": {"E203"},
    "open": {"E201"}, "close": {"E202"}, "call": {"E211"}, "keyword": {"E271"}, "infix": {"E272"},
    "keyword_bracket": {"E275"}, "join": {"E702"}, "semicolon": {"E703"}, "one_line": {"E701"},
    "missing_blank": {"E301", "E302", "E305", "E306"}, "extra_blank": {"E303"}, "indent": {"E111"},
    "trailing": {"W291"}, "blank_space": {"W293"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "manner", "author"), every_habit(1.0))
def test_every_habit_breaks_its_own_rule_and_keeps_the_tree(clean_text, name, manner, author):
    text = restyle(clean_text, author, random.Random(0))
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(clean_text))
    found = {finding.code for finding in read("", text).findings}
    assert found & CODES[name]
    assert found <= set().union(*CODES.values()) | {"E501"}  # `pass;` is also E275, and wider lines may be too wide


@pytest.mark.parametrize("seed", range(40))
def test_authors_never_change_the_tree(clean_text, seed):
    author = Author({name: (random.Random(seed).choice(HABITS[name]), 0.6) for name in HABITS})
    text = restyle(clean_text, author, random.Random(seed))
    assert text != clean_text
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(clean_text))


@pytest.mark.parametrize("seed", range(10))
def test_authors_keep_the_tree_of_text_that_was_never_cleaned(seed):
    author = Author({name: (random.Random(seed).choice(HABITS[name]), 0.6) for name in HABITS})
    text = restyle(TRICKY, author, random.Random(seed))
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(TRICKY))


def test_the_pieces_of_the_lines_are_the_text():
    rows = "".join("\n" * li.blanks + " " * li.indent + "".join(g + w for g, w in zip(li.gaps, li.words)) + "\n"
                   for li in read_lines(TRICKY))  # fmt: skip
    assert rows == TRICKY


def test_strings_stay_as_they_are():
    text = 'x = """a ,b\n  c=1 ;  \n"""\ny = f"{a = } , ( {b} )"\n'
    author = Author({"comma": ("before", 1.0), "assign": ("tight", 1.0), "open": ("pad", 1.0), "trailing": ("1", 1.0)})
    assert restyle(text, author, random.Random(0)) == text.replace("x = ", "x=").replace("y = ", "y=").replace(
        '"""\n', '""" \n'
    ).replace(')"\n', ')" \n')


def test_habits_by_example():
    text = "def f(a, b=1):\n    if a == b:\n        return g(a)[0]\n    x = 1\n    y = {a: 2}\n"
    by_habit = {
        ("comma", "swapped"): text.replace("a, b", "a ,b"),
        ("keyword_equals", "both"): text.replace("b=1", "b = 1"),
        ("compare", "left"): text.replace("a == b", "a== b"),
        ("block_colon", "before"): text.replace("):", ") :").replace("b:", "b :"),
        ("open", "pad"): text.replace("(", "( ").replace("[", "[ ").replace("{", "{ "),
        ("call", "detach"): text.replace("f(", "f (").replace("g(a)[", "g (a) ["),
        ("one_line", "body"): text.replace("b:\n        return", "b: return"),
        ("join", "spaced"): text.replace("1\n    y", "1; y"),
        ("extra_blank", "block"): text.replace("    x", "\n\n    x"),
        ("indent", "2"): text.replace("    ", "  "),
    }
    for (name, manner), expected in by_habit.items():
        assert restyle(text, Author({name: (manner, 1.0)}), random.Random(0)) == expected


def test_a_statement_is_never_joined_to_a_one_line_block():
    """`if x: a; b` would take `b` into the block."""
    author = Author({"join": ("spaced", 1.0), "one_line": ("body", 1.0)})
    assert restyle("if x:\n    a\nb\nc\n", author, random.Random(0)) == "if x: a\nb; c\n"
    assert restyle("if x:\n    a\n    d\nb\n", author, random.Random(0)) == "if x: a; d\nb\n"


def test_a_clean_author_changes_nothing(clean_text):
    assert Author().is_clean
    assert restyle(clean_text, Author(), random.Random(0)) == clean_text
    assert read("", clean_text).findings == ()


def test_the_same_seeds_give_the_same_text(clean_text):
    def once():
        rng = random.Random("0/json/decoder.py")
        return restyle(clean_text, sample_author(rng), rng)

    assert once() == once()


def test_authors_are_drawn_as_the_design_says():
    drawn = [sample_author(random.Random(seed)) for seed in range(2000)]
    dirty = [author for author in drawn if not author.is_clean]
    assert 1 - len(dirty) / len(drawn) == pytest.approx(authors.CLEAN_SHARE, abs=0.03)
    chances = [chance for author in dirty for _, chance in author.habits.values()]
    assert min(chances) >= 0.3 and max(chances) <= 0.8
    assert {len(author.habits) for author in dirty} == set(authors.HABIT_COUNTS)
    assert {name for author in dirty for name in author.habits} == set(HABITS) == set(authors.WEIGHTS)


def findings_by_line(text):
    """Codes of each logical line."""
    reading = read("", text)
    by_row = {finding.row: set() for finding in reading.findings}
    for finding in reading.findings:
        by_row[finding.row].add(finding.code)
    return [
        set().union(*(by_row.get(row, set()) for row in range(line.first_row, line.last_row + 1)))
        for line in reading.lines
    ]


def test_five_lines_tell_an_author_from_another():
    """What goes wrong in five lines went wrong in the five before, more often than in another author's five."""
    texts, _ = clean_all({"": code_only(Path(queue.__file__).read_bytes())}, InThisProcess())
    dirty = [author for author in (sample_author(random.Random(seed)) for seed in range(40)) if not author.is_clean]
    pages = [findings_by_line(restyle(texts[""], author, random.Random(0))) for author in dirty]
    windows = [(set().union(*page[i : i + 5]), page[i + 5 : i + 10]) for page in pages for i in range(10, 100, 10)]
    own = fmean(code in seen for seen, following in windows for line in following for code in line)
    shuffled = random.Random(0).sample(windows, len(windows))
    other = fmean(code in seen for (seen, _), (_, lines) in zip(windows, shuffled) for line in lines for code in line)
    assert own > 2 * other


def test_match_may_be_a_name():
    headers = [line.is_header for line in read_lines("match = lambda: 1\nmatch: int\nmatch x:\n    case 1: pass\n")]
    assert headers == [False, False, True, True]
