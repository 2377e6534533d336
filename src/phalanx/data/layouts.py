"""One table of layouts: how the records and the truth of a data set are read, for each ``data.layout``.

A new layout is one more entry of LAYOUTS. Truth is always returned as bit-planes on a grid.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..config import Data, SegmentData
from ..errors import DataError
from ..masks.planes import exclusive
from . import coco, labels, masks, objects, presence, records, regions
from .images import Grid
from .listing import list_files, list_images
from .polygons import rasterise, read_annotations
from .record_list import PathList
from .records import Record


class Layout(NamedTuple):
    """The functions of a layout. ``data.root`` must be set for ``train``, ``names`` and ``test``.

    Attributes:
        train: annotated images, sorted by name, without those of the given names, annotated or not.
        names: names of all training images, annotated or not.
        test_name: file or folder of the images to predict, below the root, which need not exist; None: not configured.
        test: images to predict in that file or folder, sorted by name.
        ground_truth: records of the truth in a file or folder, by image name; the images need not exist.
        expected: the names that ``ground_truth`` looks for, in words.
        planes: truth of a record as bit-planes uint8[side, side, P] on a grid. Parts outside the image are cut off
            or fall into the grid's padding.
        check: raises DataError if the truth of a record cannot be used.
        images: the folder below which all training images are, whatever is listed elsewhere; None: there is none.
        files: those that the truth of a record is read from.
    """

    train: Callable[[Any, Collection[str]], Sequence[Record]]
    names: Callable[[Any], set[str]]
    test_name: Callable[[Any], str | None]
    test: Callable[[Path, Any], Sequence[Record]]
    ground_truth: Callable[[Path, Any, Sequence[str]], dict[str, Record]]
    expected: str
    planes: Callable[[Record, Any, Grid], np.ndarray]
    check: Callable[[Record, Any], object]
    images: Callable[[Any], Path | None]
    files: Callable[[Record, Any], list[Path]] = lambda record, data: [record.labels] if record.labels else []


def _competition_planes(record: Record, data: Data, grid: Grid) -> np.ndarray:
    assert record.labels is not None
    polygons = read_annotations(record.labels, data.classes)
    return rasterise(polygons, (grid.side, grid.side), len(data.classes), grid.scale)


def _competition_check(record: Record, data: Data) -> None:
    assert record.labels is not None
    read_annotations(record.labels, data.classes)


def _table_files(record: Record, data: Any) -> list[Path]:
    found = regions.region_file(record, data)
    return [*([record.labels] if record.labels else []), *([found] if found else [])]


def _table_check(record: Record, data: Any) -> None:
    labels.label_row(record, data)
    if found := regions.region_file(record, data):
        regions.read_regions(found, data)


def _no_masks(place: Path, *others: Any) -> NoReturn:
    raise DataError(f"{place}: has labels of images, not masks; score probabilities by it, not a submission in RLE")


LAYOUTS: dict[str, Layout] = {
    "competition": Layout(
        train=lambda data, without: records.train_records(records.root_of(data), data.skip_unlabelled, without),
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / "train" / "DCM")},
        test_name=lambda data: "test/DCM",
        test=lambda folder, data: records.scan(folder),
        ground_truth=lambda place, data, images: records.by_stem(images, list_files(place, ".json")),
        expected="<patient>/<image>.json",
        planes=_competition_planes,
        check=_competition_check,
        images=lambda data: records.root_of(data) / "train" / "DCM",
    ),
    "coco": Layout(
        train=coco.train_records,
        names=coco.train_names,
        test_name=lambda data: coco.options_of(data).test,
        test=coco.test_records,
        ground_truth=coco.ground_truth,
        expected="an image with that file_name",
        planes=coco.planes,
        check=coco.check,
        images=lambda data: None,
    ),
    "masks": Layout(
        train=masks.train_records,
        names=masks.train_names,
        test_name=lambda data: masks.options_of(data).test,
        test=masks.test_records,
        ground_truth=masks.ground_truth,
        expected="<patient>/<image>.png, or <patient>/<image>/<class>.png with data.masks.kind=classes",
        planes=masks.planes,
        check=masks.check,
        images=lambda data: records.root_of(data) / masks.options_of(data).images,
        files=masks.files,
    ),
    "folders": Layout(
        train=lambda data, without: labels.folder_records(
            records.root_of(data) / labels.folders_of(data).train, data, without
        ),
        names=lambda data: {
            record.name for record in records.listed(records.root_of(data) / labels.folders_of(data).train)
        },
        test_name=lambda data: labels.folders_of(data).test,
        test=lambda folder, data: records.scan(folder),
        ground_truth=_no_masks,
        expected="<class>/<image>",
        planes=labels.empty_planes,
        check=labels.label_row,
        images=lambda data: records.root_of(data) / labels.folders_of(data).train,
        files=lambda record, data: [],  # the label is a folder's name
    ),
    "table": Layout(
        train=labels.table_records,
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / data.table.images)},
        test_name=lambda data: data.table.test,
        test=lambda folder, data: records.scan(folder),
        ground_truth=_no_masks,
        expected="a row per image",
        planes=regions.region_planes,
        check=_table_check,
        images=lambda data: records.root_of(data) / data.table.images,
        files=_table_files,
    ),
    "presence": Layout(
        train=presence.presence_records,
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / "train" / "DCM")},
        test_name=lambda data: "test/DCM",
        test=lambda folder, data: records.scan(folder),
        ground_truth=_no_masks,
        expected="<patient>/<image>.json",
        planes=presence.presence_planes,
        check=labels.label_row,
        images=lambda data: records.root_of(data) / "train" / "DCM",
    ),
    "polygons": Layout(
        train=lambda data, without: records.train_records(records.root_of(data), data.skip_unlabelled, without),
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / "train" / "DCM")},
        test_name=lambda data: "test/DCM",
        test=lambda folder, data: records.scan(folder),
        ground_truth=lambda place, data, images: records.by_stem(images, list_files(place, ".json")),
        expected="<patient>/<image>.json",
        planes=labels.empty_planes,
        check=objects.shapes_of,
        images=lambda data: records.root_of(data) / "train" / "DCM",
    ),
    "coco_boxes": Layout(
        train=objects.coco_records,
        names=lambda data: set(objects.coco_truth(records.root_of(data) / coco.options_of(data).train, data)),
        test_name=lambda data: coco.options_of(data).test,
        test=coco.test_records,
        ground_truth=lambda place, data, images: objects.coco_truth(place, data),
        expected="an image with that file_name",
        planes=labels.empty_planes,
        check=objects.shapes_of,
        images=lambda data: None,
    ),
    "boxes": Layout(
        train=objects.table_records,
        names=lambda data: {record.name for record in records.listed(records.root_of(data) / data.boxes.images)},
        test_name=lambda data: data.boxes.test,
        test=lambda folder, data: records.scan(folder),
        ground_truth=_no_masks,
        expected="a row per box",
        planes=labels.empty_planes,
        check=objects.shapes_of,
        images=lambda data: records.root_of(data) / data.boxes.images,
    ),
}


def train_records(data: Data, without: Collection[str] = ()) -> Sequence[Record]:
    """Annotated images of a data set, sorted by name; see `quarantine.kept_records` for those to train on.

    Args:
        without: names of images to leave out, annotated or not.

    Raises:
        DataError: a file is missing or cannot be used.
    """
    return LAYOUTS[data.layout].train(data, without)


def passed_over(data: Data) -> str:
    """One line about the files among the training images and annotations that are not used; empty if there are none."""
    folder = LAYOUTS[data.layout].images(data)
    if folder is None:
        return ""
    found = list_images(folder)
    parts = [text] if (text := found.to_text(folder)) else []
    if data.layout == "competition":
        labels = records.root_of(data) / "train" / "outputs_json"
        own = (labels / path.parent.name / f"{records.stem_of(path.name)}.json" for path in found.files)
        wanted, there = PathList(labels, own), list_files(labels, ".json")
        if alone := there.without(wanted):
            parts.append(f"{labels}: {len(alone)} annotation(s) without an image ({alone[0].relative_to(labels)})")
        if data.skip_unlabelled and (bare := len(set(wanted.without(there)))):
            parts.append(f"{folder}: {bare} image(s) without an annotation, by data.skip_unlabelled=true")
    return "; ".join(parts)


def train_names(data: Data) -> set[str]:
    """Names of all training images of a data set, annotated or not."""
    return LAYOUTS[data.layout].names(data)


def test_place(data: Data) -> Path | None:
    """File or folder of the images to predict, which need not exist; None: not configured."""
    name = LAYOUTS[data.layout].test_name(data)
    return records.root_of(data) / name if name is not None else None


def test_records(data: Data) -> Sequence[Record]:
    """Images to predict of a data set, sorted by name.

    Raises:
        DataError: the configuration names none, or a file is missing or cannot be used.
    """
    place = test_place(data)
    if place is None:
        section = "coco" if data.layout == "coco_boxes" else data.layout
        raise DataError(f"data.{section}.test: names no file or folder of test images; predict one with images=DIR")
    return LAYOUTS[data.layout].test(place, data)


def truth(record: Record, data: Data, grid: Grid) -> np.ndarray:
    """Truth of a record as bit-planes uint8[side, side, P] on a grid.

    Raises:
        DataError: the record has no annotation, or one that cannot be used.
    """
    if record.labels is None:
        raise DataError(f"{record.image}: has no annotation")
    planes = LAYOUTS[data.layout].planes(record, data, grid)
    return exclusive(planes) if isinstance(data, SegmentData) and data.overlap == "last" else planes


def check(record: Record, data: Data) -> None:
    """Raises DataError if a record's truth cannot be used or its image is empty, without decoding the image."""
    if record.labels is not None:
        LAYOUTS[data.layout].check(record, data)
    if not record.image.stat().st_size:
        raise DataError(f"{record.image}: the file is empty; restore it, or remove it with its annotation")


def files(record: Record, data: Data) -> list[Path]:
    """All files that a record's image and truth are read from."""
    return [record.image, *LAYOUTS[data.layout].files(record, data)]
