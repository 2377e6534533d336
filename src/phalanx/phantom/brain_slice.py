"""One slice of a head, with or without its tumour."""

from dataclasses import dataclass

import cv2
import numpy as np

from .brain_contrast import TISSUES
from .brain_cortex import paint_brain, paint_vessels
from .brain_face import paint_outside
from .brain_grid import Box, Grid, make_grid
from .brain_head import Canvas, Head, cavity, over, skin, textures
from .brain_lesion import Lesion, lesion_distance, paint_lesion, paint_oedema, shift
from .brain_scanner import Series, acquire

PAD = 1.12  # the head is drawn on a larger image, so that turning it leaves no empty corners
FOV = {"axial": 222.0, "coronal": 244.0, "sagittal": 250.0}  # mm
MIDDLE = {"axial": (-3.0, 0.0), "coronal": (-24.0, 0.0), "sagittal": (-24.0, 2.0)}
PARTIAL = 1.3  # mm over which borders are blurred by the thickness of the slice
MARGIN = 16.0  # mm outside the cavity that tumours of the pituitary reach
BEND = 1.5  # mm by which the head is bent


@dataclass(frozen=True)
class View:
    """The position of a series of slices. ``turn``: rotation in the plane in degrees; ``centre``: offset in mm."""

    plane: str
    tilt: float
    turn: float
    centre: tuple[float, float]


def draw_view(rng: np.random.Generator, plane: str) -> View:
    """A random position."""
    down, right = rng.normal(0, 3.0, 2)
    return View(plane, float(rng.normal(0, 0.05)), float(rng.normal(0, 3.5)), (float(down), float(right)))


def render_slice(
    head: Head, lesion: Lesion | None, view: View, at: float, series: Series, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One slice and the mask of its tumour.

    Args:
        at: position across the plane in mm.
        rng: of the noise; the same draws with and without a tumour.

    Returns:
        Image uint8[size, size] and mask uint8[size, size], 0 or 255.
    """
    pixels = round(size * PAD)
    fov = FOV[view.plane] * series.fov * pixels / size
    (row, column), (down, right) = MIDDLE[view.plane], view.centre
    grid = make_grid(view.plane, at, view.tilt, (row + down, column + right), fov, pixels)
    grid = Grid(
        grid.plane, grid.at, grid.mm, grid.shape,
        *(values / np.float32(k) for values, k in zip((grid.x, grid.y, grid.z), head.scale, strict=True)),
    )  # fmt: skip
    image, distance = _draw(head, lesion, grid, series)
    rows, columns = _bent(head, grid, view.turn, size)
    image = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((size, size), np.uint8)
    if distance is not None:
        distance = cv2.remap(distance, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = np.where(distance < 0, np.uint8(255), np.uint8(0))
    return acquire(image, series, rng), mask


def _draw(head: Head, lesion: Lesion | None, grid: Grid, series: Series) -> tuple[np.ndarray, np.ndarray | None]:
    """Tissue intensities float32[H, W], and the signed distance to the tumour."""
    inside = cavity(grid)
    canvas = Canvas(grid, TISSUES[series.sequence], max(PARTIAL, 1.2 * grid.mm), textures(head, grid))
    paint_outside(canvas, head, inside, skin(grid, head, inside))
    box = _around(inside < MARGIN)  # nothing of the brain or a tumour is outside
    part, inside = canvas.crop(box), inside[box]
    grid = part.grid
    brain = Canvas(grid, part.tissue, part.soft, part.noise)
    brain.image[:] = brain.value("csf")
    white = paint_brain(brain, head, inside)
    distance = None
    if lesion:
        distance = lesion_distance(lesion, grid, inside)
        brain.image, white = _pushed(brain.image, white, lesion, grid, inside)
        paint_oedema(brain, lesion, distance, white)
    over(part.image, inside + np.float32(0.4), brain.image, part.soft, 1.0)
    paint_vessels(part, inside)
    if lesion is None or distance is None:
        return canvas.image, None
    paint_lesion(part, lesion, distance, inside)
    whole = np.full(canvas.image.shape, 99, np.float32)
    whole[box] = distance
    return canvas.image, whole


def _around(mask: np.ndarray) -> Box:
    """The rows and columns of the pixels of a mask, or all if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _pushed(
    image: np.ndarray, white: np.ndarray, lesion: Lesion, grid: Grid, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both images with the brain pushed aside."""
    down, right = shift(lesion, grid, inside)
    rows, columns = np.indices(grid.shape, np.float32)
    # rows run against their coordinate, and so do the columns of a sagittal plane
    rows += down * np.float32(1 / grid.mm)
    columns += right * np.float32((1 if grid.plane == "sagittal" else -1) / grid.mm)
    image = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return image, cv2.remap(white, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _bent(head: Head, grid: Grid, turn: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the image is on the padded plane: turned, and bent, as no head is symmetric."""
    axis = {"axial": 3, "coronal": 2, "sagittal": 1}[grid.plane]
    place = (grid.at / 45.0) % 8
    low, part = int(place), np.float32(place - int(place))
    warp = np.take(head.warp, low, axis) * (1 - part) + np.take(head.warp, (low + 1) % 8, axis) * part
    padded = grid.shape[0]
    offset = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    c, s = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    middle = np.float32((padded - 1) / 2)
    rows = c * offset[:, None] + s * offset[None] + middle
    columns = -s * offset[:, None] + c * offset[None] + middle
    amount = np.float32(BEND / grid.mm)
    cells = 7  # of 45 mm or less in the image
    for k, target in enumerate((rows, columns)):
        target += amount * cv2.resize(
            np.ascontiguousarray(warp[k, :cells, :cells]), (size, size), interpolation=cv2.INTER_CUBIC
        )
    return rows, columns
