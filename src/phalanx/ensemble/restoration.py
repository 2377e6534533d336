"""Tests what restored training images taught classifiers, on images that neither they nor the denoiser saw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from ..config import Place, Seed, Strict
from ..config.words import split_names
from ..data.images import Grid
from ..data.labels import labels_of, read_labels
from ..data.layouts import test_records
from ..data.quarantine import kept_records
from ..data.records import Record
from ..data.restored import SEEN, read_restored
from ..data.root import resolve_root
from ..errors import ConfigError, DataError
from ..predict.classify import ClassifierFold, open_fold, probabilities_of
from ..predict.restore import Copy, DenoiserFold, open_denoiser, restore
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import Device, open_device
from ..runtime.progress import Progress
from ..scoring.restoration import Called, RestorationReport, report_of
from ..scoring.spectrum import radial_power, spectrum_test
from ..visualize.restored import draw_sheet

LEAST_PATIENTS = 5
Folds = dict[str, dict[str, Any]]


class ShortcutOptions(Strict):
    """Options of ``phalanx shortcut``; the first three are runs that classify."""

    SPELLED: ClassVar = {"class": "label", "data.root": "root"}
    READ: ClassVar = {"others": split_names}

    healthy: str  # trained with restored images of the healthy class alone
    none: str  # trained without restored images
    all: str | None = None  # trained with restored images of every class
    others: list[str] = Field(default=[])  # further controls, such as plain copies or class weights
    label: str = "healthy"
    truth: Path | None = None
    root: Place | None = None
    seed: Seed = 0
    permutations: Annotated[int, Field(ge=99, le=100_000)] = 199
    picture: Path | None = None
    rows: Annotated[int, Field(ge=1, le=50)] = 6
    runs: Path = Path("runs")
    batch: Annotated[int, Field(ge=1, le=65536)] = 32
    device: str = "auto"
    precision: str = "auto"
    progress: bool = True

    @model_validator(mode="after")
    def _distinct(self) -> "ShortcutOptions":
        names = self.named()
        if len(set(names.values())) < len(names):
            raise ValueError("healthy: the same run is given twice")
        if self.picture is not None and self.picture.suffix != ".png":
            raise ValueError(f"picture={self.picture}: expected a file name that ends in .png")
        return self

    def named(self) -> dict[str, str]:
        """Runs by what they are: healthy, none, all, or their own name."""
        first = {"healthy": self.healthy, "none": self.none} | ({"all": self.all} if self.all else {})
        return first | {name: name for name in self.others}


class Part(NamedTuple):
    """A fold with the images that it did not see, and their labels float32[N, C]."""

    denoiser: DenoiserFold
    classifiers: Mapping[str, ClassifierFold]
    records: Sequence[Record]
    labels: np.ndarray


def find_shortcut(name: str, options: ShortcutOptions) -> RestorationReport:
    """Restores images of each fold by its denoiser, and asks the classifiers of the same fold.

    Args:
        name: a run of task=restore.

    Raises:
        ConfigError: no such run, or one that is not what it is given as. DataError: runs that do not belong together.
    """
    device = open_device(options.device, options.precision)
    parts = _parts(name, options, device)
    config = parts[0].denoiser.config
    levels = config.data.restore.levels
    healthy = config.data.classes.index(options.label)
    found, sheet = dict[str, _Image](), list[list[tuple[str, np.ndarray]]]()
    with Progress("restored", sum(len(part.records) for part in parts), unit="image", enabled=options.progress) as bar:
        for part in parts:
            for number, copies in enumerate(_by_image(part, levels, options)):
                record = copies[0].record
                image = found.setdefault(record.name, _Image(record, bool(part.labels[number, healthy] == 0)))
                image.add(part, copies, healthy, device, len(found))
                if len(sheet) < options.rows and (number * 7) % 3 == 0:
                    sheet.append(_row(copies, config.data.classes[int(part.labels[number].argmax())]))
                bar.update()
    images = list(found.values())
    diseased = np.array([image.diseased for image in images])
    patients = [image.record.group for image in images]
    if len(set(patients)) < LEAST_PATIENTS or diseased.all() or not diseased.any():
        raise DataError(f"{name}: {len(images)} images of {len(set(patients))} patients held out, of which some must "
                        f"be {options.label} and some not; train more folds, or name more test images")  # fmt: skip
    plain, restored = (np.stack([image.spectra[i] for image in images]) for i in range(2))
    spectrum = spectrum_test(plain, restored, patients, seed=options.seed, permutations=options.permutations)
    called = [
        Called(run, kind, *(np.stack([image.mean(kind)[i] for image in images]) for i in range(4)))
        for kind, run in options.named().items()
    ]
    if options.picture is not None:
        draw_sheet(options.picture, sheet)
    return report_of(called, diseased, patients, spectrum, options.label, levels)


class _Image:
    """What all folds found about an image."""

    def __init__(self, record: Record, diseased: bool):
        self.record, self.diseased = record, diseased
        self.spectra: tuple[np.ndarray, ...] = ()  # of the plain and of the restored image
        self.calls: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, part: Part, copies: Sequence[Copy], healthy: int, device: Device, number: int) -> None:
        """Adds a fold. The levels of noise take turns in the spectra, image by image."""
        chosen = copies[number % len(copies)]
        if not self.spectra:
            self.spectra = radial_power(chosen.clean), radial_power(chosen.restored)
        side = part.denoiser.config.data.size
        shown = [copies[0].clean, *(copy.restored for copy in copies)]
        batch = torch.from_numpy(np.stack([Grid.of(image, side).place(image) for image in shown])[:, None])
        for kind, fold in part.classifiers.items():
            with torch.no_grad(), device.autocast():
                logits = fold.network.predict(batch.to(device.torch))
            made = probabilities_of(logits, "softmax").double().cpu().numpy()
            calls = (made.argmax(axis=1) == healthy).astype(float)
            turned = ((1 - calls[0]) * calls[1:]).mean()
            self.calls.setdefault(kind, []).append((calls[0], calls[1:], turned, made[0, healthy]))

    def mean(self, kind: str) -> tuple[np.ndarray, ...]:
        """Means over folds of: called healthy as it is, restored, turned; and the probability."""
        return tuple(np.mean([one[i] for one in self.calls[kind]], axis=0) for i in range(4))


def _by_image(part: Part, levels: Sequence[float], options: ShortcutOptions) -> Any:
    """Yields the copies of each image, in the order of the records."""
    copies = list[Copy]()
    for copy in restore(part.denoiser, part.records, levels, seed=options.seed, batch=options.batch):
        copies.append(copy)
        if len(copies) == len(levels):
            yield copies
            copies = []


def _row(copies: Sequence[Copy], label: str) -> list[tuple[str, np.ndarray]]:
    first, last = copies[0], copies[-1]
    tiles = [(f"{label}: {first.record.name}", first.clean)]
    tiles += [(f"restored, noise {copy.noise:g}", copy.restored) for copy in copies]
    return [*tiles, (f"noise {last.noise:g}", last.noisy)]


def _parts(name: str, options: ShortcutOptions, device: Device) -> list[Part]:
    """The folds that all runs have, with what they did not see."""
    denoisers = [open_denoiser(folder, device) for folder in fold_folders(name, options.runs)]
    config = denoisers[0].config
    if options.label not in config.data.classes:
        raise ConfigError(f"class={options.label}: is not a class; known: {', '.join(config.data.classes)}")
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    runs = {kind: fold_folders(run, options.runs) for kind, run in options.named().items()}
    for kind, folders in runs.items():
        _check_kind(kind, folders[0], options)
    records = _tested(data, options) if options.truth else kept_records(data)
    labels = dict(zip((r.name for r in records), _labels(records, data, options), strict=True))
    parts = []
    for denoiser in denoisers:
        fold = FoldRun(denoiser.folder)
        same = {kind: [f for f in folders if f.name == fold.name] for kind, folders in runs.items()}
        if lacking := [options.named()[kind] for kind, folders in same.items() if not folders]:
            raise ConfigError(f"{lacking[0]}: has no {fold.name}, as {name} has; train it, or name single folds")
        opened = {kind: open_fold(folders[0], "final", device) for kind, folders in same.items()}
        for one in opened.values():
            _check_alike(one, denoiser)
        seen = [FoldRun(folder).folds for folder in (denoiser.folder, *(one.folder for one in opened.values()))]
        if options.truth:
            unseen = [r for r in records if not any(r.name in folds for folds in seen)]
        else:
            unseen = [r for r in records if all(folds.get(r.name, -1) == fold.number for folds in seen)]
        if len(unseen) < (len(records) if options.truth else sum(n == fold.number for n in seen[0].values())):
            raise DataError(f"{denoiser.folder}: some of its unseen images were trained on by {options.healthy} or "
                            "another run; all need the same folds")  # fmt: skip
        parts.append(Part(denoiser, opened, unseen, np.array([labels[r.name] for r in unseen])))
    return parts


def _tested(data: Any, options: ShortcutOptions) -> list[Record]:
    assert options.truth is not None
    records = test_records(data)
    labels, groups = read_labels(options.truth, data)
    if lost := next((record.name for record in records if record.name not in labels), None):
        raise DataError(f"truth={options.truth}: has no label of {lost}")
    return [record._replace(group=groups[record.name]) for record in records]


def _labels(records: Sequence[Record], data: Any, options: ShortcutOptions) -> Any:
    if not options.truth:
        return labels_of(records, data)
    found, _ = read_labels(options.truth, data)
    return np.array([found[record.name] for record in records])


def _check_kind(kind: str, folder: Path, options: ShortcutOptions) -> None:
    """Raises ConfigError if a run was not trained on what it is given as."""
    from ..config import ClassifyConfig

    config = FoldRun(folder).config_of(ClassifyConfig)
    if config.model.head != "softmax":
        raise ConfigError(f"{folder}: has head=sigmoid; one class must be the absence of all, as with a softmax")
    place = config.data.restored
    if kind not in ("healthy", "all"):
        if place is not None and kind == "none":
            raise ConfigError(f"none={options.none}: was trained with data.restored={place}; name a run without")
        return
    made = {row.classes for row in read_restored(place).rows} if place is not None else set()
    wanted = {options.label} if kind == "healthy" else set(config.data.classes)
    if made != wanted:
        has = f"restored images of {', '.join(sorted(made))}" if made else "no restored images"
        raise ConfigError(f"{kind}={options.named()[kind]}: was trained with {has}, not of {', '.join(sorted(wanted))}")


def _check_alike(fold: ClassifierFold, denoiser: DenoiserFold) -> None:
    """Raises DataError if a classifier sees other classes or another input than the denoiser makes."""
    for key in (*SEEN, "classes", "colour"):
        was, now = getattr(denoiser.config.data, key), getattr(fold.config.data, key)
        if was != now:
            raise DataError(f"{fold.folder}: has data.{key}={now}, and {denoiser.folder} has {was}; they must agree")
