"""The check of a data set with labels: its files, names and rows, its images, and what only several of them show."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyData
from ..data.digests import current_digest
from ..data.groups import read_groups
from ..data.label_table import Labels, keys_of, table_of
from ..data.labels import folders_of, label_row
from ..data.layouts import LAYOUTS, test_place
from ..data.listing import SUFFIXES
from ..data.patients import FOLDERS_KEY, patient_of_name
from ..data.quarantine import read_quarantine, unmatched
from ..data.records import Record, fault_of_name, listed, root_of, stem_of
from ..data.restored import Restored, RestoredImage, read_restored, restored_records
from ..errors import ConfigError, DataError, shown
from ..runtime.processes import process_map
from ..runtime.spelling import nfc, on_disk
from .annotation import REDRAW
from .compare import duplicates, mixed_forms, near_duplicates, near_pairs, patients_in_both
from .copies import copies_in_test, joined_patients
from .files import Items, bad_names, duplicate_names, passed_over, similar_names
from .findings import Finding, Report, ranked
from .inspection import Inspection
from .pixels import inspect_file

RENAME = "Rename or move the folder: its images are neither trained on nor predicted"
LABEL = "Add the label, or leave such images out with data.skip_unlabelled=true"
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
    items = [(one._replace(group=groups.get(one.name, one.group)), split) for one, split in items]
    findings += passed_over(data)
    if not items and not findings:
        raise DataError(f"{root}: no images in {LAYOUTS[data.layout].images(data)} ({', '.join(SUFFIXES)})")
    for part in ("train", "test"):
        records = [record for record, split in items if split == part]
        findings += duplicate_names(records)
        findings += similar_names(records)
        findings += bad_names(records, root)
    items = [item for item in items if not fault_of_name(item[0], root)]
    names = {record.name for record, split in items if split == "train"} | {finding.image for finding in findings}
    quarantine = read_quarantine(data.quarantine, names) if data.quarantine else {}
    checked = [item for item in items if item[1] == "test" or item[0].name not in quarantine]
    inspections = process_map(_inspect, checked, workers=workers, name="check", unit="image", progress=progress)
    for inspection in inspections:
        findings += inspection.findings
    for name in sorted(quarantine.keys() - names):
        text, remedy = unmatched(name, data, names), "Correct the name, or delete the line"
        findings.append(Finding(str(data.quarantine), "warning", "no-images", text, remedy))
    labels = {one.record.name: label_row(one.record, data) for one in inspections if one.record.labels is not None}
    findings += contradictions(inspections, labels, data.classes)
    findings += duplicates(inspections)
    pairs = list(near_pairs(inspections))
    findings += near_duplicates(pairs)
    findings += copies_in_test(inspections, pairs)
    findings += patients_in_both(inspections)
    findings += mixed_forms(inspections)
    findings += rare_classes(list(labels.values()), data.classes)
    findings += restored_images(data, [record for record, split in items if split == "train" and record.labels])
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: sum(item[1] == split for item in checked) for split in ("train", "test")}
    quarantined = sorted(record.name for record, split in items if split == "train" and record.name in quarantine)
    return Report(str(root), images, ranked(findings), quarantined, joined_patients(inspections, pairs))


def _inspect(item: tuple[Record, str]) -> Inspection:
    return inspect_file(item)[0]


def _folders(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train, with the folders of their classes, and of test; and the findings of the folders."""
    options, root, groups = folders_of(data), root_of(data), read_groups(data.groups_file)
    train = root / options.train
    if not train.is_dir():
        raise DataError(f"{train}: no such folder; expected the layout {train}/<class>/<image>")
    items: Items = []
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


def _tested(data: ClassifyData) -> list[Record]:
    place = test_place(data)
    return listed(place) if place is not None else []


def _table(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train, with the table that labels them, and of test; and the findings of the table."""
    assert data.table is not None
    root = root_of(data)
    path, folder = root / data.table.train, root / data.table.images
    items: Items = []
    findings: list[Finding] = []
    rows = table_of(path, data)  # a damaged table labels nothing: there is nothing to compare
    found = listed(folder)
    keys = keys_of(rows, list(dict.fromkeys(record.name for record in found)))
    for record in found:
        row = rows[keys[record.name]] if record.name in keys else None
        if row is None or all(value != value for value in row.labels):
            text = "has no row" if row is None else "has no label in its row"
            severity = "note" if data.skip_unlabelled else "error"
            findings.append(Finding(str(record.image), severity, "unannotated", text, LABEL, record.name))  # type: ignore[arg-type]
            items.append((record, "train"))
        else:
            items.append((record._replace(group=nfc(row.group), labels=path), "train"))
    for name in sorted(rows.keys() - set(keys.values())):
        text = f"lists {shown(name)}, which is not an image below {data.table.images}"
        findings.append(Finding(str(path), "error", "no-image", text, "Restore the image, or delete the row"))
    items += [(record._replace(group=record.name), "test") for record in _tested(data)]
    return items, findings


def _presence(data: ClassifyData) -> tuple[Items, list[Finding]]:
    """All images of train with their annotation files, and of test; images without a file, and faults in files."""
    root, groups = root_of(data), read_groups(data.groups_file)
    items: Items = []
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


def contradictions(
    inspections: Sequence[Inspection], labels: dict[str, Labels], classes: Sequence[str]
) -> Iterator[Finding]:
    """Yields training images with the same pixels and other labels, of which at most one can be right."""
    first: dict[bytes, Inspection] = {}
    for inspection in inspections:
        if not inspection.pixels or inspection.record.name not in labels or inspection.split != "train":
            continue
        other = first.setdefault(inspection.pixels, inspection)
        mine, theirs = labels[inspection.record.name], labels[other.record.name]
        differing = [name for name, a, b in zip(classes, mine, theirs, strict=True) if a != b and a == a and b == b]
        if differing:
            text = f"has the same pixels as {other.record.image}, and another label of {', '.join(differing[:3])}"
            yield Finding(
                str(inspection.record.image), "error", "contradiction", text, "Correct one of them, or remove both",
                inspection.record.name,
            )  # fmt: skip


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


def rare_classes(labels: Sequence[Labels], classes: Sequence[str]) -> Iterator[Finding]:
    """Yields classes that few training images have, or lack."""
    table = np.array(labels, float).reshape(len(labels), len(classes))
    for number, name in enumerate(classes):
        counts = {"with": int((table[:, number] == 1).sum()), "without": int((table[:, number] == 0).sum())}
        for what, count in counts.items():
            if count < FEW:
                text = f"{count} training image(s) {what} {name}"
                remedy = "Collect more, or leave the class out: with so few it is neither learnt nor scored well"
                yield Finding("", "warning", "rare-class", text, remedy)
