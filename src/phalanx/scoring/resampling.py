"""Draws of whole patients for intervals: images of a patient are alike, so images alone would make them too narrow."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

RESAMPLES = 2000
SEED = 0
_CHUNK = 100  # resamples drawn at once: bounds memory for tens of thousands of patients

Interval = tuple[float, float] | None


def draws(patients: int) -> Iterator[np.ndarray]:
    """Yields how often each patient is drawn, in chunks float64[K, P] that are ``RESAMPLES`` rows together.

    As many patients are drawn as there are. The same number gives the same draws, so two predictions of the same images
    compare in pairs.
    """
    rng = np.random.default_rng(SEED)
    for _ in range(0, RESAMPLES, _CHUNK):
        yield rng.multinomial(patients, np.full(patients, 1 / patients), size=_CHUNK).astype(float)


def bootstrap(values: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Means over images of ``values`` float64[I, K] in ``RESAMPLES`` draws of as many patients as there are.

    Args:
        patients: int64[I], each image's patient as 0 .. P - 1.

    Returns:
        float64[RESAMPLES, K]. The same patients give the same draws: two submissions compare in pairs.
    """
    count = int(patients.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, patients, values)
    images = np.bincount(patients, minlength=count).astype(float)
    return np.concatenate([drawn @ sums / (drawn @ images)[:, None] for drawn in draws(count)])


def interval(values: np.ndarray) -> Interval:
    """95% interval of a figure from its values float64[RESAMPLES] in draws; NaN if a draw does not define it.

    None if fewer than half of the draws define it.
    """
    defined = values[~np.isnan(values)]
    if 2 * len(defined) < len(values) or not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Mapping[str, float], patients: Mapping[str, str]) -> Interval:
    """95% interval of the mean over images, over draws of patients; None of fewer than two patients.

    Args:
        values: of each image.
        patients: of these images, and perhaps of more.
    """
    names, index = np.unique([patients[image] for image in values], return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(index, weights=[*values.values()])
    images, drawn = np.bincount(index).astype(float), _all_draws(len(names))
    return interval((drawn @ sums) / (drawn @ images))


@lru_cache(maxsize=8)
def _all_draws(patients: int) -> np.ndarray:
    """All draws float64[RESAMPLES, P]: a table of many runs has the same ones for each of as many patients."""
    return np.concatenate([*draws(patients)])


def over(grouped: bool) -> str:
    """What an interval is drawn over, in words."""
    return "over patients" if grouped else "over images (too narrow: whose they are is not known)"
