"""Scores against their definition on pixels."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.errors import DataError
from phalanx.masks import rle
from phalanx.scoring.resampling import RESAMPLES, bootstrap
from phalanx.scoring.score import score
from phalanx.submission.table import Submission

SIZE = (6, 7)


def submission(masks, name="guess", classes=None):
    """masks: bool[I, C, H, W]"""
    classes = classes or [f"c{i}" for i in range(masks.shape[1])]
    rles = {f"i{i}": [rle.encode(mask) for mask in image] for i, image in enumerate(masks)}
    return Submission.of(rles, classes, dict.fromkeys(rles, SIZE), name)


def random_pair(seed, images=5, classes=4):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, images, classes, *SIZE)) < rng.choice([0, 0.1, 0.6], (2, images, classes, 1, 1))
    return a, b


def dense_dice(a, b):
    return 1.0 if not a.any() and not b.any() else 2 * (a & b).sum() / (a.sum() + b.sum())


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_every_number_equals_the_one_from_pixels(seed):
    guess, truth = random_pair(seed)
    found = score(submission(guess), submission(truth, "truth"), {f"i{i}": "pq"[i % 2] for i in range(5)})
    dense = np.array(
        [[dense_dice(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(guess, truth, strict=True)]
    )
    there = truth.any(axis=(2, 3))
    np.testing.assert_array_equal(found.dice, dense)
    np.testing.assert_array_equal(found.present, there)
    assert found.mean == pytest.approx(dense.mean())
    assert found.mean_present == (pytest.approx(dense[there].mean()) if there.any() else None)
    np.testing.assert_allclose(found.per_class, dense.mean(0))
    np.testing.assert_allclose(found.per_image, dense.mean(1))
    assert found.per_patient == pytest.approx({"p": dense[::2].mean(), "q": dense[1::2].mean()})


def test_both_empty_counts_one_and_only_one_empty_counts_zero():
    empty, full = np.zeros((1, 1, *SIZE), bool), np.ones((1, 1, *SIZE), bool)
    assert score(submission(empty), submission(empty)).mean == 1
    assert score(submission(empty), submission(empty)).mean_present is None
    assert score(submission(full), submission(empty)).mean == 0
    assert score(submission(empty), submission(full)).mean == 0


def test_class_order_of_the_submission_is_free():
    guess, truth = random_pair(1, classes=2)
    straight = score(submission(guess), submission(truth))
    swapped = submission(guess[:, ::-1], classes=["c1", "c0"])
    np.testing.assert_array_equal(score(swapped, submission(truth)).dice, straight.dice)


def test_what_does_not_fit_is_refused():
    guess, truth = random_pair(1)
    with pytest.raises(DataError, match=r"guess and truth differ.*images: 1 only in the second \('i4'\)"):
        score(submission(guess[:4]), submission(truth, "truth"))
    with pytest.raises(DataError, match="1 of 5 images have no patient, first 'i4'"):
        score(submission(guess), submission(truth), {f"i{i}": "p" for i in range(4)})


def slow_bootstrap(values, patients, rng):
    """Draw patients, gather all their images, average."""
    of = [values[patients == p] for p in range(patients.max() + 1)]
    return [np.concatenate([of[p] for p in rng.integers(0, len(of), len(of))]).mean() for _ in range(RESAMPLES)]


def test_bootstrap_has_the_spread_of_a_plain_one():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    values = (rng.normal(0.8, 0.05, 40)[patients] + rng.normal(0, 0.01, len(patients)))[:, None]
    ours = np.percentile(bootstrap(values, patients)[:, 0], [2.5, 50, 97.5])
    slow = np.percentile(slow_bootstrap(values[:, 0], patients, rng), [2.5, 50, 97.5])
    np.testing.assert_allclose(ours, slow, atol=0.003)  # intervals here are .03 wide
    alone = np.percentile(bootstrap(values, np.arange(len(values)))[:, 0], [2.5, 97.5])
    assert np.ptp(alone) < 0.8 * np.ptp(ours)  # images of a patient are alike: taking them alone is overconfident


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        values = rng.normal(0.7, 0.1, (50, 1))
        low, high = np.percentile(bootstrap(values, np.arange(50)), [2.5, 97.5])
        covered += low <= 0.7 <= high
    assert 52 <= covered <= 60


def test_intervals_repeat_and_hold_the_mean():
    guess, truth = random_pair(2, images=12)
    patients = {f"i{i}": f"p{i // 2}" for i in range(12)}
    first, again = (score(submission(guess), submission(truth), patients) for _ in range(2))
    assert first.interval == again.interval
    low, high = first.interval
    assert low < first.mean < high
    for mean, (low, high) in zip(first.per_class, first.class_intervals, strict=True):
        assert low <= mean <= high


def test_one_patient_has_no_interval():
    guess, truth = random_pair(2)
    alone = score(submission(guess), submission(truth), dict.fromkeys([f"i{i}" for i in range(5)], "p"))
    assert alone.interval is None
    assert alone.class_intervals == [None] * 4
    assert "interval -" in alone.to_text()


def test_json_and_text_tell_the_same():
    guess, truth = random_pair(5)
    truth[:, 3] = False
    found = score(submission(guess), submission(truth), {f"i{i}": f"i{i}" for i in range(5)})
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["dice"] == found.mean
    assert tuple(data["interval"]) == found.interval
    assert (data["images"], data["patients"], data["resamples"]) == (5, 5, RESAMPLES)
    assert data["classes"]["c3"]["present"] == 0
    assert data["classes"]["c3"]["dice_present"] is None
    assert data["classes"]["c0"]["dice"] == found.per_class[0]
    assert data["per_patient"] == data["per_image"] == dict(zip(found.images, found.per_image, strict=True))
    lines = found.to_text(worst=2).splitlines()
    assert lines[1].split()[:3] == ["c0", str(found.present[:, 0].sum()), f"{found.per_class[0]:.4f}"]
    worst = sorted(data["per_image"], key=data["per_image"].get)[:2]
    assert [line.split()[0] for line in lines if line.startswith("  ")] == worst
    assert f"Dice {found.mean:.4f}" in lines[-1]


def test_scoring_and_voting_start_without_the_heavy_libraries():
    code = (
        "import sys, phalanx.scoring.score, phalanx.voting.vote; "
        "sys.exit(', '.join({'torch', 'cv2', 'pandas', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
