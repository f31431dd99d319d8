"""What a training would cost."""

import pytest
from models import tiny
from tiny_text import letters

from heedful import estimate
from heedful.records import Feedback, Response
from heedful.training import prepare

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """`prepared(**budget)`: sft on 10 records, none held out."""
    folder = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(folder)
    letters().save_pretrained(folder)
    records = [Feedback(f"say {n}: ", (Response("yes", demonstration=True),), id=f"r{n}") for n in range(10)]

    def make(**budget):
        settings = {"batch_size": 5, "validation": 0, "dtype": "float32", "budget": budget}
        return prepare("sft", model=folder, feedback=records, settings=settings)

    return make


def test_seconds_grow_with_the_budget(prepared, monkeypatch):
    monkeypatch.setattr(estimate, "_speed", lambda *args: 100.0)
    tokens = 10 * (1 + len("say 0: ") + len("yes") + 1)
    assert estimate.measure(prepared()).seconds == pytest.approx(tokens / 100)
    assert estimate.measure(prepared(epochs=3)).seconds == pytest.approx(3 * tokens / 100)
    assert estimate.measure(prepared(steps=4)).seconds == pytest.approx(2 * tokens / 100)
    assert estimate.measure(prepared(tokens=500)).seconds == pytest.approx(5.0)


def test_a_budget_in_seconds_is_what_it_says(prepared):
    assert estimate.measure(prepared(seconds=7)).seconds == 7


def test_speed_and_memory_are_measured(prepared):
    cost = estimate.measure(prepared(steps=2))
    assert 0 < cost.seconds < 60
    assert cost.memory_bytes > 1e8  # the interpreter and torch alone


def test_what_is_measured_from_the_start_costs_reading_it(tmp_path):
    tiny("llama").save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    pairs = (Response("yes", rank=1), Response("no", rank=2))
    records = [Feedback(f"say {n}: ", pairs, id=f"r{n}") for n in range(6)]
    for method in ("dpo", "kto"):
        settings = {"batch_size": 3, "validation": 0, "dtype": "float32"}
        cost = estimate.measure(prepare(method, model=tmp_path, feedback=records, settings=settings))
        assert cost.seconds > 0 and cost.memory_bytes > 0
