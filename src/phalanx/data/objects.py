"""Objects of images: class, box and, if they are drawn, outlines; from polygons, COCO JSON or a CSV of boxes.

Coordinates are pixels of the stored image and lie on pixel edges: the box of the first pixel alone is 0, 0, 1, 1. The
outline of a polygon of the competition's files belongs to the object, so the box ends where its outermost pixels do.
"""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..config import DetectData, nearest
from ..errors import DataError, brief
from ..runtime.spelling import nfc
from ..submission.box_rows import BoxRows, read_rows
from ..submission.boxes import Boxes, BoxSubmission, box_fault
from . import coco, coco_file, coco_rle, records
from .digests import State, state_of
from .images import Grid, image_size
from .label_table import keys_of
from .patients import BOXES_KEY, patient_of_name
from .polygons import outlines_of, read_items
from .records import Record

if TYPE_CHECKING:
    import pandas as pd

REMEDY = "correct or remove it"


class Shape(NamedTuple):
    """One object.

    Attributes:
        label: number of its class.
        box: float64[4], x_min, y_min, x_max, y_max; within the image.
        outlines: float64[N, 2] each, x and y; empty if only the box is known.
        where: its place in a file, for messages.
        margin: pixels by which the object extends beyond its outlines.
    """

    label: int
    box: np.ndarray
    outlines: tuple[np.ndarray, ...]
    where: str
    margin: float = 0.0


def shapes_of(record: Record, data: DetectData, size: tuple[int, int] | None = None) -> list[Shape]:
    """The objects of an image, perhaps none.

    Args:
        size: (height, width) of the image; by default its file is read.

    Raises:
        DataError: the record has no annotation, or an object that is of an unknown class, has no area, is outside the
            image, or is there twice.
    """
    if record.labels is None:
        raise DataError(f"{record.image}: has no annotation")
    size = size or image_size(record.image)
    found = READERS[data.layout](record, data, size)
    seen: dict[tuple[float, ...], str] = {}
    for shape in found:
        key = (shape.label, *np.round(shape.box, 6).tolist())
        if key in seen:
            raise DataError(
                f"{shape.where}: has the class and box of {seen[key].rpartition(': ')[2]}; keep one of them"
            )
        seen[key] = shape.where
    return found


def box_truth(
    found: Sequence[Record], data: DetectData, shapes: Sequence[Sequence[Shape]] | None = None
) -> BoxSubmission:
    """The boxes of records as a ground truth.

    Args:
        shapes: of the records, if they have been read.
    """
    read = [shapes_of(record, data) for record in found] if shapes is None else shapes
    return BoxSubmission(
        "the ground truth",
        tuple(record.name for record in found),
        tuple(data.classes),
        tuple(boxes_of(each) for each in read),
        patients={record.name: record.group for record in found},
    )


def boxes_of(shapes: Sequence[Shape]) -> Boxes:
    """Objects as boxes of score 1."""
    return Boxes.of([shape.box for shape in shapes], classes=[shape.label for shape in shapes])


def object_strata(found: Sequence[Record], data: DetectData) -> "pd.DataFrame":
    """Text by image name, one column per class: with or without; what stratified folds balance."""
    import pandas as pd

    there = [{shape.label for shape in shapes_of(record, data)} for record in found]
    columns = {
        name: [f"{'with' if i in each else 'without'} {name}" for each in there] for i, name in enumerate(data.classes)
    }
    return pd.DataFrame(columns, index=[record.name for record in found])


def class_of(label: str, data: DetectData) -> int | None:
    """Number of the class that a name in a file stands for; None if it is not one.

    Raises:
        DataError: it stands for two classes.
    """
    return _class_of(nfc(label), tuple(data.classes), _patterns(data))


def _patterns(data: DetectData) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(data.labels[name]) if data.labels else () for name in data.classes)


@lru_cache(maxsize=4096)
def _class_of(label: str, classes: tuple[str, ...], patterns: tuple[tuple[str, ...], ...]) -> int | None:
    if not any(patterns):
        return classes.index(label) if label in classes else None
    fits = [i for i, found in enumerate(patterns) if any(fnmatch.fnmatchcase(label, pattern) for pattern in found)]
    if len(fits) > 1:
        raise DataError(
            f"data.labels: {brief(label)} is both {classes[fits[0]]} and {classes[fits[1]]}; give each name one class"
        )
    return fits[0] if fits else None


def known_labels(data: DetectData) -> list[str]:
    """The names that files may have, for messages."""
    return [name for found in data.labels.values() for name in found] if data.labels else list(data.classes)


# polygons, as in the competition


def _polygons(record: Record, data: DetectData, size: tuple[int, int]) -> list[Shape]:
    assert record.labels is not None
    found = []
    for number, item in enumerate(read_items(record.labels)):
        where = f"{record.labels}: annotation {number}"
        label = item.get("label") if isinstance(item, dict) else None
        index = class_of(label, data) if isinstance(label, str) else None
        if isinstance(label, str) and index is None:
            raise DataError(
                f"{where}: unknown label {brief(label)}{nearest(label, known_labels(data))}. Correct it, or add it to "
                "data.classes or data.labels"
            )
        outlines = [one.points + 0.5 for one in outlines_of(item, where, {nfc(str(label)): index or 0})]
        found.append(_drawn(index or 0, outlines, size, f"{where} ({label})", margin=0.5))
    return found


def _drawn(label: int, outlines: Sequence[np.ndarray], size: tuple[int, int], where: str, margin: float = 0.0) -> Shape:
    """An object by its outlines, whose parts outside the image are cut off.

    Args:
        margin: by which it extends beyond its outline, in pixels.
    """
    points = np.concatenate(outlines)
    box = np.concatenate([points.min(0) - margin, points.max(0) + margin])
    if (box[2:] <= box[:2]).any():
        raise DataError(f"{where}: its outline has no area; {REMEDY}")
    limits = np.array([size[1], size[0]], float)
    cut = np.concatenate([np.clip(box[:2], 0, limits), np.clip(box[2:], 0, limits)])
    if (cut[2:] <= cut[:2]).any():
        raise DataError(f"{where}: is outside its image of {size[0]} x {size[1]} pixels (height x width); {REMEDY}")
    inside = tuple(np.clip(one, margin, limits - margin) for one in outlines)
    return Shape(label, cut, inside, where, margin)


# COCO JSON


def _coco_view(path: Path, data: DetectData) -> tuple[str, ...]:
    """The names of the categories that are of a class, for `coco_file.gather`."""
    if data.labels is None:
        return tuple(data.classes)
    every = coco_file.gather(path, tuple(data.classes), boxes=True).categories
    return tuple(name for name in every if class_of(name, data) is not None)


def _coco_entries(path: Path, data: DetectData, without: Collection[str] = ()) -> dict[str, coco_file.Entry]:
    found = coco_file.gather(path, _coco_view(path, data), boxes=True)
    coco.raise_first(found, without)
    return {name: entry for name, entry in found.entries.items() if name not in without}


def coco_records(data: DetectData, without: Collection[str] = ()) -> Sequence[Record]:
    """As `coco.train_records`, of objects that may have a bbox and no segmentation."""
    path = records.root_of(data) / coco.options_of(data).train
    entries = _coco_entries(path, data, without)
    if data.skip_unlabelled:
        entries = {name: entry for name, entry in entries.items() if entry.shapes}
    return [record._replace(labels=path) for record in coco.records_of(path, entries, data)]


def coco_truth(path: Path, data: DetectData) -> dict[str, Record]:
    """Records of all images of a COCO file by name, whose files need not exist."""
    entries = _coco_entries(path, data)
    options = coco.options_of(data)
    return {
        name: Record(name, coco.group_of(name, one, path, options), Path(name), path) for name, one in entries.items()
    }


def _coco(record: Record, data: DetectData, size: tuple[int, int]) -> list[Shape]:
    assert record.labels is not None
    names = _coco_view(record.labels, data)
    entry = _coco_entries(record.labels, data)[record.name]
    height, width = entry.size or size
    grid = Grid(size[0], size[1], max(size))
    grid.same_frame((height, width), f"{record.labels}: {record.name}")
    scale = np.array([size[1] / width, size[0] / height])
    found = []
    for number, shape, where in entry.shapes:
        index = class_of(names[number], data)
        assert index is not None  # _coco_view leaves out others
        if isinstance(shape, dict) and "bbox" in shape:
            x, y, w, h = shape["bbox"]
            found.append(_boxed(index, np.array([x, y, x + w, y + h]) * np.tile(scale, 2), size, where))
        elif isinstance(shape, dict):
            outlines = coco_rle.outlines(coco_rle.sample(shape, where, grid))
            if not outlines:
                raise DataError(f"{where}: its mask is empty; {REMEDY}")
            found.append(_drawn(index, outlines, size, where))
        else:
            outlines = [np.asarray(flat, float).reshape(-1, 2) * scale for flat in shape]
            found.append(_drawn(index, outlines, size, where))
    return found


def _boxed(label: int, box: np.ndarray, size: tuple[int, int], where: str) -> Shape:
    """An object by its box, whose corners may be as far outside the image as rounding takes them."""
    if text := box_fault(box.tolist(), 1.0, size):
        raise DataError(f"{where}: {text}")
    limits = np.array([size[1], size[0]] * 2, float)
    cut = np.clip(box, 0, limits)
    if (cut[2:] <= cut[:2]).any():
        raise DataError(f"{where}: is outside its image of {size[0]} x {size[1]} pixels (height x width); {REMEDY}")
    return Shape(label, cut, (), where)


# a CSV of boxes


def rows_of(path: Path, data: DetectData) -> BoxRows:
    """The rows of a CSV of boxes; read once per state of the file. Raises DataError as `box_rows.read_rows`."""
    return _rows(path, state_of(path), tuple(data.classes), _patterns(data))


@lru_cache(maxsize=8)
def _rows(path: Path, state: State, classes: tuple[str, ...], patterns: tuple[tuple[str, ...], ...]) -> BoxRows:
    return read_rows(path, None if any(patterns) else classes, truth=True)


def table_records(data: DetectData, without: Collection[str] = ()) -> Sequence[Record]:
    """Images of ``data.boxes.images`` with a row in ``data.boxes.train``, sorted by name.

    Raises:
        DataError: a file or folder is missing, a row has no image, or an image no row (unless
            ``data.skip_unlabelled``, which leaves out images without one).
    """
    assert data.boxes is not None  # the configuration fills in the defaults
    root = records.root_of(data)
    path, folder = root / data.boxes.train, root / data.boxes.images
    rows = rows_of(path, data)
    images = records.scan(folder, f"data.boxes.images={data.boxes.images} names it", complete=False)
    keys = keys_of(set(rows.images), [record.name for record in images])
    lost = sorted(set(rows.images) - set(keys.values()) - set(without))
    if lost:
        raise DataError(
            f"{path}: lists {brief(lost[0])}, which is not an image below {folder} ({len(lost)} such); restore it, or "
            "delete its rows"
        )
    images = [record for record in images if record.name not in without]
    lacking = [record.name for record in images if record.name not in keys]
    if lacking and not data.skip_unlabelled:
        raise DataError(
            f"{path}: has no row of {brief(lacking[0])} ({len(lacking)} such image(s)). An image without objects has "
            "one with empty columns; or leave such images out with data.skip_unlabelled=true"
        )
    found = [
        Record(record.name, _patient(record.name, keys[record.name], rows, data), record.image, path)
        for record in images
        if record.name in keys
    ]
    return records.some(found, f"{path}: no image with a row")


def _patient(name: str, key: str, rows: BoxRows, data: DetectData) -> str:
    assert data.boxes is not None
    return nfc(rows.patients.get(key) or patient_of_name(name, data.boxes.group_pattern, BOXES_KEY))


def _table(record: Record, data: DetectData, size: tuple[int, int]) -> list[Shape]:
    assert record.labels is not None
    rows = rows_of(record.labels, data)
    key = keys_of(set(rows.images), [record.name])[record.name]
    boxes = rows.boxes[rows.images.index(key)]
    found = []
    for number, box, line in zip(boxes.classes.tolist(), boxes.corners, rows.lines[key], strict=True):
        where = f"{record.labels}: line {line} (image {brief(key)})"
        index = class_of(rows.classes[number], data)
        if index is None:
            name = rows.classes[number]
            raise DataError(f"{where}: unknown class {brief(name)}{nearest(name, known_labels(data))}")
        found.append(_boxed(index, box, size, where))
    return found


READERS: Mapping[str, Any] = {"polygons": _polygons, "coco_boxes": _coco, "boxes": _table}
