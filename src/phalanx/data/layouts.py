"""How data sets lie on disk: for each `data.layout`, which records there are and how their truth is read.

A new layout is one more entry of LAYOUTS. Truth always comes out as bit-planes on a grid, whatever it was.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import Data
from ..errors import DataError
from . import coco, masks, records
from .images import Grid
from .polygons import rasterise, read_annotations
from .records import Record


class Layout(NamedTuple):
    """The functions behind a layout; ``data.root`` must be set for the first four.

    Args:
        train: annotated images, sorted by name, without those of the given names, annotated or not.
        names: names of all training images, annotated or not.
        test: images to predict, sorted by name.
        place: the file or folder that tells of them, which need not be there; None: the config names none.
        planes: truth of a record as bit-planes uint8[side, side, P] on a grid. Parts beyond the image are cut off
            or lie beside it, in the grid's padding.
        check: raises DataError where the truth of a record cannot be used.
        files: those that the truth of a record is read from.
    """

    train: Callable[[Data, Collection[str]], list[Record]]
    names: Callable[[Data], set[str]]
    test: Callable[[Data], list[Record]]
    place: Callable[[Data], Path | None]
    planes: Callable[[Record, Data, Grid], np.ndarray]
    check: Callable[[Record, Data], object]
    files: Callable[[Record, Data], list[Path]] = lambda record, data: [record.labels] if record.labels else []


def _competition_planes(record: Record, data: Data, grid: Grid) -> np.ndarray:
    assert record.labels is not None
    polygons = read_annotations(record.labels, data.classes)
    return rasterise(polygons, (grid.side, grid.side), len(data.classes), grid.scale)


def _competition_check(record: Record, data: Data) -> None:
    assert record.labels is not None
    read_annotations(record.labels, data.classes)


LAYOUTS: dict[str, Layout] = {
    "competition": Layout(
        train=lambda data, without: records.train_records(records.root_of(data), data.skip_unlabelled, without),
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / "train" / "DCM")},
        test=lambda data: records.test_records(records.root_of(data)),
        place=lambda data: records.root_of(data) / "test" / "DCM",
        planes=_competition_planes,
        check=_competition_check,
    ),
    "coco": Layout(coco.train_records, coco.train_names, coco.test_records, coco.test_place, coco.planes, coco.check),
    "masks": Layout(
        masks.train_records,
        masks.train_names,
        masks.test_records,
        masks.test_place,
        masks.planes,
        masks.check,
        masks.files,
    ),
}


def train_records(data: Data, without: Collection[str] = ()) -> list[Record]:
    """Annotated images of a data set, sorted by name; see `quarantine.kept_records` for those to train on.

    Args:
        without: names of images to leave out, annotated or not.

    Raises:
        DataError: a file or folder is missing or does not fit the layout.
    """
    return LAYOUTS[data.layout].train(data, without)


def train_names(data: Data) -> set[str]:
    """Names of all training images of a data set, annotated or not."""
    return LAYOUTS[data.layout].names(data)


def test_records(data: Data) -> list[Record]:
    """Images to predict of a data set, sorted by name. Raises as :func:`train_records`."""
    return LAYOUTS[data.layout].test(data)


def test_place(data: Data) -> Path | None:
    """The file or folder that tells of the images to predict, which need not be there; None: none is named."""
    return LAYOUTS[data.layout].place(data)


def truth(record: Record, data: Data, grid: Grid) -> np.ndarray:
    """Truth of a record as bit-planes uint8[side, side, P] on a grid.

    Raises:
        DataError: the record has no annotation, or one that cannot be used.
    """
    if record.labels is None:
        raise DataError(f"{record.image}: has no annotation")
    return LAYOUTS[data.layout].planes(record, data, grid)


def check(record: Record, data: Data) -> None:
    """Raises DataError where a record's truth cannot be used, or its image is empty, without decoding the image."""
    if record.labels is not None:
        LAYOUTS[data.layout].check(record, data)
    if not record.image.stat().st_size:
        raise DataError(f"{record.image}: the file is empty; restore it, or remove it with its annotation")


def files(record: Record, data: Data) -> list[Path]:
    """All files that a record's image and truth are read from."""
    return [record.image, *LAYOUTS[data.layout].files(record, data)]
