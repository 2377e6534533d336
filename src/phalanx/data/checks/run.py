"""The whole check: which files there are, one look at each in parallel, then all of them compared."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ...config import Data
from ...errors import ConfigError, DataError, PhalanxError
from ..metadata import read_metadata
from ..quarantine import read_quarantine
from ..records import SUFFIXES, Record, listed
from .compare import compare
from .findings import Finding, Report, Severity, ranked
from .look import Look, look


def check(data: Data, *, workers: int = -1, progress: bool = True) -> Report:
    """Looks at every image and annotation of ``data.root``, train and test.

    Args:
        workers: processes; -1: one a core.

    Raises:
        ConfigError: the data set lies in another layout than the competition's.
        DataError: there is no training image at all.
    """
    if data.layout != "competition":
        raise ConfigError(
            f"data.layout={data.layout}: phalanx check looks at polygons in the competition's layout alone; use "
            "phalanx eda here, and let phalanx train, which tries every file first, refuse what it cannot read"
        )
    assert data.root is not None
    root = data.root
    quarantine = read_quarantine(data.quarantine) if data.quarantine else {}
    records, findings = find(root, data.skip_unlabelled)
    if not records:
        raise DataError(f"{root}: no images in train/DCM or test/DCM ({', '.join(SUFFIXES)})")
    left = [item for item in records if item[1] == "test" or item[0].name not in quarantine]
    looks = look_at_all(left, data.classes, workers, progress)
    for seen in looks:
        findings += seen.findings
    findings += sheet(root, {item[0].group for item in records})
    index = {name: i for i, name in enumerate(data.classes)}
    findings += compare(looks, data.classes, [(index[a], index[b]) for a, b in data.pairs])
    prefix = f"{root}{os.sep}"
    findings = [
        finding._replace(file=finding.file.removeprefix(prefix), text=finding.text.replace(prefix, ""))
        for finding in findings
        if finding.image not in quarantine
    ]
    images = {split: sum(item[1] == split for item in left) for split in ("train", "test")}
    passed = sorted(record.name for record, split in records if split == "train" and record.name in quarantine)
    return Report(str(root), images, ranked(findings), passed)


def look_at_all(items: Sequence[tuple[Record, str]], classes: list[str], workers: int, progress: bool) -> list[Look]:
    """A look at each image, in several processes, in the given order."""
    workers = min(len(items), (os.cpu_count() or 1) if workers < 0 else max(workers, 1))
    one = partial(look, classes=classes)
    bar = partial(tqdm, total=len(items), unit="image", desc="check", leave=False, disable=not progress)
    if workers <= 1:
        return list(bar(map(one, items)))
    # spawned, not forked: the caller may have threads, which a fork would leave in an unknown state
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            return list(bar(pool.map(one, items, chunksize=4)))
    except BrokenProcessPool:
        raise PhalanxError("a worker process ended while reading images: out of memory? Give workers=1") from None


def find(root: Path, skip_unlabelled: bool) -> tuple[list[tuple[Record, str]], list[Finding]]:
    """All images of train (with their annotations) and test, and what is wrong with names and folders."""
    records: list[tuple[Record, str]] = []
    findings: list[Finding] = []
    labels = root / "train" / "outputs_json"
    drawn = {path for path in labels.rglob("*.json") if path.is_file()}
    for record in listed(root / "train" / "DCM"):
        path = labels / record.group / f"{record.image.stem}.json"
        if path in drawn:
            drawn.discard(path)
            records.append((record._replace(labels=path), "train"))
            continue
        records.append((record, "train"))
        remedy = "Add the file, or leave such images out with data.skip_unlabelled=true"
        severity: Severity = "note" if skip_unlabelled else "error"
        text = "has no annotation file"
        findings.append(Finding(str(record.image), severity, "unannotated", text, remedy, record.name))
    for path in sorted(drawn):
        remedy = "Add the image, or remove the annotation"
        findings.append(Finding(str(path), "error", "no-image", "annotates an image that is not there", remedy))
    records += [(record, "test") for record in listed(root / "test" / "DCM")]
    findings += _doubled([record for record, _ in records])
    return records, findings


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
        yield Finding(path, "note", "metadata", note, "Taken as missing; correct the cell if you know better")
    remedy = "Add the row; until then the patient's sex, age, height and weight are missing"
    for group in sorted(groups - set(table.index)):
        yield Finding(path, "warning", "no-metadata", f"has no row for patient {group}", remedy)
    for group in sorted(set(table.index) - groups):
        text = f"patient {group} has a row, but no images"
        yield Finding(path, "warning", "no-images", text, "Restore the images, or delete the row")


def _doubled(records: Sequence[Record]) -> Iterator[Finding]:
    first: dict[str, Record] = {}
    for record in records:
        other = first.setdefault(record.name, record)
        if other is not record:
            text = f"the name also stands at {other.image}"
            yield Finding(str(record.image), "error", "doubled-name", text, "Rename one of them: names are keys")
