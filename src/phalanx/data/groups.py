"""Groups of images that are not independent: a CSV ``image_name,group``, whose groups take the place of patients.

`phalanx check groups=FILE` writes one in which copies of an image, whatever their names, share a group.
"""

import csv
import io
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

from ..errors import DataError, brief
from ..runtime.files import write_text
from ..runtime.reading import LARGE, read_rows
from ..runtime.spelling import nfc
from .digests import State, state_of

HEADER = ["image_name", "group"]
MARK = ",".join(HEADER) + "\n"  # how a file of ours begins; a file of folds has a third column
REMEDY = f"data.groups_file= names a CSV {','.join(HEADER)} with a row per image"


def read_groups(path: Path | None) -> Mapping[str, str]:
    """Group by image name of a file; read once per state of the file. Empty without one.

    Raises:
        DataError: it cannot be read, is another table, or has a row without a group or a second row of an image.
    """
    return {} if path is None else _read(path, state_of(path) if path.is_file() else ())


@lru_cache(maxsize=16)
def _read(path: Path, state: State) -> Mapping[str, str]:
    header, *rows = read_rows(path, LARGE, REMEDY) or [[]]
    if header != HEADER or not rows:
        raise DataError(f"{path}: begins with {brief(','.join(header))}; {REMEDY}")
    found: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        name, group = (nfc(cell.strip()) for cell in row) if len(row) == len(HEADER) else ("", "")
        if not name or not group:
            raise DataError(f"{path}: row {number} is {brief(','.join(row))}; {REMEDY}")
        if name in found:
            raise DataError(f"{path}: row {number}: {brief(name)} also has a row above; keep one of them")
        found[name] = group
    return found


def check_used(path: Path | None, groups: Mapping[str, str], names: Collection[str]) -> None:
    """Raises DataError if a file of groups lists none of the images, so that it would protect nothing."""
    if path is not None and groups.keys().isdisjoint(names):
        raise DataError(
            f"data.groups_file={path}: lists none of the {len(names)} image(s), first {brief(min(groups))}; name the "
            "file of this data set"
        )


def write_groups(path: Path, groups: Mapping[str, str]) -> None:
    """Writes a file for :func:`read_groups`, sorted by image, whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    table.writerows(sorted(groups.items()))
    write_text(path, text.getvalue())
