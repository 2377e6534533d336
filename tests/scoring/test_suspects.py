"""Scores of suspect labels against written-out values, and the ranking of planted errors."""

import csv
import io

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from phalanx.errors import DataError
from phalanx.scoring.suspects import (
    HEADER,
    normalised_margins,
    rank_suspects,
    self_confidences,
    softmin,
    suspects_csv,
    suspects_text,
)

NAN = np.nan
CLASSES = ("a", "b", "c")


def rank(p, y, head="sigmoid", classes=CLASSES):
    names = [f"{i}.png" for i in range(len(p))]
    about = {"images": names, "patients": [f"P{i}" for i in range(len(p))], "folds": [0] * len(p)}
    return rank_suspects(np.array(p), np.array(y, float), classes, head, **about)[0]


def test_softmin_is_the_written_out_mean():
    # weights of .9 and .5: e^((1 - .9) / .1) = e^1 and e^((1 - .5) / .1) = e^5
    first, second = np.exp(1.0), np.exp(5.0)
    want = (0.9 * first + 0.5 * second) / (first + second)
    assert softmin(np.array([[0.9, 0.5]])) == pytest.approx(want)
    assert want == pytest.approx(0.5071944835, abs=1e-9)
    assert softmin(np.array([[0.9, NAN, 0.5]])) == pytest.approx(want)
    assert softmin(np.array([[0.3]])) == pytest.approx(0.3)
    assert np.isnan(softmin(np.array([[NAN, NAN]])))
    assert softmin(np.array([[0.0, 1.0]]), 1e-4) == pytest.approx(0.0)  # of a low temperature, the smallest
    assert softmin(np.array([[0.0, 1.0]]), 1e4) == pytest.approx(0.5, abs=1e-3)  # of a high one, the mean


def test_self_confidence_and_margin_are_those_of_the_given_labels():
    p, y = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]), np.array([[1.0, 0, NAN], [0, 1, 0]])
    assert self_confidences(p, y) == pytest.approx(np.array([[0.7, 0.8, NAN], [0.3, 0.2, 0.9]]), nan_ok=True)
    assert normalised_margins(p, np.array([[1.0, 0, 0], [0, 1, 0]])) == pytest.approx([0.75, 0.25])


def test_a_row_says_what_is_given_likely_and_doubted():
    (low, high) = rank([[0.9, 0.2, 0.6], [0.1, 0.95, 0.05]], [[0, 0, 1], [0, 1, NAN]])
    assert (low.image, low.given, low.likeliest, low.doubted) == ("0.png", "c", "a|c", "a")
    assert low.self_confidence == pytest.approx(0.1)
    assert low.margin is None
    assert (high.given, high.likeliest) == ("b", "b")
    (one,) = rank([[0.2, 0.3, 0.5]], [[1, 0, 0]], "softmax")
    assert (one.given, one.likeliest, one.doubted) == ("a", "c", "a")
    assert one.self_confidence == pytest.approx(0.2)
    assert one.margin == pytest.approx((0.2 - 0.5 + 1) / 2)
    (nothing,) = rank([[0.2, 0.3, 0.1]], [[0, 0, 0]])
    assert (nothing.given, nothing.likeliest) == ("none", "none")


def test_unlabelled_images_are_left_out_and_equals_are_ordered_by_name():
    assert [one.image for one in rank([[0.5] * 3] * 3, [[0, 1, 0], [NAN] * 3, [0, 1, 0]])] == ["0.png", "2.png"]
    assert [one.image for one in rank([[0.5, 0.25, 0.25]] * 2, [[1, 0, NAN], [1, 0, 0]], "softmax")] == ["1.png"]
    with pytest.raises(DataError, match="no image has a label"):
        rank([[0.5] * 3], [[NAN] * 3])


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_planted_errors_come_first(head):
    """Out-of-fold probabilities of a good network; one label in fifty is wrong."""
    rng = np.random.default_rng(0)
    n, c = 1000, 4
    several = (rng.random((n, c)) < 0.3).astype(float)
    true = np.eye(c)[rng.integers(0, c, n)] if head == "softmax" else several
    logits = (2 * true - 1) * rng.normal(2.5, 0.8, (n, c))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) if head == "softmax" else 1 / (1 + np.exp(-logits))
    wrong = rng.choice(n, 20, replace=False)
    given = true.copy()
    for row in wrong:
        if head == "softmax":
            given[row] = np.roll(given[row], 1)
        else:
            given[row, rng.integers(c)] += 1
    given %= 2
    found = rank(p, given, head, tuple("abcd"))
    order = np.array([int(one.image[:-4]) for one in found])
    planted, scores = np.isin(order, wrong), np.array([one.score for one in found])
    assert average_precision_score(planted, -scores) > 0.9
    assert average_precision_score(np.isin(order, rng.choice(n, 20, replace=False)), -scores) < 0.3
    # without planted errors the same images are not suspect
    clean = {one.image: one.score for one in rank(p, true, head, tuple("abcd"))}
    assert all(clean[f"{row}.png"] > one.score for row in wrong for one in found if one.image == f"{row}.png")


def test_table_and_csv_have_the_same_order():
    found = rank([[0.9, 0.2, 0.6], [0.1, 0.95, 0.05]], [[0, 0, 1], [0, 1, 0]])
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found))))
    assert tuple(rows[0]) == HEADER
    assert [(row["rank"], row["image_name"], row["margin"]) for row in rows] == [("1", "0.png", ""), ("2", "1.png", "")]
    assert float(rows[0]["score"]) == pytest.approx(found[0].score, abs=1e-6)
    text = suspects_text(found, 1)
    assert "0.png" in text
    assert "1.png" not in text
    assert text.endswith("2 labelled images; in 1 the likeliest labels differ from the given ones")
