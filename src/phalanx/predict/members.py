"""Members of a soft vote: trained runs, rebuilt from their folders alone, and folders of probability maps."""

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import yaml
from torch import Tensor

from ..config import Config, nearest, validate
from ..data.images import Grid
from ..data.preprocess import preprocess
from ..data.records import Record
from ..data.traits import read_sheet, sheet_values
from ..engine.checkpoint import load_weights
from ..engine.device import Device, open_device
from ..errors import ConfigError, DataError
from ..models.build import build, one_line
from ..models.film import Informed
from ..models.segmenter import dry_run
from .maps import FLOOR, Maps, Mean
from .probability import Predicts, probabilities, views_of
from .stored import MapsFolder
from .windows import by_windows, places


class SoftMember(Protocol):
    """Gives probability maps; what a soft vote averages."""

    name: str
    classes: list[str]
    hashes: dict[str, str]  # of the weights of each fold behind it, by folder
    key: str  # tells whether another member would give the same maps
    needs_images: bool

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[Maps]:
        """Maps of each image uint8[H, W]."""
        ...


class FoldMember:
    """One fold of a run, or a run trained on everything.

    Args:
        changes: of the run's options of prediction.
        root: the data set whose metadata sheet tells of the patients; None: that of training.

    Raises:
        ConfigError: the folder holds no such weights, or the network does not run at the sizes asked for.
        DataError: there is no sheet, and the run was trained with one.
    """

    needs_images = True

    def __init__(
        self, folder: Path, *, weights: str, device: Device, changes: dict[str, Any], root: Path | None = None
    ):
        config = read_config(folder)
        self.predict = config.predict.model_copy(update=changes)
        found = load_weights(folder / weights)
        if found is None:
            raise ConfigError(f"{folder}: has no {weights} weights yet; train it first (bash train.sh)")
        if weights == "last" and not (folder / "final").is_dir():
            print(f"note: {folder}: unfinished; predicts with the weights of its last checkpoint", flush=True)
        self.name, self.config, self.classes = str(folder), config, config.data.classes
        self.hashes = {str(folder): found[1]}
        index = {name: i for i, name in enumerate(self.classes)}
        self.pairs = [(index[a], index[b]) for a, b in config.data.pairs]
        self.side, self.device, self.views = config.data.size, device, views_of(self.predict.tta)
        self.sides = self.predict.sides(config.data.size)
        network = build(config.model, classes=len(self.classes), size=config.data.size, pretrained=False)
        network.load_state_dict(found[0])
        self.network = network.eval()
        self._check_sizes()
        self.network.to(device.torch)
        self.sheet = None
        if config.model.metadata:
            data = config.data.model_copy(update={"root": root or config.data.root})
            self.sheet = read_sheet(data, config.model.metadata)
            self.strangers: set[str] = set()
        told = None if self.sheet is None else self.sheet.to_csv()
        ways = self.predict.model_dump(mode="json", exclude={"batch", "oof_prob", "threshold"})
        seen = config.data.model_dump(mode="json", include={"size", "blackout", "background", "pairs", "classes"})
        self.key = digest([found[1], ways, seen, told, device.torch.type, device.precision])

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[Maps]:
        ready = [preprocess(image, self.config.data) for image in images]  # as in training
        traits = None if self.sheet is None else self._traits(records)
        means = [Mean((image.shape[0], image.shape[1])) for image in images]
        for side in self.sides:
            placed = np.stack([Grid.of(image, side).place(image) for image in ready])
            for mean, maps in zip(means, self._on_grid(ready, placed, traits), strict=True):
                mean.add(maps)
        return [mean.on_finest() for mean in means]

    def _on_grid(self, images: Sequence[np.ndarray], placed: np.ndarray, traits: Tensor | None) -> list[Maps]:
        """Maps of images uint8[B, n, n] on a grid, whole or in windows."""
        window = self.predict.window
        if window is None:
            return self._ask(placed, traits)
        found = []
        for number, (image, on_grid) in enumerate(zip(images, placed, strict=True)):
            row = None if traits is None else traits[number : number + 1]
            corners = places(image, Grid.of(image, len(on_grid)), window)
            predict = partial(self._ask, traits=row)
            found.append(
                by_windows(
                    on_grid, corners, window, classes=len(self.classes), batch=self.predict.batch, predict=predict
                )
            )
        return found

    def _ask(self, pictures: np.ndarray, traits: Tensor | None) -> list[Maps]:
        """Maps of uint8[B, S, S]; ``traits`` float32[B, T], or one row for all."""
        batch = torch.from_numpy(pictures)[:, None].to(self.device.torch)
        network: Predicts = self.network
        if traits is not None:
            network = Informed(self.network, traits.expand(len(batch), -1))
        with torch.inference_mode(), self.device.autocast():
            return probabilities(network, batch, self.views, self.pairs, min(FLOOR, self.predict.threshold))

    def _traits(self, records: Sequence[Record]) -> Tensor:
        """float32[B, T] of the images' patients on the device."""
        assert self.sheet is not None  # asked for only then
        groups = {record.group for record in records} - set(self.sheet.index)
        if groups and not self.strangers:
            print(f"note: {self.name}: {min(groups)} has no row in the metadata sheet; taken as missing", flush=True)
        self.strangers |= groups
        return torch.from_numpy(sheet_values(records, self.sheet, self.config.model.metadata)).to(self.device.torch)

    def _check_sizes(self) -> None:
        """Tries the network, without data, at sizes other than that of training."""
        window = self.predict.window
        for size in {*([window.size] if window else self.sides)} - {self.side}:
            try:
                dry_run(self.network, torch.zeros(1, 1, size, size, dtype=torch.uint8))
            except Exception as error:  # a third party's assertion is an answer to the user's choice
                keys = "predict.window" if window else "predict.grid and predict.scales"
                raise ConfigError(
                    f"{self.name}: its network does not run on {size} x {size} pixels, as {keys} ask for: "
                    f"{one_line(error)}"
                ) from None


class RunMember:
    """All folds of a run, averaged."""

    needs_images = True

    def __init__(self, name: str, folds: Sequence[FoldMember]):
        self.name, self.folds, self.classes = name, folds, folds[0].classes
        self.hashes = {key: value for fold in folds for key, value in fold.hashes.items()}
        self.key = digest([fold.key for fold in folds])

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[Maps]:
        means = [Mean((image.shape[0], image.shape[1])) for image in images]
        for fold in self.folds:
            for mean, maps in zip(means, fold.maps(records, images), strict=True):
                mean.add(maps)
        return [mean.on_finest() for mean in means]


def digest(value: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


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
) -> RunMember | MapsFolder:
    """A soft member by run name, run folder or probability-map folder. ``root``: as :class:`FoldMember`."""
    if (Path(name) / "maps.json").is_file():
        return MapsFolder(Path(name))
    place = open_device(device, precision)
    folders = fold_folders(name, runs, weights)
    folds = [FoldMember(f, weights=weights, device=place, changes=changes or {}, root=root) for f in folders]
    other = next((fold for fold in folds if fold.classes != folds[0].classes), None)
    if other is not None:
        raise DataError(f"{other.name}: has other classes than {folds[0].name}; they cannot be averaged")
    return RunMember(name, folds)


def open_members(names: Sequence[str], *, threads: int | None = None, **options: Any) -> list[RunMember | MapsFolder]:
    """Members by name, as :func:`open_member`. ``threads``: that torch may use in this process."""
    if threads is not None:
        torch.set_num_threads(threads)
    return [open_member(name, **options) for name in names]
