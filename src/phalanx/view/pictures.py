"""Images as the page shows them: JPEG of a few sides, the last ones in memory."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from ..data.images import read_colour, read_grey

SIDES = {"small": 256, "medium": 1024, "full": 4096}  # the long side in pixels, at most
QUALITY = {"small": 80, "medium": 90, "full": 92}
MEMORY = 1 << 28  # bytes of JPEG


class Pictures:
    """JPEG of image files. Threads may share it.

    Args:
        colour: show colours, as the network gets them.
    """

    def __init__(self, *, colour: bool):
        self.colour = colour
        self._made: OrderedDict[tuple[Path, str], bytes] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def jpeg(self, path: Path, side: str) -> bytes:
        """The image, not larger than ``SIDES[side]``. Raises DataError if it cannot be read."""
        key = path, side
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = encoded(read_colour(path)[:, :, ::-1] if self.colour else read_grey(path), side)
        with self._lock:
            if key not in self._made:
                self._made[key], self._bytes = made, self._bytes + len(made)
            while self._bytes > MEMORY and len(self._made) > 1:
                self._bytes -= len(self._made.popitem(last=False)[1])
        return made


def encoded(image: np.ndarray, side: str) -> bytes:
    """JPEG of grey uint8[H, W] or BGR uint8[H, W, 3]."""
    scale = SIDES[side] / max(image.shape[:2])
    if scale < 1:
        size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
        image = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY[side]])[1])
