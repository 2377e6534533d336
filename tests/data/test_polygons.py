"""Polygons against one full-size plane a class, and annotation files of every kind that is met."""

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.data.polygons import Polygon, rasterise, read_annotations
from phalanx.errors import DataError
from phalanx.masks.planes import unpack

near = st.floats(-20, 70, width=32)  # on a frame of at most 50 pixels: partly and wholly outside, with fractions
whole = st.integers(-20, 70).map(float)
outlines = st.lists(st.tuples(*[st.one_of(near, whole)] * 2), min_size=3, max_size=8).map(np.array)
polygons_of = st.lists(st.builds(Polygon, st.integers(0, 10), outlines), max_size=6)
CLASSES = ["thumb", "wrist"]
SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]


def slow_rasterise(polygons, shape, classes, scale=1.0):
    """One full-size plane a class, by OpenCV's own fractional fill."""
    stack = np.zeros((classes, *shape), np.uint8)
    for label, points in polygons:
        plane = np.zeros(shape, np.uint8)
        cv2.fillPoly(plane, [np.round(((points + 0.5) * scale - 0.5) * 16).astype(np.int32)], 1, shift=4)
        stack[label] |= plane
    return stack.astype(bool)


@settings(deadline=None)
@given(polygons_of, st.tuples(st.integers(1, 50), st.integers(1, 50)), st.sampled_from([1.0, 0.5]))
def test_rasterise_equals_a_plane_a_class_in_every_pixel(polygons, shape, scale):
    planes = rasterise(polygons, shape, 11, scale)
    assert planes.shape == (*shape, 2)
    np.testing.assert_array_equal(unpack(planes, 11), slow_rasterise(polygons, shape, 11, scale))


def test_rasterise_far_outside_and_at_the_competitions_size():
    """2048 pixels, vertices up to a million away: where integers could overflow or a patch could be cut wrongly."""
    rng = np.random.default_rng(0)
    polygons = [Polygon(c, rng.uniform(-300, 2348, (12, 2))) for c in range(3)]
    polygons.append(Polygon(2, np.array([[-1e6, -1e6], [1e6, 500], [700.3, 1e6]])))
    planes = rasterise(polygons, (2048, 2048), 3)
    np.testing.assert_array_equal(unpack(planes, 3), slow_rasterise(polygons, (2048, 2048), 3))


def test_an_integer_point_is_a_pixels_centre_and_the_outline_belongs():
    planes = rasterise([Polygon(0, np.array(SQUARE, float))], (8, 8), 1)
    expected = np.zeros((8, 8, 1), np.uint8)
    expected[1:6, 1:6] = 1
    np.testing.assert_array_equal(planes, expected)


def test_outlines_of_one_class_are_joined_where_they_overlap():
    """Even-odd filling of both at once would punch a hole."""
    once, twice = Polygon(1, np.array(SQUARE, float)), Polygon(1, np.array(SQUARE, float) + 2)
    stack = unpack(rasterise([once, twice], (10, 10), 2), 2)
    assert stack[1].sum() == 25 + 25 - 9
    assert not stack[0].any()


def annotation(tmp_path, content):
    path = tmp_path / "image1.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_flat_nested_and_fractional_points(tmp_path):
    moved = [[x + 0.25, y - 7.5] for x, y in SQUARE]
    items = [
        {"label": "wrist", "points": SQUARE, "id": 7},
        {"label": "thumb", "points": [SQUARE, moved]},
        {"label": "wrist", "points": [moved]},
    ]
    found = read_annotations(annotation(tmp_path, {"annotations": items, "version": 1}), CLASSES)
    assert [polygon.label for polygon in found] == [1, 0, 0, 1]
    for polygon, points in zip(found, [SQUARE, SQUARE, moved, moved], strict=True):
        np.testing.assert_array_equal(polygon.points, points)
        assert polygon.points.dtype == np.float64


def test_no_annotations_are_no_polygons(tmp_path):
    assert read_annotations(annotation(tmp_path, {"annotations": []}), CLASSES) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00", '{"annotations": {}}', '{"a": []}', "[" * 99999])
def test_what_is_no_annotation_file_is_refused_saying_what_one_is(tmp_path, content):
    path = annotation(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(f"{path}: ")) as found:
        read_annotations(path, CLASSES)
    assert "expected JSON" in str(found.value)
    assert "Repair or remove" in str(found.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "image1.json"
    path.write_bytes(b'{"annotations": [\xff]}')
    with pytest.raises(DataError, match=r"image1\.json: is not UTF-8 at byte 17; expected JSON"):
        read_annotations(path, CLASSES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.json: no such annotation file; every training image needs one"):
        read_annotations(tmp_path / "gone.json", CLASSES)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "thum", "points": SQUARE}, "unknown label 'thum'; the data config knows thumb, wrist. Correct"),
        ({"label": ["thumb"], "points": SQUARE}, r"unknown label \['thumb'\]"),
        ({"label": None, "points": SQUARE}, "unknown label null"),
        ({"points": SQUARE}, "needs the keys 'label' and 'points'"),
        ({"label": "thumb"}, "needs the keys"),
        (3, "needs the keys"),
        ({"label": "thumb", "points": SQUARE[:2]}, r"\(thumb\): a polygon of 2 points has no area; redraw it or del"),
        ({"label": "thumb", "points": SQUARE[:1]}, "a polygon of 1 point has"),
        ({"label": "thumb", "points": [SQUARE, SQUARE[:2]]}, "a polygon of 2 points"),
        ({"label": "thumb", "points": []}, r"must be a list of \[x, y\] numbers"),
        ({"label": "thumb", "points": [SQUARE, []]}, "numbers"),
        ({"label": "thumb", "points": None}, "numbers"),
        ({"label": "thumb", "points": "1 2 3 4 5 6"}, "numbers"),
        ({"label": "thumb", "points": [1, 2, 3, 4, 5, 6]}, "numbers"),
        ({"label": "thumb", "points": [[1, 1], [2], [3, 3]]}, "numbers"),
        ({"label": "thumb", "points": [[1, 1, 1]] * 3}, "numbers"),
        ({"label": "thumb", "points": [["1", "1"], ["5", "1"], ["5", "5"]]}, "numbers"),
        ({"label": "thumb", "points": [[1, None], [5, 1], [5, 5]]}, "numbers"),
        ({"label": "thumb", "points": [[1, float("nan")], [5, 1], [5, 5]]}, "numbers"),
        ({"label": "thumb", "points": [[1, float("inf")], [5, 1], [5, 5]]}, "numbers"),
        ({"label": "thumb", "points": [[1, 10**400], [5, 1], [5, 5]]}, "numbers"),
        ({"label": "thumb", "points": [[1, 1e9], [5, 1], [5, 5]]}, r"a point is 1e\+09 pixels away; correct it"),
    ],
)
def test_a_wrong_annotation_is_refused_naming_file_and_row(tmp_path, item, message):
    path = annotation(tmp_path, {"annotations": [{"label": "wrist", "points": SQUARE}, item]})
    with pytest.raises(DataError, match=re.escape(f"{path}: annotation 1") + ".*" + message):
        read_annotations(path, CLASSES)
