"""The check of a data set with labels: its files, names and rows, its images, and what only several of them show."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyData
from ..data.digests import current_digest
from ..data.groups import read_groups
from ..data.items import Items
from ..data.label_table import table_of
from ..data.labels import folders_of, label_row
from ..data.layouts import LAYOUTS, test_place
from ..data.listing import SUFFIXES
from ..data.patients import FOLDERS_KEY, patient_of_name
from ..data.quarantine import read_quarantine, unmatched
from ..data.record_list import RecordList
from ..data.records import Record, fault_of_name, listed, root_of, stem_of
from ..data.restored import Restored, RestoredImage, read_restored, restored_records
from ..errors import ConfigError, DataError, shown
from ..runtime.columns import repeated
from ..runtime.processes import process_imap
from ..runtime.spelling import nfc, on_disk
from .annotation import REDRAW
from .compare import duplicates, mixed_forms, near_duplicates, near_pairs, patients_in_both
from .copies import JoinedPatients, copies_in_test
from .files import bad_names, duplicate_names, passed_over, similar_names
from .findings import Finding, Report, ranked
from .inspected import Inspected
from .inspection import Inspection
from .pixels import inspect_file

RENAME = "Rename or move the folder: its images are neither trained on nor predicted"
LABEL = "Add the label, or leave such images out with data.skip_unlabelled=true"
UNKNOWN, NONE = 2, 3  # in a table of labels: of a class, and of an image without any
FEW = 5  # images with or without a class, below which its scores are mostly noise


def check(data: ClassifyData, *, workers: int = -1, progress: bool = True) -> Report:
    """The findings of every image and label of ``data.root``, train and test.

    Args:
        workers: processes; -1: one per core.

    Raises:
        DataError: no image was found and no finding explains it, or a file or folder that lists them is missing.
    """
    root = root_of(data)
    items, findings = ITEMS[data.layout](data)
    groups = read_groups(data.groups_file)
    if groups:
        items = Items(root, ((one._replace(group=groups.get(one.name, one.group)), split) for one, split in items))
    findings += passed_over(data)
    if not items and not findings:
        raise DataError(f"{root}: no images in {LAYOUTS[data.layout].images(data)} ({', '.join(SUFFIXES)})")
    for part in ("train", "test"):
        records = RecordList(root, items.of(part))
        findings += duplicate_names(records)
        findings += similar_names(records)
        findings += bad_names(records, root)
        del records
    items = items.without(row for row, one in enumerate(items.records) if fault_of_name(one, root))
    names, quarantine = set[str](), dict[str, str]()
    if data.quarantine:
        names = {record.name for record in items.of("train")} | {finding.image for finding in findings}
        quarantine = read_quarantine(data.quarantine, names)
    checked = items
    if quarantine:
        checked = Items(root, (item for item in items if item[1] == "test" or item[0].name not in quarantine))
    inspections = Inspected(checked)
    for inspection in process_imap(_inspect, checked, workers=workers, name="check", unit="image", progress=progress):
        inspections.add(inspection)
        findings += inspection.findings
    for name in sorted(quarantine.keys() - names):
        text, remedy = unmatched(name, data, names), "Correct the name, or delete the line"
        findings.append(Finding(str(data.quarantine), "warning", "no-images", text, remedy))
    labels = label_table(checked, data)
    findings += contradictions(inspections, labels, data.classes)
    findings += duplicates(inspections)
    pairs = list(near_pairs(inspections))
    findings += near_duplicates(pairs)
    findings += copies_in_test(inspections, pairs)
    findings += patients_in_both(inspections)
    findings += mixed_forms(inspections)
    findings += rare_classes(labels, data.classes)
    findings += restored_images(
        data, [record for record in items.of("train") if record.labels] if data.restored else []
    )
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: checked.count(split) for split in ("train", "test")}
    quarantined = sorted(record.name for record in items.of("train") if record.name in quarantine) if quarantine else []
    return Report(str(root), images, ranked(findings), quarantined, JoinedPatients(inspections, pairs))


def label_table(items: Items, data: ClassifyData) -> np.ndarray:
    """int8[N, C]: labels of images, 0 or 1; 2 where a class is not labelled, 3 of an image without labels."""
    table = np.full((len(items), len(data.classes)), NONE, np.int8)
    for row, record in zip(table, items.records, strict=True):
        if record.labels is not None:
            row[:] = [UNKNOWN if value != value else int(value) for value in label_row(record, data)]
    return table


def _inspect(item: tuple[Record, str]) -> Inspection:
    return inspect_file(item)[0]


def _folders(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train, with the folders of their classes, and of test; and the findings of the folders."""
    options, root, groups = folders_of(data), root_of(data), read_groups(data.groups_file)
    train = root / options.train
    if not train.is_dir():
        raise DataError(f"{train}: no such folder; expected the layout {train}/<class>/<image>")
    items = Items(root)
    findings: list[Finding] = []
    there = {nfc(path.name): path for path in sorted(train.iterdir()) if path.is_dir() and path.name[:1] != "."}
    for name, folder in there.items():
        if name not in data.classes:
            findings.append(Finding(str(folder), "error", "unknown-label", f"{shown(name)} is not a class", RENAME))
            continue
        for record in listed(folder):
            try:
                group = groups.get(record.name) or patient_of_name(record.name, options.group_pattern, FOLDERS_KEY)
            except DataError as error:
                text, _, remedy = str(error).removeprefix(f"{record.name}: ").partition("; ")
                findings.append(Finding(str(record.image), "error", "no-patient", text, remedy, record.name))
                group = record.name
            items.append((record._replace(labels=folder, group=group), "train"))
    for name in data.classes:
        if name not in there:
            text, remedy = f"has no folder of class {name}", "Make it; it may be empty"
            findings.append(Finding(str(train), "error", "no-category", text, remedy))
    items += [(record._replace(group=_group(record, options.group_pattern)), "test") for record in _tested(data)]
    return items, findings


def _group(record: Record, pattern: str | None) -> str:
    """The patient of a test image: an image of its own where its name has none."""
    try:
        return patient_of_name(record.name, pattern, FOLDERS_KEY)
    except DataError:
        return record.name


def _tested(data: ClassifyData) -> Sequence[Record]:
    place = test_place(data)
    return listed(place) if place is not None else []


def _table(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train, with the table that labels them, and of test; and the findings of the table."""
    assert data.table is not None
    root = root_of(data)
    path, folder = root / data.table.train, root / data.table.images
    items = Items(root)
    findings: list[Finding] = []
    rows = table_of(path, data)  # a damaged table labels nothing: there is nothing to compare
    found = listed(folder)
    places = rows.rows_of(found)
    for record, row in zip(found, places.tolist(), strict=True):
        if row < 0 or all(value != value for value in rows.labels(row)):
            text = "has no row" if row < 0 else "has no label in its row"
            severity = "note" if data.skip_unlabelled else "error"
            findings.append(Finding(str(record.image), severity, "unannotated", text, LABEL, record.name))  # type: ignore[arg-type]
            items.append((record, "train"))
        else:
            items.append((record._replace(group=nfc(rows.group(row)), labels=path), "train"))
    for name in rows.without(places, ()):
        text = f"lists {shown(name)}, which is not an image below {data.table.images}"
        findings.append(Finding(str(path), "error", "no-image", text, "Restore the image, or delete the row"))
    items += [(record._replace(group=record.name), "test") for record in _tested(data)]
    return items, findings


def _presence(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train with their annotation files, and of test; images without a file, and faults in files."""
    root, groups = root_of(data), read_groups(data.groups_file)
    items = Items(root)
    findings: list[Finding] = []
    for record in listed(root / "train" / "DCM"):
        path = on_disk(root / "train" / "outputs_json", Path(record.group) / f"{stem_of(record.image.name)}.json")
        labelled = record._replace(group=groups.get(record.name, record.group), labels=path)
        try:
            label_row(labelled, data)
        except DataError as error:
            lacking = not path.exists()
            severity = "note" if lacking and data.skip_unlabelled else "error"
            kind = "unannotated" if lacking else "bad-annotation"
            text, remedy = str(error).removeprefix(f"{path}: "), LABEL if lacking else REDRAW
            findings.append(Finding(str(path), severity, kind, text, remedy, record.name))  # type: ignore[arg-type]
            labelled = labelled._replace(labels=None)
        items.append((labelled, "train"))
    items += [(record, "test") for record in _tested(data)]
    return items, findings


ITEMS = {"folders": _folders, "table": _table, "presence": _presence}


def contradictions(inspections: Inspected, labels: np.ndarray, classes: Sequence[str]) -> Iterator[Finding]:
    """Yields training images with the same pixels and other labels, of which at most one can be right.

    Args:
        labels: as of :func:`label_table`.
    """
    assert inspections.items is not None
    first: dict[bytes, int] = {}
    for row in repeated(inspections.pixels()):
        record, split = inspections.items[row]
        if split != "train" or record.labels is None:
            continue
        other = first.setdefault(inspections.pixels_of(row), row)
        mine, theirs = labels[row], labels[other]
        other_label = (mine != theirs) & (mine < UNKNOWN) & (theirs < UNKNOWN)
        differing = [classes[c] for c in np.flatnonzero(other_label).tolist()]
        if differing:
            one = inspections.records[other].image
            text = f"has the same pixels as {one}, and another label of {', '.join(differing[:3])}"
            remedy = "Correct one of them, or remove both"
            yield Finding(str(record.image), "error", "contradiction", text, remedy, record.name)


def restored_images(data: ClassifyData, records: Sequence[Record]) -> Iterator[Finding]:
    """Yields what ``data.restored`` adds, or why it cannot be used. Its images are outside the data set, and copies of
    their sources by intent, so they are not compared with these."""
    if data.restored is None:
        return
    place = str(data.restored)
    try:
        made, found = restored_records(data, records), read_restored(data.restored)
        damaged = [row for row in found.rows if not _whole(found, row)]
    except (ConfigError, DataError) as error:
        text, remedy = str(error).removeprefix(f"data.restored={place}: "), "Make it again with phalanx restore"
        yield Finding(place, "error", "bad-restored", text, remedy)
        return
    for row in damaged:
        text = "is missing or altered since it was restored"
        yield Finding(str(found.path(row)), "error", "bad-restored", text, "Make the folder again with phalanx restore")
    sources, folds = {row.source for row in found.rows}, ", ".join(found.names_of_folds)
    text = f"{len(made)} restored images of {len(sources)} training images ({folds}), as extra training images"
    yield Finding(place, "note", "restored", text, "Nothing: they are not duplicates")


def _whole(found: Restored, row: RestoredImage) -> bool:
    path = found.path(row)
    return path.is_file() and current_digest(path) == row.sha256


def rare_classes(labels: np.ndarray, classes: Sequence[str]) -> Iterator[Finding]:
    """Yields classes that few training images have, or lack; labels as of :func:`label_table`."""
    for number, name in enumerate(classes):
        counts = {"with": int((labels[:, number] == 1).sum()), "without": int((labels[:, number] == 0).sum())}
        for what, count in counts.items():
            if count < FEW:
                text = f"{count} training image(s) {what} {name}"
                remedy = "Collect more, or leave the class out: with so few it is neither learnt nor scored well"
                yield Finding("", "warning", "rare-class", text, remedy)
