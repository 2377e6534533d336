"""One mask as runs: the competition's text, and set algebra on runs without ever painting pixels.

Text: row-major, 1-based ``start length`` pairs, the empty string for nothing. (COCO's is column-major.)
Runs: int64[N, 2], each row the 0-based first pixel and the pixel after the last, sorted, not overlapping.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .dice import dice_from_counts

MAX_DIGITS = 12  # longer numbers are larger than any image, and would overflow in a stack of classes
MAX_PIXELS = 10**MAX_DIGITS
_BLOCK_ROWS = 256  # block of the search for a mask's last row: large enough that Python's part is nothing


def encode(mask: np.ndarray) -> str:
    """Row-major, 1-based 'start length' pairs of a bool[H, W] mask.

    >>> encode(np.ones((3, 5), bool))
    '1 15'
    """
    return format_runs(mask_runs(mask))


def encode_planes(planes: np.ndarray, classes: int) -> list[str]:
    """One RLE per class of bit-planes uint8[H, W, P] (class c is bit c % 8 of plane c // 8).

    >>> encode_planes(np.array([[[1], [3], [2]]], np.uint8), classes=3)
    ['1 2', '2 2', '']
    """
    return [format_runs(runs) for runs in plane_runs(planes, classes)]


def plane_runs(planes: np.ndarray, classes: int) -> list[np.ndarray]:
    """Runs int64[N, 2] of each class of bit-planes uint8[H, W, P].

    The planes of a pixel are compared with its neighbour's as one machine word: one pass for all classes.
    """
    if planes.ndim != 3 or planes.dtype != np.uint8 or not 0 <= classes <= planes.shape[2] * 8:
        raise ValueError(f"planes {planes.dtype}{list(planes.shape)} do not hold {classes} classes as bit-planes")
    runs: list[np.ndarray] = []
    first = 0
    while len(runs) < classes:
        width = next(w for w in (8, 4, 2, 1) if w <= planes.shape[2] - first)
        words = np.ascontiguousarray(planes[:, :, first : first + width]).reshape(-1).view(f"<u{width}")
        changed = np.flatnonzero(words[1:] != words[:-1]) + 1
        bits = words[changed] ^ words[changed - 1]
        first_last = words[[0, -1]] if words.size else np.zeros(2, words.dtype)
        for bit in range(min(classes - len(runs), width * 8)):
            edges = changed[(bits >> bit & 1).astype(bool)]
            runs.append(_runs_between(edges, first_last >> bit & 1, words.size))
        first += width
    return runs


def mask_runs(mask: np.ndarray) -> np.ndarray:
    """Runs int64[N, 2] of a bool[H, W] mask.

    Only the box that holds something is compared pixel by pixel; the rest is read once, at memory speed.
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"a mask is bool[H, W], not {mask.dtype}{list(mask.shape)}")
    mask = np.ascontiguousarray(mask)
    height, width = mask.shape
    flat = mask.reshape(-1)
    first = int(flat.argmax()) if flat.size else 0  # stops at the first True
    if not flat.size or not flat[first]:
        return np.empty((0, 2), np.int64)
    top, bottom = first // width, height
    while bottom - _BLOCK_ROWS > top:
        block = flat[(bottom - _BLOCK_ROWS) * width : bottom * width]
        if block[block.argmax()]:
            break
        bottom -= _BLOCK_ROWS
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    # One empty column keeps the runs of neighbouring rows apart. If there is none, the box is the whole
    # width and runs rightly go on from row to row.
    if right < width:
        right += 1
    elif left > 0:
        left -= 1
    box = mask[top:bottom, left:right].reshape(-1)
    runs = _runs_between(np.flatnonzero(box[1:] != box[:-1]) + 1, box[[0, -1]], box.size)
    runs[:, 1] -= 1  # the last pixel, not the one after: that may lie in the next row of the box
    row, column = np.divmod(runs, right - left)
    runs = (row + top) * width + column + left
    runs[:, 1] += 1
    return runs


def _runs_between(edges: np.ndarray, first_last: np.ndarray, size: int) -> np.ndarray:
    """Places where a line of pixels changes, to runs; the line's own two ends are edges where it is set."""
    begins, stays = bool(first_last[0]), bool(first_last[-1])
    if begins or stays:
        edges = np.concatenate([[0] * begins, edges, [size] * stays]).astype(np.int64)
    return edges.reshape(-1, 2)


def format_runs(runs: np.ndarray) -> str:
    """Runs int64[N, 2] to text.

    >>> format_runs(np.array([[0, 15], [20, 21]]))
    '1 15 21 1'
    """
    pairs = np.stack([runs[:, 0] + 1, runs[:, 1] - runs[:, 0]], axis=1)
    return str(pairs.reshape(-1).tolist())[1:-1].replace(",", "")  # a list's own repr: no Python per number


def decode(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """Text to the bool[H, W] mask of ``shape``.

    Raises:
        DataError: as ``parse``, with the pixels of ``shape``.
    """
    mask = np.zeros(shape, bool)
    flat = mask.reshape(-1)
    for start, end in parse(rle, flat.size).tolist():
        flat[start:end] = True
    return mask


def parse(rle: str, pixels: int | None = None) -> np.ndarray:
    """Text to runs int64[N, 2]: start 0-based, end exclusive. Touching runs are not joined.

    Args:
        pixels: height x width of the image, if known; without it runs are not checked against the frame.

    Raises:
        DataError: an odd count, a number that is not whole, a start or length below 1, runs unsorted, overlapping or
            outside the frame; the message names the run. Only the empty string is nothing.

    >>> parse("1 15 21 1").tolist()
    [[0, 15], [20, 21]]
    """
    return parse_many([rle], pixels)[0]


def parse_many(rles: Sequence[str], pixels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Several masks' texts at once, which is many times faster than one by one.

    Returns:
        Runs int64[N, 2] of all masks one after another, and splits int64[len(rles) + 1]: mask i owns the runs
        from ``splits[i]`` to ``splits[i + 1]``.

    Raises:
        DataError: as ``parse``, for the first mask that is wrong.
    """
    parsed = _parse_fast(rles, pixels)
    if parsed is None:  # something is wrong, or oddly spaced: look at each mask closely
        each = [_parse_slowly(rle, pixels) for rle in rles]
        splits = np.cumsum([0, *map(len, each)])
        parsed = np.concatenate([np.empty((0, 2), np.int64), *each]), splits
    return parsed


def _parse_fast(rles: Sequence[str], pixels: int | None) -> tuple[np.ndarray, np.ndarray] | None:
    """What ``parse_many`` returns, if every text is right, of digits and single spaces; else None."""
    filled = [rle for rle in rles if rle]
    text = " ".join(filled)
    counts = np.zeros(len(rles), np.int64)
    if not filled:
        return np.empty((0, 2), np.int64), np.append(counts, 0)
    characters = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    is_space = characters == ord(" ")
    if not ((characters - np.uint8(ord("0")) < 10) | is_space).all():
        return None
    spaces = np.flatnonzero(is_space)
    digits = np.diff(spaces, prepend=-1, append=len(text)) - 1
    if digits.min() < 1 or digits.max() > MAX_DIGITS:
        return None
    # Numbers up to the end of each text: the joining space after it is its last.
    ends = np.cumsum([len(rle) + 1 for rle in filled])
    numbers_to = np.searchsorted(spaces, ends)
    numbers_to[-1] = len(spaces) + 1
    if (numbers_to % 2).any():
        return None
    runs = np.fromstring(text, np.int64, sep=" ").reshape(-1, 2)
    runs[:, 0] -= 1
    if runs[:, 0].min() < 0 or runs[:, 1].min() < 1:
        return None
    runs[:, 1] += runs[:, 0]
    if runs[:, 1].max() > (MAX_PIXELS if pixels is None else pixels):
        return None
    backwards = runs[1:, 0] < runs[:-1, 1]
    backwards[numbers_to[:-1] // 2 - 1] = False  # from one mask to the next
    if backwards.any():
        return None
    counts[[bool(rle) for rle in rles]] = np.diff(numbers_to // 2, prepend=0)
    return runs, np.concatenate([[0], np.cumsum(counts)])


def _parse_slowly(rle: str, pixels: int | None) -> np.ndarray:
    """The definition of what is accepted, one token at a time, saying what is wrong."""
    if not rle:
        return np.empty((0, 2), np.int64)
    tokens = [token for token in rle.split(" ") if token]
    for place, token in enumerate(tokens, 1):
        if not (token.isascii() and token.isdigit()):
            empty = "; nothing is the empty string" if len(tokens) == 1 else ""  # some write nan, None, -1 or []
            raise DataError(f"number {place} is {_short(token)}, which is not a whole number{empty}")
        if len(token) > MAX_DIGITS:
            raise DataError(f"number {place} has {len(token)} digits, which is larger than any image")
    if not tokens:
        raise DataError("holds spaces only; nothing is the empty string")
    if len(tokens) % 2:
        raise DataError(f"holds {len(tokens)} numbers; 'start length' pairs need an even count (is it cut off?)")
    runs = np.empty((len(tokens) // 2, 2), np.int64)
    before_start, before_end = 0, 0
    for run, (start, length) in enumerate(zip(map(int, tokens[::2]), map(int, tokens[1::2]), strict=True)):
        what = f"run {run + 1} '{start} {length}'"
        if start < 1:
            raise DataError(f"{what} starts below 1; the first pixel is 1")
        if length < 1:
            raise DataError(f"{what} has no length; lengths are 1 or more")
        if start <= before_end:
            fault = "overlaps the run before" if start >= before_start else "is not sorted by start"
            raise DataError(f"{what} {fault}, which is '{before_start} {before_end - before_start + 1}'")
        before_start, before_end = start, start + length - 1
        if before_end > (MAX_PIXELS if pixels is None else pixels):
            frame = "any image" if pixels is None else f"the image, which has {pixels} pixels"
            raise DataError(f"{what} ends outside {frame}")
        runs[run] = start - 1, before_end
    return runs


def _short(token: str) -> str:
    return repr(token if len(token) <= 20 else token[:20] + "…")


def area(runs: np.ndarray) -> int:
    """Pixels of runs int64[N, 2]."""
    return int((runs[:, 1] - runs[:, 0]).sum())


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Runs int64[N, 2] of the pixels in both of two masks' runs."""
    # Each run of b meets a contiguous stretch of a's runs, since both are sorted.
    low = np.searchsorted(a[:, 1], b[:, 0], side="right")
    high = np.searchsorted(a[:, 0], b[:, 1], side="left")
    meets = np.maximum(high - low, 0)
    of_b = np.repeat(np.arange(len(b)), meets)
    of_a = np.arange(len(of_b)) + np.repeat(low - (np.cumsum(meets) - meets), meets)
    return np.stack([np.maximum(a[of_a, 0], b[of_b, 0]), np.minimum(a[of_a, 1], b[of_b, 1])], axis=1)


def union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Runs int64[N, 2] of the pixels in either of two masks' runs; touching runs are joined.

    >>> union(np.array([[0, 4], [9, 10]]), np.array([[2, 6]])).tolist()
    [[0, 6], [9, 10]]
    """
    runs = np.concatenate([a, b])
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    if not len(runs):
        return runs
    reach = np.maximum.accumulate(runs[:, 1])
    first = np.append(True, runs[1:, 0] > reach[:-1])  # nothing before reaches this run
    return np.stack([runs[first, 0], reach[np.append(first[1:], True)]], axis=1)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks given as runs int64[N, 2]: 2 |A and B| / (|A| + |B|); 1.0 if both are empty."""
    return float(dice_from_counts(np.array(area(intersection(a, b))), np.array(area(a) + area(b))))
