"""Polygon annotations: reading the competition's JSON and rasterising into bit-planes.

Coordinates are pixels of the original image; an integer is the centre of a pixel, and the outline belongs to
the region (OpenCV's convention, and that of the tools the annotations come from).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from ..masks.planes import plane_count

SHIFT = 4  # fractional bits of a vertex: OpenCV rasterises to 1/16 pixel
MAX_COORDINATE = 1e6  # pixels from the corner; OpenCV's integers overflow not far beyond


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
    index = {name: i for i, name in enumerate(classes)}
    items = read_items(path)
    return [
        polygon for row, item in enumerate(items) for polygon in outlines_of(item, f"{path}: annotation {row}", index)
    ]


def read_items(path: Path) -> list[Any]:
    """The list ``annotations`` of a file, its entries not yet checked."""
    try:
        items = json.loads(path.read_text(encoding="utf-8"))["annotations"]
        if not isinstance(items, list):
            raise TypeError("'annotations' is not a list")
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation file; every training image needs one") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise DataError(
            f"{path}: not an annotation file ({type(error).__name__}: {error}); expected JSON "
            '{"annotations": [{"label": ..., "points": [[x, y], ...]}, ...]}. Repair or remove it with its image'
        ) from None
    return items


def outlines_of(item: Any, where: str, index: dict[str, int]) -> list[Polygon]:
    """Polygons of one annotation ``{"label": ..., "points": ...}``; ``index``: class number by name.

    Raises:
        DataError: beginning with ``where``.
    """
    if not isinstance(item, dict) or "label" not in item or "points" not in item:
        raise DataError(f"{where}: needs the keys 'label' and 'points'")
    label = item["label"]
    if not isinstance(label, str) or label not in index:
        raise DataError(
            f"{where}: unknown label {label!r}; the data config knows {_some(list(index))}. "
            "Correct the label, or add it to data.classes"
        )
    return [Polygon(index[label], points) for points in _outlines(item["points"], f"{where} ({label})")]


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
        if np.abs(outline).max() > MAX_COORDINATE:
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
