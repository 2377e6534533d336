"""Area under the ROC curve and average precision of one class: of the images, by scikit-learn, and of their resamples.

A ROC needs a positive and a negative image, average precision a positive one; without them the value is NaN.
"""

import numpy as np

from .confusion import ratio


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of scores float[N] for labels bool[N]; ties count half."""
    from sklearn.metrics import roc_auc_score  # not by those who train: it takes a second to load

    return float(roc_auc_score(positive, scores)) if positive.any() and not positive.all() else np.nan


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve as a sum of steps, of scores float[N] for labels bool[N]."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, scores)) if positive.any() else np.nan


def average_precision_at(scores: np.ndarray, positive: np.ndarray, prevalence: float) -> float:
    """Average precision of scores float[N] for labels bool[N], if a fraction ``prevalence`` of images were positive.

    The positives weigh ``prevalence`` together, the negatives the rest: recall stays, and precision at each threshold
    becomes the positive predictive value there. NaN without a positive or a negative image.
    """
    from sklearn.metrics import average_precision_score

    if not positive.any() or positive.all():
        return np.nan
    weights = np.where(positive, prevalence / positive.sum(), (1 - prevalence) / (~positive).sum())
    return float(average_precision_score(positive, scores, sample_weight=weights))


class Ranking:
    """The order of the images by one class's scores, which is the same in every resample.

    scikit-learn would sort them again for each of thousands of resamples. For one, it has the same value, by a test.

    Args:
        scores: float[N].
        positive: bool[N].
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray):
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        # the places where scores become lower: equal ones count at once
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(scores) else np.zeros(0, int)
        self._positive = positive[self._order]

    def auc(self, weights: np.ndarray) -> np.ndarray:
        """Areas under the ROC curve float64[R] if each image appears as often as ``weights`` float64[R, N] has it."""
        ups, downs = self._steps(weights)
        below = downs.sum(axis=1, keepdims=True) - downs.cumsum(axis=1)
        return ratio((ups * (below + downs / 2)).sum(axis=1), ups.sum(axis=1) * downs.sum(axis=1))

    def ap(self, weights: np.ndarray) -> np.ndarray:
        """Average precisions float64[R], likewise."""
        ups, downs = self._steps(weights)
        found = ups.cumsum(axis=1)
        precision = np.nan_to_num(ratio(found, found + downs.cumsum(axis=1)))
        return ratio((ups * precision).sum(axis=1), ups.sum(axis=1))

    def _steps(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positives and negatives float64[R, K] of each different score, the highest first."""
        if not len(self._starts):
            return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
        ordered = weights[:, self._order]
        ups = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        return ups, np.add.reduceat(ordered * ~self._positive, self._starts, axis=1)
