"""Resume state, all of it or none: tensors in safetensors, the rest in JSON, no pickle anywhere.

    run/checkpoints/step_000100/tensors.safetensors    every tensor, by name
                                state.json             what is not a tensor
                                manifest.json          step, versions, and size and sha256 of the two; written last

A checkpoint is written under a temporary name, brought to the disk, and renamed; only then are older ones removed. The
loader takes the newest step whose bytes are those of its manifest. The other verb, `export`, makes a plain Hugging Face
folder and lives in export.py.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from heedful.disk import (
    SPACE_MARGIN,
    discarding,
    from_json,
    remove,
    replace_folder,
    require_space,
    sha256,
    sweep,
    sync_file,
    sync_folder,
    temp_path,
    to_json,
    writing,
)
from heedful.errors import RunError
from heedful.export import as_os_error, export, load_info
from heedful.runs import CHECKPOINTS, versions

__all__ = [
    "Checkpoint",
    "export",
    "load_info",
    "load_newest",
    "load_optimizer",
    "load_step",
    "optimizer_tensors",
    "save",
    "steps",
]

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What `save` was given, to the bit.

    Attributes:
        skipped: newer checkpoints that are damaged, each with what is wrong with it.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path
    skipped: list[str] = field(default_factory=list)


# Writing


def save(
    run_dir: Path | str,
    step: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    protect: Collection[int] = (),
) -> Path:
    """Write a checkpoint, then remove all older ones but the newest `keep` and the protected steps.

    The caller holds the run's lock. A checkpoint of the same step is replaced.

    Args:
        tensors: any device, dtype and layout; a tensor under several names is stored once.
        state: values that JSON can hold; floats may be infinite or NaN, tuples come back as lists.
        keep: at least 1, this one included.
        protect: steps that stay whatever their age, such as the best.
    Returns:
        The checkpoint's folder.
    Raises:
        RunError: no space, or the disk refused; what was there before is intact and loads.
    """
    assert keep >= 1, "a run keeps at least the checkpoint it has just written"
    folder = Path(run_dir) / CHECKPOINTS
    with writing(folder):
        folder.mkdir(exist_ok=True)
    sweep(folder, owned=True)
    need = sum(tensor.nbytes for tensor in tensors.values()) * SPACE_MARGIN
    require_space(folder, need)
    target = folder / f"step_{step:06d}"
    temp = temp_path(target)
    with writing(target, need=need), discarding(temp):
        _fill(temp, step, tensors, state)
        replace_folder(temp, target)
    with writing(folder):
        _prune(folder, step, keep, protect)
    return target


def _fill(temp: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """A complete checkpoint under a temporary name; its manifest is the last file, and all of it is on the disk."""
    stored, aliases = _storable(tensors)
    temp.mkdir()
    _write_tensors(temp / TENSORS, stored)
    _write_text(temp / STATE, to_json(state, exact=True))
    files = {name: _fingerprint(temp / name) for name in (TENSORS, STATE)}
    manifest = {"schema": SCHEMA, "step": step, "files": files, "aliases": aliases, "versions": versions()}
    _write_text(temp / MANIFEST, to_json(manifest, indent=2))
    sync_folder(temp)


def _storable(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors as safetensors takes them, on the CPU and none in another's memory; and alias -> the name stored."""
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[Any, str] = {}
    storages: set[Any] = set()
    for name, tensor in tensors.items():
        view = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and view in first:
            aliases[name] = first[view]
            continue
        first[view] = name
        storage = tensor.untyped_storage()
        memory = (tensor.device, storage.data_ptr())
        is_own = storage.nbytes() == tensor.nbytes and memory not in storages and tensor.is_contiguous()
        storages.add(memory)
        value = tensor.detach() if is_own else tensor.detach().clone(memory_format=torch.contiguous_format)
        stored[name] = value.cpu()
    return stored, aliases


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise as_os_error(error) from error
    sync_file(path)


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode())
    sync_file(path)


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _prune(folder: Path, step: int, keep: int, protect: Collection[int]) -> None:
    """Remove old checkpoints; those beyond `step`, which a resumed run passed over as damaged, are left alone."""
    found = _steps_in(folder)
    older = sorted((other for other in found if other <= step), reverse=True)
    for old in set(older[keep:]).difference(protect):
        gone = temp_path(found[old])
        found[old].replace(gone)  # a kill while files vanish must not leave a checkpoint that looks damaged
        remove(gone)


# Reading


def steps(run_dir: Path | str) -> list[int]:
    """Steps that have a checkpoint folder, ascending; damaged ones included."""
    return sorted(_steps_in(Path(run_dir) / CHECKPOINTS))


def load_newest(run_dir: Path | str) -> Checkpoint | None:
    """The newest checkpoint that verifies; None where the run has none at all.

    Damaged ones are warned about and listed in `skipped`; unfinished work of dead processes is swept.

    Raises:
        RunError: there are checkpoints, and all of them are damaged.
    """
    folder = Path(run_dir) / CHECKPOINTS
    sweep(folder)
    found = _steps_in(folder)
    skipped = []
    for step in sorted(found, reverse=True):
        if fault := _fault(found[step], step):
            skipped.append(f"{found[step].name}: {fault}")
            warnings.warn(f"checkpoint {found[step]} is passed over: {fault}", stacklevel=2)
        else:
            return _read(found[step], step, skipped)
    if skipped:
        hint = "restore one, or remove them all to start from step 0"
        raise RunError(f"no checkpoint is whole: {'; '.join(skipped)}", where=str(folder), hint=hint)
    return None


def load_step(run_dir: Path | str, step: int) -> Checkpoint:
    """The checkpoint of one step, such as the best.

    Raises:
        RunError: there is none, or it is damaged.
    """
    folder = Path(run_dir) / CHECKPOINTS
    found = _steps_in(folder)
    if step not in found:
        allowed = ", ".join(map(str, sorted(found))) or "none exists"
        raise RunError(f"no checkpoint of step {step}", where=str(folder), allowed=allowed)
    if fault := _fault(found[step], step):
        raise RunError(f"the checkpoint is damaged: {fault}", where=str(found[step]))
    return _read(found[step], step, [])


def _steps_in(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = ((re.fullmatch(r"step_(\d{6,})", path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in matches if match}


def _fault(path: Path, step: int) -> str:
    """What is wrong with a checkpoint, or nothing."""
    try:
        manifest = from_json((path / MANIFEST).read_bytes())
        if manifest["schema"] != SCHEMA:
            return f"{MANIFEST} has schema {manifest['schema']}, expected {SCHEMA}"
        if manifest["step"] != step:
            return f"{MANIFEST} is of step {manifest['step']}"
        faults = (_file_fault(path / name, manifest["files"][name]) for name in (TENSORS, STATE))
        return next((fault for fault in faults if fault), "")
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} is damaged"


def _file_fault(path: Path, expected: Mapping[str, Any]) -> str:
    if (size := path.stat().st_size) != expected["bytes"]:
        return f"{path.name} has {size} bytes, expected {expected['bytes']}"
    return "" if sha256(path) == expected["sha256"] else f"{path.name} has other bytes than were written (sha256)"


def _read(path: Path, step: int, skipped: list[str]) -> Checkpoint:
    aliases = from_json((path / MANIFEST).read_bytes())["aliases"]
    with safe_open(path / TENSORS, framework="pt") as file:
        # cloned out of the mapped file, which pruning may remove
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    tensors |= {alias: tensors[name] for alias, name in aliases.items()}
    return Checkpoint(step, tensors, from_json((path / STATE).read_bytes()), path, skipped)


# Optimizers


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[int, str]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors and JSON, for `save`.

    Args:
        names: id(parameter) -> its name, which must outlive the process.
    Returns:
        Tensors named "optimizer/<parameter>/<key>", and the parameter groups with what else there is.
    """
    tensors: dict[str, Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for parameter, values in optimizer.state.items():
        name = names[id(parameter)]
        rest[name] = {key: value for key, value in values.items() if not isinstance(value, Tensor)}
        tensors |= {f"optimizer/{name}/{k}": value for k, value in values.items() if isinstance(value, Tensor)}
    groups = [_group_settings(group, names) for group in optimizer.param_groups]
    return tensors, {"groups": groups, "rest": rest}


def _group_settings(group: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    settings = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
    return settings | {"params": [names[id(parameter)] for parameter in group["params"]]}


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    names: Mapping[int, str],
) -> None:
    """Put back what `optimizer_tensors` gave, to the bit, step counters included.

    Unlike torch's load_state_dict, no value is cast to its parameter's dtype, and parameters are matched by name.

    Raises:
        RunError: the optimizer has other parameter groups than the saved one.
    """
    for group, saved in _paired_groups(optimizer, state["groups"], names):
        for key, value in saved.items():
            if key != "params":
                group[key] = _like(group[key], value)
    optimizer.state.clear()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if names[id(parameter)] in state["rest"]:
                optimizer.state[parameter] = _parameter_state(group, parameter, names, tensors, state["rest"])


def _paired_groups(optimizer: torch.optim.Optimizer, saved: list, names: Mapping[int, str]):
    ours = [[names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    theirs = [group["params"] for group in saved]
    if ours != theirs:
        flat_ours, flat_theirs = {n for g in ours for n in g}, {n for g in theirs for n in g}
        differ = sorted(flat_ours ^ flat_theirs)[:5] or "their order"
        raise RunError(f"the optimizer's parameters are not the checkpoint's: {differ} differ")
    return zip(optimizer.param_groups, saved)


def _like(current: Any, value: Any) -> Any:
    """A stored setting as the optimizer had it: JSON knows no tuples, and a learning rate may be a tensor."""
    if isinstance(current, Tensor):
        return torch.tensor(value, dtype=current.dtype, device=current.device)
    return tuple(value) if isinstance(current, tuple) else value


def _parameter_state(group, parameter: Tensor, names, tensors: Mapping[str, Tensor], rest) -> dict[str, Any]:
    name = names[id(parameter)]
    prefix = f"optimizer/{name}/"
    values = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    on_host = not (group.get("capturable") or group.get("fused"))  # where torch keeps AdamW's step counter
    moved = {k: v.clone() if k == "step" and on_host else v.to(parameter.device, copy=True) for k, v in values.items()}
    return moved | rest[name]
