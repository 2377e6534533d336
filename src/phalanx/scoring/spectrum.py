"""Frequencies of an image, and whether two kinds of images can be told apart by them alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .ranking import auc
from .resampling import Interval, bootstrap, draws, interval

RINGS = 16  # of equal width, from the lowest frequency but the mean to that of Nyquist
FOLDS = 5
PERMUTATIONS = 199
ALPHA = 0.01


def radial_power(image: np.ndarray, rings: int = RINGS) -> np.ndarray:
    """Log power float64[rings] of an image uint8[H, W] in rings of spatial frequency, up to Nyquist.

    The mean is subtracted, and a Hann window keeps the image's edges from appearing as high frequencies. The power is
    relative to the whole, so that brightness and contrast do not count.
    """
    values = image.astype(float)
    window = np.outer(np.hanning(values.shape[0] + 2)[1:-1], np.hanning(values.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.fft2((values - values.mean()) * window)) ** 2
    rows, columns = np.fft.fftfreq(values.shape[0]), np.fft.fftfreq(values.shape[1])
    radius = np.hypot(rows[:, None], columns[None])
    ring = np.minimum((radius / 0.5 * rings).astype(int), rings)  # beyond Nyquist, in the corners: not used
    used = (ring < rings) & (radius > 0)
    sums = np.bincount(ring[used], power[used], rings)
    counts = np.maximum(np.bincount(ring[used], minlength=rings), 1)
    mean = sums / counts
    return np.log((mean + 1e-12) / (mean.sum() + 1e-9))


@dataclass(frozen=True)
class SpectrumTest:
    """Whether restored images can be told from plain ones by their radial power spectrum.

    Attributes:
        auc: out of fold, over all pairs of images; ``interval`` over patients.
        p: fraction of permutations, which exchange plain and restored within patients, with an AUC as high.
        scores: float64[N], log odds that an image is restored, by a fit that did not see its patient; plain images
            first.
    """

    auc: float
    interval: Interval
    p: float
    permutations: int
    images: int
    patients: int
    scores: np.ndarray

    @property
    def detected(self) -> bool:
        """The AUC is above those of permuted images."""
        return self.p <= ALPHA

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON types."""
        return {
            "auc": self.auc, "interval": self.interval, "p": self.p, "permutations": self.permutations,
            "images": self.images, "patients": self.patients, "detected": self.detected,
        }  # fmt: skip


def spectrum_test(
    plain: np.ndarray, restored: np.ndarray, patients: Sequence[str], *, seed: int = 0, permutations: int = PERMUTATIONS
) -> SpectrumTest:
    """Tests pairs of spectra: a logistic regression predicts patients that it was not fitted on.

    Args:
        plain, restored: float64[N, K], of the same images in the same order.
        patients: of each image; at least two.
        permutations: smallest p is 1 / (permutations + 1).
    """
    names, group = np.unique(np.array(patients, str), return_inverse=True)
    rng = np.random.default_rng(seed)
    folds = rng.permutation(len(names))[group] % min(FOLDS, len(names))
    features = np.concatenate([plain, restored])
    truth = np.repeat([False, True], len(plain))
    both = np.concatenate([folds, folds])
    scores = _unseen(features, truth, both)
    value = auc(scores, truth)
    above = 0
    for _ in range(permutations):
        swapped = rng.random(len(names)) < 0.5  # whole patients: their images are alike
        shown = truth ^ np.concatenate([swapped[group], swapped[group]])
        above += auc(_unseen(features, shown, both), shown) >= value - 1e-12
    count = len(plain)
    order = (scores[count:, None] > scores[None, :count]) + 0.5 * (scores[count:, None] == scores[None, :count])
    return SpectrumTest(
        value, _interval(order, group), (1 + above) / (permutations + 1), permutations, count, len(names), scores
    )


def _unseen(features: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Log odds float64[N] by a logistic regression that was fitted on the other folds."""
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression

    made = np.zeros(len(features))
    model = LogisticRegression(C=1.0, solver="newton-cholesky")
    for fold in np.unique(folds):
        inside = folds == fold
        if len(np.unique(truth[~inside])) < 2:
            continue
        mean, spread = features[~inside].mean(axis=0), features[~inside].std(axis=0)
        scaled = (features - mean) / np.where(spread > 1e-9, spread, np.inf)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            model.fit(scaled[~inside], truth[~inside])
            made[inside] = model.decision_function(scaled[inside])
    return made


def _interval(order: np.ndarray, group: np.ndarray) -> Interval:
    """95% interval of an AUC from who is above whom, float64[N restored, N plain], over draws of patients."""
    patients = int(group.max()) + 1
    if patients < 2:
        return None
    member = np.eye(patients)[group]  # [N, P]
    wins, images = member.T @ order @ member, member.sum(axis=0)
    found = []
    for drawn in draws(patients):
        found.append(((drawn @ wins) * drawn).sum(axis=1) / (drawn @ images) ** 2)
    return interval(np.concatenate(found))


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation, with its 95% interval over patients; NaN if one side does not vary."""

    value: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Both as JSON types."""
        return {"rho": None if np.isnan(self.value) else self.value, "interval": self.interval}


def rank_correlation(first: np.ndarray, second: np.ndarray, patients: Sequence[str]) -> Correlation:
    """The correlation of the ranks of two columns float64[N]; the interval is that of the ranks' correlation."""
    from scipy.stats import rankdata

    group = np.unique(np.array(patients, str), return_inverse=True)[1]
    x, y = rankdata(first), rankdata(second)
    moments = np.stack([x, y, x * x, y * y, x * y], axis=1)
    whole = _correlation(moments.mean(axis=0)[None])[0]
    if np.isnan(whole) or group.max() < 1:
        return Correlation(float(whole), None)
    return Correlation(float(whole), interval(_correlation(bootstrap(moments, group))))


def _correlation(means: np.ndarray) -> np.ndarray:
    """float64[R] of means float64[R, 5] of x, y, xx, yy, xy."""
    x, y, xx, yy, xy = means.T
    spread = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0))
    return np.divide(xy - x * y, spread, out=np.full(len(x), np.nan), where=spread > 1e-9)
