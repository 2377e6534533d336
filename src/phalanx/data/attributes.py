"""Attributes of each image: its patient's row of the metadata sheet, and whether the hand is rotated."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import SegmentData, nearest
from ..errors import ConfigError, DataError
from ..masks.stack import Stack
from ..runtime.spelling import nfc
from ..runtime.terminal import say
from .images import image_size
from .metadata import COLUMNS, SHEETS, match, mismatch, read_metadata, rows_of
from .polygons import read_annotations
from .records import Record, root_of
from .rotation import BASE, LIMIT, TIP, has_rule, tilt_of_polygons, tilt_of_stack
from .truth import planes_of

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTES = (*COLUMNS, "rotated")
PARTS = ("low", "middle", "high")  # thirds of a measured column


def read_attributes(records: Sequence[Record], data: SegmentData, wanted: Sequence[str]) -> "pd.DataFrame":
    """The wanted attributes of each image, indexed by its name; missing if unknown.

    Args:
        records: annotated images of the data set at ``data.root``.
        wanted: of ``ATTRIBUTES``. ``rotated`` (True, False) is measured on the annotations.

    Raises:
        ConfigError: no such attribute, or the data set has no bones to measure rotation on.
        DataError: the sheet is missing or unreadable, or has none of the patients.
    """
    import pandas as pd

    for name in wanted:
        if name not in ATTRIBUTES:
            raise ConfigError(f"{name}: no such attribute of an image{nearest(name, ATTRIBUTES)}")
    table = pd.DataFrame(index=pd.Index([record.name for record in records], name="image_name"))
    if set(wanted) & set(COLUMNS):
        rows = rows_of(read_sheet(data, wanted, patients_of(records)), [record.group for record in records])
        for name in wanted:
            if name in COLUMNS:
                table[name] = rows[name].to_numpy()
    if "rotated" in wanted:
        if not has_rule(data.classes):
            raise ConfigError(f"rotated: is measured from {BASE} to {TIP}, and data.classes lacks one of them")
        table["rotated"] = [_rotated(record, data) for record in records]
    return table[list(wanted)]


def patients_of(records: Sequence[Record]) -> set[str]:
    """The patients of the images."""
    return {record.group for record in records}


def read_sheet(
    data: SegmentData, wanted: Sequence[str], groups: Collection[str], *, some: bool = True
) -> "pd.DataFrame":
    """The metadata sheet at ``data.root``, as :func:`metadata.read_metadata` returns it. Prints what was not understood
    of it, and a line if it has hardly any of the patients.

    Args:
        groups: patients of the data set.
        some: refuse a sheet without any of them.

    Raises:
        DataError: there is none, or it cannot be read, or it has none of the patients.
    """
    root = root_of(data)
    sheet = read_metadata(root, groups, wanted)
    if sheet is None:
        raise DataError(
            f"{root}: has no {' or '.join(SHEETS)}, so the patients' {wanted[0]} is unknown{other_sheets(root)}"
        )
    if notes := sheet.attrs["notes"]:
        others = f" (and {len(notes) - 1} more; phalanx check lists them)" if notes[1:] else ""
        say(f"note: {notes[0]}{others}")
    if fault := mismatch(sheet, groups):
        if some and not match(sheet, groups):
            raise DataError(fault)
        say(f"note: {fault}")
    return sheet


def other_sheets(root: Path) -> str:
    """What a message about a missing sheet adds: files that may have been meant."""
    stems = {Path(name).stem for name in SHEETS}
    names = sorted(
        path.name
        for path in root.iterdir()
        if nfc(path.name).rsplit(".", 1)[0].lower() in stems and path.name not in SHEETS
    )
    return f" ({', '.join(names)} is not read; save it under one of these names)" if names else ""


def sheet_values(records: Sequence[Record], sheet: "pd.DataFrame", wanted: Sequence[str]) -> np.ndarray:
    """float32[N, T] of the wanted columns of a sheet: male 1 and female 0, years, cm, kg; NaN where missing, also for
    patients without a row."""
    rows = rows_of(sheet, [record.group for record in records])
    columns = [rows[name].map({"male": 1.0, "female": 0.0}) if name == "sex" else rows[name] for name in wanted]
    return np.stack([column.to_numpy(np.float32) for column in columns], 1)


def strata(attributes: "pd.DataFrame") -> "pd.DataFrame":
    """Attributes as text, for counting: measured columns become thirds, missing values a stratum of their own."""
    import pandas as pd

    named = pd.DataFrame(index=attributes.index)
    for name in attributes.columns:
        column = attributes[name]
        if name == "rotated":
            values = column.map({True: "rotated", False: "upright"})
        elif name == "sex":
            values = column
        else:  # equal values stay together, so thirds may differ in size
            place = column.rank(pct=True, method="average")
            values = pd.cut(place, [0, 1 / 3, 2 / 3, 1], labels=[f"{name} {part}" for part in PARTS]).astype(object)
        named[name] = values.where(values.notna(), f"{name} missing")
    return named


def poses(records: Sequence[Record], data: SegmentData) -> dict[str, list[int]]:
    """Numbers of the images of rotated and of upright hands; without one of the two, or without the bones that the rule
    needs, nothing."""
    if not has_rule(data.classes):
        return {}
    found = [_rotated(record, data) for record in records]
    rows = {
        name: [i for i, value in enumerate(found) if value is rotated]
        for name, rotated in (("rotated", True), ("upright", False))
    }
    return rows if all(rows.values()) else {}


def _rotated(record: Record, data: SegmentData) -> bool | None:
    if record.labels is None:
        return None
    if data.layout == "competition":  # outlines suffice; no image is opened
        degrees = tilt_of_polygons(read_annotations(record.labels, data.classes), data.classes)
    else:
        shape = image_size(record.image)
        stack = Stack.of_planes(planes_of(record, data, shape), len(data.classes))
        degrees = tilt_of_stack(stack, data.classes, shape[1])
    return None if degrees != degrees else degrees >= LIMIT
