"""Whose an image is, if no folder says so: by a CSV with a row per image, or a pattern in the image's name."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..errors import DataError, brief
from ..runtime.reading import LARGE, read_rows
from ..runtime.spelling import nfc
from .digests import State, state_of
from .records import stem_of

REMEDY = (
    "data.masks.patients= names a CSV with a row per image, data.masks.image_column= and patient_column= its columns"
)

FOLDERS_KEY, MASKS_KEY, BOXES_KEY = (f"data.{kind}.group_pattern" for kind in ("folders", "masks", "boxes"))


def patients_of_table(path: Path, image: str, patient: str) -> Mapping[str, str]:
    """Patient by image name, with and without its ending, of a CSV; read once per state of the file.

    Args:
        image, patient: names of its columns.

    Raises:
        DataError: it cannot be read, lacks a column, or has a row without a patient or a second row of an image.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; {REMEDY}")
    return _read(path, state_of(path), image, patient)


@lru_cache(maxsize=16)
def _read(path: Path, state: State, image: str, patient: str) -> Mapping[str, str]:
    header, *rows = read_rows(path, LARGE, REMEDY) or [[]]
    header = [cell.strip() for cell in header]
    for name in (image, patient):
        if header.count(name) != 1:
            raise DataError(f"{path}: has {header.count(name)} columns {name!r}, first line {brief(','.join(header))}; "
                            f"{REMEDY}")  # fmt: skip
    places = header.index(image), header.index(patient)
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name, group = (nfc(row[place].strip()) if len(row) == len(header) else "" for place in places)
        if not name or not group:
            raise DataError(f"{path}: row {number} is {brief(','.join(row))}, without an image or a patient; {REMEDY}")
        for key in {name, nfc(stem_of(name))}:
            if found.setdefault(key, group) != group:
                raise DataError(f"{path}: row {number}: {brief(name)} has another patient in a row above; keep one")
    return found


def patient_of_name(name: str, pattern: str | None, key: str) -> str:
    """The patient that the first group of a regular expression finds in an image's name; without one, the name.

    Args:
        key: the configuration's name of the expression.

    Raises:
        DataError: it finds none.
    """
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None or not match[1]:
        alone = "data.masks.group=image" if key == MASKS_KEY else f"{key}=null"
        raise DataError(
            f"{name}: {key}={pattern} finds no patient in its name; correct it, or set {alone} if each image is of its "
            "own patient"
        )
    return nfc(match[1])
