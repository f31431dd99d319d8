"""`heedful doctor` looks at everything, and its exit code says whether all is well."""

import pytest

from heedful.cli import doctor
from heedful.cli.doctor import Check


@pytest.fixture
def healthy(monkeypatch) -> None:
    """An installation whose base model works."""
    monkeypatch.setattr(doctor, "_forward", lambda: Check("forward pass", "ok", "it continues"))
    monkeypatch.setattr(doctor, "_assets", lambda: Check("embedded files", "ok", "as they were packed"))


def test_all_well_is_exit_code_0(heedful, healthy):
    found = heedful("doctor", "--json").json
    assert found["healthy"]
    names = [check["name"] for check in found["checks"]]
    assert {"python", "torch", "transformers", "embedded files", "disk", "writing", "memory", "device"} < set(names)
    assert "pytest" not in names
    assert list(heedful.folder.iterdir()) == []


def test_one_thing_that_is_broken_is_exit_code_1(heedful, healthy, monkeypatch):
    def broken() -> Check:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(doctor, "_forward", broken)
    found = heedful("doctor", code=1).out
    assert "failed  forward pass    RuntimeError: no such instruction" in found
    assert "ok      torch" in found


@pytest.mark.parametrize(
    ("package", "version", "words"), [("torch", "2.5.1", "CVE-2025-32434"), ("transformers", "5.2.0", "CVE-2026-4372")]
)
def test_a_vulnerable_version_is_named_with_its_reason(heedful, healthy, monkeypatch, package, version, words):
    from importlib import metadata

    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == package else real(name))
    assert words in heedful("doctor", code=1).out


def test_an_extra_that_is_missing_is_no_fault(heedful, healthy, monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "pip install 'heedful[adapters]'" in heedful("doctor").out


def test_a_folder_that_cannot_be_written_is_found(heedful, healthy):
    (heedful.folder / "file").write_text("", encoding="utf-8")
    found = heedful("doctor", "--folder", "file/runs", code=1).out
    assert "failed  writing" in found


def test_a_changed_file_is_found(heedful, monkeypatch, tmp_path):
    import json

    from heedful.tasks.pep8 import assets

    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps({"base/config.json": "0" * 64}), encoding="utf-8")
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    assert doctor._assets() == Check(
        "embedded files", "failed", "missing or changed: base/config.json", "install heedful again"
    )


def test_a_run_is_read_and_its_failure_named(heedful, model):
    file = heedful.write("p.jsonl", *({"prompt": f"say {n}:"} for n in range(12)))
    settings = ["method.judge=tiny_judge:constant", "method.max_tokens=4", "method.num_prompts=4", "budget.steps=4"]
    changes = [part for setting in settings for part in ("--set", setting)]
    heedful("train", "ppo", "-m", model, "-f", file, "-o", "run", "-q", *changes)
    found = heedful("doctor", "run").out
    assert "equal rewards, since step 0" in found and "usual causes:" in found and "what to change:" in found
    assert heedful("doctor", "run", "--json").json["findings"][0]["name"] == "equal rewards"


def test_a_folder_that_is_no_run_is_refused(heedful):
    assert "not a run folder" in heedful("doctor", ".", code=2).err
