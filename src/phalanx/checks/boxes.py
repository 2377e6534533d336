"""The check of a data set with objects: its files and images, each object, and what only several of them show."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import DetectData
from ..data.images import Grid, image_size
from ..data.items import Items
from ..data.layouts import LAYOUTS, test_place, train_names, train_records
from ..data.listing import SUFFIXES
from ..data.objects import Shape, boxes_of, shapes_of
from ..data.quarantine import read_quarantine
from ..data.record_list import RecordList
from ..data.records import Record, fault_of_name, listed, root_of, stem_of
from ..errors import DataError
from ..masks.box_geometry import pairwise_iou
from ..runtime.processes import process_imap
from ..runtime.spelling import on_disk
from .annotation import REDRAW
from .compare import duplicates, mixed_forms, near_duplicates, near_pairs, patients_in_both
from .files import bad_names, duplicate_names, passed_over, similar_names
from .findings import Finding, Report, ranked
from .inspected import Inspected
from .inspection import Inspection
from .pixels import inspect_file

FEW = 5  # objects of a class, below which its scores are mostly noise
TINY = 4.0  # pixels of the input: a narrower object is hardly seen
ALIKE = 0.9  # IoU of two boxes of an image from which they may be one object
ANNOTATE = "Add the annotation, or leave such images out with data.skip_unlabelled=true"


def check(data: DetectData, *, workers: int = -1, progress: bool = True) -> Report:
    """The findings of every image and object of ``data.root``, train and test.

    Args:
        workers: processes; -1: one per core.

    Raises:
        DataError: no image was found and no finding explains it.
    """
    root = root_of(data)
    quarantine = read_quarantine(data.quarantine, train_names(data)) if data.quarantine else {}
    items, findings = _items(data, quarantine)
    findings += passed_over(data)
    if not items and not findings:
        raise DataError(f"{root}: no images in {LAYOUTS[data.layout].images(data)} ({', '.join(SUFFIXES)})")
    for part in ("train", "test"):
        records = RecordList(root, items.of(part))
        findings += [*duplicate_names(records), *similar_names(records), *bad_names(records, root)]
    items = items.without(row for row, one in enumerate(items.records) if fault_of_name(one, root))
    checked = items
    if quarantine:
        checked = Items(root, (item for item in items if item[1] == "test" or item[0].name not in quarantine))
    inspections = Inspected(checked)
    for inspection in process_imap(_inspect, checked, workers=workers, name="check", unit="image", progress=progress):
        inspections.add(inspection)
        findings += inspection.findings
    counts, empty, total = Counter[int](), 0, 0
    for record, split in checked:
        if split == "train" and record.labels is not None:
            try:
                shapes = shapes_of(record, data)
                counts.update(shape.label for shape in shapes)
                empty, total = empty + (not shapes), total + 1
                findings += doubtful(record, shapes, data)
            except DataError as error:
                text = str(error).removeprefix(f"{record.labels}: ")
                findings.append(Finding(str(record.labels), "error", "bad-annotation", text, REDRAW, record.name))
    findings += [*duplicates(inspections), *near_duplicates(list(near_pairs(inspections)))]
    findings += [
        *patients_in_both(inspections),
        *mixed_forms(inspections),
        *rare_objects(counts, empty, total, data.classes),
    ]
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: checked.count(split) for split in ("train", "test")}
    out = sorted(record.name for record in items.of("train") if record.name in quarantine) if quarantine else []
    return Report(str(root), images, ranked(findings), out)


def _inspect(item: tuple[Record, str]) -> Inspection:
    return inspect_file(item)[0]


def _items(data: DetectData, quarantine: Mapping[str, str]) -> tuple[Items, list[Finding]]:
    """All images of train and test, and the findings of the files that list them."""
    place = test_place(data)
    tested = [] if place is None else ((record, "test") for record in _tested(place, data))
    if data.layout != "polygons":
        items = Items(root_of(data))
        try:
            items.extend((record, "train") for record in train_records(data, quarantine))
            items.extend(tested)
            return items, []
        except DataError as error:
            file, _, text = str(error).partition(": ")
            return Items(root_of(data), tested), [Finding(file, "error", "bad-annotation", text, REDRAW)]
    root, findings = root_of(data), list[Finding]()
    items = Items(root)
    for record in listed(root / "train" / "DCM"):
        path = on_disk(root / "train" / "outputs_json", Path(record.group) / f"{stem_of(record.image.name)}.json")
        if path.is_file():
            items.append((record._replace(labels=path), "train"))
            continue
        severity = "note" if data.skip_unlabelled else "error"
        text = "no such annotation file, but its image is there"
        findings.append(Finding(str(path), severity, "unannotated", text, ANNOTATE, record.name))  # type: ignore[arg-type]
        items.append((record, "train"))
    items.extend(tested)
    return items, findings


def _tested(place: Path, data: DetectData) -> Sequence[Record]:
    if place.is_dir():
        return listed(place)
    return LAYOUTS[data.layout].test(place, data) if place.is_file() else []


def doubtful(record: Record, shapes: Sequence[Shape], data: DetectData) -> Iterator[Finding]:
    """Yields objects too small to be seen at the input size, and pairs of boxes that may be one object."""
    scale = Grid(*image_size(record.image), data.size).scale
    corners, classes = boxes_of(shapes).corners, data.classes
    for shape in shapes:
        sides = (shape.box[2:] - shape.box[:2]) * scale
        if sides.min() < TINY:
            where, (wide, tall) = shape.where.rpartition(": ")[2], sides
            text = f"{where}: is {wide:.1f} x {tall:.1f} pixels at data.size={data.size}"
            yield Finding(str(record.labels), "warning", "tiny-object", text, "Enlarge data.size, or redraw it")
    overlap = np.triu(pairwise_iou(corners, corners), 1)
    for i, k in zip(*np.nonzero(overlap >= ALIKE), strict=True):
        one, other = shapes[int(i)], shapes[int(k)]
        text = f"{classes[one.label]} and {classes[other.label]} have boxes of an IoU of {overlap[i, k]:.2f}"
        yield Finding(str(record.labels), "warning", "same-place", text, "Keep one of them if they are one object")


def rare_objects(counts: Mapping[int, int], empty: int, total: int, classes: Sequence[str]) -> Iterator[Finding]:
    """Yields classes of which few training images have an object, and notes how many have none at all.

    Args:
        counts: objects by class.
        empty: images without objects, of ``total``.
    """
    for number, name in enumerate(classes):
        if counts[number] < FEW:
            text = f"{counts[number]} training object(s) of {name}"
            yield Finding("", "warning", "rare-class", text, "Collect more, or leave the class out")
    if empty:
        text = f"{empty} of {total} training images have no object"
        yield Finding("", "note", "no-objects", text, "Nothing: they train as background")
