"""Findings of one image's annotation in any layout, and the place and shape of each class."""

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from ..config import Masks, SegmentData
from ..data import coco, coco_rle, mask_files, masks
from ..data.images import Grid
from ..data.polygons import Polygon, class_index, outlines_of, rasterise, read_items
from ..errors import DataError
from ..masks.planes import any_class, one_class, plane_count
from .inspection import REDRAW, SIDE, Inspection
from .metal import metal, peaks

MAX_CROSSED = 0.15  # fraction of a bone that its outline does not enclose by the shoelace formula
RING = 25  # pixels of the small copy: the ring around the bones is half as wide
MIN_IOU = 0.9  # of two classes that are one outline drawn twice


def inspect_annotation(inspection: Inspection, data: SegmentData, small: np.ndarray | None) -> None:
    """Adds the findings of an image's annotation, and measures its classes.

    Args:
        small: the image resized to a long side of SIDE; None if it is unreadable.
    """
    grid = Grid(*inspection.shape, SIDE) if inspection.shape is not None else None
    polygons, planes = READERS[data.layout](inspection, data, grid)
    digest = hashlib.sha256()
    for label, points in polygons:
        digest.update(bytes([label & 255]) + points.tobytes())
    if planes is not None:
        digest.update(planes.tobytes())
    drawn = bool(polygons) or (planes is not None and bool(planes.any()))
    inspection.drawn = digest.digest() if drawn else b""
    if grid is None or small is None:
        return
    if not drawn and data.layout != "competition":
        inspection.add(
            inspection.truth,
            "warning",
            "no-annotation",
            "contains none of the classes",
            "Annotate it if the image shows one",
        )
    _measure(inspection, polygons, planes, data.classes, grid, small)


def _of_json(inspection: Inspection, data: SegmentData, grid: Grid | None) -> tuple[list[Polygon], None]:
    """Returns the usable polygons of the competition's annotation file; the others become findings."""
    path, index = inspection.truth, class_index(data.classes)
    polygons: list[Polygon] = []
    try:
        items = read_items(path)
    except DataError as error:
        inspection.add(path, "error", "bad-annotation", str(error).removeprefix(f"{path}: "), REDRAW)
        return [], None
    if not items:
        inspection.add(path, "error", "no-annotation", "contains no annotation", REDRAW)
    for row, item in enumerate(items):
        try:
            polygons += outlines_of(item, f"annotation {row}", index)
        except DataError as error:
            kind = "unknown-label" if "unknown label" in str(error) else "bad-polygon"
            inspection.add(path, "error", kind, str(error), REDRAW)
    return polygons, None


def _of_coco(inspection: Inspection, data: SegmentData, grid: Grid | None) -> tuple[list[Polygon], np.ndarray | None]:
    """Returns polygons in pixels, with pixel centres at whole numbers, and run-length masks as bit-planes."""
    assert inspection.record.labels is not None
    if grid is None:
        return [], None
    entry = coco.gather(inspection.record.labels, data).entries[inspection.record.name]
    height, width = entry.size or (grid.height, grid.width)
    polygons: list[Polygon] = []
    planes = None
    try:
        grid.same_frame((height, width), f"{inspection.record.labels.name}: {inspection.record.name}")
    except DataError as error:
        inspection.add(inspection.truth, "error", "other-frame", str(error), REDRAW)
        return [], None
    scale = np.array([grid.width / width, grid.height / height])
    for label, shape, where in entry.shapes:
        if not isinstance(shape, dict):
            polygons += [Polygon(label, np.reshape(flat, (-1, 2)) * scale - 0.5) for flat in shape]
            continue
        try:
            mask = coco_rle.sample(shape, where, grid)
        except DataError as error:
            kind = "other-frame" if "proportions" in str(error) else "bad-mask"
            inspection.add(inspection.truth, "error", kind, str(error), REDRAW)
            continue
        planes = _blank(grid, data.classes) if planes is None else planes
        planes[:, :, label // 8] |= mask << (label % 8)
    return polygons, planes


def _of_masks(inspection: Inspection, data: SegmentData, grid: Grid | None) -> tuple[list[Polygon], np.ndarray | None]:
    """Returns the masks of an image as bit-planes; those that cannot be used become findings."""
    assert inspection.record.labels is not None
    options, path = data.masks or Masks(), inspection.record.labels
    planes = _blank(grid, data.classes) if grid else None
    files = [(-1, path)] if options.kind == "labels" else mask_files.class_masks(path, data.classes)
    for label, file in files:
        kind = "bad-mask"
        try:
            values = mask_files.read_labels(file) if label < 0 else mask_files.read_mask(file)
            kind = "other-frame"
            if grid:
                grid.same_frame(values.shape, file)
            kind = "unknown-label"
            table = masks.table_of(file, values, data) if label < 0 else None
        except DataError as error:
            inspection.add(file, "error", kind, str(error).removeprefix(f"{file}: "), REDRAW)
            continue
        if planes is None or grid is None:
            continue
        if table is not None:
            planes |= table[grid.sample(values)]
        else:
            planes[:, :, label // 8] |= grid.sample(values).astype(np.uint8) << (label % 8)
    return [], planes


READERS = {"competition": _of_json, "coco": _of_coco, "masks": _of_masks}


def _blank(grid: Grid, classes: Sequence[str]) -> np.ndarray:
    return np.zeros((*grid.content, plane_count(len(classes))), np.uint8)


def _measure(
    inspection: Inspection,
    polygons: list[Polygon],
    masked: np.ndarray | None,
    classes: list[str],
    frame: Grid,
    small: np.ndarray,
) -> None:
    """Measures area, centroid and spread of each class; adds polygons that are empty, crossed or outside."""
    height, width, path, scale, grid = frame.height, frame.width, inspection.truth, frame.scale, frame.content
    planes = rasterise(polygons, grid, len(classes), scale)
    enclosed, perimeter = np.zeros(len(classes)), np.zeros(len(classes))
    boxes = _boxes(masked, len(classes)) if masked is not None else {}
    if masked is not None:
        planes |= masked
        enclosed[list(boxes)] = np.inf  # there is no outline
    first_label: dict[bytes, int] = {}
    for label, points in polygons:
        first = first_label.setdefault(points.tobytes(), label)
        if first != label:
            text = f"{classes[label]} and {classes[first]} have the same outline"
            inspection.add(path, "error", "same-outline", text, REDRAW)
        low, high = points.min(axis=0), points.max(axis=0)
        if (low > (width, height)).any() or (high < -1).any():
            inspection.add(path, "error", "out-of-frame", f"{classes[label]} lies outside the image", REDRAW)
            continue
        if (low < -1).any() or (high > (width, height)).any():
            far = max(*(-low), *(high - (width - 1, height - 1)))
            text = f"{classes[label]} reaches {far:.0f} pixels beyond the image"
            inspection.add(
                path, "warning", "out-of-frame", text, "What lies outside is slices off; check the image's size"
            )
        scaled = np.clip((points + 0.5) * scale - 0.5, -0.5, (grid[1] - 0.5, grid[0] - 0.5))
        after = np.roll(scaled, -1, axis=0)
        area = abs(float((scaled[:, 0] * after[:, 1] - after[:, 0] * scaled[:, 1]).sum())) / 2
        if area * (max(height, width) / SIDE) ** 2 < 1:
            inspection.add(path, "error", "no-area", f"an outline of {classes[label]} encloses nothing", REDRAW)
        enclosed[label] += area
        perimeter[label] += np.hypot(*(after - scaled).T).sum()
        box = np.stack([scaled.min(axis=0), scaled.max(axis=0)])
        old = boxes.get(label, box)
        boxes[label] = np.stack([np.minimum(old[0], box[0]), np.maximum(old[1], box[1])])
    slices: dict[int, tuple[slice, slice]] = {}
    for label, (low, high) in boxes.items():
        x0, y0 = np.maximum(np.floor(low).astype(int) - 1, 0)
        x1, y1 = np.ceil(high).astype(int) + 2
        moments = cv2.moments(one_class(planes[y0:y1, x0:x1], label).astype(np.uint8), binaryImage=True)
        area = moments["m00"]
        if not area:
            continue
        centre = (moments["m10"] / area + x0 + 0.5, moments["m01"] / area + y0 + 0.5)
        spread = [moments[name] / area / SIDE**2 for name in ("mu20", "mu02", "mu11")]
        inspection.bones[label] = (centre[0] / SIDE, centre[1] / SIDE, area / SIDE**2, *spread)
        # a mask has half the outline's pixels more than the outline encloses; a figure of eight, many more
        if area - enclosed[label] - perimeter[label] * 0.75 - 4 > MAX_CROSSED * area:
            text = f"the outline of {classes[label]} crosses itself"
            inspection.add(path, "warning", "crossed-outline", text, "Redraw the outline without crossings")
        slices[label] = (slice(y0, y1), slice(x0, x1))
    _find_same(inspection, planes, classes)
    inspection.contrast = contrast(small, planes)
    for label, peak in peaks(small, planes, slices, inspection.bands).items():
        inspection.peaks[label] = peak
    spot = metal(small, planes, slices, inspection.bands)
    inspection.bright = None if spot is None else (round((spot.x + 0.5) / scale), round((spot.y + 0.5) / scale))


def _boxes(planes: np.ndarray, classes: int) -> dict[int, np.ndarray]:
    """Returns the corners (x, y) float[2, 2] of each class's mask."""
    boxes = {}
    for label in range(classes):
        mask = one_class(planes, label)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            boxes[label] = np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], float)
    return boxes


def contrast(image: np.ndarray, planes: np.ndarray) -> float:
    """Returns how much brighter an image is inside its masks than around them, in standard deviations.

    Bones are brighter; masks of another image are about as bright as their surroundings.

    Args:
        image: uint8[H, W].
        planes: masks uint8[H, W, P].
    """
    inside = any_class(planes)
    mask: np.ndarray = inside.astype(np.uint8)
    around = cv2.dilate(mask, np.ones((RING, RING), np.uint8)).astype(bool) & ~inside
    if not inside.any() or not around.any():
        return float("nan")
    return float((image[inside].mean() - image[around].mean()) / max(image[inside | around].std(), 1e-6))


def _find_same(inspection: Inspection, planes: np.ndarray, classes: list[str]) -> None:
    """Adds pairs of classes with the same mask: an outline that also has its old label."""
    present = np.flatnonzero(np.isfinite(inspection.bones[:, 2]))
    x, y, area = inspection.bones[present, :3].T
    near = np.hypot(x[:, None] - x, y[:, None] - y) < 0.05 * np.sqrt(np.minimum(area[:, None], area))
    near &= np.minimum(area[:, None], area) > MIN_IOU * np.maximum(area[:, None], area)
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        a, b = one_class(planes, present[i]), one_class(planes, present[j])
        if (a & b).sum() > MIN_IOU * (a | b).sum():
            text = f"{classes[present[i]]} and {classes[present[j]]} have the same outline"
            inspection.add(inspection.truth, "error", "same-outline", text, REDRAW)
