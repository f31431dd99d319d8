import ast

import pytest

from heedful.errors import RunError
from heedful.tasks.pep8 import clean
from heedful.tasks.pep8.clean import clean_all, close_slices, code_only, same_tree, without_rows, write


class InThisProcess:
    @staticmethod
    def map(function, *lists, chunksize):
        return map(function, *lists)


def test_docstrings_comments_and_lone_strings_go():
    source = '''
"""Module."""
class A:
    """Class."""
    def f(self):
        # comment
        "Doc."
    def g(self): ...
    "attribute doc"
    x = "kept"  # noqa
'''
    expected = "class A:\n    def f(self):\n        pass\n    def g(self):\n        pass\n    x = 'kept'\n"
    assert same_tree(ast.unparse(code_only(source)), expected)


FAULTY = """\
import os
@d
def f():
    l = 1
class A:
    y = 1
    def g(self):
        try:
            x
        except:
            pass
"""


def test_functions_with_findings_go_whole_and_the_rest_stays():
    assert ast.unparse(without_rows(ast.parse(FAULTY), {4, 10})) == "import os\n\nclass A:\n    y = 1"
    assert ast.unparse(without_rows(ast.parse(FAULTY), {2, 6, 7})) == "import os\n\nclass A:\n    pass"


LONG = ["word " * 60, "x" * 300, "row\n" * 30, "\n" * 90, "'\"" * 80, "\\" * 99, b"byte \x00\xff" * 30, "é\u2028" * 70]
PLACES = ["x = {}", "f({}, y={})", "match y:\n    case {}:\n        pass", "if {}:\n    x = [{}]"]


@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("where", PLACES)
def test_long_strings_are_cut_to_fit_and_mean_the_same(value, where):
    source = where.replace("{}", repr(value)) + "\n"
    texts, _ = clean_all({"": ast.parse(source)}, InThisProcess())
    assert same_tree(texts[""], source)
    assert max(map(len, texts[""].split("\n"))) <= 79


def test_fstrings_are_never_cut():
    source = "x = f'{a} " + "word " * 30 + "'\n"
    assert write(ast.parse(source)) == source


def test_slices_are_closed_up():
    assert close_slices("x[a + 1 : b(c) : 2]\ny[f(x) :]\nz = {a: b}\n") == "x[a + 1:b(c):2]\ny[f(x):]\nz = {a: b}\n"


def test_what_spacing_cannot_cure_is_removed_and_counted():
    source = "def f():\n    return not x in y\ndef g():\n    return x [a+1:b]\ndef h():\n    l = 1\n"
    texts, counts = clean_all({"": ast.parse(source)}, InThisProcess())
    assert texts[""] == "def g():\n    return x[a + 1:b]\n"
    assert counts == {"removed: E713": 1, "removed: E741": 1, "dropped: findings stay": 0}


def test_without_ruff_the_builder_says_what_to_install(monkeypatch):
    monkeypatch.setattr(clean.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"ruff.*pip install"):
        clean.format_all({"": "x = 1\n"})
