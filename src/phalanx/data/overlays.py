"""Marks burnt into an ultrasound image: found without truth, and removed in one of three ways.

Removed are calipers, dotted or dashed lines and frames, arrows, and results with their boxes, in any colour. What every
image of a machine has is left: captions in the outermost lines and columns of the screen, grey wedges.
"""

from typing import Literal, NamedTuple

import cv2
import numpy as np

Removal = Literal["black", "fast_marching", "bilinear"]
LONG = 1024  # marks are searched on an image of at most this long side
LIKELY = 0.2  # probability from which a pixel is ink
TOP, BOTTOM = 0.05, 0.04  # of the height: text nearer than that to the upper or lower border is a caption
# of the width: nearer to a side, lines are grey wedges, and a column of text without a box is a caption
ASIDE = 0.025
COLUMN = 0.11  # of the height, at least, of such a column
BOX = 0.8  # fraction of its rectangle that a box fills
TALL = 0.2  # of the height: what is higher is a column of captions rather than a box
EVEN = 10  # grey levels within which the pixels of a box are
LETTER = 0.02  # of the height: about the height of a letter
WORD = 3  # letters' heights: shorter text is a numeral of the depth scale
RADIUS = 3  # pixels that fast marching looks at around each


class Overlays(NamedTuple):
    """What is drawn over an image, each bool[H, W]: ``marks`` to remove, of which ``text`` is text with its boxes, and
    ``captions`` of the machine, which stay."""

    marks: np.ndarray
    text: np.ndarray
    captions: np.ndarray


def remove_overlays(image: np.ndarray, how: Removal) -> np.ndarray:
    """An image uint8[H, W] or [H, W, 3] without its marks.

    Args:
        how: ``black``: rectangles around text, and the ink of lines and symbols, become 0. ``fast_marching``: known
            pixels spread inwards (Telea, 2004). ``bilinear``: see :func:`bilinear`.
    """
    if image.ndim == 3 and (image == image[:, :, :1]).all():  # a grey image, read as colour
        return np.repeat(remove_overlays(np.ascontiguousarray(image[:, :, 0]), how)[:, :, None], 3, axis=2)
    found = find_overlays(image)
    if not found.marks.any():
        return image
    mask = found.marks.astype(np.uint8)
    if how == "black":
        for x, y, width, height in _rectangles(found.text):
            mask[y : y + height, x : x + width] = 1
        shape = mask if image.ndim == 2 else mask[:, :, None]
        return np.where(shape, np.uint8(0), image)
    if how == "fast_marching":
        return cv2.inpaint(np.ascontiguousarray(image), mask, RADIUS, cv2.INPAINT_TELEA)
    return bilinear(image, mask.astype(bool))


def bilinear(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image uint8[H, W] or [H, W, 3] with the pixels of bool[H, W] interpolated from the border of the mask.

    A pixel is interpolated linearly between the nearest pixels outside the mask in its row, and in its column. Of the
    two values the one across the narrower gap counts more: weights are the reciprocals of the gaps. Where a row or
    column has such a pixel on one side only, that pixel's value is used; where it has none, the other direction. If
    all is mask, nothing changes.

    >>> bilinear(np.array([[10, 99, 99, 40]], np.uint8), np.array([[0, 1, 1, 0]], bool)).tolist()
    [[10, 20, 30, 40]]
    """
    if mask.all() or not mask.any():
        return image
    total, weights = np.zeros(image.shape, np.float32), np.zeros(mask.shape, np.float32)
    for turned in (False, True):
        pixels, holes = (image.swapaxes(0, 1), mask.T) if turned else (image, mask)
        value, weight = _along_rows(pixels, holes)
        value, weight = (value.swapaxes(0, 1), weight.T) if turned else (value, weight)
        total += value * (weight if image.ndim == 2 else weight[:, :, None])
        weights += weight
    inside = mask & (weights > 0)
    found = image.copy()
    scale = weights[inside] if image.ndim == 2 else weights[inside][:, None]
    found[inside] = np.round(total[inside] / scale).astype(np.uint8)
    rest = mask & ~inside  # neither their row nor their column has a pixel outside
    return bilinear(found, rest) if rest.any() else found


def _along_rows(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row-wise interpolation, float32 as ``image``, and its weights float32[H, W], 0 where a row has no source."""
    height, width = mask.shape
    columns = np.broadcast_to(np.arange(width), (height, width))
    left = np.maximum.accumulate(np.where(mask, -1, columns), axis=1)
    right = np.minimum.accumulate(np.where(mask, width, columns)[:, ::-1], axis=1)[:, ::-1]
    has_left, has_right = left >= 0, right < width
    rows = np.arange(height)[:, None]
    first = image[rows, np.maximum(left, 0)].astype(np.float32)
    last = image[rows, np.minimum(right, width - 1)].astype(np.float32)
    gap = np.maximum(right - left, 1).astype(np.float32)
    part = np.where(has_left & has_right, (columns - left) / gap, np.where(has_left, 0, 1)).astype(np.float32)
    part = part if image.ndim == 2 else part[:, :, None]
    return first + part * (last - first), np.where(has_left | has_right, 1 / gap, 0).astype(np.float32)


def find_overlays(image: np.ndarray) -> Overlays:
    """Marks and captions of an image uint8[H, W] or, in RGB, [H, W, 3]."""
    height, width = image.shape[:2]
    small = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    scale = min(1.0, LONG / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    found = _sorted_text(small.mean(axis=2), *_ink(small))
    if scale == 1:
        return found
    return Overlays(
        *(cv2.resize(m.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0 for m in found)
    )


def _ink(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[H, W] each: lines and symbols, and text, of uint8[H, W, 3]."""
    from .overlay_network import probabilities  # loads torch

    lines, text = probabilities(image) > LIKELY
    return lines, text


def _sorted_text(grey: np.ndarray, lines: np.ndarray, text: np.ndarray) -> Overlays:
    """Ink with its text divided into results and captions.

    Args:
        grey: the image, float[H, W].
    """
    height, letter = len(text), max(3, round(LETTER * len(text)))
    first, last = round(TOP * height), height - round(BOTTOM * height)
    beside = cv2.dilate(text.astype(np.uint8), np.ones((letter, 2 * letter + 1), np.uint8)) > 0
    text = text | (lines & beside)  # letters that look like symbols
    middle, outer = text.copy(), text.copy()
    middle[:first] = middle[last:] = outer[first:last] = False
    joined = cv2.morphologyEx(middle.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 2 * letter + 1), np.uint8))
    columns = _columns(joined, letter)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    caption, result = np.zeros(count, bool), np.zeros(count, bool)
    boxes: dict[int, tuple[slice, slice] | None] = {}
    for k, (x, y, w, h, area) in enumerate(stats[1:], 1):
        inside = np.s_[y : y + h, x : x + w]
        own = labels[inside] == k
        boxes[k] = _box(grey, middle, x, y, w, h)
        if boxes[k] is None and 2 * letter < h < TALL * height and (middle[inside] & own).mean() >= BOX:
            boxes[k] = inside  # the network found all of a box, which something as grey continues
        caption[k] = boxes[k] is None and (columns[inside] & own).sum() > area / 2
        result[k] = not caption[k] and w >= WORD * letter
    kept = np.zeros(text.shape, bool)
    kept[:first] = kept[last:] = True
    margin = round(1.2 * ASIDE * text.shape[1])
    kept[:, :margin] = kept[:, text.shape[1] - margin :] = True
    for x, y, w, h in stats[caption, :4]:
        kept[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = True
    results = middle & result[labels]
    for number, box in boxes.items():
        if result[number] and box is not None:
            results[box] = True
    return Overlays((lines & ~kept) | results, results, outer | (middle & caption[labels]))


def _box(grey: np.ndarray, text: np.ndarray, x: int, y: int, w: int, h: int) -> tuple[slice, slice] | None:
    """The box behind a text: what is about as grey as between its letters, if that is a rectangle; else None."""
    reach = 4 * h
    top, left = max(0, y - reach), max(0, x - reach)
    window = np.s_[top : y + h + reach, left : x + w + reach]
    near, words = grey[window], text[window]
    own = np.s_[y - top : y - top + h, x - left : x - left + w]
    paper = np.percentile(near[own], 40)
    alike = (np.abs(near - paper) <= EVEN) | words
    alike = cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(alike, connectivity=4)
    found = np.bincount(labels[own].ravel(), minlength=len(stats))
    found[0] = 0
    k = int(found.argmax())
    first, start, wide, high, area = stats[k]
    inner = start > 0 and first > 0 and start + high < near.shape[0] and first + wide < near.shape[1]
    if not found[k] or not inner or area < BOX * wide * high or wide < w or high < h:
        return None
    return np.s_[top + start : top + start + high, left + first : left + first + wide]


def _columns(lines: np.ndarray, letter: int) -> np.ndarray:
    """bool[H, W]: columns of lines of text at a side of the screen, from uint8[H, W]."""
    height, width = lines.shape
    stacked = cv2.morphologyEx(lines, cv2.MORPH_CLOSE, np.ones((2 * letter + 1, 1), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(stacked, connectivity=8)
    aside = (stats[:, 0] < ASIDE * width) | (stats[:, 0] + stats[:, 2] > (1 - ASIDE) * width)
    long = aside & (stats[:, 3] >= COLUMN * height)
    long[0] = False
    return long[labels]


def _rectangles(text: np.ndarray) -> list[tuple[int, int, int, int]]:
    """x, y, width, height of each block of text."""
    letter = max(3, round(LETTER * len(text)))
    joined = cv2.dilate(text.astype(np.uint8), np.ones((letter, 2 * letter + 1), np.uint8))
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        ys, xs = np.nonzero(text[y : y + h, x : x + w])
        if len(ys):
            found.append((int(x + xs.min()), int(y + ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1))
    return found
