"""Images from disk as upright 8-bit grey, and their place on the square working grid."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import DataError
from ..runtime.reading import read_bytes
from . import tiff_pixels
from .dicom import Spacing, is_dicom, spacing_of
from .dicom import decode as decode_dicom
from .dicom import size_of as size_of_dicom
from .grey import to_eight_bits
from .headers import REMEDY, Header, faults_of, header, upright
from .tiff import Fault

MAX_BYTES = 1 << 31  # of an image file

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what is wrong with an image is in our errors, by its name


def read_grey(path: Path) -> np.ndarray:
    """An image file as uint8[H, W], upright; colours and palettes become luminance, an alpha channel is dropped.

    Deeper files are scaled from the smallest of 8, 10, 12, 14 or 16 bits that holds their brightest pixel. The
    orientation of EXIF or TIFF is applied, as viewers and annotation tools do. DICOM files are read by `dicom.decode`.

    Raises:
        DataError: the file is missing, not a regular file, empty, truncated, too large or not an image.
    """
    return _read(path)


def read_colour(path: Path) -> np.ndarray:
    """As :func:`read_grey`, but uint8[H, W, 3] in RGB; a grey image has three equal channels."""
    image = _read(path, colour=True)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _read(path: Path, *, colour: bool = False) -> np.ndarray:
    content = _content(path)
    if is_dicom(path, content):
        return decode_dicom(path, content)
    head = header(path, content)
    with faults_of(path):
        picture = tiff_pixels.decode(content) if head.kind == "TIFF" else _decoded(content, head)
        image = picture.pixels
        if image.shape[:2] != (head.shape if picture.turned else (head.height, head.width)):
            raise Fault(f"decoded to {image.shape[0]} x {image.shape[1]} pixels, its header claims {head.shape}")
        if image.ndim == 3 and not colour:
            image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        if image.dtype != np.uint8:
            try:
                image = to_eight_bits(image)
            except ValueError as error:
                raise Fault(str(error), tiff_pixels.CONVERT) from None
        image = 255 - image if picture.inverted else image
        return np.ascontiguousarray(image if picture.turned else upright(image, head.orientation))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of what :func:`read_grey` returns, from the file's header.

    Raises:
        DataError: as :func:`read_grey`, as far as the header shows it.
    """
    content = _content(path)
    return size_of_dicom(path, content) if is_dicom(path, content) else header(path, content).shape


def image_spacing(path: Path) -> Spacing | None:
    """Size of a pixel in mm, as a DICOM file has it; None of other files. Raises DataError as :func:`image_size`."""
    content = _content(path)
    return spacing_of(path, content) if is_dicom(path, content) else None


def header_of(path: Path) -> Header | None:
    """The header of an image file; None of DICOM. Raises DataError as :func:`image_size`."""
    content = _content(path)
    return None if is_dicom(path, content) else header(path, content)


def _content(path: Path) -> bytes:
    content = read_bytes(path, MAX_BYTES, "restore it or remove its record")
    if not content:
        raise DataError(f"{path}: the file is empty; {REMEDY}")
    return content


def _decoded(content: bytes, head: Header) -> tiff_pixels.Picture:
    """The picture of a file of a kind that OpenCV decodes, with colours in RGB."""
    data = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(data[: len(data) - head.excess], cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError
    if image.dtype not in (np.uint8, np.uint16):
        raise Fault(f"{image.dtype} pixels", tiff_pixels.CONVERT)
    if image.ndim == 3:
        image = image[:, :, 2::-1] if image.shape[2] > 2 else image[:, :, 0]
    return tiff_pixels.Picture(image)


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
        """uint8[height, width, ...] to uint8[side, side, ...], by area if it shrinks; zero outside the image."""
        long = max(self.height, self.width)
        square = image
        if self.height != self.width:  # squared first, so that one scale applies to both axes, and to the polygons
            square = np.zeros((long, long, *image.shape[2:]), np.uint8)
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
