"""Images from disk as 8-bit grey, and their place on the square working grid."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from .dicom import decode as decode_dicom
from .dicom import is_dicom, to_eight_bits


def read_grey(path: Path) -> np.ndarray:
    """An image file as uint8[H, W]; colours and palettes become luminance, an alpha channel is dropped.

    Deeper files are scaled from the smallest of 8, 10, 12, 14 or 16 bits that holds their brightest pixel. DICOM
    files are read by `dicom.decode`.

    Raises:
        DataError: the file is missing, empty, truncated or not an image.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or remove its record") from None
    if not data.size:
        raise DataError(f"{path}: the file is empty; restore it, or remove it with its annotation")
    if is_dicom(path, data):
        return decode_dicom(path, data)
    if data[:4].tobytes() == b"\x89PNG" and b"IEND" not in data[-16:].tobytes():
        # OpenCV decodes what is there and leaves the rest black, without an error
        raise DataError(f"{path}: the PNG is cut off; copy it again, or remove it with its annotation")
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path}: not a readable image; restore it, or remove it with its annotation")
    if image.ndim == 3:
        image = cv2.cvtColor(image[:, :, :3], cv2.COLOR_BGR2GRAY) if image.shape[2] > 2 else image[:, :, 0]
    if image.dtype == np.uint16:
        image = to_eight_bits(image)
    if image.dtype != np.uint8:
        raise DataError(f"{path}: {image.dtype} pixels; convert the image to 8 or 16 bits")
    return np.ascontiguousarray(image)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, from its header if possible.

    Raises:
        DataError: as :func:`read_grey`.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # DICOM, or unreadable
        decoded = read_grey(path)
        return decoded.shape[0], decoded.shape[1]


class Grid(NamedTuple):
    """An image of ``height`` x ``width`` pixels in the top left corner of a ``side`` x ``side`` grid."""

    height: int
    width: int
    side: int

    @classmethod
    def of(cls, image: np.ndarray, side: int) -> "Grid":
        """The grid of an image uint8[H, W]."""
        return cls(image.shape[0], image.shape[1], side)

    @property
    def scale(self) -> float:
        """Grid pixels per image pixel; the long side fills the grid."""
        return self.side / max(self.height, self.width)

    @property
    def content(self) -> tuple[int, int]:
        """Rows and columns of the grid that the image covers."""
        return max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))

    def place(self, image: np.ndarray) -> np.ndarray:
        """uint8[height, width] to uint8[side, side], by area if it shrinks; zero outside the image."""
        long = max(self.height, self.width)
        square = image
        if self.height != self.width:  # squared first, so that one scale applies to both axes, and to the polygons
            square = np.zeros((long, long), np.uint8)
            square[: self.height, : self.width] = image
        if long == self.side:
            return square
        way = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(square, (self.side, self.side), interpolation=way)

    def sample(self, mask: np.ndarray) -> np.ndarray:
        """A mask [h, w, ...] of the whole image, at any resolution, to [rows, columns, ...] of the content.

        Nearest neighbour, pixel centres on pixel centres, in one step from the mask to the grid.
        """
        picks = []
        for count, length, image_side in zip(self.content, mask.shape, (self.height, self.width), strict=False):
            centres = (np.arange(count) + 0.5) / (self.scale * image_side)  # as fractions of the image's side
            picks.append(np.minimum((centres * length).astype(int), length - 1))
        return mask[picks[0]][:, picks[1]]

    def same_frame(self, shape: tuple[int, ...], where: object) -> None:
        """Raises DataError if a mask of [h, w] cannot show the whole image: its proportions differ."""
        height, width = shape[:2]
        if abs(height * self.width - width * self.height) > max(height, width, self.height, self.width):
            raise DataError(
                f"{where}: the mask is {height} x {width} and its image {self.height} x {self.width}: other "
                "proportions, so it shows another part or is rotated. Make it from this image"
            )

    def restore(self, maps: np.ndarray) -> np.ndarray:
        """float32[C, n, n] over the grid, at any resolution n, to float32[C, height, width], bilinear."""
        long, (rows, columns) = max(self.height, self.width), Grid(self.height, self.width, maps.shape[1]).content
        restored = np.empty((len(maps), self.height, self.width), np.float32)
        for target, source in zip(restored, maps, strict=True):
            if self.height != self.width:  # the border is extended outside the image, or it would fade to 0
                source = np.pad(source[:rows, :columns], ((0, len(source) - rows), (0, len(source) - columns)), "edge")
            target[:] = cv2.resize(source, (long, long), interpolation=cv2.INTER_LINEAR)[: self.height, : self.width]
        return restored
