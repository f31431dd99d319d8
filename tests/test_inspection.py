"""Inspecting from Python takes records alone."""

from models import tiny
from tiny_text import letters

from heedful import Feedback, Response, inspect_feedback
from heedful.methods import METHODS


def test_records_alone_are_enough():
    report = inspect_feedback([Feedback("x = 1\n", [Response("y = 2\n", score=1.0)])])
    assert list(report["methods"]) == list(METHODS) and report["methods"]["rwr"] is None
    assert report["example"]["mask"][0] == 0 and report["example"]["mask"][-1] == 1


def test_the_example_is_that_of_the_model(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    found = inspect_feedback([Feedback("ab", [Response("cd")])], tmp_path)["example"]["tokens"]
    assert found == ["<s>", "a", "b", "c", "d", "</s>"]
