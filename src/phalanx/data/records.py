"""Images of a data set with their patients and annotation files; how the competition layout lists them."""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

from ..config import Data
from ..errors import DataError, shown
from ..runtime.columns import repeated
from ..runtime.spelling import nfc, on_disk
from .listing import SUFFIXES, Listing, list_images
from .record_list import Record as Record
from .record_list import RecordList, names_of

_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # in names: CSV files cannot list them


def train_records(root: Path, skip_unlabelled: bool = False, without: Collection[str] = ()) -> Sequence[Record]:
    """Annotated images of ``<root>/train``, sorted by name.

    Args:
        without: names of images to leave out, annotated or not.

    Raises:
        DataError: a folder is missing or empty, a name appears twice, or an image has no annotation file
            (unless ``skip_unlabelled``, which leaves such images out).
    """
    images = scan(root / "train" / "DCM", complete=False)
    folder = root / "train" / "outputs_json"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; annotations belong there as <patient>/<image>.json")
    named = RecordList(root)
    for record in images:
        if record.name not in without:
            path = on_disk(folder, Path(record.group) / f"{stem_of(record.image.name)}.json")
            named.append(record._replace(labels=path))
    taken: dict[Path | None, Path] = {}
    for record in (named[row] for row in repeated(one.labels for one in named)):
        if taken.setdefault(record.labels, record.image) != record.image:
            name, first = record.labels.name if record.labels else "", taken[record.labels]
            raise DataError(f"{record.image}: shares its annotation {name} with {first}; keep one of them")
    records, lacking = RecordList(root), list[Record]()
    for record in named:
        there = record.labels is not None and record.labels.is_file()
        (records if there else lacking).append(record)
    refuse_unlabelled(lacking, skip_unlabelled, "no such annotation file, but its image is there")
    return some(records, f"{root / 'train'}: no annotated image")


def test_records(root: Path) -> Sequence[Record]:
    """Images of ``<root>/test``, sorted by name, without annotations."""
    return scan(root / "test" / "DCM")


def root_of(data: Data) -> Path:
    """The folder of a data set, once it is known."""
    assert data.root is not None  # resolved before any record is looked for
    return data.root


def refuse_unlabelled(lacking: Sequence[Record], skip: bool, problem: str) -> None:
    """Raises DataError for the first record whose ``labels`` do not exist, unless such images are skipped."""
    if lacking and not skip:
        raise DataError(
            f"{lacking[0].labels}: {problem} ({len(lacking)} such image(s)). Add what is missing, or leave such images "
            "out with data.skip_unlabelled=true"
        )


def some(records: Sequence[Record], problem: str) -> Sequence[Record]:
    """The records. Raises DataError if there are none."""
    if not records:
        raise DataError(problem)
    return records


EXPECTED = "expected the layout <root>/train/DCM/<patient>/<image>.png (data.root= names the root)"


def scan(folder: Path, remedy: str = EXPECTED, *, complete: bool = True) -> Sequence[Record]:
    """All images below ``folder``, sorted by name; the folder of an image names its patient.

    Args:
        complete: refuse a folder with an image that cannot be read, as if it were to be predicted.

    Raises:
        DataError: no folder, no image, a name that appears twice or cannot be listed in a CSV.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {remedy}")
    found = list_images(folder)
    if complete and found.unread:
        first = found.unread[0]
        raise DataError(
            f"{first.path}: {first.why} ({len(found.unread)} such below {folder}). Without it the result would lack "
            "rows; mend each, or move it elsewhere"
        )
    records = some(
        records_of(found), f"{folder}: no images ({', '.join(SUFFIXES)}, or their content without an ending)"
    )
    for record in records:
        if fault := fault_of_name(record, folder):
            raise DataError(f"{shown(record.image)}: {fault}")
    for row, (name, following) in enumerate(pairwise(names_of(records))):
        if name == following:
            one, other = records[row], records[row + 1]
            raise DataError(f"{other.image}: the name {one.name} is also that of {one.image}; rename one of them")
    return records


def listed(folder: Path) -> Sequence[Record]:
    """All images below ``folder``, sorted by name; perhaps none, and names may repeat."""
    return records_of(list_images(folder)) if folder.is_dir() else []


def records_of(found: Listing) -> RecordList:
    """The records of listed images, sorted by name."""
    own = (Record(nfc(path.name), nfc(path.parent.name), path, None) for path in found.files)
    return RecordList(found.files.folder, own).sorted()


def fault_of_name(record: Record, folder: Path) -> str:
    """Why an image cannot be listed in a CSV by its name or the folders below ``folder`` that contain it; or empty."""
    if not _UNUSABLE.search(str(record.image)):
        return ""
    name = str(record.image.relative_to(folder))
    if not _UNUSABLE.search(name):
        return ""
    what = "is not UTF-8" if re.search("[\ud800-\udfff]", name) else "has a line break or control character"
    return f"its name {what}, so CSV files cannot list it; rename it, with its annotation"


def stem_of(image: str) -> str:
    """An image's name without its ending."""
    return image.rsplit(".", 1)[0] if image.lower().endswith(SUFFIXES) else image


def by_stem(images: Sequence[str], paths: Sequence[Path], *, with_suffix: bool = True) -> dict[str, Record]:
    """Records of annotation files by the name of their image; by stem, those of images not asked for.

    Args:
        images: names of the images.
        paths: annotation files; their folders name the patients.
        with_suffix: whether the paths have an ending to cut off.

    Raises:
        DataError: two files belong to the same image.
    """
    named: dict[str, str] = {}
    for image in images:
        if named.setdefault(nfc(stem_of(image)), image) != image:
            raise DataError(
                f"{image} and {named[nfc(stem_of(image))]} differ in their ending alone; rename one of them"
            )
    found: dict[str, Record] = {}
    for path in paths:
        stem = nfc(path.stem if with_suffix else path.name)
        name = named.get(stem, stem)
        if name in found:
            raise DataError(f"{path}: {stem} also has ground truth at {found[name].labels}; keep one of them")
        found[name] = Record(name, nfc(path.parent.name), path, path)
    return found
