"""The pretraining paper's experiment in small: its arms, what they share, and what stops it at once."""

import importlib.util
import json

import pytest

from heedful import compare
from heedful.errors import ConfigError, RunError
from heedful.tasks.pep8 import scratch
from heedful.tasks.pep8.scratch import OBJECTIVES, PHFPEP8

BODY = "".join(f"def f{i}(a, b=1):\n    x = a + b\n    return [x, {{'k{i}': b}}]\n\n" for i in range(40))


@pytest.fixture
def library(tmp_path, monkeypatch):
    root = tmp_path / "library"
    (root / "asyncio").mkdir(parents=True)  # a package of the base split
    for n in range(4):
        (root / "asyncio" / f"m{n}.py").write_text(BODY.replace("f1", f"g{n}"))
    monkeypatch.setattr(scratch.sysconfig, "get_path", lambda name: str(root))


def small(**options):
    task = PHFPEP8(num_prompts=2, **options)
    task.documents = [task.documents[0], task.documents[-1]]
    return task


@pytest.mark.slow
def test_the_text_is_built_in_the_folder_and_every_arm_starts_from_the_same_weights(library, tmp_path):
    said = []
    results = compare(
        small(), methods=["filtering"], out=tmp_path / "run", budget={"tokens": 4000}, progress=said.append
    )
    base, filtering = results.rows
    assert (base.method, filtering.method) == ("base", "filtering")
    assert base.is_measured and filtering.is_measured, [row.error for row in results.rows]
    for row in results.rows:  # the base is an arm too: it costs what the others do
        assert 4000 <= row.ledger.train_tokens < 4600
    assert (base.ledger.labels, filtering.ledger.labels > 0) == (0, True)
    assert [event["stage"] for event in said if event["row"] == "corpus"]
    manifests = [json.loads((tmp_path / "run" / "methods" / name / "manifest.json").read_text())
                 for name in ("base-s0", "filtering-s0")]  # fmt: skip
    assert {str(manifest["subject"]["model"]) for manifest in manifests} == {str(tmp_path / "run" / "init")}


def test_without_ruff_it_stops_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"ruff.*not installed"):
        PHFPEP8()


def test_all_objectives_share_the_recipe_of_the_base(tmp_path):
    task = PHFPEP8(corpus=tmp_path)
    shared = [{k: v for k, v in task.settings(name).items() if k != "method"} for name in OBJECTIVES]
    assert all(settings == shared[0] for settings in shared)
    with pytest.raises(ConfigError, match="sft"):
        task.settings("sft")
