"""The whole check: which files there are, one look at each in parallel, then all of them compared."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..config import Data
from ..data.images import Grid, read_grey
from ..data.metadata import read_metadata
from ..data.quarantine import read_quarantine
from ..data.records import Record
from ..errors import DataError
from ..runtime.processes import process_map
from .annotation import look_at_annotation
from .compare import compare
from .files import find
from .findings import Finding, Report, ranked
from .look import REMOVE, SIDE, Look
from .picture import look_at_picture


def check(data: Data, *, workers: int = -1, progress: bool = True) -> Report:
    """Looks at every image and annotation of ``data.root``, train and test.

    Args:
        workers: processes; -1: one a core.

    Raises:
        DataError: there is no image at all, or no file or folder that tells of them.
    """
    assert data.root is not None
    root = data.root
    quarantine = read_quarantine(data.quarantine) if data.quarantine else {}
    records, findings = find(data)
    left = [item for item in records if item[1] == "test" or item[0].name not in quarantine]
    looks = look_at_all(left, data, workers, progress)
    for seen in looks:
        findings += seen.findings
    findings += sheet(root, {item[0].group for item in records})
    findings += compare(looks, data.classes, data.pair_indices)
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: sum(item[1] == split for item in left) for split in ("train", "test")}
    passed = sorted(record.name for record, split in records if split == "train" and record.name in quarantine)
    return Report(str(root), images, ranked(findings), passed)


def look_at_all(items: Sequence[tuple[Record, str]], data: Data, workers: int, progress: bool) -> list[Look]:
    """A look at each image, in several processes, in the given order."""
    one = partial(look, data=data)
    return process_map(one, items, workers=workers, name="check", unit="image", progress=progress)


def look(item: tuple[Record, str], data: Data) -> Look:
    """Reads the image and, where there is one, the annotation of ``(record, split)``; never raises for its files."""
    cv2.setNumThreads(1)
    record, split = item
    seen, small = Look(record, split, np.full((len(data.classes), 6), np.nan)), None
    try:
        image = read_grey(record.image)
        seen.shape = (image.shape[0], image.shape[1])
        small = cv2.resize(image, Grid.of(image, SIDE).content[::-1], interpolation=cv2.INTER_AREA)
        look_at_picture(seen, image, small)
    except DataError as error:
        seen.add(record.image, "error", "unreadable", str(error).removeprefix(f"{record.image}: "), REMOVE)
    except MemoryError:
        seen.add(record.image, "error", "unreadable", "does not fit into memory", REMOVE)
    if record.labels is not None:
        look_at_annotation(seen, data, small)
    return seen


def sheet(root: Path, groups: set[str]) -> Iterator[Finding]:
    """Patients without a row of metadata, rows without images, and cells that are not understood."""
    try:
        table = read_metadata(root)
    except DataError as error:
        yield Finding(str(root), "error", "bad-metadata", str(error), "Repair the sheet, or remove it")
        return
    if table is None:
        return
    path = str(table.attrs["path"])
    for note in table.attrs["notes"]:
        note = note.removeprefix(f"{Path(path).name}: ")
        yield Finding(path, "note", "metadata", note, "Taken as missing; correct the cell if you know better")
    remedy = "Add the row; until then the patient's sex, age, height and weight are missing"
    for group in sorted(groups - set(table.index)):
        yield Finding(path, "warning", "no-metadata", f"has no row for patient {group}", remedy)
    for group in sorted(set(table.index) - groups):
        text = f"patient {group} has a row, but no images"
        yield Finding(path, "warning", "no-images", text, "Restore the images, or delete the row")
