"""Truth as COCO JSON: polygons, and RLE compressed or not, rasterised as pycocotools does.

The origin of COCO's points is the corner of the first pixel, not its centre as in the competition's files. A polygon
is scaled to the grid and then filled; a run-length mask is resampled by nearest neighbour.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Coco, SegmentData, nearest
from ..errors import DataError, brief
from ..masks.planes import plane_count
from ..runtime.spelling import nfc, on_disk
from . import coco_file, coco_rle
from .coco_file import Entry, Gathered, key_of
from .images import Grid
from .polygons import near
from .records import Record, root_of, scan, some


def options_of(data: Any) -> Coco:
    """Names of the data set's files."""
    return data.coco or Coco()


def train_records(data: SegmentData, without: Collection[str] = ()) -> Sequence[Record]:
    """Images of the training file, sorted by name. An image without annotations has none of the classes.

    Args:
        without: names of images to leave out.

    Raises:
        DataError: a file is missing or is not COCO JSON, names an unknown class, or has a shape that cannot be used.
    """
    options = options_of(data)
    path = root_of(data) / options.train
    entries = _read(path, data, without)
    if data.skip_unlabelled:
        entries = {name: entry for name, entry in entries.items() if entry.shapes}
    return [record._replace(labels=path) for record in records_of(path, entries, data)]


def train_names(data: SegmentData) -> set[str]:
    """Names of all images of the training file."""
    return set(gather(root_of(data) / options_of(data).train, data).entries)


def test_records(path: Path, data: SegmentData) -> Sequence[Record]:
    """Images of a test file or folder, sorted by name, without annotations."""
    if path.is_dir():
        return scan(path)
    return records_of(path, _read(path, data, annotated=False), data)


def ground_truth(path: Path, data: SegmentData, images: Sequence[str]) -> dict[str, Record]:
    """Records of all images of a COCO file by name, whose files need not exist.

    Raises:
        DataError: of the first entry that cannot be used.
    """
    found = gather(path, data)
    if found.problems:
        raise DataError(found.problems[0].text)
    patients = {name: group_of(name, entry, path, options_of(data)) for name, entry in found.entries.items()}
    return {name: Record(name, patient, Path(name), path) for name, patient in patients.items()}


def planes(record: Record, data: SegmentData, grid: Grid) -> np.ndarray:
    """Truth of a record as bit-planes uint8[side, side, P], 0 outside the image."""
    from pycocotools import mask as api

    assert record.labels is not None
    entry = gather(record.labels, data).entries[record.name]
    result = np.zeros((grid.side, grid.side, plane_count(len(data.classes))), np.uint8)
    rows, columns = grid.content
    height, width = entry.size or (grid.height, grid.width)
    grid.same_frame((height, width), f"{record.labels}: {record.name}")
    scale = grid.scale * np.array([grid.width / width, grid.height / height])
    for label, shape, where in entry.shapes:
        bit, plane = np.uint8(1 << label % 8), result[:rows, :columns, label // 8]
        if isinstance(shape, dict):
            plane |= coco_rle.sample(shape, where, grid) * bit
            continue
        for flat in shape:
            points = near(np.asarray(flat, float).reshape(-1, 2) * scale, (rows, columns))
            if len(points) < 3:
                continue
            runs = api.frPyObjects([points.ravel().tolist()], rows, columns)[0]
            x, y, w, h = (int(value) for value in api.toBbox(runs))
            box = np.s_[y : y + h, x : x + w]
            plane[box] |= api.decode(runs)[box] * bit
    return result


def check(record: Record, data: SegmentData) -> None:
    """Raises DataError if a mask of the record cannot be decoded; the rest was checked when the file was read."""
    assert record.labels is not None
    for _, shape, where in gather(record.labels, data).entries[record.name].shapes:
        if isinstance(shape, dict):
            coco_rle.runs(shape, where)


def gather(path: Path, data: SegmentData, annotated: bool = True) -> Gathered:
    """The content of a COCO file, read once per process. Raises as :func:`coco_file.gather`."""
    return coco_file.gather(path, tuple(data.classes), annotated)


def image_of(entry: Entry, folder: Path) -> Path:
    """The image of an entry below the folder that file_name is relative to; it need not exist."""
    literal = folder / str(entry.about["file_name"])
    return literal if literal.is_file() else on_disk(folder, entry.file)


def missing_text(entry: Entry, folder: Path) -> str:
    """What a message about a missing image adds: where a file of that name is, if it is below the folder."""
    parts = [part for part in entry.file.parts if part not in ("/", "..")]
    for begin in range(len(parts)):
        path = on_disk(folder, os.path.join(*parts[begin:]))
        if path.is_file():
            return f" (but {path} is there, so its file_name {brief(entry.about['file_name'])} has another folder)"
    return ""


def records_of(path: Path, entries: Mapping[str, Entry], data: Any) -> Sequence[Record]:
    """The records of entries without their annotations, sorted by name. Raises DataError if an image is missing."""
    options, folder = options_of(data), root_of(data) / options_of(data).images
    records = []
    for name, entry in entries.items():
        image = image_of(entry, folder)
        if not image.is_file():
            raise DataError(
                f"{image}: no such image, but {path.name} lists it{missing_text(entry, folder)}; add it, or correct "
                "data.coco.images (the folder that file_name is relative to)"
            )
        records.append(Record(name, group_of(name, entry, path, options), image, None))
    return some(sorted(records), f"{path}: no image{' with annotations' if data.skip_unlabelled else ''}")


def group_of(name: str, entry: Entry, path: Path, options: Coco) -> str:
    """The patient of an image. Raises DataError if the file does not name it."""
    file, listed = entry.file, entry.about
    if options.group == "image":
        return nfc(file.stem)
    if options.group == "folder":
        if file.parent.name in ("", ".."):
            raise DataError(
                f"{path}: file_name {brief(listed['file_name'])} has no folder that names the patient; name a "
                "key of the images with data.coco.group=KEY, or use data.coco.group=image: each its own patient"
            )
        return nfc(file.parent.name)
    if options.group not in listed:
        raise DataError(
            f"{path}: image {name} has no key {options.group!r} (data.coco.group)"
            f"{nearest(options.group, [*listed, 'folder', 'image'])}"
        )
    group = key_of(listed[options.group])
    if group is None:
        raise DataError(
            f"{path}: image {name} has {brief(listed[options.group])} for its patient ({options.group!r}, which "
            "data.coco.group names); give it a name or a number"
        )
    return group


def _read(path: Path, data: SegmentData, without: Collection[str] = (), annotated: bool = True) -> dict[str, Entry]:
    """The entries of a COCO file by image name. Raises DataError for the first problem of an image not left out."""
    found = gather(path, data, annotated)
    raise_first(found, without)
    return {name: entry for name, entry in found.entries.items() if name not in without}


def raise_first(found: Gathered, without: Collection[str] = ()) -> None:
    """Raises DataError for the first problem of a COCO file, unless it is of an image that is left out."""
    problems = [problem for problem in found.problems if problem.image not in without]
    if problems:
        others = f" ({len(problems)} such problems; phalanx check lists them)" if problems[1:] else ""
        raise DataError(f"{problems[0].text}{others}")
