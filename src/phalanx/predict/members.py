"""Members of a soft vote: trained runs, rebuilt from their folders alone, and folders of probability maps."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import yaml

from ..config import Config, nearest, validate
from ..data.images import Grid
from ..data.preprocess import preprocess
from ..data.records import Record
from ..data.traits import read_sheet, sheet_values
from ..engine.checkpoint import load_weights
from ..engine.device import Device, open_device
from ..errors import ConfigError, DataError
from ..models.build import build
from ..models.film import Informed
from .probability import probabilities


class SoftMember(Protocol):
    """Gives probability maps; what a soft vote averages."""

    name: str
    classes: list[str]
    hashes: dict[str, str]  # of the weights of each fold behind it, by folder

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Maps float32[C, n, n] of each image uint8[H, W], on a square grid with the image in its corner."""
        ...


class FoldMember:
    """One fold of a run, or a run trained on everything.

    Args:
        root: the data set whose metadata sheet tells of the patients; None: that of training.

    Raises:
        ConfigError: the folder holds no such weights. DataError: there is no sheet, and the run was trained with one.
    """

    def __init__(
        self, folder: Path, *, weights: str, device: Device, changes: dict[str, Any], root: Path | None = None
    ):
        config = read_config(folder)
        predict = config.predict.model_copy(update=changes)
        found = load_weights(folder / weights)
        if found is None:
            raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
        if weights == "last" and not (folder / "final").is_dir():
            print(f"note: {folder}: unfinished; predicts with the weights of its last checkpoint", flush=True)
        self.name, self.config, self.classes = str(folder), config, config.data.classes
        self.hashes = {str(folder): found[1]}
        index = {name: i for i, name in enumerate(self.classes)}
        self.pairs = [(index[a], index[b]) for a, b in config.data.pairs]
        self.tta, self.side, self.device = predict.tta, config.data.size, device
        network = build(config.model, classes=len(self.classes), size=config.data.size, pretrained=False)
        network.load_state_dict(found[0])
        self.network = network.eval().to(device.torch)
        self.sheet = None
        if config.model.metadata:
            data = config.data.model_copy(update={"root": root or config.data.root})
            self.sheet = read_sheet(data, config.model.metadata)
            self.strangers: set[str] = set()

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[np.ndarray]:
        ready = [preprocess(image, self.config.data) for image in images]  # as in training
        placed = np.stack([Grid.of(image, self.side).place(image) for image in ready])
        batch = torch.from_numpy(placed)[:, None].to(self.device.torch)
        with torch.inference_mode(), self.device.autocast():
            network = self.network if self.sheet is None else Informed(self.network, self._traits(records))
            return list(probabilities(network, batch, self.tta, self.pairs).cpu().numpy())

    def _traits(self, records: Sequence[Record]) -> torch.Tensor:
        """float32[B, T] of the images' patients on the device."""
        assert self.sheet is not None  # asked for only then
        groups = {record.group for record in records} - set(self.sheet.index)
        if groups and not self.strangers:
            print(f"note: {self.name}: {min(groups)} has no row in the metadata sheet; taken as missing", flush=True)
        self.strangers |= groups
        return torch.from_numpy(sheet_values(records, self.sheet, self.config.model.metadata)).to(self.device.torch)


class RunMember:
    """All folds of a run, averaged."""

    def __init__(self, name: str, folds: Sequence[FoldMember]):
        self.name, self.folds, self.classes = name, folds, folds[0].classes
        self.hashes = {key: value for fold in folds for key, value in fold.hashes.items()}

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[np.ndarray]:
        per_fold = [fold.maps(records, images) for fold in self.folds]
        return [np.mean(one_image, axis=0) for one_image in zip(*per_fold, strict=True)]


class MapsMember:
    """A folder of stored probability maps, made by ``infer.sh maps=true``."""

    def __init__(self, folder: Path):
        try:
            about = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
            self.classes, self.hashes, self.sizes = about["classes"], about["run_hashes"], about["sizes"]
        except (OSError, ValueError, KeyError):
            raise DataError(f"{folder}: not a folder of probability maps (its maps.json cannot be read)") from None
        self.name, self.folder = str(folder), folder

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._one(record, image) for record, image in zip(records, images, strict=True)]

    def _one(self, record: Record, image: np.ndarray) -> np.ndarray:
        path = self.folder / f"{record.name}.npz"
        size = self.sizes.get(record.name)
        if size is None:
            raise DataError(f"{self.folder}: holds no map of {record.name}; members must cover the same images")
        if tuple(size) != image.shape:
            raise DataError(f"{path}: made from an image of {size[0]} x {size[1]}, {record.image} has {image.shape}")
        try:
            with np.load(path, allow_pickle=False) as stored:
                return stored["maps"].astype(np.float32) / 255
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{path}: not a readable probability map ({error}); make it again") from None


def read_config(folder: Path) -> Config:
    """The configuration a run folder was trained with."""
    path = folder / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        raise ConfigError(f"{folder}: not a run folder (its config.yaml cannot be read)") from None
    return validate(values)


def fold_folders(name: str, runs: Path, weights: str = "final") -> list[Path]:
    """Folders of the trained folds behind a member's name: a run name or one fold's folder.

    Raises:
        ConfigError: nothing of that name, or folds that were begun and not finished, unless ``weights`` are the last.
    """
    place = Path(name) if Path(name).is_dir() else runs / name
    if (place / "config.yaml").is_file():
        return [place]
    folders = sorted(path.parent for path in place.glob("*/config.yaml"))
    if not folders:
        known = sorted(path.name for path in runs.glob("*") if any(path.glob("*/config.yaml"))) if runs.is_dir() else []
        raise ConfigError(f"{name}: no trained run of that name in {runs}{nearest(name, known) if known else ''}")
    unfinished = [folder for folder in folders if not (folder / "final").is_dir()]
    if unfinished and weights != "last":
        raise ConfigError(
            f"{unfinished[0]}: not finished; continue it by the command it was started with, or name the finished "
            f"folds one by one ({', '.join(str(f) for f in folders if f not in unfinished) or 'there are none'}), or "
            "take the weights so far with weights=last"
        )
    return folders


def open_member(
    name: str,
    *,
    runs: Path,
    weights: str = "final",
    device: str = "auto",
    precision: str = "auto",
    changes: dict[str, Any] | None = None,
    root: Path | None = None,
) -> RunMember | MapsMember:
    """A soft member by run name, run folder or probability-map folder. ``root``: as :class:`FoldMember`."""
    if (Path(name) / "maps.json").is_file():
        return MapsMember(Path(name))
    place = open_device(device, precision)
    folders = fold_folders(name, runs, weights)
    folds = [FoldMember(f, weights=weights, device=place, changes=changes or {}, root=root) for f in folders]
    other = next((fold for fold in folds if fold.classes != folds[0].classes), None)
    if other is not None:
        raise DataError(f"{other.name}: has other classes than {folds[0].name}; they cannot be averaged")
    return RunMember(name, folds)
