"""Which part of an image a panel shows, and that part in the pixels of the panel."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .outlined import Frame, Line, frame_around
from .scene import BoxScene, MaskScene, Scene

FINE = 2  # panels are drawn so many times as large, so that lines are thin and clear
ZOOM = 0.4  # a zoomed frame shows at most this part of the image's longer side
PAD = 24  # grey level beyond the image
SEARCHED = 512  # pixels of the long side in which the place with the most errors is searched


class View(NamedTuple):
    """A frame of an image on a fine canvas.

    Attributes:
        side: of the canvas in fine pixels.
        scale: fine pixels per pixel of the image.
    """

    frame: Frame
    side: int
    scale: float

    @classmethod
    def of(cls, frame: Frame, side: int) -> "View":
        """The view of a panel with a side in pixels."""
        return cls(frame, FINE * side, FINE * side / frame.side)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points float64[N, 2] on pixel edges of the image as pixel centres of the canvas."""
        return np.asarray((points - (self.frame.x, self.frame.y)) * self.scale - 0.5)

    def crop(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part of an array [H, W] that the frame shows, and the affine map float64[2, 3] onto the canvas."""
        x0, y0 = (max(0, int(np.floor(v)) - 1) for v in (self.frame.x, self.frame.y))
        x1, y1 = (int(np.ceil(v + self.frame.side)) + 1 for v in (self.frame.x, self.frame.y))
        s = self.scale
        place = np.array([
            [s, 0, (0.5 + x0 - self.frame.x) * s - 0.5], [0, s, (0.5 + y0 - self.frame.y) * s - 0.5],
        ])  # fmt: skip
        return pixels[y0:y1, x0:x1], place

    def canvas(self, image: np.ndarray, beyond: int = PAD) -> np.ndarray:
        """A grey image uint8[H, W] on the canvas: RGB uint8[side, side, 3]; beyond the image it has one grey level."""
        part, place = self.crop(image)
        if part.size == 0:
            return np.full((self.side, self.side, 3), beyond, np.uint8)
        if self.scale < FINE:  # else the pixels between would be lost
            part = cv2.GaussianBlur(part, (0, 0), 0.4 * FINE / self.scale)
        kind = cv2.INTER_LINEAR if self.scale <= 2 * FINE else cv2.INTER_CUBIC
        grey = cv2.warpAffine(part, place, (self.side, self.side), flags=kind, borderValue=(beyond,))
        return np.repeat(grey[:, :, None], 3, axis=2)

    def mask(self, mask: np.ndarray, least: float = 0.5) -> np.ndarray:
        """A mask bool[H, W] on the canvas: uint8[side, side] of 0 and 1.

        Args:
            least: fraction of a fine pixel that the mask must cover. Below a half thin things stay visible.
        """
        part, place = self.crop(mask)
        if not part.any():
            return np.zeros((self.side, self.side), np.uint8)
        values = part.astype(np.float32)
        if self.scale < 1:
            width = max(1, round(1 / self.scale))
            values = np.asarray(cv2.blur(values, (width, width)), np.float32)
        kind = cv2.INTER_LINEAR if self.scale <= 1 else cv2.INTER_NEAREST  # enlarged: the pixels themselves
        return np.asarray(cv2.warpAffine(values, place, (self.side, self.side), flags=kind) >= least).astype(np.uint8)

    def finished(self, canvas: np.ndarray) -> np.ndarray:
        """The canvas as a panel."""
        side = self.side // FINE
        return np.asarray(cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA))


def whole(scene: Scene) -> Frame:
    """The frame of the whole image."""
    return frame_around([], scene.size)


def zoom(scene: Scene, chosen: Sequence[int], side: int) -> Frame:
    """The frame around what is wrong of some classes, for a panel with a side in pixels.

    Masks: the window with the most wrong pixels, at full resolution (one pixel of a large image is one of the panel; a
    small image is enlarged). Boxes: around the wrong boxes and the missed objects. The whole image if nothing is wrong,
    and of labels.
    """
    if isinstance(scene, MaskScene):
        return _most_errors(scene, list(chosen), side)
    if isinstance(scene, BoxScene):
        boxes = scene.predicted.corners[~scene.right & np.isin(scene.predicted.classes, chosen)]
        objects = scene.truth.corners[scene.missed & np.isin(scene.truth.classes, chosen)]
        corners = np.concatenate([boxes, objects])
        return frame_around([Line(corners.reshape(-1, 2), "", False)] if len(corners) else [], scene.size)
    return whole(scene)


def _most_errors(scene: MaskScene, chosen: list[int], side: int) -> Frame:
    long = max(scene.size)
    shown = max(1.0, min(float(side), ZOOM * long))
    total = np.zeros(scene.size, np.float32)
    for c in chosen:
        truth, made = (one.chosen([c]).masks(scene.size)[0] for one in (scene.truth, scene.predicted))
        total += truth != made
    if not total.any():
        return whole(scene)
    factor = min(1.0, SEARCHED / long)
    small = cv2.resize(total, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    width = max(1, round(shown * factor))
    counted = cv2.boxFilter(small, -1, (width, width), normalize=False, borderType=cv2.BORDER_CONSTANT)
    best = counted >= counted.max() - 1e-6 * max(1.0, float(counted.max()))
    y, x = (float(np.median(found)) for found in np.nonzero(best))
    return frame_at(((x + 0.5) / factor, (y + 0.5) / factor), shown, scene.size)


def frame_at(centre: tuple[float, float], side: float, size: tuple[int, int]) -> Frame:
    """The frame of a side around a centre (x, y), moved into an image (height, width) as far as it fits."""
    corner = [
        float(np.clip(centre[k] - side / 2, 0, size[1 - k] - side)) if size[1 - k] >= side else (size[1 - k] - side) / 2
        for k in (0, 1)
    ]
    return Frame(corner[0], corner[1], side)
