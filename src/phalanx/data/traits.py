"""What is known of each image besides its pixels: the patient's row of the sheet, and whether the hand is rotated."""

from collections.abc import Sequence

import pandas as pd

from ..config import Data, nearest
from ..errors import ConfigError, DataError
from ..submit.rle import encode_planes
from ..submit.stack import Stack
from .metadata import COLUMNS, SHEETS, read_metadata
from .polygons import read_annotations
from .records import Record, root_of
from .rotation import BASE, LIMIT, TIP, has_rule, tilt_of_polygons, tilt_of_stack
from .truth import image_shape, planes_of

TRAITS = (*COLUMNS, "rotated")
PARTS = ("low", "middle", "high")  # thirds of a measured column


def read_traits(records: Sequence[Record], data: Data, wanted: Sequence[str]) -> pd.DataFrame:
    """The wanted traits of each image, indexed by its name; missing where nothing is known.

    Args:
        records: annotated images of the data set at ``data.root``.
        wanted: of ``TRAITS``. ``rotated`` (True, False) is measured on the annotations.

    Raises:
        ConfigError: no such trait, or the data set has no bones to measure rotation on.
        DataError: the sheet is missing or unreadable.
    """
    for name in wanted:
        if name not in TRAITS:
            raise ConfigError(f"{name}: no such trait of an image{nearest(name, TRAITS)}")
    table = pd.DataFrame(index=pd.Index([record.name for record in records], name="image_name"))
    if set(wanted) & set(COLUMNS):
        root = root_of(data)
        sheet = read_metadata(root)
        if sheet is None:
            raise DataError(f"{root}: has no {' or '.join(SHEETS)}, so nothing tells the patients' {wanted[0]}")
        rows = sheet.reindex([record.group for record in records])
        for name in wanted:
            if name in COLUMNS:
                table[name] = rows[name].to_numpy()
    if "rotated" in wanted:
        if not has_rule(data.classes):
            raise ConfigError(f"rotated: is measured from {BASE} to {TIP}, and data.classes has not both")
        table["rotated"] = [_rotated(record, data) for record in records]
    return table[list(wanted)]


def strata(traits: pd.DataFrame) -> pd.DataFrame:
    """Traits as text, for counting: measured columns become thirds, missing values a stratum of their own."""
    named = pd.DataFrame(index=traits.index)
    for name in traits.columns:
        column = traits[name]
        if name == "rotated":
            values = column.map({True: "rotated", False: "upright"})
        elif name == "sex":
            values = column
        else:  # equal values stay together, so thirds may differ in size
            place = column.rank(pct=True, method="average")
            values = pd.cut(place, [0, 1 / 3, 2 / 3, 1], labels=[f"{name} {part}" for part in PARTS]).astype(object)
        named[name] = values.where(values.notna(), f"{name} missing")
    return named


def _rotated(record: Record, data: Data) -> bool | None:
    if record.labels is None:
        return None
    if data.layout == "competition":  # outlines tell without an image to open
        degrees = tilt_of_polygons(read_annotations(record.labels, data.classes), data.classes)
    else:
        shape = image_shape(record.image)
        stack = Stack.parse(encode_planes(planes_of(record, data, shape), len(data.classes)))
        degrees = tilt_of_stack(stack, data.classes, shape[1])
    return None if degrees != degrees else degrees >= LIMIT
