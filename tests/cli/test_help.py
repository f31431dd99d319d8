"""What `heedful --help` says, and what it does not import."""

import subprocess
import sys

import pytest

VERBS = ["compare", "train", "sample", "score", "eval", "report", "methods", "doctor", "data"]
HEAVY = {"torch", "transformers", "pydantic", "yaml", "numpy", "rich"}


def test_help_imports_nothing_heavy():
    code = "import sys; from heedful.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()} & HEAVY


def test_help_lists_every_verb_with_a_whole_sentence(heedful):
    listed = heedful("--help").out.partition("Commands:")[2].splitlines()
    described = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed if line.strip()}
    assert list(described) == VERBS
    assert all(sentence.endswith(".") and "..." not in sentence for sentence in described.values())


@pytest.mark.parametrize("verb", [*VERBS, "data inspect", "data split"])
def test_every_verb_explains_itself(heedful, verb):
    assert "Usage: " in heedful(*verb.split(), "--help").out


@pytest.mark.parametrize("verb", ["compare", "score", "sample", "eval"])
def test_whoever_takes_a_scorer_says_what_a_function_takes(heedful, verb):
    shown = " ".join(heedful(verb, "--help").out.split())
    assert "a scorer, a reward model's or ranker's run, or module:function of (prompt, response)." in shown


def test_no_argument_at_all_shows_the_help(heedful):
    found = heedful(code=2)
    assert "Commands:" in found.out + found.err


def test_the_version_is_that_of_the_package(heedful):
    from importlib.metadata import version

    assert heedful("--version").out == f"heedful {version('heedful')}\n"
