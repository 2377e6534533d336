"""Draws of every kind, and what they do to each pixel and each class alone."""

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st

from phalanx.augment.draw import Crop, Draw, draw
from phalanx.augment.warp import STRIP
from phalanx.config import Augment, Elastic, GridDistortion
from phalanx.masks.planes import pack

share = st.floats(0, 1)
chance = st.sampled_from([0.0, 0.5, 1.0])
recipes = st.builds(
    Augment,
    flip=chance,
    warp=chance,
    shift=st.floats(0, 0.4),
    scale=st.floats(0, 0.5),
    rotate=st.floats(0, 180),
    elastic=st.builds(Elastic, p=chance, strength=st.floats(0, 0.1), cell=st.floats(0.05, 1)),
    grid_distortion=st.builds(GridDistortion, p=chance, steps=st.integers(2, 8), limit=st.floats(0, 0.6)),
)


class Case(NamedTuple):
    """An image uint8[S, S], its classes bool[C, S, S], a warp drawn for them and the pairs a mirror exchanges."""

    image: np.ndarray
    stack: np.ndarray
    drawn: Draw
    pairs: list[tuple[int, int]]


@st.composite
def cases(draw_from, recipe=None, side=None, crop_side=None, classes=None):
    side = side or draw_from(st.integers(8, 80) | st.sampled_from([STRIP, STRIP + 1, 2 * STRIP - 7]))
    content = (side, draw_from(st.integers(1, side)))[:: draw_from(st.sampled_from([1, -1]))]
    classes = classes or draw_from(st.integers(2, 40))
    rng = np.random.default_rng(draw_from(st.integers(0, 2**32)))
    image, stack = np.zeros((side, side), np.uint8), np.zeros((classes, side, side), bool)
    image[: content[0], : content[1]] = rng.integers(0, 256, content)
    stack[:, : content[0], : content[1]] = rng.random((classes, *content)) < 0.3
    order = rng.permutation(classes).tolist()
    pairs = list(zip(order[::2], order[1::2], strict=False))[: draw_from(st.integers(0, 20))]
    crop_side = crop_side or draw_from(st.none() | st.integers(1, side))
    crop = None if crop_side is None else Crop(crop_side, draw_from(share))
    drawn = draw(rng, recipe or draw_from(recipes), content, side, pack(stack), crop)
    return Case(image, stack, drawn, pairs)


def warp_slowly(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 image, bool[C, height, width] a class at a time, and where a source pixel hangs on rounding."""
    drawn, side = case.drawn, len(case.image)
    top, left, height, width = drawn.window
    rows, columns = np.arange(top, top + height, dtype=float), np.arange(left, left + width, dtype=float)
    if drawn.stretches is not None:
        rows, columns = drawn.stretches[0](rows), drawn.stretches[1](columns)
    points = np.stack([*np.meshgrid(columns, rows), np.ones((height, width))])  # x, y, 1
    x, y = np.einsum("ij,jrc->irc", drawn.matrix, points)
    if drawn.field.any():
        bend = [cv2.resize(part, (side, side), interpolation=cv2.INTER_CUBIC) for part in drawn.field]
        x, y = (a + b[top : top + height, left : left + width] for a, b in zip((x, y), bend, strict=True))
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = case.image
    x0, y0 = np.floor(x), np.floor(y)
    image = np.zeros((height, width))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - np.abs(x - x0 - dx)) * (1 - np.abs(y - y0 - dy))
            at = [np.clip(value + step + 1, 0, side + 1).astype(int) for value, step in ((y0, dy), (x0, dx))]
            image += weight * padded[at[0], at[1]]
    nearest = [np.rint(value).astype(int) for value in (y, x)]
    inside = np.all([(value >= 0) & (value < side) for value in nearest], axis=0)
    nearest = [np.clip(value, 0, side - 1) for value in nearest]
    stack = np.stack([mask[nearest[0], nearest[1]] & inside for mask in case.stack])
    warped = stack.copy()
    for a, b in case.pairs if drawn.flipped else ():
        warped[[a, b]] = stack[[b, a]]
    doubtful = np.any([np.abs(value - np.floor(value) - 0.5) < 1e-3 for value in (x, y)], axis=0)
    return image, warped, doubtful


@pytest.fixture(scope="session")
def warps():
    """The strategies and the slow warp, for the tests of both fast ones."""

    class Tools:
        cases, warp_slowly = staticmethod(cases), staticmethod(warp_slowly)

    return Tools
