"""One image and its annotation, read once in a worker: what is wrong with them alone, and a summary for the rest.

A summary is some kilobytes whatever the image's size, so the check's memory hardly grows with the data set.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ...errors import DataError
from ..images import read_grey
from ..planes import one_class
from ..polygons import Polygon, outlines_of, rasterise, read_items
from ..records import Record
from .findings import Finding, Severity

SIDE = 512  # long side of the grid on which bones are measured
THUMB = 32  # side of the thumbnail that near-duplicates are compared by
BLANK = 2.0  # standard deviation of grey levels below which an image shows nothing
NOISE = 12.0  # median step between neighbouring pixels of a line, from which on it is white noise and no picture
CROSSED = 0.15  # share of a bone that its outline does not enclose by the shoelace formula
RING = 25  # pixels of that grid: the ring around the bones reaches half of it
SAME = 0.9  # intersection over union of two classes that must be the same outline drawn twice
COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}  # of a PNG header

REMOVE = "Restore the file, or remove it with its annotation"
REDRAW = "Correct the annotation, or leave the image out by the quarantine"


@dataclass
class Look:
    """What is kept of one image.

    ``bones`` float64[C, 6]: centroid x, y, area, and variances xx, yy and covariance xy of each class, in units of
    the long side; NaN where it is absent.
    """

    record: Record
    split: str  # train or test
    bones: np.ndarray
    shape: tuple[int, int] | None = None  # height, width; None: unreadable
    form: str = ""  # file type, bit depth, colours
    pixels: bytes = b""  # SHA-256 of the shape and the grey pixels
    hash: int = 0  # 64-bit perceptual hash
    thumb: np.ndarray | None = None  # uint8[THUMB, THUMB]
    drawn: bytes = b""  # SHA-256 of the annotations
    contrast: float = np.nan  # grey levels inside the annotations less those around, in deviations of the image
    findings: list[Finding] = field(default_factory=list)

    def add(self, path: Path, severity: Severity, kind: str, text: str, remedy: str) -> None:
        """Notes a problem of the image or its annotation."""
        spoils = self.record.name if self.split == "train" else ""
        self.findings.append(Finding(str(path), severity, kind, text, remedy, spoils))


def look(item: tuple[Record, str], classes: list[str]) -> Look:
    """Reads the image and, where there is one, the annotation of ``(record, split)``; never raises for its files."""
    cv2.setNumThreads(1)
    record, split = item
    seen = Look(record, split, np.full((len(classes), 6), np.nan))
    try:
        image = read_grey(record.image)
        _look_at_image(seen, image)
    except DataError as error:
        seen.add(record.image, "error", "unreadable", str(error).removeprefix(f"{record.image}: "), REMOVE)
    except MemoryError:
        seen.add(record.image, "error", "unreadable", "does not fit into memory", REMOVE)
    if record.labels is not None:
        polygons = _read_polygons(seen, record.labels, classes)
        if seen.shape is not None:
            _measure(seen, polygons, classes, record.labels, image)
    return seen


def perceptual_hash(image: np.ndarray) -> tuple[int, np.ndarray]:
    """64-bit hash of uint8[H, W] from the signs of its lowest frequencies, and its thumbnail uint8[THUMB, THUMB].

    Follows pHash (Zauner, 2010): cosine transform of a small copy, 8 x 8 lowest coefficients against their median.
    """
    thumb = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low = cv2.dct(thumb.astype(np.float32))[1:9, 1:9].ravel()  # without the rows of the mean: exposure is no content
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big"), thumb


def noise_band(image: np.ndarray) -> tuple[int, int]:
    """Rows at the top and columns at the left of uint8[H, W] that hold white noise, as broken detector borders do."""
    widths = []
    for lines in (image, image.T):
        edge = lines[: max(1, len(lines) // 8)].astype(np.int16)
        steps = np.median(np.abs(np.diff(edge, axis=1)), axis=1)
        widths.append(int(np.argmin(steps > NOISE)) if (steps <= NOISE).any() else len(steps))
    return widths[0], widths[1]


def file_form(path: Path) -> str:
    """Type, depth and colours of an image file, such as ``png, 8 bit, palette``.

    Read from the header for PNG; other types are named by their ending alone.
    """
    with path.open("rb") as file:
        head = file.read(26)
    if head[:4] == b"\x89PNG" and len(head) == 26:
        return f"png, {head[24]} bit, {COLOURS.get(head[25], 'unknown')}"
    return path.suffix.lower().lstrip(".")


def _look_at_image(seen: Look, image: np.ndarray) -> None:
    path = seen.record.image
    seen.shape, seen.form = (image.shape[0], image.shape[1]), file_form(path)
    seen.pixels = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    seen.hash, seen.thumb = perceptual_hash(image)
    if float(cv2.meanStdDev(image)[1][0, 0]) < BLANK:
        seen.add(path, "error", "blank", "shows nothing: all pixels are nearly alike", REMOVE)
        return
    top, left = noise_band(image)
    if max(top, left) >= max(3, len(image) // 100):
        text = f"white noise in the upper {top} rows and the left {left} columns"
        seen.add(path, "note", "noise-band", text, "Harmless to most models; black it out where it is not")


def _read_polygons(seen: Look, path: Path, classes: list[str]) -> list[Polygon]:
    """The usable polygons of an annotation file; the others are noted."""
    index = {name: i for i, name in enumerate(classes)}
    polygons: list[Polygon] = []
    try:
        items = read_items(path)
    except DataError as error:
        seen.add(path, "error", "bad-annotation", str(error).removeprefix(f"{path}: "), REDRAW)
        return []
    if not items:
        seen.add(path, "error", "no-annotation", "annotates nothing", REDRAW)
    for row, item in enumerate(items):
        try:
            polygons += outlines_of(item, f"annotation {row}", index)
        except DataError as error:
            kind = "unknown-label" if "unknown label" in str(error) else "bad-polygon"
            seen.add(path, "error", kind, str(error), REDRAW)
    digest = hashlib.sha256()
    for label, points in polygons:
        digest.update(bytes([label & 255]) + points.tobytes())
    seen.drawn = digest.digest() if polygons else b""
    return polygons


def _measure(seen: Look, polygons: list[Polygon], classes: list[str], path: Path, image: np.ndarray) -> None:
    """Area and centroid of each class from its mask, and the polygons that enclose nothing or lie outside."""
    assert seen.shape is not None
    height, width = seen.shape
    scale = SIDE / max(height, width)
    grid = (max(1, round(height * scale)), max(1, round(width * scale)))
    planes = rasterise(polygons, grid, len(classes), scale)
    enclosed, along = np.zeros(len(classes)), np.zeros(len(classes))
    boxes: dict[int, np.ndarray] = {}
    bearer: dict[bytes, int] = {}
    for label, points in polygons:
        first = bearer.setdefault(points.tobytes(), label)
        if first != label:
            text = f"an outline of {classes[label]} also stands as {classes[first]}"
            seen.add(path, "error", "same-outline", text, REDRAW)
        low, high = points.min(axis=0), points.max(axis=0)
        if (low > (width, height)).any() or (high < -1).any():
            seen.add(path, "error", "out-of-frame", f"{classes[label]} lies outside the image", REDRAW)
            continue
        if (low < -1).any() or (high > (width, height)).any():
            far = max(*(-low), *(high - (width - 1, height - 1)))
            text = f"{classes[label]} reaches {far:.0f} pixels beyond the image"
            seen.add(path, "warning", "out-of-frame", text, "What lies outside is cut off; check the image's size")
        scaled = np.clip((points + 0.5) * scale - 0.5, -0.5, (grid[1] - 0.5, grid[0] - 0.5))
        after = np.roll(scaled, -1, axis=0)
        area = abs(float((scaled[:, 0] * after[:, 1] - after[:, 0] * scaled[:, 1]).sum())) / 2
        if area * (max(height, width) / SIDE) ** 2 < 1:
            seen.add(path, "error", "no-area", f"an outline of {classes[label]} encloses nothing", REDRAW)
        enclosed[label] += area
        along[label] += np.hypot(*(after - scaled).T).sum()
        box = np.stack([scaled.min(axis=0), scaled.max(axis=0)])
        old = boxes.get(label, box)
        boxes[label] = np.stack([np.minimum(old[0], box[0]), np.maximum(old[1], box[1])])
    for label, (low, high) in boxes.items():
        x0, y0 = np.maximum(np.floor(low).astype(int) - 1, 0)
        x1, y1 = np.ceil(high).astype(int) + 2
        moments = cv2.moments(one_class(planes[y0:y1, x0:x1], label).astype(np.uint8), binaryImage=True)
        area = moments["m00"]
        if not area:
            continue
        centre = (moments["m10"] / area + x0 + 0.5, moments["m01"] / area + y0 + 0.5)
        spread = [moments[name] / area / SIDE**2 for name in ("mu20", "mu02", "mu11")]
        seen.bones[label] = (centre[0] / SIDE, centre[1] / SIDE, area / SIDE**2, *spread)
        # a mask holds half the pixels of its outline more than the outline encloses; a figure of eight, much more
        if area - enclosed[label] - along[label] * 0.75 - 4 > CROSSED * area:
            text = f"the outline of {classes[label]} crosses itself"
            seen.add(path, "warning", "crossed-outline", text, "Redraw the outline in one turn")
    _find_same(seen, planes, classes, path)
    seen.contrast = contrast(cv2.resize(image, grid[::-1], interpolation=cv2.INTER_AREA), planes)


def contrast(image: np.ndarray, planes: np.ndarray) -> float:
    """How much brighter uint8[H, W] is under the masks uint8[H, W, P] than around them, in its own deviations.

    Bones are; a mask that belongs to another image is about as bright as what surrounds it.
    """
    inside = planes.max(axis=2) > 0
    mask: np.ndarray = inside.astype(np.uint8)
    around = cv2.dilate(mask, np.ones((RING, RING), np.uint8)).astype(bool) & ~inside
    if not inside.any() or not around.any():
        return float("nan")
    return float((image[inside].mean() - image[around].mean()) / max(image[inside | around].std(), 1e-6))


def _find_same(seen: Look, planes: np.ndarray, classes: list[str], path: Path) -> None:
    """Two classes with the same mask: an outline that was kept under its old label too."""
    there = np.flatnonzero(np.isfinite(seen.bones[:, 2]))
    x, y, area = seen.bones[there, :3].T
    near = np.hypot(x[:, None] - x, y[:, None] - y) < 0.05 * np.sqrt(np.minimum(area[:, None], area))
    near &= np.minimum(area[:, None], area) > SAME * np.maximum(area[:, None], area)
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        a, b = one_class(planes, there[i]), one_class(planes, there[j])
        if (a & b).sum() > SAME * (a | b).sum():
            text = f"{classes[there[i]]} and {classes[there[j]]} are the same outline"
            seen.add(path, "error", "same-outline", text, REDRAW)
