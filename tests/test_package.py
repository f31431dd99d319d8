"""The names of the package are the verbs, and cost nothing until they are used."""

import subprocess
import sys

import pytest

import heedful

NAMES = [
    "METHODS",
    "ConfigError",
    "DataError",
    "Feedback",
    "HeedfulError",
    "Response",
    "RunError",
    "Sampling",
    "build_report",
    "compare",
    "evaluate",
    "evaluate_scorer",
    "inspect_feedback",
    "load_feedback",
    "load_scorer",
    "sample",
    "score",
    "split_feedback",
    "train",
]


def test_the_public_names_are_these():
    assert heedful.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_leads_to_something(name):
    value = getattr(heedful, name)
    assert callable(value) or name == "METHODS"
    assert name in dir(heedful)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = heedful.trian


def test_importing_the_package_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import heedful; print(*set(sys.modules) - before)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in found if name.startswith("heedful.")] == []
    assert "torch" not in found and "pydantic" not in found
