"""Labels of patients: where all images of a patient share one class, each image's label is judged by all of them.

A patient's images are evidence of one class, and so are their labels, each of which is wrong with the same probability.
With p[i, c] an image's probability, e the rate of wrong labels and C classes, the log-odds of class c for image i are

    sum over the patient's images j of log p[j, c]
    + sum over its other images j of log(1 - e if label j is c, else e / (C - 1)),

so that an image's own label is judged by everything but itself.
"""

from collections.abc import Sequence

import numpy as np

SHARED = 0.6  # agreement beyond chance from which labels are those of patients; of unrelated labels it is 0
LEAST_IMAGES = 20  # with others of their patient, to measure the agreement on
FLOOR = 1e-6  # of probabilities, which a CSV rounds


def rows_of_patients(patients: Sequence[str]) -> np.ndarray:
    """int[N]: number of each image's patient."""
    return np.unique(np.asarray(patients, str), return_inverse=True)[1]


def agreement(labels: np.ndarray, patients: np.ndarray) -> float:
    """How far images of a patient share their class, over what chance would give: 1 always, 0 as by chance (Cohen's
    kappa over all pairs of images of a patient, each patient with equal weight per image). NaN for fewer than
    ``LEAST_IMAGES`` images with others of their patient, or a single class.

    Args:
        labels: int[N], the class of each image.
        patients: int[N].
    """
    counts = _counts(labels, patients)
    images = counts.sum(axis=1)
    several = images > 1
    if images[several].sum() < LEAST_IMAGES:
        return float("nan")
    counts, images = counts[several], images[several]
    same = (counts * (counts - 1)).sum(axis=1) / (images - 1)  # of each image's others, the share of its class
    found = same.sum() / images.sum()
    chance = ((counts.sum(axis=0) / images.sum()) ** 2).sum()
    return float((found - chance) / (1 - chance)) if chance < 1 else float("nan")


def wrong_rate(labels: np.ndarray, patients: np.ndarray) -> float:
    """Rate of labels that differ from the most frequent one of their patient's, of patients with three images or more;
    at least half a label. A tie counts as one wrong, the least that explains it."""
    counts = _counts(labels, patients)
    counts = counts[counts.sum(axis=1) > 2]
    images = counts.sum()
    wrong = images - counts.max(axis=1).sum() if images else 0
    return float(max(wrong, 0.5) / max(images, 1)) if images else 0.05


def judged_by_patient(probabilities: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """float64[N, C]: probability of each class for each image, by its patient's images and their other labels.

    Args:
        probabilities: float[N, C], of one class each.
        labels: int[N], the given class.
        patients: int[N].
    """
    classes = probabilities.shape[1]
    rate = min(wrong_rate(labels, patients), 1 - 1 / classes)
    seen = np.log(np.maximum(probabilities, FLOOR))
    named = np.where(np.arange(classes) == labels[:, None], np.log(1 - rate), np.log(rate / (classes - 1)))
    totals = np.zeros((patients.max() + 1, classes))
    np.add.at(totals, patients, seen + named)
    logits = totals[patients] - named
    logits -= logits.max(axis=1, keepdims=True)
    found = np.exp(logits)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _counts(labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """int[P, C]: images of each patient and class."""
    counts = np.zeros((patients.max() + 1, labels.max() + 1), int)
    np.add.at(counts, (patients, labels), 1)
    return counts
