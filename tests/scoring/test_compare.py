"""Paired comparisons: what they say where the answer is known."""

import itertools
import json

import numpy as np
import pytest

from phalanx.errors import DataError
from phalanx.scoring.compare import FLIPS, Comparison, compare, compare_means
from phalanx.scoring.confusion import BinaryCounts
from phalanx.scoring.score import Score


def score(dice, name, patients=None):
    images = tuple(f"i{i:03d}" for i in range(len(dice)))
    classes = tuple(f"c{i}" for i in range(dice.shape[1]))
    pixels = BinaryCounts(*np.zeros((4, len(classes))))
    return Score(name, images, classes, dice, np.ones(dice.shape, bool), tuple(patients or images), pixels)


def pair(gap, spread, patients=40, hands=2, classes=3, seed=0):
    """Dice of two: patients differ widely; the second is better by ``gap``, which varies by ``spread``."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), hands)
    first = rng.normal(0.9, 0.05, patients)[of][:, None] + rng.normal(0, 0.002, (len(of), classes))
    second = first + gap + rng.normal(0, spread, patients)[of][:, None]
    return compare(*(score(d, n, [f"p{p:02d}" for p in of]) for d, n in ((first, "A"), (second, "B"))))


def test_a_small_steady_gain_is_told_though_patients_differ_widely():
    found = pair(0.002, 0.002)
    low, high = found.interval
    assert found.difference == pytest.approx(0.002, abs=0.001)
    assert 0 < low < found.difference < high
    assert 1 / (FLIPS + 1) <= found.p_value < 0.001
    assert pair(0.0, 0.002, seed=3).p_value > 0.05


def test_the_chance_is_that_of_all_signs():
    """Six patients: 64 ways to draw their signs."""
    found = pair(0.001, 0.002, patients=6)
    gaps = np.array(list(found.per_patient.values()))
    sums = [abs(sum(s * g for s, g in zip(signs, gaps, strict=True))) for signs in itertools.product([1, -1], repeat=6)]
    exact = np.mean([value >= abs(gaps.sum()) - 1e-12 for value in sums])
    assert found.p_value == pytest.approx(exact, abs=0.02)
    assert pair(0.001, 0.002, patients=6).p_value == found.p_value


def test_equals_differ_by_nothing():
    found = pair(0, 0)
    assert found.difference == 0
    assert found.p_value == 1
    assert found.interval == (0, 0)
    assert "0 better with the second, 0 worse, 40 equal" in found.to_text()


def test_the_interval_is_over_patients():
    """The same images as patients of their own look surer than they are."""
    found = pair(0.002, 0.004, hands=4)
    alone = Comparison(found.names, found.images, found.images, found.classes, found.dice)
    assert np.ptp(alone.interval) < 0.7 * np.ptp(found.interval)


def test_json_and_text_tell_the_same():
    found = pair(-0.01, 0.001)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["difference"] == found.difference == pytest.approx(data["dice"][1] - data["dice"][0])
    assert (data["images"], data["patients"], list(data["classes"])) == (80, 40, ["c0", "c1", "c2"])
    assert sum(gap["difference"] for gap in data["classes"].values()) / 3 == pytest.approx(found.difference)
    assert np.mean(list(data["per_patient"].values())) == pytest.approx(found.difference)
    text = found.to_text()
    assert f"second less first: {found.difference:+.4f}" in text
    assert "0 better with the second, 40 worse" in text
    assert text.splitlines()[1].startswith("c0 ")


def test_means_by_image_compare_without_classes():
    first, second = {"a": 0.5, "b": 0.6, "c": 0.9}, {"c": 0.8, "b": 0.8, "a": 0.6}
    found = compare_means(("x", "y"), first, second, {"a": "p", "b": "p", "c": "q"})
    assert found.per_patient == pytest.approx({"p": 0.15, "q": -0.1})
    assert found.difference == pytest.approx(0.2 / 3)
    assert "class" not in found.to_text()
    assert found.to_json()["classes"] == {}


def test_what_cannot_be_compared_is_refused():
    one = score(np.ones((3, 2)), "A")
    with pytest.raises(DataError, match="A and B differ in images"):
        compare(one, score(np.ones((4, 2)), "B"))
    with pytest.raises(DataError, match="A and B differ in patients"):
        compare(one, score(np.ones((3, 2)), "B", ["p", "p", "p"]))
    with pytest.raises(DataError, match="x and y differ in 1 images, such as 'b'"):
        compare_means(("x", "y"), {"a": 1.0}, {"a": 1.0, "b": 1.0}, {"a": "p", "b": "p"})
