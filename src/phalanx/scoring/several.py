"""Predictions with one label per image, scored by a truth with several labels per image or none.

A softmax forces a decision between classes that need not exclude each other. Its columns that are not classes of the
truth, such as ``none``, stand for images without any: they compete for the largest probability and are not scored.
"""

from collections.abc import Sequence

import numpy as np

from ..config.classify_loss import Head
from ..errors import DataError
from .classify import THRESHOLD, ClassifyScore, score_classes


def score_several(
    name: str,
    probabilities: np.ndarray,
    columns: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    head: Head,
    thresholds: np.ndarray | None = None,
    images: Sequence[str],
    patients: Sequence[str] | None = None,
) -> ClassifyScore:
    """Scores probabilities against a truth of any number of labels per image, each class by itself.

    A softmax predicts its likeliest column, of equals the first, and so at most one class; with thresholds each class
    that reaches its own. AUC and average precision are computed from the probabilities of the truth's classes.

    Args:
        probabilities: float[N, K] from 0 to 1. Certain labels are ones and zeros.
        columns: K names; those that are not among ``classes`` are negatives.
        labels: float[N, C] of 0, 1 and NaN (missing).
        classes: C names, of the truth.
        head: of the network. Sigmoids always have thresholds.
        thresholds: float[C], at least which is positive. By default .5 for sigmoids, the largest probability for a
            softmax.
        patients: of each image; by default each image is a patient of its own.

    Returns:
        A score with ``head="sigmoid"``, since that is how its figures count.

    Raises:
        DataError: a class without a column, a name that appears twice, shapes that differ, values out of range.
    """
    for what, names in (("columns", columns), ("classes", classes)):
        if twice := next((one for one in names if list(names).count(one) > 1), None):
            raise DataError(f"{name}: {twice!r} is twice among its {what}; rename one of them")
    lacking = [one for one in classes if one not in columns]
    if lacking:
        raise DataError(
            f"{name}: has no column of class {lacking[0]!r}, which the ground truth has; its columns are "
            f"{', '.join(columns)}"
        )
    probabilities = np.asarray(probabilities, float)
    if probabilities.shape != (len(images), len(columns)):
        raise DataError(
            f"{name}: probabilities are {list(probabilities.shape)}, and there are {len(images)} images x "
            f"{len(columns)} columns"
        )
    places = [list(columns).index(one) for one in classes]
    decided = None
    if head == "softmax" and thresholds is None:
        decided = (np.arange(len(columns)) == probabilities.argmax(axis=1)[:, None])[:, places]
    elif thresholds is None:
        thresholds = np.full(len(classes), THRESHOLD)
    return score_classes(
        name, probabilities[:, places], labels, classes, "sigmoid", images=images, patients=patients,
        thresholds=thresholds, decided=decided,
    )  # fmt: skip
