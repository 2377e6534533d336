"""The whole check: list the files, inspect each image in parallel, then compare them."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ..config import SegmentData
from ..data.attributes import other_sheets
from ..data.items import Items
from ..data.metadata import SHEETS, match, mismatch, read_metadata
from ..data.quarantine import read_quarantine, unmatched
from ..data.records import Record
from ..errors import DataError
from ..runtime.processes import process_imap
from .annotation import inspect_annotation
from .compare import compare
from .files import find
from .findings import Finding, Report, ranked
from .inspected import Inspected
from .inspection import Inspection
from .pixels import inspect_file


def check(data: SegmentData, *, workers: int = -1, progress: bool = True) -> Report:
    """Returns the findings of every image and annotation of ``data.root``, train and test.

    Args:
        workers: processes; -1: one per core.

    Raises:
        DataError: no image was found and no finding explains it, or a file or folder that lists them is missing.
    """
    assert data.root is not None
    root = data.root
    records, findings = find(data)
    names, quarantine, checked = set[str](), dict[str, str](), records
    if data.quarantine:
        names = {record.name for record in records.of("train")} | {finding.image for finding in findings}
        quarantine = read_quarantine(data.quarantine, names)
        checked = Items(root, (item for item in records if item[1] == "test" or item[0].name not in quarantine))
    inspections = Inspected(checked, whole=True)
    for inspection in inspect_all(checked, data, workers, progress):
        inspections.add(inspection)
        findings += inspection.findings
    findings += [
        Finding(
            str(data.quarantine),
            "warning",
            "no-images",
            unmatched(name, data, names),
            "Correct the name, or delete the line",
        )
        for name in sorted(quarantine.keys() - names)
    ]
    findings += sheet(root, {item[0].group for item in records})
    if inspections:
        findings += compare(inspections, data.classes, data.pair_indices)
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: checked.count(split) for split in ("train", "test")}
    quarantined = sorted(record.name for record in records.of("train") if record.name in quarantine)
    return Report(str(root), images, ranked(findings), quarantined)


def inspect_all(
    items: Sequence[tuple[Record, str]], data: SegmentData, workers: int, progress: bool
) -> Iterator[Inspection]:
    """Yields the inspections of all images in the given order, made in several processes."""
    one = partial(inspect_image, data=data)
    return process_imap(one, items, workers=workers, name="check", unit="image", progress=progress)


def inspect_image(item: tuple[Record, str], data: SegmentData) -> Inspection:
    """Inspects the image of ``(record, split)`` and its annotation, if any; a bad file becomes a finding."""
    inspection, small = inspect_file(item, len(data.classes))
    if item[0].labels is not None:
        inspect_annotation(inspection, data, small)
    return inspection


def sheet(root: Path, groups: set[str]) -> Iterator[Finding]:
    """Yields patients without a row of metadata, rows without images, and cells that cannot be parsed."""
    try:
        table = read_metadata(root, groups)
    except DataError as error:
        yield Finding(str(root), "error", "bad-metadata", str(error), "Repair the sheet, or remove it")
        return
    if table is None:
        if text := other_sheets(root):
            remedy = f"Nothing to do if no metadata is needed; it is read from {' or '.join(SHEETS)}"
            yield Finding(str(root), "warning", "no-metadata", f"has no metadata sheet{text}", remedy)
        return
    path = str(table.attrs["path"])
    for note in table.attrs["notes"]:
        note = note.removeprefix(f"{Path(path).name}: ")
        yield Finding(path, "note", "metadata", note, "Treated as missing; correct the cell if you can")
    if fault := mismatch(table, groups):
        text = fault.removeprefix(f"{path}: ")
        yield Finding(
            path, "warning", "other-patients", text, "Until then their sex, age, height and weight are missing"
        )
    found = match(table, groups)
    remedy = "Add the row; until then the patient's sex, age, height and weight are missing"
    for group in sorted(groups - found.keys()):
        yield Finding(path, "warning", "no-metadata", f"has no row for patient {group}", remedy)
    for group in sorted(set(table.index) - set(found.values())):
        text = f"patient {group} has a row but no images"
        yield Finding(path, "warning", "no-images", text, "Restore the images, or delete the row")
