"""Reliability diagrams: a PNG of ours, intervals with known ends, and no one else's file replaced."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from phalanx.errors import OutputError
from phalanx.scoring.reliability import reliability
from phalanx.visualize.reliability import draw_reliability, wilson


def tables(count=500):
    rng = np.random.default_rng(0)
    q = rng.random(count)
    return {"before": reliability(q, rng.random(count) < q**2), "after": reliability(q, rng.random(count) < q)}


def test_the_picture_is_a_png_of_ours_and_is_replaced(tmp_path):
    out = tmp_path / "diagram.png"
    draw_reliability(tables(), out, "title")
    with Image.open(out) as image:
        assert image.info["Software"] == "phalanx"
        assert image.size == (594, 770)
        first = np.asarray(image.convert("RGB"))
    draw_reliability({"only": tables()["before"]}, out, "title")
    with Image.open(out) as image:
        second = np.asarray(image.convert("RGB"))
    red = np.array([204, 102, 119])  # of the second curve
    assert [(picture == red).all(axis=2).sum() > 100 for picture in (first, second)] == [True, False]


def test_a_table_of_nothing_can_be_drawn(tmp_path):
    draw_reliability({"none": reliability(np.zeros(0), np.zeros(0, bool))}, tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 1000


def test_an_image_of_somebody_else_is_not_replaced(tmp_path):
    out = tmp_path / "hand.png"
    Image.new("L", (8, 8)).save(out)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="holds something else"):
        draw_reliability(tables(), out)
    assert out.read_bytes() == before


def test_intervals_are_wilsons():
    table = reliability(np.array([0.1] * 10 + [0.9] * 4 + [0.5]), np.array([True] * 3 + [False] * 7 + [True] * 5), 10)
    low, high = wilson(table)
    for found, hits, count in zip(zip(low, high, strict=True), (3, 1, 4), (10, 1, 4), strict=True):
        wanted = binomtest(hits, count).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose(found, wanted, atol=1e-6)
