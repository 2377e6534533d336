"""Points move as the image does."""

import cv2
import numpy as np
import pytest

from phalanx.augment.draw import Crop, draw
from phalanx.augment.points import warp_points
from phalanx.augment.warp import resample
from phalanx.config import Augment

SIDE = 160
WARPS = {
    "nothing": {},
    "flip": {"flip": 1.0},
    "affine": {"flip": 0.5, "warp": 1.0, "shift": 0.1, "scale": 0.2, "rotate": 25},
    "elastic": {"elastic": {"p": 1.0, "strength": 0.02}},
    "grid": {"grid_distortion": {"p": 1.0, "limit": 0.3, "steps": 5}},
    "all": {
        "flip": 1.0, "warp": 1.0, "shift": 0.05, "scale": 0.1, "rotate": 10, "elastic": {"p": 1.0, "strength": 0.01},
        "grid_distortion": {"p": 1.0, "limit": 0.2, "steps": 4},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WARPS)
@pytest.mark.parametrize("crop", [None, Crop(128, 0.0)])
def test_points_go_where_the_image_shows_them(name, crop):
    """An image of its own coordinates, warped, has those of a point where the point went."""
    seen = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        drawn = draw(rng, Augment(**WARPS[name]), (SIDE, 120), SIDE, np.zeros((1, 1, 1), np.uint8), crop)
        rows, columns = (one.astype(np.float32) + 0.5 for one in np.mgrid[:SIDE, :SIDE])
        sources = [(columns, cv2.INTER_LINEAR), (rows, cv2.INTER_LINEAR)]
        shown = np.dstack(resample(drawn, sources))
        points = rng.uniform(5, 115, (50, 2))
        moved = warp_points(drawn, points)
        side = drawn.window.height
        inside = ((moved > 3) & (moved < side - 3)).all(axis=1)
        at = (moved[inside] - 0.5).astype(np.float32)[:, None]
        found = cv2.remap(shown, at[..., 0], at[..., 1], cv2.INTER_LINEAR)[:, 0]
        assert np.abs(found - points[inside]).max() < 0.15, (name, seed)
        seen += int(inside.sum())
    assert seen > 60


def test_no_points_stay_none():
    drawn = draw(np.random.default_rng(0), Augment(**WARPS["all"]), (64, 64), 64, np.zeros((1, 1, 1), np.uint8))
    assert warp_points(drawn, np.empty((0, 2))).shape == (0, 2)
