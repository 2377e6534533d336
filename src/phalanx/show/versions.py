"""Finds the versions of a data set that a command names: snapshots, the data set of now, and runs."""

import csv
import hashlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..config import ClassifyData, Config, nearest
from ..data.digests import NAME as DIGESTS
from ..data.digests import Digests
from ..data.snapshot import RESERVED, Earlier, Version, open_snapshot, present, stored_text
from ..data.versions import ImageRow, snapshots_in
from ..errors import ConfigError, DataError
from ..runs.reader import FoldRun, folds_of
from ..runtime.reading import LARGE, read_rows


def open_version(name: str, folder: Path, runs: Path, config: Callable[[], Config]) -> Version:
    """A version by its name.

    Args:
        folder: of the snapshots.
        config: the recipe of the data set of now, called if it is asked for.

    Raises:
        ConfigError: nothing of that name. DataError: it cannot be read.
    """
    if name == RESERVED:
        return present(config(), folder)
    known = snapshots_in(folder)
    if name in known:
        return open_snapshot(name, folder)
    for place in (Path(name), runs / name):
        if (place / "config.yaml").is_file():
            return open_run(FoldRun(place), folder)
        if place.is_dir() and (folds := folds_of(place)):
            return open_run(folds[0], folder)
    raise ConfigError(f"{name}: neither a snapshot in {folder}, nor a run{nearest(name, [*known, RESERVED])}")


def open_run(fold: FoldRun, folder: Path) -> Version:
    """The training images that a run's fold knows, by its digests; labels and pixels as far as snapshots have them.

    Raises:
        DataError: its folder has no digests, or is damaged.
    """
    if not (fold.folder / DIGESTS).is_file():
        raise DataError(f"{fold.folder}: has no {DIGESTS}; it was trained by an earlier version")
    config, digests, patients = fold.config, Digests.read(fold.folder / DIGESTS), fold.patients
    if digests.keys() != patients.keys():
        raise DataError(f"{fold.folder}: {DIGESTS} and folds.csv list other images; restore them from a copy")
    known, stores = Earlier.found(config, folder), dict[str, Path]()
    texts = _label_texts(fold, config)
    rows = {}
    for name, (image, annotation) in digests.items():
        height, width, pixels = known.pixels.get(image, (0, 0, ""))
        labels, store = known.labels.get((name, image, annotation), ("", None))
        if name in texts:
            labels = hashlib.sha256(texts[name].encode()).hexdigest()
        elif store is not None:
            stores[labels] = store
        rows[name] = ImageRow(name, "train", patients[name], "", height, width, image, pixels, annotation, labels)
    own = {hashlib.sha256(text.encode()).hexdigest(): text for text in texts.values()}
    root = config.data.root or Path()
    read = partial(_read, own, stores)
    return Version(str(fold.folder), config.task, list(config.data.classes), root, rows, ("train",), read, fold.folds)


def _read(own: dict[str, str], stores: dict[str, Path], digest: str) -> str:
    return stored_text(stores[digest], digest) if digest in stores else own.get(digest, "")


def _label_texts(fold: FoldRun, config: Config) -> dict[str, str]:
    """Labels of images by name, of the labels.csv of a classifier's fold; those of a control are not the images'."""
    path = fold.folder / "labels.csv"
    data = config.data
    if not path.is_file() or not isinstance(data, ClassifyData) or data.shuffle_labels is not None:
        return {}
    head, *rows = read_rows(path, LARGE, "restore it from a copy") or [[]]
    if head != ["image_name", *data.classes] or any(len(row) != len(head) for row in rows):
        raise DataError(f"{path}: is not the table of labels of the run; restore it from a copy")
    found = {}
    for name, *cells in rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(zip(data.classes, cells, strict=True))
        found[name] = text.getvalue()
    return found
