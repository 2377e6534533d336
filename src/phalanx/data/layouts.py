"""How data sets lie on disk: for each `data.layout`, which records there are and how their truth is read.

A new layout is one more entry of LAYOUTS. Truth always comes out as bit-planes on a grid, whatever it was.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..config import Data
from ..errors import DataError
from . import coco, masks, records
from .images import Grid
from .polygons import rasterise, read_annotations
from .records import Record


class Layout(NamedTuple):
    """The functions behind a layout; ``data.root`` must be set for the first two.

    Args:
        train: annotated images, sorted by name.
        test: images to predict, sorted by name.
        planes: truth of a record as bit-planes uint8[side, side, P] on a grid. Parts beyond the image are cut off
            or lie beside it, in the grid's padding.
        check: raises DataError where the truth of a record cannot be used.
    """

    train: Callable[[Data], list[Record]]
    test: Callable[[Data], list[Record]]
    planes: Callable[[Record, Data, Grid], np.ndarray]
    check: Callable[[Record, Data], object]


def _competition_planes(record: Record, data: Data, grid: Grid) -> np.ndarray:
    assert record.labels is not None
    polygons = read_annotations(record.labels, data.classes)
    return rasterise(polygons, (grid.side, grid.side), len(data.classes), grid.scale)


def _competition_check(record: Record, data: Data) -> None:
    assert record.labels is not None
    read_annotations(record.labels, data.classes)


LAYOUTS: dict[str, Layout] = {
    "competition": Layout(
        train=lambda data: records.train_records(records.root_of(data), data.skip_unlabelled),
        test=lambda data: records.test_records(records.root_of(data)),
        planes=_competition_planes,
        check=_competition_check,
    ),
    "coco": Layout(coco.train_records, coco.test_records, coco.planes, coco.check),
    "masks": Layout(masks.train_records, masks.test_records, masks.planes, masks.check),
}


def train_records(data: Data) -> list[Record]:
    """Annotated images of a data set, sorted by name.

    Raises:
        DataError: a file or folder is missing or does not fit the layout.
    """
    return LAYOUTS[data.layout].train(data)


def test_records(data: Data) -> list[Record]:
    """Images to predict of a data set, sorted by name. Raises as :func:`train_records`."""
    return LAYOUTS[data.layout].test(data)


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
