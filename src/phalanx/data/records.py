"""What a data set holds: its images, their patients and their annotation files, in the competition layout."""

from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ..config import Data
from ..errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


class Record(NamedTuple):
    """One image. ``name`` is its file name, unique in the data set; ``group`` the patient.

    ``labels`` is where its truth lies; what that is, is for the data set's layout to say.
    """

    name: str
    group: str
    image: Path
    labels: Path | None


def train_records(root: Path, skip_unlabelled: bool = False, without: Collection[str] = ()) -> list[Record]:
    """Annotated images of ``<root>/train``, sorted by name.

    Args:
        without: names of images to leave out, annotated or not.

    Raises:
        DataError: a folder is missing or empty, a name stands twice, or an image has no annotation file
            (unless ``skip_unlabelled``, which leaves such images out).
    """
    images = scan(root / "train" / "DCM")
    labels = root / "train" / "outputs_json"
    if not labels.is_dir():
        raise DataError(f"{labels}: no such folder; annotations belong there as <patient>/<image>.json")
    records, missing = [], []
    taken: dict[Path, Path] = {}
    for record in images:
        if record.name in without:
            continue
        path = labels / record.group / f"{record.image.stem}.json"
        if taken.setdefault(path, record.image) != record.image:
            raise DataError(f"{record.image}: shares its annotation {path.name} with {taken[path]}; keep one of them")
        if path.is_file():
            records.append(record._replace(labels=path))
        else:
            missing.append(path)
    if missing and not skip_unlabelled:
        raise DataError(
            f"{missing[0]}: no such annotation file, but its image is there ({len(missing)} image(s) without "
            "annotation). Add the file(s), or leave such images out with data.skip_unlabelled=true"
        )
    if not records:
        raise DataError(f"{root / 'train'}: no annotated image")
    return records


def root_of(data: Data) -> Path:
    """The folder of a data set, once it is known where that is."""
    assert data.root is not None  # resolved before any record is looked for
    return data.root


def test_records(root: Path) -> list[Record]:
    """Images of ``<root>/test``, sorted by name, without annotations."""
    return scan(root / "test" / "DCM")


EXPECTED = "expected the layout <root>/train/DCM/<patient>/<image>.png (data.root= names the root)"


def scan(folder: Path, remedy: str = EXPECTED) -> list[Record]:
    """All images below ``folder``, sorted by name; the folder an image lies in names its patient."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {remedy}")
    records = listed(folder)
    if not records:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)})")
    for one, other in pairwise(records):
        if one.name == other.name:
            raise DataError(f"{other.image}: the name {one.name} also stands at {one.image}; rename one of them")
    return records


def listed(folder: Path) -> list[Record]:
    """All images below ``folder``, sorted by name; perhaps none, and a name may stand twice."""
    paths = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
    return sorted(Record(path.name, path.parent.name, path, None) for path in paths)
