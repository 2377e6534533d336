"""Misalignments of a part of a member: some images, some classes, or all masks by a pixel.

A transform of all masks shows in the median distance of a pair (``misalignment``). One of a part does not. It is found
image by image and class by class: what is far from its own place, and fits another as well as the rest fits its own.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .lattice import Grid, pixels_off
from .places import Places, median, quantile

Grids = tuple[Sequence[Grid | None], Sequence[Grid | None]]  # of both members, across and down

MIN_SHARED = 3  # classes that both have in an image, to compare all of it
MIN_FAR = 1.5  # pixels: nearer masks are in their place
SHOWN = 3  # images or classes named
MIN_OFFSET_MASKS = 50  # that both have
MIN_OFFSET = 0.65  # pixels that all masks are off by
MIN_OFFSET_SPREADS = 2.2  # the same, in spreads of the offsets of single images
MIN_OFFSET_ERRORS = 5.0  # the same, in standard errors
MIN_OFFSET_CLASSES = 0.85  # of the classes that are off to the same side


class Finding(NamedTuple):
    """What was found of a pair. ``stops``: certain enough to stop a vote; otherwise it is noted."""

    text: str
    stops: bool


class Compared:
    """Two members' masks in all images.

    Args:
        one, other: float[I, C, 3].
        sizes: float[I, 2], height and width.
    """

    def __init__(
        self,
        names: tuple[str, str],
        images: Sequence[str],
        classes: Sequence[str],
        one: Places,
        other: Places,
        sizes: np.ndarray,
    ):
        self.names, self.images, self.classes = names, images, classes
        self.one, self.other, self.sizes = one, other, sizes

    @cached_property
    def gaps(self) -> np.ndarray:
        """float[I, C, 2]: from the other's centre to the first's, in pixels; NaN unless both have the mask."""
        return self.one[..., :2] - self.other[..., :2]

    @cached_property
    def own(self) -> np.ndarray:
        """float[I, C]: distance of the two centres."""
        return np.hypot(self.gaps[..., 0], self.gaps[..., 1])

    @cached_property
    def shifts(self) -> np.ndarray:
        """float[I, 2]: of all masks of an image together, the median over the classes; 0 if both have too few."""
        found = median(np.swapaxes(self.gaps, 1, 2))
        found[np.isfinite(self.own).sum(axis=1) < MIN_SHARED] = 0
        return found

    @cached_property
    def by_image(self) -> np.ndarray:
        """float[I]: median distance over the classes; NaN if both have too few."""
        found = median(self.own)
        found[np.isfinite(self.own).sum(axis=1) < min(MIN_SHARED, len(self.classes))] = np.nan
        return found

    @cached_property
    def typical(self) -> float:
        """Distance in a good image, in pixels: that of the best quarter, since many may be misaligned."""
        return quantile(self.by_image, 0.25)

    @cached_property
    def min_far(self) -> float:
        """Pixels: nearer masks are in their places, however well the members agree."""
        return MIN_FAR

    def there(self, which: int) -> np.ndarray:
        """bool[I, C]: the masks that are not empty."""
        return (self.one, self.other)[which][..., 2] > 0

    def listed(self, images: np.ndarray) -> str:
        """How many images, of how many, and the first few names."""
        return f"{len(images)} of {len(self.images)} images ({named([self.images[i] for i in images.tolist()])})"


def named(names: Sequence[str]) -> str:
    """The first few names.

    >>> named(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def offset_findings(pair: Compared, grids: Grids | None = None) -> list[Finding]:
    """Whether all masks are off by a pixel or more, though that is less than what the members differ by in each.

    Honest members have a small offset, too, since networks learn one: it is below half a pixel, or of the size of what
    the images' own offsets vary by, as of members that were predicted at a much smaller size. Of these, the grid that
    they were predicted on shows it.

    Args:
        grids: the grids of both members' edges, across and down.
    """
    if np.isfinite(pair.own).sum() < MIN_OFFSET_MASKS:
        return []
    by_image = median(np.swapaxes(pair.gaps, 1, 2))  # (I, 2), NaN for no masks
    by_class = median(np.moveaxis(pair.gaps, 0, 2))  # (C, 2)
    offset = median(by_image.T)
    spread = 1.4826 * median(np.abs(by_image - offset).T)
    error = 1.2533 * spread / np.sqrt(np.isfinite(by_image[:, 0]).sum())
    agree = np.nanmean(np.sign(by_class) == np.sign(offset), axis=0)
    far = np.abs(offset) >= np.maximum(MIN_OFFSET, MIN_OFFSET_SPREADS * spread)
    sure = far & (np.abs(offset) >= MIN_OFFSET_ERRORS * error) & (agree >= MIN_OFFSET_CLASSES)
    off = np.zeros(2)
    if grids is not None:
        long = int(pair.sizes.max())
        off += [pixels_off(one, other, long) for one, other in zip(*grids, strict=True)]
        off[np.abs(off - offset) > np.maximum(MIN_OFFSET, MIN_OFFSET_ERRORS * error)] = 0  # the masks say otherwise
    if not sure.any() and not off.any():
        return []
    x, y = np.where(sure | (off == 0), offset, off).tolist()
    text = (
        f"{pair.names[0]} has its masks {abs(x):.1f} px {'right' if x > 0 else 'left'} of and {abs(y):.1f} px "
        f"{'below' if y > 0 else 'above'} those of {pair.names[1]}"
    )
    if not sure.any():
        text += ", by the grid that they were predicted on"
    if abs(abs(x) - 1) < 0.5 and abs(y) < 0.5:
        text += " (RLE starts counted from 0?)"
    return [Finding(text, True)]
