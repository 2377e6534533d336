"""Polygon annotations: reading the competition's JSON and rasterising into bit-planes.

Coordinates are pixels of the original image; an integer is the centre of a pixel, and the outline belongs to
the region (OpenCV's convention, and that of the tools the annotations come from).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import DataError, brief
from ..masks.planes import plane_count
from ..runtime.reading import MissingFile, fault, read_json
from ..runtime.spelling import nfc

SHIFT = 4  # fractional bits of a vertex: OpenCV rasterises to 1/16 pixel
MAX_COORDINATE = 1e6  # pixels from the corner; OpenCV's integers overflow not far beyond
NEAR = 1024  # pixels
EXPECTED = (
    'expected JSON {"annotations": [{"label": ..., "points": [[x, y], ...]}, ...]}. Repair or remove it with its image'
)


class Polygon(NamedTuple):
    """One closed outline. ``points``: float64[N, 2] as x, y in pixels of the original image, N >= 3."""

    label: int
    points: np.ndarray


def read_annotations(path: Path, classes: Sequence[str]) -> list[Polygon]:
    """Polygons of one annotation file ``{"annotations": [{"label": ..., "points": [[x, y], ...]}, ...]}``.

    ``points`` may be flat ``[[x, y], ...]`` or nested ``[[[x, y], ...], ...]`` (several outlines of a class).

    Raises:
        DataError: the file is missing, is not such JSON, names an unknown label or has a polygon without area.
    """
    index = class_index(classes)
    items = read_items(path)
    return [
        polygon for row, item in enumerate(items) for polygon in outlines_of(item, f"{path}: annotation {row}", index)
    ]


def class_index(classes: Sequence[str]) -> dict[str, int]:
    """Number of each class by its name in the form that names are compared in."""
    return {nfc(name): i for i, name in enumerate(classes)}


def read_items(path: Path) -> list[Any]:
    """The list ``annotations`` of a file, its entries not yet checked."""
    try:
        values = read_json(path, remedy=EXPECTED, finite=False)  # an annotation's numbers are checked with it
    except MissingFile:
        raise DataError(f"{path}: no such annotation file; every training image needs one") from None
    if not isinstance(values, dict) or not isinstance(values.get("annotations"), list):
        raise fault(path, "not an annotation file (it has no list 'annotations')", EXPECTED)
    items: list[Any] = values["annotations"]
    return items


def outlines_of(item: Any, where: str, index: dict[str, int]) -> list[Polygon]:
    """Polygons of one annotation ``{"label": ..., "points": ...}``; ``index``: class number by name.

    Raises:
        DataError: beginning with ``where``.
    """
    if not isinstance(item, dict) or "label" not in item or "points" not in item:
        raise DataError(f"{where}: needs the keys 'label' and 'points'")
    label = item["label"]
    number = index.get(nfc(label)) if isinstance(label, str) else None
    if number is None:
        raise DataError(
            f"{where}: unknown label {brief(label)}; the data config knows {_some(list(index))}. "
            "Correct the label, or add it to data.classes"
        )
    return [Polygon(number, points) for points in _outlines(item["points"], f"{where} ({nfc(label)})")]


def rasterise(polygons: Sequence[Polygon], shape: tuple[int, int], classes: int, scale: float = 1.0) -> np.ndarray:
    """Polygons as bit-planes uint8[H, W, P] on a grid ``scale`` times the original.

    Each polygon is filled inside its own bounding box only, so the cost depends on the bones and not on the classes.
    Parts outside the frame are cut off.
    """
    height, width = shape
    planes = np.zeros((height, width, plane_count(classes)), np.uint8)
    for label, points in polygons:
        scaled = (points + 0.5) * scale - 0.5
        x0, y0 = np.floor(scaled.min(0)).astype(int) - 1
        x1, y1 = np.ceil(scaled.max(0)).astype(int) + 2
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        patch = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.round((scaled - (x0, y0)) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(patch, [fixed], 1 << (label % 8), shift=SHIFT)
        planes[y0:y1, x0:x1, label // 8] |= patch
    return planes


def near(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An outline float64[N, 2] whose parts far outside a frame of [height, width] are cut off, perhaps with no point.

    To pycocotools an outline costs as much as it is long, even where nothing shows. Outlines that stay within a frame's
    length of the frame, or ``NEAR`` pixels, are returned as they are, so that they are rasterised to the same bits.
    """
    reach = float(max(*shape, NEAR))
    for axis, limit, sign in ((0, -reach, -1), (0, 2 * reach, 1), (1, -reach, -1), (1, 2 * reach, 1)):
        beyond = sign * (points[:, axis] - limit)
        if not len(points) or beyond.max() <= 0:
            continue
        after, crosses = np.roll(beyond, -1), (beyond > 0) != (np.roll(beyond, -1) > 0)
        way = beyond / np.where(crosses, beyond - after, 1)
        crossings = points + way[:, None] * (np.roll(points, -1, axis=0) - points)
        points = np.stack([points, crossings], 1).reshape(-1, 2)[np.stack([beyond <= 0, crosses], 1).ravel()]
    return points


def _outlines(points: Any, where: str) -> list[np.ndarray]:
    """One or several outlines from flat or nested lists, each float64[N, 2]."""
    nested = isinstance(points, list) and points and isinstance(points[0], list) and points[0]
    parts = points if nested and isinstance(points[0][0], list) else [points]
    outlines = []
    for part in parts:
        try:
            outline = np.asarray(part)
            if outline.dtype.kind not in "iuf" or outline.ndim != 2 or outline.shape[1] != 2:
                raise ValueError  # text that reads as a number is not one
            outline = outline.astype(np.float64)
            if not np.isfinite(outline).all():
                raise ValueError
        except ValueError:
            raise DataError(f"{where}: 'points' must be a list of [x, y] numbers") from None
        if np.abs(outline).max(initial=0) > MAX_COORDINATE:
            raise DataError(f"{where}: a point is {np.abs(outline).max():g} pixels away; correct it")
        if len(outline) < 3:
            raise DataError(
                f"{where}: a polygon of {len(outline)} point{'s' * (len(outline) != 1)} has no area; "
                "redraw it or delete the annotation"
            )
        outlines.append(outline)
    return outlines


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} classes)" if len(names) > most else "")
