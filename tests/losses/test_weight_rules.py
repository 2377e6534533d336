"""Class weights by the rules, with the numbers of the report on pet X-rays, and what is counted."""

import numpy as np
import pytest

from phalanx.errors import ConfigError
from phalanx.losses.class_weights import Counts, class_weights, count_labels, count_pixels, weights_event

PET = ["background", "normal", "diseased"]


@pytest.mark.parametrize(
    ("shares", "published"),
    [
        ((0.9634, 0.0222, 0.0144), (0.0366, 0.9778, 0.9856)),  # Ab01
        ((0.9815, 0.0106, 0.0080), (0.0185, 0.9894, 0.9920)),  # Ch02
    ],
)
def test_one_minus_share_of_pixels_gives_the_published_weights(shares, published):
    areas = np.round(np.array([[shares[1], shares[2]]]) * 1e8).astype(int)
    counts = count_pixels(areas, np.array([round(sum(shares) * 1e8)]))
    found = class_weights("one_minus_share", "softmax", PET, counts)
    np.testing.assert_allclose(found.raw, published, atol=1e-4)
    assert found.positive @ counts.positives / counts.positives.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.positive / found.raw, found.positive[0] / found.raw[0])


@pytest.mark.parametrize(
    ("boxes", "published"),
    [
        ((7312, 7450), (0.5047, 0.4953)),  # Ab04, after augmentation of the diseased class
        ((13799, 14080), (0.505, 0.495)),  # Ch05, the same
        ((5594, 1190), (0.1754, 0.8246)),  # Mu04
    ],
)
def test_one_minus_share_of_objects_gives_the_published_weights(boxes, published):
    found = class_weights("one_minus_share", "softmax", PET[1:], Counts(np.array(boxes), np.zeros(2), "boxes"))
    np.testing.assert_allclose(found.raw, published, atol=5e-5)


@pytest.mark.parametrize("rule", ["one_minus_share", "inverse", "effective_number"])
def test_a_class_without_objects_is_refused(rule):
    with pytest.raises(ConfigError, match=f"class_weights={rule}: 'normal' has no boxes in this fold"):
        class_weights(rule, "softmax", PET[1:], Counts(np.array([0, 735]), np.zeros(2), "boxes"), 0.9999)  # Mu02


@pytest.mark.parametrize(
    ("rule", "by_hand"),
    [
        ("inverse", [1 / 900, 1 / 60, 1 / 40]),
        ("one_minus_share", [0.1, 0.94, 0.96]),
        ("effective_number", [(1 - 0.99) / (1 - 0.99**n) for n in (900, 60, 40)]),
        ({"diseased": 4.0}, [1.0, 1.0, 4.0]),
        ({"background": 0.1, "others": 2.0}, [0.1, 2.0, 2.0]),
        ([0.51, 0.72, 1.74], [0.51, 0.72, 1.74]),
        ("none", [1.0, 1.0, 1.0]),
    ],
)
def test_each_rule_is_its_formula(rule, by_hand):
    counts = count_pixels(np.array([[20, 10], [40, 30]]), np.array([500, 500]))
    assert counts.positives.tolist() == [900, 60, 40]
    found = class_weights(rule, "softmax", PET, counts, 0.99)
    np.testing.assert_allclose(found.raw, by_hand)
    scale = np.dot(by_hand, [900, 60, 40]) / 1000
    np.testing.assert_allclose(found.positive, np.array(by_hand) / scale)


def test_after_balancing_an_image_counts_as_often_as_an_epoch_shows_it():
    areas, sizes = np.array([[30, 0], [0, 10]]), np.array([100, 200])
    assert count_pixels(areas, sizes, np.array([1.0, 3.0])).positives.tolist() == [70 + 3 * 190, 30, 30]
    labels = np.array([[1, 0], [0, 1], [0, np.nan]], np.float32)
    balanced = count_labels(labels, np.array([1.0, 2.5, 1.0]))
    assert balanced.positives.tolist() == [1, 2.5]
    assert balanced.negatives.tolist() == [3.5, 1]


def test_the_log_has_what_the_rule_gives_and_what_the_loss_uses():
    counts = count_pixels(np.array([[60, 40]]), np.array([1000]))
    found = class_weights("one_minus_share", "softmax", PET, counts)
    event = weights_event("one_minus_share", found, PET, counts, after=True)
    assert event["weights"] == pytest.approx({"background": 0.1, "normal": 0.94, "diseased": 0.96})
    assert event["scaled"] == pytest.approx(dict(zip(PET, found.positive, strict=True)))
    assert event["counts"] == {"background": 900, "normal": 60, "diseased": 40}
    assert event["text"] == (
        "class weights (one_minus_share of training pixels as an epoch shows them, 900/60/40): background 0.1, "
        "normal 0.94, diseased 0.96"
    )
