"""Ranks labels by how little out-of-fold probabilities agree with them: the likeliest label errors come first.

The self-confidence of a label is the probability that the network gives it: p of a class that is labelled, 1 - p of one
that is not. An image's score is the softmin of its classes' self-confidences s,

    sum over c of s[c] * w[c],   w = softmax((1 - s) / .1),

which is nearly the smallest of them, yet depends on the others too (Thyagarajan et al., 2022, "Identifying incorrect
annotations in multi-label classification data"). A ranking promises no number of errors: some are never found.

Where the images of a patient share one class, as a diagnosis, probabilities are those of :mod:`.patient_labels`.
"""

import csv
import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..config.classify_loss import Head
from ..errors import ConfigError, DataError
from .patient_labels import SHARED, agreement, judged_by_patient, rows_of_patients

By = Literal["auto", "image", "patient"]

TEMPERATURE = 0.1  # of the softmin
BETWEEN = "|"  # labels of an image, as in a table's column of class names
NONE = "none"  # of an image that shows no class
HEADER = (
    "rank", "image_name", "patient", "fold", "given", "likeliest", "doubted", "score", "self_confidence", "margin"
)  # fmt: skip


class Suspect(NamedTuple):
    """An image, the more suspect the lower its score.

    Attributes:
        given: its labels.
        likeliest: the labels that the probabilities speak for.
        doubted: the class whose label has the least self-confidence.
        score: softmin of the self-confidences, 0 to 1.
        self_confidence: of the given class of a softmax; of sigmoids, of the doubted class.
        margin: normalised margin of the given class of a softmax; None of sigmoids.
    """

    image: str
    patient: str
    fold: int
    given: str
    likeliest: str
    doubted: str
    score: float
    self_confidence: float
    margin: float | None

    @property
    def reason(self) -> str:
        """For a quarantine file."""
        return (
            f"suspect label: {self.given}, likelier {self.likeliest}, doubted {self.doubted} (score {self.score:.4f})"
        )


def self_confidences(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[N, C]: the probability of each label; NaN where it is missing.

    Args:
        labels: float[N, C] of 0, 1 and NaN (missing).
    """
    return np.where(np.isnan(labels), np.nan, np.where(labels == 1, probabilities, 1 - probabilities))


def softmin(values: np.ndarray, temperature: float = TEMPERATURE) -> np.ndarray:
    """float64[N]: mean of each row of float[N, C], weighted by softmax((1 - value) / temperature); NaN is left out.

    A row without a number is NaN.
    """
    known = ~np.isnan(values)
    logits = np.where(known, (1 - values) / temperature, -np.inf)
    top = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=1)
    sums = (weights * np.where(known, values, 0)).sum(axis=1)
    return np.divide(sums, total, out=np.full(len(values), np.nan), where=total > 0)


def normalised_margins(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[N]: (p of the given class - largest p of another + 1) / 2, of a softmax (Northcutt et al., 2021,
    "Confident learning").

    Args:
        labels: float[N, C], one 1 in each row.
    """
    given = (probabilities * (labels == 1)).sum(axis=1)
    others = np.where(labels == 1, -np.inf, probabilities).max(axis=1)
    return (given - others + 1) / 2


def rank_suspects(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    head: Head,
    *,
    images: Sequence[str],
    patients: Sequence[str],
    folds: Sequence[int],
    by: By = "auto",
) -> tuple[list[Suspect], str]:
    """All labelled images, the most suspect first, equal scores by name; and by what their labels were judged, a line
    for the user, empty where there was no choice.

    Args:
        probabilities: float[N, C], out of fold: a network that has seen a wrong label may have learnt it.
        labels: float[N, C] of 0, 1 and NaN. With a softmax, an image with a missing label is left out.
        by: each ``image`` by itself, or, with a softmax, by all of its ``patient``; ``auto``: the latter where the
            images of a patient share their class.

    Raises:
        ConfigError: labels of sigmoids are not those of patients.
        DataError: no image has a label.
    """
    known = ~np.isnan(labels)
    used = np.flatnonzero(known.all(axis=1) if head == "softmax" else known.any(axis=1))
    if not len(used):
        raise DataError("no image has a label, so none is suspect; name a run that was trained with labels")
    p, y = np.asarray(probabilities, float)[used], np.asarray(labels, float)[used]
    p, note = _judged(p, y, rows_of_patients([patients[image] for image in used.tolist()]), head, by)
    own, names = self_confidences(p, y), np.array(classes, object)
    scores = softmin(own)
    least = np.nanargmin(own, axis=1)
    margins = normalised_margins(p, y) if head == "softmax" and len(classes) > 1 else None
    shown = np.arange(len(classes)) == p.argmax(axis=1)[:, None] if head == "softmax" else p >= 0.5
    found = []
    for row, image in enumerate(used.tolist()):
        place = int(y[row].argmax()) if head == "softmax" else int(least[row])
        found.append(
            Suspect(
                images[image], patients[image], int(folds[image]), _joined(names[y[row] == 1]),
                _joined(names[shown[row]]), str(names[least[row]]), float(scores[row]), float(own[row, place]),
                None if margins is None else float(margins[row]),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (one.score, one.image)), note


def _judged(p: np.ndarray, y: np.ndarray, patients: np.ndarray, head: Head, by: By) -> tuple[np.ndarray, str]:
    """The probabilities that labels are judged by, and why."""
    if head != "softmax" or p.shape[1] < 2:
        if by == "patient":
            raise ConfigError("by=patient: needs a softmax, whose classes exclude each other; leave it out")
        return p, ""
    labels = y.argmax(axis=1)
    shared = agreement(labels, patients)
    if by == "image" or (by == "auto" and not shared >= SHARED):
        return p, ""
    much = "" if np.isnan(shared) else f", who share one in {shared:.0%} of what is possible beyond chance"
    note = f"labels are taken for those of patients{much}; by=image judges each image by itself"
    return judged_by_patient(p, labels, patients), note


def _joined(names: np.ndarray) -> str:
    return BETWEEN.join(names) or NONE


def suspects_csv(found: Sequence[Suspect]) -> str:
    """A CSV with ``HEADER`` and a row per image, in the given order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for rank, one in enumerate(found, 1):
        margin = "" if one.margin is None else f"{one.margin:.6f}"
        table.writerow([rank, *one[:6], f"{one.score:.6f}", f"{one.self_confidence:.6f}", margin])
    return text.getvalue()


def suspects_text(found: Sequence[Suspect], top: int) -> str:
    """A table of the first images."""
    rows = [("score", "image", "given", "likeliest", "doubted")]
    rows += [(f"{one.score:.4f}", one.image, one.given, one.likeliest, one.doubted) for one in found[:top]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    differing = sum(one.given != one.likeliest for one in found)
    lines.append(f"{len(found)} labelled images; in {differing} the likeliest labels differ from the given ones")
    return "\n".join(lines)
