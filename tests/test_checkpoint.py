"""A checkpoint is all there or not at all, comes back to the bit, and the one before it always loads."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from itertools import count

import pytest
import torch
from faults import NO_SPACE, Killed, every_fault, half_file

from heedful import checkpoint, disk
from heedful.errors import RunError

numbers = count()


def _tensors(step):
    return {
        "policy.weight": torch.arange(12.0).view(3, 4) * step,
        "policy.half": torch.full((5,), step, dtype=torch.bfloat16),
        "count": torch.tensor(step),
    }


def _state(step):
    return {"step": step, "best": -math.inf, "offsets": {"metrics.jsonl": 10 * step}}


def _save(run, step, **options):
    return checkpoint.save(run, step, _tensors(step), _state(step), **options)


def _assert_is(found, step):
    assert found.step == step and found.state == _state(step)
    assert found.tensors.keys() == _tensors(step).keys()
    for name, tensor in _tensors(step).items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype


def _names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


# What goes in comes out


def test_a_checkpoint_comes_back_to_the_bit(tmp_path):
    path = _save(tmp_path, 100)
    assert path == tmp_path / "checkpoints" / "step_000100"
    found = checkpoint.load_newest(tmp_path)
    _assert_is(found, 100)
    assert found.path == path and found.skipped == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([math.nan, math.inf, -0.0, 1e-45]),
        torch.zeros(0, 3),
        torch.tensor(True),
        torch.randn(4, 6).t(),
        torch.randn(10)[3:6],
        torch.randn(4, 1).expand(4, 5),
        torch.randn(3, dtype=torch.float64, requires_grad=True),
        torch.tensor([2**62, -1]),
        torch.randn(3).to(torch.float8_e4m3fn),
    ],
    ids=["special", "empty", "bool", "transposed", "view", "expanded", "float64_grad", "int64", "float8"],
)
def test_any_tensor_comes_back_to_the_bit(tmp_path, tensor):
    checkpoint.save(tmp_path, 1, {"x": tensor}, {})
    found = checkpoint.load_newest(tmp_path).tensors["x"]
    assert found.shape == tensor.shape and found.dtype == tensor.dtype
    bits = [value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (found, tensor)]
    assert torch.equal(*bits)


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path):
    weight = torch.randn(1000)
    checkpoint.save(tmp_path, 1, {"embed": weight, "head": weight, "flat": weight.view(10, 100)}, {})
    found = checkpoint.load_newest(tmp_path).tensors
    assert found["head"] is found["embed"] and torch.equal(found["flat"].view(-1), weight)
    size = (tmp_path / "checkpoints" / "step_000001" / "tensors.safetensors").stat().st_size
    assert 8000 < size < 8500  # twice 4,000 bytes, not three times


def test_parts_of_one_storage_do_not_store_the_whole(tmp_path):
    storage = torch.randn(100_000)
    checkpoint.save(tmp_path, 1, {"a": storage[:10], "b": storage[5:15]}, {})
    found = checkpoint.load_newest(tmp_path).tensors
    assert torch.equal(found["a"], storage[:10]) and torch.equal(found["b"], storage[5:15])
    assert (tmp_path / "checkpoints" / "step_000001" / "tensors.safetensors").stat().st_size < 500


def test_nothing_is_pickled(tmp_path):
    path = _save(tmp_path, 1)
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "state.json", "tensors.safetensors"]
    for name in ("manifest.json", "state.json"):
        json.loads((path / name).read_text(), parse_constant=pytest.fail)


def test_a_state_that_json_would_change_is_refused_before_anything_is_kept(tmp_path):
    _save(tmp_path, 1)
    with pytest.raises(TypeError, match="keys must be text"):
        checkpoint.save(tmp_path, 2, {}, {"counts": {1: 2}})
    assert _names(tmp_path) == ["step_000001"]


def test_loaded_tensors_outlive_their_checkpoint(tmp_path):
    _save(tmp_path, 1)
    found = checkpoint.load_newest(tmp_path)
    for step in (2, 3):
        _save(tmp_path, step, keep=1)
    _assert_is(found, 1)
    found.tensors["policy.weight"].add_(1)  # writable


# Keeping


def test_the_newest_and_the_protected_are_kept(tmp_path):
    for step in (10, 20, 30, 40):
        _save(tmp_path, step, keep=2, protect={10})
    assert checkpoint.steps(tmp_path) == [10, 30, 40]
    _assert_is(checkpoint.load_step(tmp_path, 10), 10)


def test_saving_a_step_again_replaces_it(tmp_path):
    _save(tmp_path, 10)
    checkpoint.save(tmp_path, 10, {}, {"again": True})
    assert checkpoint.load_newest(tmp_path).state == {"again": True}
    assert _names(tmp_path) == ["step_000010"]


def test_steps_are_ordered_as_numbers(tmp_path):
    for step in (999_999, 1_000_000):
        _save(tmp_path, step)
    assert checkpoint.load_newest(tmp_path).step == 1_000_000


def test_a_missing_step_names_those_that_exist(tmp_path):
    with pytest.raises(RunError, match="no checkpoint of step 5: expected none exists"):
        checkpoint.load_step(tmp_path, 5)
    _save(tmp_path, 10)
    with pytest.raises(RunError, match="no checkpoint of step 5: expected 10"):
        checkpoint.load_step(tmp_path, 5)


def test_a_run_without_checkpoints_has_none(tmp_path):
    assert checkpoint.load_newest(tmp_path) is None


# Damage


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def _delete(path):
    path.unlink()


def _empty(path):
    path.write_bytes(b"")


def _zero(path):
    path.write_bytes(bytes(path.stat().st_size))  # what a power cut leaves on some filesystems


DAMAGES = [_flip, _truncate, _delete, _empty, _zero]


@pytest.mark.filterwarnings("ignore:checkpoint")
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_by_name(tmp_path, name, damage):
    for step in (10, 20):
        _save(tmp_path, step)
    damage(tmp_path / "checkpoints" / "step_000020" / name)
    found = checkpoint.load_newest(tmp_path)
    _assert_is(found, 10)
    (said,) = found.skipped
    assert said.startswith("step_000020: ") and name in said
    with pytest.raises(RunError, match="the checkpoint is damaged"):
        checkpoint.load_step(tmp_path, 20)


@pytest.mark.filterwarnings("ignore:checkpoint")
@pytest.mark.parametrize("text", [None, "", "[]", "{}", "{", '{"schema": 1, "step": 20, "files": {}}', '{"schema": 9}'])
def test_a_checkpoint_without_a_whole_manifest_is_passed_over(tmp_path, text):
    for step in (10, 20):
        _save(tmp_path, step)
    manifest = tmp_path / "checkpoints" / "step_000020" / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    found = checkpoint.load_newest(tmp_path)
    _assert_is(found, 10)
    assert "manifest.json" in found.skipped[0]


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_a_renamed_checkpoint_is_not_taken_for_a_newer_one(tmp_path):
    for step in (10, 20):
        _save(tmp_path, step)
    folder = tmp_path / "checkpoints"
    (folder / "step_000010").rename(folder / "step_000099")
    found = checkpoint.load_newest(tmp_path)
    _assert_is(found, 20)
    assert found.skipped == ["step_000099: manifest.json is of step 10"]


def test_the_damaged_are_warned_about(tmp_path):
    for step in (10, 20):
        _save(tmp_path, step)
    _flip(tmp_path / "checkpoints" / "step_000020" / "tensors.safetensors")
    with pytest.warns(UserWarning, match="step_000020 is passed over: .*sha256"):
        checkpoint.load_newest(tmp_path)


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_over_in_silence(tmp_path):
    for step in (10, 20):
        _truncate(_save(tmp_path, step) / "state.json")
    with pytest.raises(RunError, match=r"no checkpoint is whole: step_000020: .*; step_000010: "):
        checkpoint.load_newest(tmp_path)


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_training_on_from_before_a_damaged_checkpoint_keeps_what_loads(tmp_path):
    for step in (10, 20):
        _save(tmp_path, step)
    _flip(tmp_path / "checkpoints" / "step_000020" / "tensors.safetensors")
    for step in (12, 14, 16):
        _save(tmp_path, step, keep=1)
        assert checkpoint.load_newest(tmp_path).step == step  # the damaged, later one never counts as kept
    _save(tmp_path, 20)
    _assert_is(checkpoint.load_newest(tmp_path), 20)


# Faults


def _two_saved(tmp_path):
    """A fresh run with steps 10 and 20."""
    template, run = tmp_path / "template", tmp_path / str(next(numbers))
    if not template.exists():
        template.mkdir()
        for step in (10, 20):
            _save(template, step)
    shutil.copytree(template, run)
    return run


def _strike_at_tensors(faults, monkeypatch):
    faults.also(monkeypatch, checkpoint, "save_file", half=half_file).also(monkeypatch, disk, "_exchange")


def test_a_kill_at_any_call_leaves_the_last_checkpoint_or_the_new_one(tmp_path):
    def check(run, fault):
        assert isinstance(fault, Killed)
        found = checkpoint.load_newest(run)
        _assert_is(found, found.step)
        assert found.step in (20, 30) and found.skipped == []
        _save(run, 30)
        assert _names(run) == ["step_000020", "step_000030"]

    struck = every_fault(lambda: _two_saved(tmp_path), lambda run: _save(run, 30), check, patch=_strike_at_tensors)
    assert struck >= 40


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kill_while_a_step_is_saved_again_leaves_a_whole_one(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(disk, "_exchange", lambda one, other: False)

    def check(run, fault):
        found = checkpoint.load_newest(run)
        _assert_is(found, 20)
        assert found.skipped == []

    every_fault(lambda: _two_saved(tmp_path), lambda run: _save(run, 20), check, patch=_strike_at_tensors)


def test_a_kill_after_the_rename_leaves_pruning_to_the_next_save(tmp_path, monkeypatch):
    run = _two_saved(tmp_path)

    def kill(*args):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "_prune", kill)
        _save(run, 30)
    _assert_is(checkpoint.load_newest(run), 30)
    assert checkpoint.steps(run) == [10, 20, 30]
    _save(run, 40)
    assert checkpoint.steps(run) == [30, 40]


def test_a_disk_that_fills_at_any_call_leaves_the_last_checkpoint_and_no_rest(tmp_path):
    def check(run, fault):
        found = checkpoint.load_newest(run)
        _assert_is(found, found.step)
        is_whole = fault is None and found.step == 30  # a mkdir of what exists may fail
        assert is_whole or (isinstance(fault, RunError) and "no space: need" in str(fault))
        assert found.step in (20, 30) and found.skipped == []
        assert not [name for name in _names(run) if ".tmp-" in name and found.step == 20]

    act = lambda run: _save(run, 30)  # noqa: E731
    every_fault(lambda: _two_saved(tmp_path), act, check, patch=_strike_at_tensors, refuse=NO_SPACE)


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch):
    _save(tmp_path, 1)
    monkeypatch.setattr(disk, "free_space", lambda path: 4_500)
    with pytest.raises(RunError, match=r"no space: need 4\.8 kB have 4\.5 kB"):
        checkpoint.save(tmp_path, 2, {"x": torch.zeros(1000)}, {})  # 4,000 bytes and a fifth
    assert _names(tmp_path) == ["step_000001"]


def test_a_run_folder_that_vanished_is_not_made_again(tmp_path):
    with pytest.raises(RunError, match="the folder to write to does not exist"):
        _save(tmp_path / "gone", 1)
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_file_beyond_the_size_limit_of_the_process_is_told_as_no_space(tmp_path):
    import resource

    _save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"no space: need 2\.4 MB have a limit of 1\.0 MB per file"):
            checkpoint.save(tmp_path, 2, {"x": torch.zeros(500_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    _assert_is(checkpoint.load_newest(tmp_path), 1)
    assert _names(tmp_path) == ["step_000001"]


FOREVER = """
import itertools, sys
import torch
from heedful import checkpoint
for step in itertools.count(1):
    checkpoint.save(sys.argv[1], step, {"x": torch.full((300_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.003, 0.011, 0.02])
def test_a_real_kill_at_any_time_leaves_a_checkpoint_that_loads(tmp_path, delay):
    process = subprocess.Popen([sys.executable, "-c", FOREVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        printed = process.stdout.readline()
    time.sleep(delay)
    process.kill()
    printed = [printed, *process.communicate()[0].splitlines()][-1]
    found = checkpoint.load_newest(tmp_path)
    assert found.step in (int(printed), int(printed) + 1) and found.skipped == []
    assert torch.equal(found.tensors["x"], torch.full((300_000,), float(found.step)))
    assert not [name for name in _names(tmp_path) if ".tmp-" in name]


# Optimizers


def _model(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).to(dtype)


def _optimizer(model, kind=torch.optim.AdamW, **options):
    layers = [
        {"params": list(model[0].parameters()), "name": "first"},
        {"params": list(model[2].parameters()), "lr": 0.5},
    ]
    return kind(layers, lr=0.1, **options)


def _names_of(model):
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _step(model, optimizer, seed):
    torch.manual_seed(seed)
    model(torch.randn(16, 4, dtype=model[0].weight.dtype)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {}),
        (torch.optim.AdamW, {"amsgrad": True, "betas": (0.8, 0.9)}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.NAdam, {}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_optimizer_goes_on_to_the_bit(tmp_path, kind, options, dtype):
    model = _model(dtype)
    optimizer = _optimizer(model, kind, **options)
    for seed in range(3):
        _step(model, optimizer, seed)
    optimizer.param_groups[0]["lr"] = 0.123  # as a schedule does
    tensors, state = checkpoint.optimizer_tensors(optimizer, _names_of(model))
    weights = {f"policy.{name}": value for name, value in model.state_dict().items()}
    checkpoint.save(tmp_path, 3, tensors | weights, {"optimizer": state})

    found = checkpoint.load_newest(tmp_path)
    again = _model(dtype)
    again.load_state_dict({name: found.tensors[f"policy.{name}"] for name in again.state_dict()})
    other = _optimizer(again, kind, **options)
    checkpoint.load_optimizer(other, found.tensors, found.state["optimizer"], _names_of(again))

    assert other.param_groups[0]["lr"] == 0.123 and other.param_groups[1]["lr"] == 0.5
    for seed in range(3, 6):
        _step(model, optimizer, seed)
        _step(again, other, seed)
    for one, two in zip(model.parameters(), again.parameters()):
        assert torch.equal(one, two)
        for key, value in optimizer.state[one].items():
            assert type(other.state[two][key]) is type(value)
            same = (
                torch.equal(value, other.state[two][key]) if torch.is_tensor(value) else value == other.state[two][key]
            )
            assert same, key
            if torch.is_tensor(value):
                assert value.dtype == other.state[two][key].dtype


def test_a_learning_rate_held_as_a_tensor_comes_back_as_one(tmp_path):
    model = _model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.1), capturable=False, foreach=False)
    _step(model, optimizer, 0)
    tensors, state = checkpoint.optimizer_tensors(optimizer, _names_of(model))
    checkpoint.save(tmp_path, 1, tensors, state)
    found = checkpoint.load_newest(tmp_path)
    checkpoint.load_optimizer(optimizer, found.tensors, found.state, _names_of(model))
    assert torch.equal(optimizer.param_groups[0]["lr"], torch.tensor(0.1))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_moments_in_another_precision_than_the_weights_are_not_cast():
    model = _model(torch.bfloat16)
    optimizer = _optimizer(model)
    _step(model, optimizer, 0)
    for values in optimizer.state.values():
        values["exp_avg"] = torch.randn_like(values["exp_avg"], dtype=torch.float32)
    tensors, state = checkpoint.optimizer_tensors(optimizer, _names_of(model))
    kept = optimizer.state[model[0].weight]["exp_avg"]
    checkpoint.load_optimizer(optimizer, tensors, state, _names_of(model))
    assert torch.equal(optimizer.state[model[0].weight]["exp_avg"], kept)  # torch's own load casts to bfloat16


def test_an_optimizer_of_another_model_is_refused():
    model, other = _model(), torch.nn.Linear(2, 2)
    optimizer = _optimizer(model)
    tensors, state = checkpoint.optimizer_tensors(optimizer, _names_of(model))
    different = torch.optim.AdamW(other.parameters())
    with pytest.raises(RunError, match="the optimizer's parameters are not the checkpoint's"):
        checkpoint.load_optimizer(different, tensors, state, _names_of(other))


def test_parameters_that_never_had_a_gradient_have_no_state():
    model = _model()
    optimizer = _optimizer(model)
    model[0](torch.randn(2, 4)).sum().backward()
    optimizer.step()
    tensors, state = checkpoint.optimizer_tensors(optimizer, _names_of(model))
    checkpoint.load_optimizer(optimizer, tensors, state, _names_of(model))
    assert len(optimizer.state) == 2
