"""The measured regions of images, for the marker loss: one PNG per image, carried as bit-planes with the samples.

Bit r is region r. One more bit is set on the whole image if it has a file at all, so that an image without a region is
not taken for one whose region nobody drew.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyData
from ..errors import DataError, brief
from ..masks.planes import plane_count
from . import records
from .images import Grid
from .mask_files import read_labels
from .records import Record

REMEDY = "make it from this image, or remove it"


def region_file(record: Record, data: ClassifyData) -> Path | None:
    """The PNG of an image's regions; None if it has none, or the data set has no regions."""
    if data.table is None or data.table.regions is None:
        return None
    path = records.root_of(data) / data.table.regions / f"{records.stem_of(record.name)}.png"
    return path if path.is_file() else None


def region_planes(record: Record, data: ClassifyData, grid: Grid) -> np.ndarray:
    """Bit-planes uint8[side, side, P] of an image's regions; one empty plane if the data set has no regions.

    Raises:
        DataError: the file is not a PNG of the image's size, or has a bit that is not a class's.
    """
    if data.table is None or data.table.regions is None:
        return np.zeros((grid.side, grid.side, 1), np.uint8)
    count = data.region_count
    planes = np.zeros((grid.side, grid.side, plane_count(count + 1)), np.uint8)
    path = region_file(record, data)
    if path is None:
        return planes
    values = read_regions(path, data)
    if values.shape != (grid.height, grid.width):
        height, width = values.shape
        raise DataError(f"{path}: is {height} x {width}, and its image is {grid.height} x {grid.width}; {REMEDY}")
    rows, columns = grid.content
    placed = grid.sample(values)
    for bit in range(count):
        there = placed != 0 if data.table.region_kind == "any" else placed >> bit & 1
        planes[:rows, :columns, bit // 8] |= there.astype(np.uint8) << (bit % 8)
    planes[:rows, :columns, count // 8] |= np.uint8(1 << (count % 8))
    return planes


def read_regions(path: Path, data: ClassifyData) -> np.ndarray:
    """uint16[H, W] of a PNG of regions. Raises DataError as :func:`region_planes`."""
    values = read_labels(path)
    count = data.region_count
    if data.table is not None and data.table.region_kind == "bits" and int(values.max()) >> count:
        raise DataError(
            f"{path}: has the value {values.max()}, but {count} classes have {count} bits; {REMEDY}, or give "
            "data.table.region_kind=any"
        )
    return values


def check_regions(found: Sequence[Record], data: ClassifyData) -> None:
    """Raises DataError if the folder of regions is missing, or has no file of any of the images."""
    if data.layout == "presence":  # whose outlines are the regions
        return
    assert data.table is not None
    folder = records.root_of(data) / str(data.table.regions)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of regions; data.table.regions={data.table.regions} names it")
    if not any(region_file(record, data) for record in found):
        name = records.stem_of(found[0].name) if found else "<image>"
        raise DataError(f"{folder}: has no region of any training image; expected {brief(f'{name}.png')} and so on")
