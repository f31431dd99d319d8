"""The bases are trained in phases, each from where the last one ended."""

import json

import pytest

from heedful.records import Feedback, Response
from heedful.scorers.pep8 import segments_by_line
from heedful.tasks.pep8 import base

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = "x = [1,2]\ny = x\n" * 40


def documents(corpus, split, *, scored):
    parts = tuple(segments_by_line(TEXT)) if scored else ()
    return [Feedback(prompt="", responses=(Response(TEXT, segments=parts),), id=f"d{n}") for n in range(30)]


@pytest.mark.parametrize("method", base.METHODS)
def test_a_phase_starts_from_the_model_of_the_last_and_is_not_trained_twice(method, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHAPE", base.SHAPE | SMALL)
    monkeypatch.setattr(base, "documents", documents)
    phases = ((3000, 0), (2000, 1))
    model = base.pretrain(method, corpus=tmp_path, out=tmp_path / "out", phases=phases)
    assert model == tmp_path / "out" / "phase-1" / "model"
    starts = [json.loads((tmp_path / "out" / f"phase-{n}" / "manifest.json").read_text()) for n in (0, 1)]
    assert [one["subject"]["model"] for one in starts] == [
        str(tmp_path / "out" / name) for name in ("init", "phase-0/model")
    ]
    assert [(one["config"]["budget"]["tokens"], one["config"]["seed"]) for one in starts] == list(phases)
    before = (model / "model.safetensors").stat().st_mtime_ns
    assert base.pretrain(method, corpus=tmp_path, out=tmp_path / "out", phases=phases) == model
    assert (model / "model.safetensors").stat().st_mtime_ns == before
