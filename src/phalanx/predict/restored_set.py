"""Makes a folder of restored images: of each fold of a denoiser, from the images that the fold was trained on."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from ..config import Place, RestoreConfig, Seed, Strict, nearest
from ..data.digests import NAME as DIGESTS
from ..data.digests import Digests, current_digest
from ..data.folds import HEADER as FOLD_HEADER
from ..data.labels import labels_of
from ..data.layouts import LAYOUTS, test_place
from ..data.quarantine import kept_records
from ..data.records import Record, stem_of
from ..data.restored import ABOUT, FOLDS, IMAGES, SEEN, TABLE, RestoredImage, rows_csv
from ..data.root import resolve_root
from ..data.rules import class_names
from ..errors import ConfigError, DataError, OutputError
from ..runs.reader import FoldRun, fold_folders
from ..runtime.device import open_device
from ..runtime.files import format_mark, refuse_link, sha256_file, write_json, write_text
from ..runtime.leftovers import Held
from ..runtime.progress import Progress
from ..runtime.removal import remove_tree
from ..runtime.work import work_folder
from ..submission.table import csv_field
from .restore import DenoiserFold, open_denoiser, restore

FILES = re.compile(rf"{TABLE}|{FOLDS}|{ABOUT}|{IMAGES}(/(fold[0-9]+|all)(/[^/]+\.png)?)?")


class RestoreOptions(Strict):
    """Options of ``phalanx restore``."""

    SPELLED: ClassVar = {"data.root": "root"}

    out: Path
    classes: list[str] | None = None  # null: those that the network was trained on; all: all
    times: Annotated[int, Field(ge=1, le=100)] | None = None  # copies per image; null: one per level of noise
    seed: Seed = 0
    root: Place | None = None
    runs: Path = Path("runs")
    batch: Annotated[int, Field(ge=1, le=65536)] = 16
    device: str = "auto"
    precision: str = "auto"
    progress: bool = True


def restore_run(name: str, options: RestoreOptions) -> str:
    """Writes the restored images of all folds of a run, whole or not at all; returns what was made, in words.

    Raises:
        ConfigError: no such run, or an unknown class. DataError: a file that cannot be used, or changed since training.
        OutputError: ``out`` exists, or lies among the images of the data set.
    """
    out = options.out
    refuse_link(out)
    if out.exists():
        raise OutputError(f"{out}: exists; delete it, or give another out=")
    device = open_device(options.device, options.precision)
    folds = [open_denoiser(folder, device) for folder in fold_folders(name, options.runs)]
    config = folds[0].config
    for fold in folds[1:]:
        if _alike(fold.config) != _alike(config):
            raise DataError(f"{fold.folder}: was trained by another recipe than {folds[0].folder}; train it again")
    config.data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    _refuse_inside(out, config)
    records = kept_records(config.data)
    wanted = _wanted(options.classes, config)
    levels = [config.data.restore.levels[i % len(config.data.restore.levels)] for i in range(_times(options, config))]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with work_folder(
            out, lambda folder: remove_tree(folder, lambda path: FILES.fullmatch(path) is not None)
        ) as work:
            rows = [row for fold in folds for row in _fold(work, fold, records, wanted, levels, config, options)]
            if len({row.image for row in rows}) < len(rows):
                raise DataError(f"{config.data.root}: two images differ in their ending alone; rename one of them")
            _write_tables(work, folds, rows, config, wanted, levels, options.seed)
            work.rename(out)
    except Held:
        raise OutputError(f"{out}: another process is making it; wait for it, or give another out=") from None
    sources = len({row.source for row in rows})
    return (
        f"{out}: {len(rows)} images of {sources} ({', '.join(wanted)}), {len(levels)} per image and fold; train with "
        f"data.restored={out}"
    )


def _remove(folder: Path) -> None:
    remove_tree(folder, lambda path: FILES.fullmatch(path) is not None)


def _alike(config: RestoreConfig) -> dict[str, Any]:
    return config.data.model_dump(mode="json", include={*SEEN, "classes", "restore"}) | {"seed": config.seed}


def _times(options: RestoreOptions, config: RestoreConfig) -> int:
    return len(config.data.restore.levels) if options.times is None else options.times


def _wanted(classes: Sequence[str] | None, config: RestoreConfig) -> list[str]:
    known = config.data.classes
    if classes is None:
        return config.data.restore.classes or known
    if list(classes) == ["all"] and "all" not in known:
        return known
    if unknown := [name for name in classes if name not in known]:
        raise ConfigError(f"classes={unknown[0]}: is not a class{nearest(unknown[0], [*known, 'all'])}")
    return list(classes)


def _refuse_inside(out: Path, config: RestoreConfig) -> None:
    """Raises OutputError if the restored images would be found among those of the data set."""
    for place in (LAYOUTS[config.data.layout].images(config.data), test_place(config.data)):
        if place is not None and out.resolve().is_relative_to(place.resolve()):
            raise OutputError(f"out={out}: lies among the images of the data set ({place}); give a folder elsewhere")


def _fold(
    work: Path, fold: DenoiserFold, records: Sequence[Record], wanted: Sequence[str], levels: Sequence[float],
    config: RestoreConfig, options: RestoreOptions,
) -> list[RestoredImage]:  # fmt: skip
    """Writes the images of a fold; returns their rows.

    Raises:
        DataError: an image that the fold was trained with changed since, or is not in its folds.csv.
    """
    run = FoldRun(fold.folder)
    held_out = {name for name, number in run.folds.items() if number == run.number}
    labels = labels_of(records, config.data)
    columns = [config.data.classes.index(name) for name in wanted]
    names = dict[str, str]()
    chosen = list[Record]()
    for record, label in zip(records, labels, strict=True):
        if record.name not in run.folds:
            raise DataError(f"{record.image}: was not there when {fold.folder} was trained; train it again")
        if record.name not in held_out and (label[columns] == 1).any():
            chosen.append(record)
            names[record.name] = class_names(label, config.data.classes)
    if not chosen:
        raise DataError(f"{fold.folder}: was trained on no image of {', '.join(wanted)}")
    _refuse_changed(fold.folder, chosen)
    rows, folder = [], work / IMAGES / run.name
    folder.mkdir(parents=True)
    with Progress(run.name, len(chosen) * len(levels), unit="image", enabled=options.progress) as bar:
        for copy in restore(fold, chosen, levels, seed=options.seed, batch=options.batch):
            name = f"{stem_of(copy.record.name)}.{run.name}.r{copy.number}.png"
            path = folder / name
            path.write_bytes(encode(copy.restored))  # not synced one by one: the folder takes its name when whole
            rows.append(RestoredImage(
                name, copy.record.name, names[copy.record.name], copy.record.group, run.name, copy.number, copy.noise,
                str(fold.folder.parent), fold.weights, current_digest(copy.record.image), sha256_file(path),
            ))  # fmt: skip
            bar.update()
    return rows


def _refuse_changed(folder: Path, records: Sequence[Record]) -> None:
    """Raises DataError if an image is not the one that the network was trained on."""
    digests = Digests.read(folder / DIGESTS)
    for record in records:
        if record.name in digests and digests[record.name].image != current_digest(record.image):
            raise DataError(f"{record.image}: changed since {folder} was trained; restore the image, or train again")


def encode(image: np.ndarray) -> bytes:
    """An image uint8[H, W] as a PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def _write_tables(
    work: Path, folds: Sequence[DenoiserFold], rows: Sequence[RestoredImage], config: RestoreConfig,
    wanted: Sequence[str], levels: Sequence[float], seed: int,
) -> None:  # fmt: skip
    write_text(work / TABLE, rows_csv(rows))
    run = FoldRun(folds[0].folder)
    lines = [",".join(FOLD_HEADER)]
    lines += [f"{csv_field(n)},{csv_field(run.patients[n])},{number}" for n, number in sorted(run.folds.items())]
    write_text(work / FOLDS, "\n".join(lines) + "\n")
    about: dict[str, Any] = {
        "format": format_mark("restored").split('"')[3],
        "data": config.data.model_dump(mode="json", include=set(SEEN)),
        "network": {str(fold.folder): fold.weights for fold in folds},
        "trained_on": config.data.restore.classes or config.data.classes,
        "restored": list(wanted),
        "levels": list(levels),
        "seed": seed,
        "files": {name: sha256_file(work / name) for name in (TABLE, FOLDS)},
    }
    write_json(work / ABOUT, about)
