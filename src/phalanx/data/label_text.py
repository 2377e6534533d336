"""The labels of an image as text: what a snapshot stores, whatever the layout; equal labels are equal texts.

Masks are a line ``class,rle`` each, of classes that are there; boxes ``class,x_min,y_min,x_max,y_max``; labels of an
image ``class,1`` or ``class,0``, and ``class,`` if the class is not labelled.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import ClassifyData, DetectData, SegmentData
from ..masks.rle import decode
from ..masks.stack import Stack
from ..submission.boxes import number
from .labels import label_row
from .objects import shapes_of
from .records import Record
from .truth import planes_of


class Found(NamedTuple):
    """Labels that a text has.

    Attributes:
        masks: bool[H, W] by class.
        boxes: float64[4] with their class.
        values: cell by class, of the labels of an image.
    """

    masks: dict[str, np.ndarray]
    boxes: list[tuple[str, np.ndarray]]
    values: dict[str, str]


def label_text(record: Record, data: Any, size: tuple[int, int]) -> str:
    """The labels of a record, whose image has a size (height, width).

    Raises:
        DataError: it has no annotation, or one that cannot be used.
    """
    if isinstance(data, SegmentData):
        texts = Stack.of_planes(planes_of(record, data, size), len(data.classes)).texts()
        return _lines([(name, text) for name, text in zip(data.classes, texts, strict=True) if text])
    if isinstance(data, DetectData):
        shapes = sorted(shapes_of(record, data, size), key=lambda one: (one.label, *one.box.tolist()))
        return _lines([(data.classes[one.label], *map(number, one.box.tolist())) for one in shapes])
    assert isinstance(data, ClassifyData)
    labels = label_row(record, data)
    cells = ["" if value != value else f"{value:g}" for value in labels]
    return _lines(list(zip(data.classes, cells, strict=True)))


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_text(text: str, kind: str, size: tuple[int, int]) -> Found:
    """The labels of :func:`label_text`.

    Args:
        kind: the task: segment, detect or classify.
        size: (height, width) of the image.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if kind == "segment":
        return Found({row[0]: decode(row[1], size) > 0 for row in rows}, [], {})
    if kind == "detect":
        return Found({}, [(row[0], np.array(row[1:5], float)) for row in rows], {})
    return Found({}, [], {row[0]: row[1] for row in rows})
