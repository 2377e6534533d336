"""Weights and training state on disk: tensors in safetensors, scalars in JSON, nothing pickled.

A checkpoint is a folder. It is written aside with a manifest of its files' hashes, synced, and renamed into
place; the previous one is retained. A kill at any moment leaves at least one of the two whole, and a cut or altered
file is noticed by its hash and the one before is used.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import TrainingError, one_line
from ..runtime import fence
from ..runtime.files import disk_text, move, refuse_link, sha256_file, sync_folder, why_unwritable
from ..runtime.reading import as_hash, as_mapping, as_name, fresh, read_mapping
from ..runtime.removal import remove_folder
from ..runtime.terminal import say

Tensors = dict[str, Tensor]
MANIFEST = "state.json"
# in which damage shows; the last four are of safetensors, whose headers name kinds and sizes of tensors
DAMAGE = (OSError, ValueError, SafetensorError, KeyError, RuntimeError, MemoryError, TypeError)
PART = re.compile(r"\w+\.safetensors")  # a manifest names no file elsewhere
FILES = re.compile(r"state\.json|.+\.safetensors|\.tmp\w+")  # the last is what safetensors renames when it is whole
UNFINISHED = re.compile(r"(last|best|final)(\.\d+)?\.new")  # folders of a training that were not yet in place
NUMBERS = {int: torch.int64, float: torch.float64, bool: torch.bool}


def save(folder: Path, tensors: dict[str, Tensors], state: dict[str, Any]) -> None:
    """Writes ``folder``/<part>.safetensors for each part and state.json, atomically, keeping the one before.

    Raises:
        TrainingError: a weight is not finite, or the disk is full; ``folder`` is as it was then.
        OutputError: a folder to be replaced is a link, or contains a file that does not belong to a checkpoint.
    """
    for part, values in tensors.items():
        bad = next((k for k, v in values.items() if v.is_floating_point() and not torch.isfinite(v).all()), None)
        if bad is not None:
            raise TrainingError(f"{folder}: {part} tensor {bad} is not finite; not saved, the last checkpoint holds")
    number = fence.number_of(folder)  # with which no other process writes aside, however late it is
    aside = folder.with_name(f"{folder.name}.new" if number is None else f"{folder.name}.{number}.new")
    before = folder.with_name(f"{folder.name}.before")
    try:
        refuse_link(folder)
        remove(aside)
        _write(aside, tensors, state)
        if folder.exists():
            remove(before)
            move(folder, before)
        move(aside, folder)
        sync_folder(folder.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            remove(aside)
        if (cause := why_unwritable(error)) is None:
            raise
        raise TrainingError(disk_text(folder, cause)) from None


def _write(folder: Path, tensors: dict[str, Tensors], state: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    hashes = {}
    for part, values in tensors.items():
        path = folder / f"{part}.safetensors"
        # a contiguous copy each: views and channels-last tensors cannot be stored as they lie
        save_file({k: v.detach().to("cpu", copy=True).contiguous() for k, v in values.items()}, path)
        path.chmod(0o644)  # safetensors leaves it to the owner alone
        hashes[path.name] = sha256_file(path)
        _sync(path)
    about = {"files": hashes, **state}
    text = json.dumps(about | {"digest": _digest_of(about)}, indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    _sync(folder / MANIFEST)
    sync_folder(folder)


def remove(place: Path) -> None:
    """Removes a checkpoint if it is there.

    Raises:
        OutputError: it is a link, or contains a file that does not belong to a checkpoint.
    """
    remove_folder(place, lambda name: FILES.fullmatch(name) is not None)


def load(
    folder: Path, *, parts: Sequence[str] = (), run: str | None = None
) -> tuple[dict[str, Tensors], dict[str, Any]] | None:
    """Tensors by part and the state of the newest whole checkpoint at ``folder``, or None if there is none.

    Args:
        parts: what it must hold.
        run: what its state must name as ``run``, if it names one.

    Raises:
        TrainingError: there are checkpoints, but none of them is whole.
    """
    found = _newest(folder, "Restore one from a copy, or delete the run's folder to train it again", parts, run)
    return (found[0], found[1]) if found else None


def load_weights(folder: Path) -> tuple[Tensors, str] | None:
    """The averaged weights of the newest whole checkpoint at ``folder`` and their SHA-256. Raises as :func:`load`."""
    remedy = "The command that trained it makes final again from last; else restore it from a copy"
    found = _newest(folder, remedy, ("weights",))
    return (found[0]["weights"], found[2]["weights.safetensors"]) if found else None


def copy_weights(folder: Path, target: Path) -> str:
    """Copies the averaged weights of the newest whole checkpoint at ``folder`` into a checkpoint of their own, without
    the optimizer and all else that training needs; returns their SHA-256.

    Raises:
        TrainingError: there is no whole checkpoint, or the disk is full.
    """
    found = load_weights(folder)
    if found is None:
        raise TrainingError(f"{folder}: no such checkpoint")
    name = "weights.safetensors"
    places = (folder / name, folder.with_name(f"{folder.name}.before") / name)
    source = next(path for path in places if path.is_file() and sha256_file(path) == found[1])
    try:
        target.mkdir(parents=True)
        shutil.copyfile(source, target / name)
        about = {"files": {name: found[1]}}
        text = json.dumps(about | {"digest": _digest_of(about)}, indent=1)
        (target / MANIFEST).write_text(text, encoding="utf-8")
    except OSError as error:
        if (cause := why_unwritable(error)) is None:
            raise
        raise TrainingError(disk_text(target, cause)) from None
    return found[1]


def whole(folder: Path) -> bool:
    """Whether there is a checkpoint at ``folder`` with exactly the contents it was written with."""
    try:
        _, hashes = _manifest(folder)
        _check_files(folder, hashes)
    except DAMAGE:
        return False
    return True


def _newest(
    folder: Path, remedy: str, parts: Sequence[str] = (), run: str | None = None
) -> tuple[dict[str, Tensors], dict[str, Any], dict[str, str]] | None:
    """Tensors by part, state, and SHA-256 by file."""
    trouble: list[str] = []
    for place in (folder, folder.with_name(f"{folder.name}.before")):
        if not (place.is_dir() or place.is_symlink()):
            continue
        try:
            state, hashes = _manifest(place)
            if run is not None and state.get("run", run) != run:
                raise ValueError(f"it is of {as_name(state['run'])}")
            absent = [part for part in parts if f"{part}.safetensors" not in hashes]
            if absent:
                raise ValueError(f"holds no {' and no '.join(absent)}")
            _check_files(place, hashes)
            tensors = {Path(name).stem: fresh(partial(load_file, place / name)) for name in hashes}
            _check_finite(tensors)
            if trouble:
                say(f"{trouble[0]}; continuing from the checkpoint before it")
            return tensors, state, hashes
        except DAMAGE as error:
            trouble.append(f"{place}: not a whole checkpoint ({one_line(_reason(error))})")
    if trouble:
        raise TrainingError(f"{'; '.join(trouble)}. {remedy}")
    return None


def _manifest(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """State and SHA-256 by file; ValueError or the like if it was altered."""
    about = read_mapping(folder / MANIFEST)
    if about.pop("digest", None) != _digest_of(about):
        raise ValueError(f"{MANIFEST} was altered")
    hashes = as_mapping(about.pop("files", None), "files")
    for name, digest in hashes.items():
        if not PART.fullmatch(name):
            raise ValueError(f"{MANIFEST} names the file {name!r}, which is not of a checkpoint")
        as_hash(digest)
    return about, hashes


def _check_finite(tensors: dict[str, Tensors]) -> None:
    for part, values in tensors.items():
        for name, value in values.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise ValueError(f"{part} tensor {name} is not finite")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name}: {error.strerror}" if error.filename else str(error)
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _check_files(folder: Path, hashes: dict[str, str]) -> None:
    for name, digest in hashes.items():
        if sha256_file(folder / name) != digest:
            raise ValueError(f"{name} was cut off or altered")


def _digest_of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def check_fit(folder: Path, saved: Tensors, network: nn.Module) -> None:
    """Raises TrainingError unless the saved tensors are those of the network, by name, shape and type."""
    check_same(folder, saved, network.state_dict())


def check_same(folder: Path, saved: Tensors, expected: Tensors) -> None:
    """As :func:`check_fit`, with the tensors of a network."""
    own, other = ({name: _kind(value) for name, value in found.items()} for found in (expected, saved))
    if own != other:
        name = next(name for name in {**own, **other} if own.get(name) != other.get(name))
        there, here = (kinds.get(name, "missing") for kinds in (other, own))
        raise TrainingError(
            f"{folder}: is of another model: {one_line(name, 100)} is {there} there and {here} in this recipe. Use the "
            "version that began the run (environment.json), or delete its folder to train it again"
        )


def _kind(value: Tensor) -> str:
    """Shape, and type unless it is one of real numbers, which the network casts to its own."""
    shape = str(tuple(value.shape))
    return shape if value.is_floating_point() else f"{shape} of {str(value.dtype).removeprefix('torch.')}"


def optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state: ``<parameter>|<moment>``, and ``[<group>]|step`` of a counter that a group holds.

    A Python number becomes a 64-bit tensor whose name ends in its type, ``|int``, ``|float`` or ``|bool``.
    """
    names = {id(p): name for name, p in network.named_parameters()}
    values = {f"{names[id(p)]}|{key}": v for p, moments in optimizer.state.items() for key, v in moments.items()}
    values |= {f"[{i}]|step": group["step"] for i, group in enumerate(optimizer.param_groups) if "step" in group}
    numbers = {key: value for key, value in values.items() if type(value) in NUMBERS}
    exact = {f"{k}|{type(v).__name__}": torch.tensor(v, dtype=NUMBERS[type(v)]) for k, v in numbers.items()}
    return exact | {key: value for key, value in values.items() if key not in numbers and value is not None}


def restore_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Restores :func:`optimizer_tensors`: each moment on its parameter's device and in its memory format, steps on
    the CPU unless the optimizer is fused."""
    parameters = dict(network.named_parameters())
    fused = {id(p) for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    for key, value in tensors.items():
        name, moment, *number = key.split("|")
        if name.startswith("["):
            optimizer.param_groups[int(name[1:-1])][moment] = value.item() if number else value
            continue
        parameter = parameters[name]
        if number:
            optimizer.state[parameter][moment] = value.item()
            continue
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        on_cpu = moment == "step" and id(parameter) not in fused
        optimizer.state[parameter][moment] = value.detach() if on_cpu else value.to(parameter.device)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
