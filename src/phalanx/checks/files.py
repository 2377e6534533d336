"""Lists the images and annotations of a data set in each layout, with findings of their names and folders.

Training stops at the first such problem (`data/layouts.py`); here each becomes a finding.
"""

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..config import Coco, Data, Masks, SegmentData
from ..data import coco, mask_files, masks
from ..data.items import Items
from ..data.layouts import LAYOUTS, test_place
from ..data.listing import SUFFIXES, list_files, list_images
from ..data.record_list import names_of
from ..data.records import Record, fault_of_name, listed, root_of, stem_of
from ..errors import DataError
from ..runtime.columns import repeated
from ..runtime.spelling import on_disk
from .findings import Finding, Severity
from .inspection import REDRAW

ADD = "Add the file, or leave such images out with data.skip_unlabelled=true"
PATIENT = "Configure where the patient's name is, or correct the entry"


def find(data: SegmentData) -> tuple[Items, list[Finding]]:
    """Returns all images of train, with their annotations, and of test, and the findings of files and names.

    Raises:
        DataError: no image was found and no finding explains it, or a file or folder that lists them is missing.
    """
    items, findings = FINDERS[data.layout](data)
    findings += passed_over(data)
    if not items:
        text = f"no images in {PLACES[data.layout]} ({', '.join(SUFFIXES)})"
        if not findings:
            raise DataError(f"{root_of(data)}: {text}")
        findings.append(Finding(str(root_of(data)), "error", "no-images", text, "The other findings say why"))
    records = items.records
    findings += duplicate_names(records)
    findings += similar_names(records)
    findings += bad_names(records, root_of(data))
    return items.without(row for row, one in enumerate(items.records) if fault_of_name(one, root_of(data))), findings


PLACES = {
    "competition": "train/DCM or test/DCM",
    "coco": "what data.coco names",
    "masks": "the folders that data.masks names",
}


def _competition(data: SegmentData) -> tuple[Items, list[Finding]]:
    root = root_of(data)
    items = Items(root)
    findings: list[Finding] = []
    labels = root / "train" / "outputs_json"
    drawn = set(list_files(labels, ".json"))
    for record in listed(root / "train" / "DCM"):
        path = on_disk(labels, Path(record.group) / f"{stem_of(record.image.name)}.json")
        if path in drawn:
            drawn.discard(path)
            items.append((record._replace(labels=path), "train"))
        else:
            items.append((record, "train"))
            findings.append(_unannotated(record, data, "has no annotation file"))
    findings += _orphans(drawn)
    items += [(record, "test") for record in listed(root / "test" / "DCM")]
    return items, findings


def _masks(data: SegmentData) -> tuple[Items, list[Finding]]:
    options, root = data.masks or Masks(), root_of(data)
    images, folder = root / options.images, root / options.masks
    if not images.is_dir() or not folder.is_dir():
        missing = folder if images.is_dir() else images
        raise DataError(f"{missing}: no such folder; set data.masks.images and data.masks.masks")
    findings: list[Finding] = []
    records = listed(images)
    place = {masks.place_of(record, images, folder, options.kind): record for record in records}
    drawn = set(list_files(folder, ".png"))
    if options.kind == "labels":
        masked = place.keys() & drawn
        findings += _orphans(drawn - masked)
    else:
        masked = set()
        for path in sorted(drawn):
            try:
                owner = mask_files.owner(path, place.keys(), set(data.classes))
            except DataError as error:
                text, spoiled = str(error).removeprefix(f"{path}: "), mask_files.readings(path, place.keys())[-1][0]
                findings.append(Finding(str(path), "error", "unknown-label", text, REDRAW, place[spoiled].name))
                continue
            if owner is None:
                findings += _orphans([path])
            else:
                masked.add(owner)
    items = Items(root)
    for path, record in place.items():
        try:
            record = record._replace(group=masks.group_of(record, images, data))
        except DataError as error:
            text = str(error).removeprefix(f"{record.image}: ")
            findings.append(Finding(str(record.image), "error", "no-patient", text, PATIENT, record.name))
        if path not in masked:
            findings.append(_unannotated(record, data, "has no mask"))
        items.append((record._replace(labels=path if path in masked else None), "train"))
    for record in records:  # images of the same stem share their masks
        if record not in place.values():
            text = "shares its mask with another image"
            findings.append(Finding(str(record.image), "error", "shared-mask", text, "Remove one of them", record.name))
    if options.test is not None:
        items += [(record, "test") for record in listed(root / options.test)]
    return items, findings


def _coco(data: SegmentData) -> tuple[Items, list[Finding]]:
    options, root = data.coco or Coco(), root_of(data)
    items = Items(root)
    findings: list[Finding] = []
    named: set[Path] = set()
    for split, file in (("train", options.train), ("test", options.test)):
        if file is None:
            continue
        path, train = root / file, split == "train"
        entries, problems, categories, notes = coco.gather(path, data, annotated=train)
        findings += [Finding(str(path), "note", "read-as", text, "Nothing to do if that is meant") for text in notes]
        for problem in problems:
            text = problem.text.removeprefix(f"{path}: ") + (f" ({problem.image})" if problem.image else "")
            spoiled = problem.image if train else ""
            findings.append(Finding(str(path), "error", problem.kind, text, REDRAW, spoiled))
        for name, entry in entries.items():
            image = coco.image_of(entry, root / options.images)
            named.add(image)
            spoiled = name if train else ""
            if not image.is_file():
                text = f"{path.name} lists this image, which does not exist"
                text += coco.missing_text(entry, root / options.images)
                remedy = "Add the image, remove its entry, or correct data.coco.images"
                findings.append(Finding(str(image), "error", "no-image", text, remedy, spoiled))
                continue
            group = image.stem
            try:
                group = coco.group_of(name, entry, path, options)
            except DataError as error:
                findings.append(Finding(str(path), "error", "no-patient", str(error), PATIENT, spoiled))
            if train and not entry.shapes and data.skip_unlabelled:
                findings.append(_unannotated(Record(name, group, image, None), data, "has no annotation"))
                items.append((Record(name, group, image, None), split))
            else:
                items.append((Record(name, group, image, path if train else None), split))
        if train:
            absent = [label for label in data.classes if label not in categories]
            for label in absent:
                text, remedy = f"has no category {label}", "Nothing to do if no image shows it; otherwise use this name"
                findings.append(Finding(str(path), "warning", "no-category", text, remedy))
    for record in listed(root / options.images):
        if record.image not in named:
            text = "is not listed in any file of data.coco"
            findings.append(Finding(str(record.image), "warning", "unlisted", text, "Add an entry, or remove it"))
    return items, findings


FINDERS = {"competition": _competition, "coco": _coco, "masks": _masks}


def _unannotated(record: Record, data: SegmentData, text: str) -> Finding:
    severity: Severity = "note" if data.skip_unlabelled else "error"
    return Finding(str(record.image), severity, "unannotated", text, ADD, record.name)


def _orphans(paths: Collection[Path]) -> Iterator[Finding]:
    for path in sorted(paths):
        text, remedy = "annotates an image that does not exist", "Add the image, or remove the annotation"
        yield Finding(str(path), "error", "no-image", text, remedy)


def duplicate_names(records: Sequence[Record]) -> Iterator[Finding]:
    """Yields images of one name."""
    first: dict[str, Record] = {}
    for record in (records[row] for row in repeated(names_of(records))):
        other = first.setdefault(record.name, record)
        if other is not record:
            text = f"has the same name as {other.image}"
            yield Finding(str(record.image), "error", "doubled-name", text, "Rename one of them: names must be unique")


def similar_names(records: Sequence[Record]) -> Iterator[Finding]:
    """Yields images whose names people and some file systems take for the same."""

    def form(name: str) -> str:
        return unicodedata.normalize("NFC", stem_of(name)).casefold()

    first: dict[str, Record] = {}
    for record in (records[row] for row in repeated(map(form, names_of(records)))):
        other = first.setdefault(form(record.name), record)
        if other.name != record.name:
            text = f"has the name of {other.image} but for the ending, capitals or the form of letters"
            remedy = (
                "Rename one of them if they are not the same image: annotations and rows may be taken for the other's"
            )
            yield Finding(str(record.image), "warning", "similar-name", text, remedy)


def bad_names(records: Sequence[Record], root: Path) -> Iterator[Finding]:
    """Yields images that a CSV cannot list by their name or their folders below ``root``."""
    for record in records:
        if fault := fault_of_name(record, root):
            text, _, remedy = fault.partition("; ")
            yield Finding(str(record.image), "error", "bad-name", text, remedy.capitalize())


PASSED: dict[str, tuple[Severity, str]] = {
    "unread": ("error", "Convert or restore it, or move it elsewhere: it is neither trained on nor predicted"),
    "not-an-image": ("note", "Nothing to do if it is not meant to be an image"),
    "empty-folder": ("note", "Restore its images, or remove it"),
    "hidden": ("note", "Nothing to do"),
}


def passed_over(data: Data) -> Iterator[Finding]:
    """Yields what is among the images and not used."""
    for folder in {LAYOUTS[data.layout].images(data), test_place(data)} - {None}:
        assert folder is not None
        for one in list_images(folder).passed if folder.is_dir() else ():
            severity, remedy = PASSED[one.kind]
            yield Finding(
                str(one.path), severity, "unread-image" if one.kind == "unread" else one.kind, one.why, remedy
            )
