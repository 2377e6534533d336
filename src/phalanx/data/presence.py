"""Labels of images by their polygons: a class is present if an outline of it is. Files as in the competition."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyData
from . import records
from .groups import check_used, read_groups
from .images import Grid
from .listing import list_files
from .polygons import rasterise, read_annotations
from .records import Record


def presence_records(data: ClassifyData, without: Collection[str] = ()) -> Sequence[Record]:
    """Annotated images of ``<root>/train``, sorted by name; the folder of an image is its patient.

    Args:
        without: names of images to leave out.

    Raises:
        DataError: as :func:`.records.train_records`, or a file of groups that lists none of the images.
    """
    found = records.train_records(records.root_of(data), data.skip_unlabelled, without)
    groups = read_groups(data.groups_file)
    check_used(data.groups_file, groups, [record.name for record in found] if groups else [])
    return [record._replace(group=groups.get(record.name, record.group)) for record in found]


def presence_row(path: Path, data: ClassifyData) -> tuple[float, ...]:
    """1 for each class of which an annotation file has an outline, 0 for the others.

    Raises:
        DataError: the file is missing or cannot be used.
    """
    there = {number for number, _ in read_annotations(path, data.classes)}
    return tuple(float(number in there) for number in range(len(data.classes)))


def presence_planes(record: Record, data: ClassifyData, grid: Grid) -> np.ndarray:
    """The outlines of a record as bit-planes uint8[side, side, P], a bit per class and one that is set everywhere: they
    are the regions of data/regions.py, and every image has them."""
    assert record.labels is not None
    count = len(data.classes)
    planes = rasterise(read_annotations(record.labels, data.classes), (grid.side, grid.side), count + 1, grid.scale)
    planes[:, :, count // 8] |= np.uint8(1 << (count % 8))
    return planes


def presence_truth(place: Path, data: ClassifyData) -> tuple[dict[str, tuple[float, ...]], dict[str, str]]:
    """Labels and patients by image name, without its ending, of a folder of annotation files.

    Raises:
        DataError: a file cannot be used, or two belong to one image.
    """
    groups = read_groups(data.groups_file)
    found = records.by_stem([], list_files(place, ".json"))
    check_used(data.groups_file, groups, found)
    rows = {name: presence_row(record.image, data) for name, record in found.items()}
    return rows, {name: groups.get(name, record.group) for name, record in found.items()}


def has_annotations(folder: Path) -> bool:
    """Whether a folder contains files of annotations, so that it is a truth of this layout."""
    return bool(list_files(folder, ".json"))
