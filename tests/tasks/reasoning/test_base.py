"""The base of the reasoning task is trained in phases, each from where the last one ended."""

import json

from heedful.tasks.reasoning import base
from heedful.tasks.reasoning.base import Phase

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
PHASES = (Phase("drilled", drills=4, lr=1e-3), Phase("told", questions=4, noise=0.5))


def test_a_phase_starts_from_the_model_of_the_last_and_is_not_trained_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHAPE", base.SHAPE | SMALL | {"num_key_value_heads": 2})
    model = base.run_phases(base.initialise(tmp_path / "init"), PHASES, tmp_path)
    assert model == tmp_path / "told" / "model"
    starts = [json.loads((tmp_path / one.name / "manifest.json").read_text())["subject"]["model"] for one in PHASES]
    assert starts == [str(tmp_path / "init"), str(tmp_path / "drilled" / "model")]
    before = (model / "model.safetensors").stat().st_mtime_ns
    assert base.run_phases(tmp_path / "init", PHASES, tmp_path) == model
    assert (model / "model.safetensors").stat().st_mtime_ns == before


def test_a_phase_holds_drills_and_questions_of_all_tasks():
    assert [len(phase.material()) for phase in PHASES] == [48, 48]
    assert PHASES[1].material() == PHASES[1].material()
