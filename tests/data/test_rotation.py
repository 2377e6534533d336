"""The 33-degree rule: on polygons, on runs, and against what the synthetic set says of its hands."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.data.polygons import Polygon, rasterise, read_annotations
from phalanx.data.records import train_records
from phalanx.data.rotation import LIMIT, centre_of_runs, tilt, tilt_of_polygons, tilt_of_stack
from phalanx.masks.rle import encode_planes, mask_runs
from phalanx.masks.stack import Stack
from phalanx.phantom.anatomy import HAND_CLASSES


@given(st.integers(1, 9), st.integers(1, 9), st.randoms())
def test_the_centre_of_runs_is_the_mean_of_the_pixels(height, width, rng):
    mask = np.array([[rng.random() < 0.7 for _ in range(width)] for _ in range(height)])
    mask[rng.randrange(height), rng.randrange(width)] = True
    y, x = np.nonzero(mask)
    np.testing.assert_allclose(centre_of_runs(mask_runs(mask), width), [x.mean(), y.mean()])


@pytest.mark.parametrize(
    ("tip", "degrees"), [((0, -10), 0), ((10, -10), 45), ((-10, -10), 45), ((3, 0), 90), ((0, 9), 180)]
)
def test_the_tilt_is_from_vertical_on_either_side(tip, degrees):
    assert tilt(np.zeros(2), np.array(tip)) == pytest.approx(degrees)


def test_both_ways_agree_with_the_synthetic_set_and_separate_its_groups(hands):
    told = {row["image"]: row for row in json.loads((hands / "manifest.json").read_text())["images"]}
    for record in train_records(hands):
        polygons, row = read_annotations(record.labels, HAND_CLASSES), told[record.image.stem]
        degrees = tilt_of_polygons(polygons, HAND_CLASSES)
        assert (degrees >= LIMIT) == row["rotated"]
        assert degrees == pytest.approx(row["rotation_deg"], abs=0.7)  # 128 pixels
        stack = Stack.parse(encode_planes(rasterise(polygons, (128, 128), 29), 29))
        assert tilt_of_stack(stack, HAND_CLASSES, 128) == pytest.approx(degrees, abs=0.7)


def test_several_outlines_count_by_their_area_and_missing_bones_are_no_number():
    def square(x, y, side):
        return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)

    classes = ["finger-16", "Ulna"]
    ulna = [Polygon(1, square(0, 100, 10)), Polygon(1, square(30, 100, 10)[::-1])]  # drawn the other way round
    tip = Polygon(0, square(15, 0, 10))
    assert tilt_of_polygons([*ulna, tip], classes) == pytest.approx(0)
    assert tilt_of_polygons(
        [ulna[0], Polygon(0, np.array([[105.0, 5], [105, 5], [105, 5]]))], classes
    ) == pytest.approx(45)
    assert math.isnan(tilt_of_polygons(ulna, classes))
    assert math.isnan(tilt_of_stack(Stack.parse(["", "1 5"]), classes, 10))
