"""Connected parts of one mask: what is removed, and what is filled. Neighbours are 8, those of the background 4."""

import cv2
import numpy as np


class Cleaning:
    """What is done with a class's mask after the threshold.

    Args:
        smallest: parts of fewer pixels are removed; 0 for none.
        largest: only the largest part stays; of equal ones the first in reading order.
        holes: background that the mask encloses is filled, afterwards.
    """

    def __init__(self, *, smallest: int = 0, largest: bool = False, holes: bool = False):
        self.smallest, self.largest, self.holes = smallest, largest, holes

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """bool[H, W] of a mask that holds all of the class, so a box around it gives what the whole frame would."""
        if (self.largest or self.smallest) and mask.any():
            labels, areas = parts(mask)
            keep = areas >= self.smallest
            if self.largest:
                keep &= np.arange(len(areas)) == areas.argmax()
            mask = np.append(False, keep)[labels]
        return filled(mask) if self.holes else mask


def parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32[H, W], 0 for background, and the area int[N] of parts 1 .. N, in reading order of a first pixel."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    first = np.unique(labels, return_index=True)[1][-len(areas) :] if count > 2 else np.zeros(len(areas), int)
    order = np.argsort(first, kind="stable")  # OpenCV promises none
    place = np.zeros(count, np.int32)
    place[1 + order] = np.arange(1, count)
    return place[labels], areas[order]


def filled(mask: np.ndarray) -> np.ndarray:
    """bool[H, W] with its holes filled: background from which no way leads over 4-neighbours to the border."""
    around = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    _, labels = cv2.connectedComponents(around, connectivity=4)
    return (labels != labels[0, 0])[1:-1, 1:-1]
