"""Scenes at a fraction of their size, for pictures in which a pixel of the original would not be seen."""

import cv2
import numpy as np

from ..masks.stack import Stack
from .scene import MaskScene, Scene


def small(scene: Scene, image: np.ndarray, side: int) -> tuple[Scene, np.ndarray]:
    """A scene and its image uint8[H, W] whose longer side has at most so many pixels.

    Masks are sampled at the middle of each new pixel, which is much faster than to unpack them. Other scenes stay as
    they are, as their marks are drawn at any scale.
    """
    height, width = scene.size
    if not isinstance(scene, MaskScene) or max(height, width) <= side:
        return scene, image
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    resized = np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA))
    sides = (sampled(one, scene.size, size) for one in (scene.truth, scene.predicted))
    return MaskScene(scene.path, size, *sides), resized


def sampled(stack: Stack, size: tuple[int, int], wanted: tuple[int, int]) -> Stack:
    """Masks of an image of ``size`` (height, width) at the middles of the pixels of a grid of another size."""
    rows = ((np.arange(wanted[0]) + 0.5) * size[0] / wanted[0]).astype(np.int64)
    columns = ((np.arange(wanted[1]) + 0.5) * size[1] / wanted[1]).astype(np.int64)
    masks = []
    for c in range(stack.classes):
        runs = stack.runs[stack.splits[c] : stack.splits[c + 1]]
        mask = np.zeros(wanted, bool)
        if len(runs):
            first, last = np.searchsorted(rows, [runs[0, 0] // size[1], (runs[-1, 1] - 1) // size[1]], side="left")
            part = rows[first : last + 1]
            places = (part[:, None] * size[1] + columns[None]).ravel()
            run = np.searchsorted(runs[:, 0], places, side="right") - 1
            mask[first : last + 1] = ((run >= 0) & (places < runs[run, 1])).reshape(len(part), -1)
        masks.append(mask)
    return Stack.of_masks(masks)
