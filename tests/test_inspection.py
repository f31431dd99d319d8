"""Inspecting from Python takes records alone."""

from models import tiny
from tiny_text import letters

from heedful import Feedback, Response, inspect_feedback
from heedful.data import render
from heedful.methods import METHODS


def test_records_alone_are_enough():
    report = inspect_feedback([Feedback("x = 1\n", [Response("y = 2\n", score=1.0)])])
    assert list(report["methods"]) == list(METHODS) and report["methods"]["rwr"] is None
    assert report["example"]["mask"][0] == 0 and report["example"]["mask"][-1] == 1


def test_a_method_is_named_where_another_judge_is_all_it_lacks():
    report = inspect_feedback([Feedback("x = 1\n", [Response("y = 2\n", demonstration=True)])])
    judged = ["slic_hf", "ppo", "rloo", "grpo", "hir", "farl", "rest_em", "raft"]
    assert report["with_another_judge"] == judged and all(report["methods"][name] for name in judged)
    shown = render(report).partition("methods that can learn from this: ")[2]
    assert shown.startswith(f"mle, sft\n  with another judge, --set method.judge=SCORER, also: {', '.join(judged)}\n")
    assert "not rl_start: no record has an empty `prompt` (a document)" in shown and "ppo" not in shown[150:]


def test_the_example_is_that_of_the_model(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    found = inspect_feedback([Feedback("ab", [Response("cd")])], tmp_path)["example"]["tokens"]
    assert found == ["<s>", "a", "b", "c", "d", "</s>"]
