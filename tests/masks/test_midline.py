"""Widths along the midline of drawn tubes whose widths are known."""

import cv2
import numpy as np
import pytest

from phalanx.masks.midline import ELONGATED, elongation, widths_along_midline


def tube(path, widths, shape=(160, 200)):
    """Mask bool[H, W] of a tube around a path float64[N, 2] of x and y with a width at each place."""
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    half = np.asarray(widths)[:, None] / 2
    outline = np.concatenate([path + half * across, (path - half * across)[::-1]])
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = [cv2.pointPolygonTest(outline.astype(np.float32), (float(x), float(y)), False) >= 0
              for x, y in zip(columns.ravel(), rows.ravel(), strict=True)]  # fmt: skip
    return np.array(inside).reshape(shape)


def line(angle, bend=0.0, length=120.0, count=200):
    t = np.linspace(-0.5, 0.5, count)
    path = np.stack([t * length, bend * (4 * t**2 - 0.5)], 1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return path @ turn + (100, 80)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("bend", [0.0, 18.0])
def test_an_even_tube_is_even_whatever_its_direction(angle, bend):
    found = widths_along_midline(tube(line(angle, bend), np.full(200, 9.3)))
    assert found.median == pytest.approx(9.3, abs=0.35)
    assert found.ratio > 0.9


@pytest.mark.parametrize("least", [0.3, 0.5, 0.75])
def test_a_narrowing_is_measured_where_it_is(least):
    t = np.linspace(0, 1, 200)
    widths = 12 * (1 - (1 - least) * np.exp(-(((t - 0.35) / 0.12) ** 2)))
    found = widths_along_midline(tube(line(0.2, 12), widths))
    assert found.ratio == pytest.approx(least, abs=0.08)
    place = found.path[found.widths.argmin()]
    assert np.linalg.norm(place - line(0.2, 12)[70]) < 6


def test_the_path_follows_a_bent_tube():
    angle = np.linspace(0, np.pi, 200)  # half a ring
    ring = np.stack([100 + 55 * np.cos(angle), 120 - 55 * np.sin(angle)], 1)
    found = widths_along_midline(tube(ring, np.full(200, 11.0)))
    assert np.abs(np.linalg.norm(found.path - (100, 120), axis=1) - 55).max() < 1.5
    assert found.median == pytest.approx(11, abs=0.4)


def test_of_several_parts_the_largest_counts():
    mask = tube(line(0.0), np.full(200, 9.0))
    alone = widths_along_midline(mask)
    mask[2:6, 2:6] = True
    assert widths_along_midline(mask).ratio == alone.ratio


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 3), (5, 5)])
def test_what_is_too_short_has_no_widths(shape):
    mask = np.zeros((20, 20), bool)
    mask[4 : 4 + shape[0], 4 : 4 + shape[1]] = True
    assert widths_along_midline(mask) is None


def test_an_object_at_the_border_is_measured_and_moves_with_the_image():
    mask = np.zeros((30, 90), bool)
    mask[:8] = True
    found = widths_along_midline(mask)
    assert found.median == pytest.approx(8, abs=0.1)
    moved = widths_along_midline(np.pad(mask, ((3, 0), (5, 0))))
    assert moved.path - (5, 3) == pytest.approx(found.path)
    assert moved.path[:, 1].mean() == pytest.approx(3 + 3.5, abs=0.6)  # of even widths, the middle is between pixels


def test_elongation_divides_tubes_from_organs():
    disc = cv2.circle(np.zeros((99, 99), np.uint8), (49, 49), 30, 1, -1) > 0
    assert elongation(disc) < 1 < ELONGATED < elongation(tube(line(0.3), np.full(200, 9.0)))
    assert elongation(np.zeros((5, 5), bool)) == 0
