"""Mirrors upside down and transposed images: image and masks alike, sides swapped, recipes without them as before."""

import numpy as np
import pytest

from phalanx.augment.draw import draw
from phalanx.augment.warp import warp_drawn
from phalanx.config import Augment


def shown(augment, seed=0, side=16):
    """An image of its own coordinates, its planes, and both after a warp."""
    image = np.arange(side * side, dtype=np.uint8).reshape(side, side)
    planes = (1 << np.random.default_rng(5).integers(0, 2, (side, side, 1))).astype(np.uint8)
    drawn = draw(np.random.default_rng(seed), augment, (side, side), side, planes)
    return image, planes, drawn, *warp_drawn(drawn, image, planes, [(0, 1)])


@pytest.mark.parametrize(
    ("augment", "change", "mirrored"),
    [
        (Augment(vflip=1.0), lambda a: a[::-1], True),
        (Augment(transpose=1.0), lambda a: a.swapaxes(0, 1), True),
        (Augment(flip=1.0, vflip=1.0), lambda a: a[::-1, ::-1], False),
        (Augment(vflip=1.0, transpose=1.0), lambda a: np.rot90(a, -1), False),
        (Augment(flip=1.0, vflip=1.0, transpose=1.0), lambda a: a[::-1, ::-1].swapaxes(0, 1), True),
    ],
)
def test_pixels_move_exactly_and_sides_are_swapped_by_an_odd_number_of_mirrors(augment, change, mirrored):
    image, planes, drawn, warped, masks = shown(augment)
    options = (
        [change(image), np.rot90(image, 1), np.rot90(image, -1)]
        if augment.transpose and augment.vflip
        else [change(image)]
    )
    which = [n for n, one in enumerate(options) if np.array_equal(warped, one)]
    assert which, "no turn of the image"
    turned = [change(planes), np.rot90(planes, 1), np.rot90(planes, -1)][which[0]]
    assert np.array_equal(masks, turned if not mirrored else 3 - turned)  # the two classes of a pair change places
    assert drawn.flipped is mirrored


def test_recipes_without_them_draw_what_they_drew_before():
    common = {"flip": 0.5, "warp": 0.8, "shift": 0.1, "scale": 0.2, "rotate": 20}
    nothing, seed = np.zeros((16, 16, 1), np.uint8), np.random.default_rng(3)
    seed.random(), seed.random()  # of the flip, and whether to warp
    angle, factor = np.deg2rad(seed.uniform(-20, 20)), seed.uniform(0.8, 1.2)
    found = draw(np.random.default_rng(3), Augment(**common), (16, 16), 16, nothing)
    assert abs(found.matrix[1, 1]) == pytest.approx(np.cos(angle) / factor)


def test_chances_are_those_of_the_recipe():
    drawn = [shown(Augment(vflip=0.25, transpose=0.5), seed)[2].matrix[:, :2] for seed in range(400)]
    transposed = np.mean([abs(one[0, 1]) == 1 for one in drawn])
    assert transposed == pytest.approx(0.5, abs=0.08)
