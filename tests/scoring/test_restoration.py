"""The spectrum test finds planted smoothing and nothing else; rates, differences and findings of restoration."""

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from phalanx.scoring.restoration import Called, report_of
from phalanx.scoring.spectrum import ALPHA, radial_power, rank_correlation, spectrum_test

SIDE, IMAGES, LEVELS = 32, 40, (0.1, 0.5)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIDE, SIDE), np.uint8) for _ in range(IMAGES)]


PATIENTS = [f"p{i // 2}" for i in range(IMAGES)]


def spectra(images):
    return np.stack([radial_power(image) for image in images])


def test_a_wave_has_its_power_in_the_ring_of_its_frequency():
    columns = np.arange(64)
    for cycles in (8, 24):
        wave = np.tile(127 + 100 * np.sin(2 * np.pi * cycles * columns / 64), (64, 1)).astype(np.uint8)
        assert radial_power(wave, 16).argmax() in (cycles // 2 - 1, cycles // 2)  # rings of 2 cycles
    dim, bright = (np.clip(wave * k, 0, 255).astype(np.uint8) for k in (0.5, 1))
    assert np.abs(radial_power(dim)[11:13] - radial_power(bright)[11:13]).max() < 0.01  # contrast does not count
    assert np.isfinite(radial_power(np.zeros((8, 12), np.uint8))).all()


def test_planted_smoothing_is_found_and_nothing_else(images):
    smooth = [cv2.GaussianBlur(image, (0, 0), 0.6) for image in images]
    found = spectrum_test(spectra(images), spectra(smooth), PATIENTS, permutations=99)
    assert found.detected
    assert found.auc > 0.99
    assert found.p == 0.01
    low, high = found.interval
    assert low <= found.auc <= high
    assert (found.scores[IMAGES:] > found.scores[:IMAGES]).mean() > 0.95
    rng = np.random.default_rng(1)
    others = [rng.integers(0, 256, (SIDE, SIDE), np.uint8) for _ in images]
    silent = spectrum_test(spectra(images), spectra(others), PATIENTS, permutations=99)
    assert not silent.detected
    assert silent.p > ALPHA
    assert abs(silent.auc - 0.5) < 0.2
    same = spectrum_test(spectra(images), spectra(images), PATIENTS, permutations=19)
    assert same.auc == pytest.approx(0.5)
    assert not same.detected


def test_the_rank_correlation_is_spearmans():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 9, IMAGES).astype(float)
    y = x + rng.normal(0, 4, IMAGES)
    found = rank_correlation(x, y, PATIENTS)
    assert found.value == pytest.approx(spearmanr(x, y).statistic)
    low, high = found.interval
    assert low < found.value < high
    assert np.isnan(rank_correlation(x, np.ones(IMAGES), PATIENTS).value)
    assert rank_correlation(x, np.ones(IMAGES), PATIENTS).to_json() == {"rho": None, "interval": None}


def called(kind: str, rate: float, diseased: np.ndarray) -> Called:
    """A classifier that is right on plain images, and calls this fraction of restored diseased ones healthy."""
    restored = np.ones((IMAGES, 2))
    rows = np.flatnonzero(diseased)
    restored[rows] = (np.arange(len(rows)) < rate * len(rows))[:, None]
    plain = (~diseased).astype(float)
    return Called(f"run_{kind}", kind, plain, restored, ((1 - plain)[:, None] * restored).mean(axis=1), plain)


def test_rates_differences_and_findings(images):
    diseased = np.arange(IMAGES) % 4 > 0
    smooth = [cv2.GaussianBlur(image, (0, 0), 0.6) for image in images]
    spectrum = spectrum_test(spectra(images), spectra(smooth), PATIENTS, permutations=99)
    found = report_of(
        [called("healthy", 0.6, diseased), called("none", 0.0, diseased), called("all", 0.6, diseased)],
        diseased, PATIENTS, spectrum, "healthy", LEVELS,
    )  # fmt: skip
    assert found.acceptance["run_none"].value == 1
    assert found.turned["run_healthy"].value == pytest.approx(0.6)
    assert found.by_level["run_healthy"] == pytest.approx([0.6, 0.6])
    gap = found.differences["run_none"]
    assert gap.value == pytest.approx(0.6)
    assert gap.interval[0] > 0
    assert found.differences["run_all"].value == 0
    text = found.to_text()
    assert "against none: shortcut: restored tumours turn healthy at least 10% more often (0.600 [" in text
    assert "against all: no shortcut shown" in text  # a null is reported as one
    assert "restored images can be told from plain ones" in text
    assert "P(healthy) does not follow" in text or "does not vary" in text
    values = found.to_json()
    assert values["classifiers"]["run_healthy"]["diseased_turned"]["value"] == pytest.approx(0.6)
    assert values["images"] == {"healthy": 10, "diseased": 30}
