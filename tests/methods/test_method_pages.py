"""The pages of the methods name what the code has: commands, settings with their defaults, terms, kinds of feedback."""

import ast
import re
from pathlib import Path

import pytest
from tiny_methods import build_variant, feedback_for

from heedful.config import Optim, Training
from heedful.methods import METHODS, load_method

PAGES = Path(__file__).parents[2] / "docs" / "methods"


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_the_command_of_its_module(name):
    command = load_method(name).__doc__.partition("Run: ")[2].strip()
    assert f"\n    {command}\n" in page(name)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_every_setting_with_its_default(name):
    for field, info in load_method(name).Config.model_fields.items():
        default = "required" if info.is_required() else str(info.default).lower()
        assert f"| `{field}` | {default} |" in page(name), field


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_every_term_that_is_logged(name):
    terms = [spec.name for spec in build_variant(name, feedback_for(name)).method.objective]
    row = next(line for line in page("index").splitlines() if line.startswith(f"| [`{name}`]"))
    assert all(f"`{term}`" in page(name) and f"`{term}`" in row for term in terms)


@pytest.mark.parametrize("name", METHODS)
def test_the_index_names_the_feedback_a_method_learns_from(name):
    rows = [line for line in page("index").splitlines() if line.startswith("| [`")]
    kinds = {row.split("`")[1]: row.split("|")[-2].strip() for row in rows}
    named = kinds["filtering"] if kinds[name] == "the same" else kinds[name]
    needs = {need if isinstance(need, str) else " with ".join(need) for need in load_method(name).FEEDBACK}
    assert set(named.split(", ")) == needs


def test_the_index_has_every_setting_of_the_loop():
    names = {*(f"optim.{name}" for name in Optim.model_fields), *Training.model_fields} - {"optim"}
    assert [name for name in sorted(names) if f"`{name}`" not in page("index")] == []


def test_the_index_has_the_defaults_of_the_loop():
    defaults = {f"optim.{name}": info.default for name, info in Optim.model_fields.items()}
    defaults |= {name: info.default for name, info in Training.model_fields.items()}
    table = page("index").partition("## Settings of the loop")[2].partition("\n## ")[0]
    for line in (line for line in table.splitlines() if line.startswith("| `")):
        names, written = line.split("|")[1].split("`")[1::2], line.split("|")[2].strip()
        if names not in (["budget"], ["max_length"]):  # None, in words
            found = re.split(r", (?![^(]*\))", written)
            assert [number(text) for text in found] == [defaults[name] for name in names], line


def number(text: str) -> object:
    """What a cell of a table says: a number or a tuple, true or false, else a word."""
    try:
        return ast.literal_eval(text.capitalize())
    except (ValueError, SyntaxError):
        return text


# The toxicity recipe of the released code of Korbak et al. 2023: what every default comes from.
RELEASED = {
    "conditional": {"drop": 0.01},
    "unlikelihood": {"alpha": 1.0},
    "rwr": {"beta": 10.0},
    "awr": {"beta": 10.0, "alpha": 0.5, "max_weight": 1000.0},
}
OPTIM = {"lr": 5e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0, "warmup": 0.01}


def test_defaults_are_those_of_the_released_toxicity_recipe():
    for name, values in RELEASED.items():
        assert {field: load_method(name).Config.model_fields[field].default for field in values} == values
    assert {field: getattr(Optim(), field) for field in OPTIM} == OPTIM
    assert (Optim().decay, Optim().final, Training().batch_size) == ("linear", 0.0, 64)


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_a_test_that_a_page_cites_exists(path):
    root = PAGES.parents[1]
    cited = [part for part in path.read_text(encoding="utf-8").split("`") if part.startswith("tests/")]
    assert [name for name in cited if not (root / name).exists()] == []
