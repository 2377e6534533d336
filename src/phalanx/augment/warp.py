"""One geometric warp: crop, flip, shift, scale, rotation, elastic and grid distortion in one map, applied once.

The image is resampled bilinearly and all bit-planes together by nearest neighbour, through the same map, so
mask and image stay aligned and 29 classes cost as much as 4 channels.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from ..config import Augment
from ..masks.planes import swap_classes
from .draw import Crop, Draw, Window, draw

STRIP = 128  # rows of the map computed at a time: they stay in a core's cache

Source = tuple[np.ndarray, int]  # an array [H, W] or [H, W, C] and OpenCV's interpolation flag


def warp(
    image: np.ndarray,
    planes: np.ndarray,
    content: tuple[int, int],
    rng: np.random.Generator,
    augment: Augment,
    pairs: Sequence[tuple[int, int]],
    crop: Crop | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A random warp of image uint8[S, S] and planes uint8[S, S, P]; with a crop both have its side.

    Args:
        content: rows and columns of the grid that the image covers; flips and rotations are about its centre.
        pairs: classes that a mirror image swaps.
        crop: the window of the warped image to return; only its pixels are computed.
    """
    return warp_drawn(draw(rng, augment, content, image.shape[0], planes, crop), image, planes, pairs)


def warp_drawn(
    drawn: Draw, image: np.ndarray, planes: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """The warp that was drawn, of image uint8[S, S] and planes uint8[S, S, P]."""
    image, planes = resample(drawn, [(image, cv2.INTER_LINEAR), (planes, cv2.INTER_NEAREST)])
    return image, swap_classes(planes, pairs) if drawn.flipped and pairs else planes


def resample(drawn: Draw, sources: Sequence[Source]) -> list[np.ndarray]:
    """Arrays of one height and width through one map, to [height, width, ...] of the window; 0 outside them.

    A warp that moves nothing returns the arrays themselves.
    """
    if drawn.distortions is None and not drawn.field.any():
        columns = drawn.content[1]
        if np.array_equal(drawn.matrix, np.eye(2, 3)):
            return [_crop(drawn.window, array) for array, _ in sources]
        if np.array_equal(drawn.matrix, [[-1, 0, columns - 1], [0, 1, 0]]):
            return [_crop(drawn.window, _mirror(array, columns)) for array, _ in sources]
    height, width = drawn.window[2:]
    parts = [_quads(array) for array, _ in sources]
    made = [[np.empty((height, width, *part.shape[2:]), part.dtype) for part in quads] for quads in parts]
    for strip, x, y in _maps(drawn):
        for (_, method), quads, out in zip(sources, parts, made, strict=True):
            for part, into in zip(quads, out, strict=True):
                cv2.remap(part, x, y, method, dst=into[strip], borderMode=cv2.BORDER_CONSTANT)
    whole = (out[0] if len(out) == 1 else np.dstack(out) for out in made)
    return [out.reshape(height, width, *array.shape[2:]) for out, (array, _) in zip(whole, sources, strict=True)]


def _maps(drawn: Draw) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Strips of rows of the window with their source coordinates x, y float32[strip, width]; reused for the next."""
    top, left, height, width = drawn.window
    down, along = drawn.lines()
    bend = None
    if drawn.field.any():
        # both displacements as channels of one image: OpenCV upsamples two channels faster than one
        bend = cv2.resize(drawn.field.transpose(1, 2, 0), (drawn.side, drawn.side), interpolation=cv2.INTER_CUBIC)
    buffer = np.empty((2, min(STRIP, height), width), np.float32)
    for first in range(0, height, STRIP):
        strip = slice(first, min(first + STRIP, height))
        x, y = buffer[:, : strip.stop - first]
        for part, axis in ((x, 0), (y, 1)):
            np.add(down[axis, strip, None], along[axis], out=part)
            if bend is not None:
                part += bend[top + first : top + strip.stop, left : left + width, axis]
        yield strip, x, y


def _quads(array: np.ndarray) -> list[np.ndarray]:
    """An array in parts of at most four channels, as many as OpenCV remaps at a time; one channel as [H, W]."""
    if array.ndim == 2:
        return [np.ascontiguousarray(array)]
    parts = [array[:, :, first : first + 4] for first in range(0, array.shape[2], 4)]
    return [np.ascontiguousarray(part[:, :, 0] if part.shape[2] == 1 else part) for part in parts]


def _crop(window: Window, array: np.ndarray) -> np.ndarray:
    """The window of an array, padded with 0 where the array ends."""
    top, left, height, width = window
    if (top, left, height, width) == (0, 0, *array.shape[:2]):
        return array
    part = array[top : top + height, left : left + width]
    missing = [(0, height - part.shape[0]), (0, width - part.shape[1]), *[(0, 0)] * (array.ndim - 2)]
    return np.pad(part, missing) if np.any(missing) else np.ascontiguousarray(part)


def _mirror(array: np.ndarray, columns: int) -> np.ndarray:
    """The content mirrored left to right: what the map would do, a few times faster."""
    mirrored = np.zeros_like(array)
    mirrored[:, :columns] = cv2.flip(array[:, :columns], 1).reshape(array[:, :columns].shape)
    return mirrored
