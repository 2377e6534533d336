"""Scores of a classification: figures of one integer confusion matrix, ranking figures, and intervals over patients.

Missing labels are left out: with a softmax the whole image, with sigmoids the one class. A figure that is not defined,
as the recall of a class that no image has, is NaN here and null in JSON. A mean over classes is over the classes that
define it, in a resample too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..config.classify_loss import Head
from ..errors import DataError
from .classify_draws import RANKED, GroupedFigures
from .confusion import BinaryCounts, against_healthy, mean_defined, predictive_values
from .ranking import auc, average_precision, average_precision_at
from .resampling import RESAMPLES, Interval, draws, interval

PREVALENCES = (0.25, 0.1, 0.0001)
THRESHOLD = 0.5  # of a sigmoid by default
PER_CLASS = ("precision", "recall", "specificity", "f1", "auc", "ap")
SOFTMAX_FIGURES = ("accuracy", "balanced_accuracy")
SIGMOID_FIGURES = ("accuracy", "balanced_accuracy", "subset_accuracy")
DISEASE_FIGURES = ("accuracy", "recall", "specificity", "precision", "f1", "auc")


@dataclass(frozen=True)
class ClassifyScore:
    """Probabilities against labels, and what follows from them. Made by :func:`score_classes`."""

    name: str
    images: tuple[str, ...]
    classes: tuple[str, ...]
    head: Head
    probabilities: np.ndarray  # float64[N, C]
    labels: np.ndarray  # float64[N, C]: 0, 1 or NaN
    patients: tuple[str, ...]  # of each image; the image itself if they are not known
    grouped: bool = True  # patients are known
    thresholds: np.ndarray | None = None  # float64[C] of sigmoids: at least this is positive
    healthy: str | None = None  # the class that is no disease, of a softmax
    prevalences: tuple[float, ...] = PREVALENCES
    decided: np.ndarray | None = None  # bool[N, C]: decisions that do not follow from ``thresholds``, for sigmoids

    @cached_property
    def labelled(self) -> np.ndarray:
        """bool[N]: images with a label; with a softmax, with all of them."""
        known = ~np.isnan(self.labels)
        return known.all(axis=1) if self.head == "softmax" else known.any(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """bool[N, C]: the class of the largest probability, of equals the first; or all that reach their threshold."""
        if self.head == "softmax":
            return np.arange(len(self.classes)) == self.probabilities.argmax(axis=1)[:, None]
        if self.decided is not None:
            return self.decided
        return self.probabilities >= self.thresholds

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64[C, C]: labelled images by true class (row) and predicted one (column), of a softmax.

        Raises:
            DataError: of sigmoids, which have several classes per image.
        """
        if self.head == "sigmoid":
            raise DataError(f"{self.name}: sigmoids have no confusion matrix of all classes; use the counts per class")
        return self._figures.matrices(self._figures.whole)[0]

    @cached_property
    def counts(self) -> BinaryCounts:
        """int64[C]: each class against all others."""
        return BinaryCounts(*(side[0] for side in self._figures.counts(self._figures.whole)))

    @property
    def disease(self) -> BinaryCounts | None:
        """Any disease against ``healthy``, int64[]; None if no class is healthy."""
        return None if self.healthy is None else against_healthy(self.confusion, self.classes.index(self.healthy))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all figures of the whole: those of the head, means over classes, and disease against healthy."""
        own = SOFTMAX_FIGURES if self.head == "softmax" else SIGMOID_FIGURES
        disease = [] if self.healthy is None else [f"disease_{name}" for name in DISEASE_FIGURES]
        return (*own, *(f"macro_{name}" for name in PER_CLASS), *disease)

    def value(self, metric: str) -> float:
        """A figure of the whole by name, of ``metrics``; NaN if it is not defined.

        Raises:
            DataError: there is no such figure.
        """
        self._check(metric)
        kind, _, name = metric.partition("_")
        if name in RANKED:
            return float(auc(*self._figures.diseased()) if kind == "disease" else mean_defined(self.per_class(name)))
        return float(self._figures.function(metric)(self._figures.whole)[0])

    def per_class(self, name: str) -> np.ndarray:
        """float64[C]: a figure of ``PER_CLASS`` of each class against all others; NaN where it is not defined."""
        if name not in RANKED:
            return np.asarray(getattr(self.counts, name))
        of = auc if name == "auc" else average_precision
        return np.array([of(*self._figures.scored(c)) for c in range(len(self.classes))])

    def interval(self, metric: str) -> Interval:
        """95% interval over draws of patients; None for a single patient, or if most draws do not define the figure."""
        return None if self._figures.groups < 2 else interval(self.resampled(metric))

    def resampled(self, metric: str) -> np.ndarray:
        """float64[RESAMPLES]: a figure in draws of patients, which are the same for all scores of the same images."""
        self._check(metric)
        if not self._figures.groups:
            return np.full(RESAMPLES, np.nan)
        if metric not in self._resampled:
            of = self._figures.function(metric)
            self._resampled[metric] = np.concatenate([of(drawn) for drawn in draws(self._figures.groups)])
        return self._resampled[metric]

    def in_draws(self, metric: str, drawn: np.ndarray) -> np.ndarray:
        """float64[R, 1 + C]: a figure in draws of images float64[R, N], how often each counts: the whole, each class.

        That of a class is the figure which ``metric`` is the mean of (``macro_auc``: its AUC), else its F1.
        """
        self._check(metric)
        counted, single = drawn[:, self.labelled], self._by_image
        kind, _, name = metric.partition("_")
        each = single.of_classes(name if kind == "macro" else "f1", counted)
        if kind == "macro":
            return np.concatenate([mean_defined(each)[:, None], each], axis=1)
        return np.concatenate([single.function(metric)(counted)[:, None], each], axis=1)

    def predictive_values(self) -> dict[str, dict[float, tuple[float, float]]]:
        """Positive and negative predictive value at each prevalence: of ``disease``, or else of each sigmoid."""
        sides = dict[str, tuple[float, float]]()
        if self.disease is not None:
            sides = {"disease": (float(self.disease.recall), float(self.disease.specificity))}
        elif self.head == "sigmoid":
            pairs = zip(self.counts.recall.tolist(), self.counts.specificity.tolist(), strict=True)
            sides = dict(zip(self.classes, pairs, strict=True))
        return {
            name: {prevalence: predictive_values(*pair, prevalence) for prevalence in self.prevalences}
            for name, pair in sides.items()
        }

    def precision_at_prevalence(self) -> dict[str, dict[float, float]]:
        """Average precision at each prevalence, of the same as :meth:`predictive_values`."""
        scored = dict[str, tuple[np.ndarray, np.ndarray]]()
        if self.healthy is not None:
            scored = {"disease": self._figures.diseased()}
        elif self.head == "sigmoid":
            scored = {name: self._figures.scored(c) for c, name in enumerate(self.classes)}
        return {
            name: {prevalence: average_precision_at(*pair, prevalence) for prevalence in self.prevalences}
            for name, pair in scored.items()
        }

    def _check(self, metric: str) -> None:
        if metric not in self.metrics:
            why = "needs healthy=, a class of a softmax" if metric.startswith("disease_") else "is not a figure here"
            raise DataError(f"metric={metric}: {why}; known: {', '.join(self.metrics)}")

    @cached_property
    def _figures(self) -> GroupedFigures:
        return self._grouped(np.array(self.patients, str)[self.labelled])

    @cached_property
    def _by_image(self) -> GroupedFigures:
        """Each labelled image by itself, in their order."""
        return self._grouped(np.arange(int(self.labelled.sum())))

    def _grouped(self, of: np.ndarray) -> GroupedFigures:
        kept = self.labelled
        return GroupedFigures(
            self.probabilities[kept], self.labels[kept], self.predicted[kept], of, self.head,
            None if self.healthy is None else self.classes.index(self.healthy),
        )  # fmt: skip

    @cached_property
    def _resampled(self) -> dict[str, np.ndarray]:
        return {}


def truth_probability(probabilities: np.ndarray, labels: np.ndarray, head: Head) -> np.ndarray:
    """float64[...]: the probability that is given to what is true: of a softmax that of the true class, of sigmoids the
    mean over the labelled classes. NaN without a label.

    Args:
        probabilities: float[..., C].
        labels: float[..., C] of 0, 1 and NaN (missing).
    """
    known = ~np.isnan(labels)
    if head == "softmax":
        found = np.where(labels == 1, probabilities, 0.0).sum(axis=-1)
        return np.where(known.all(axis=-1) & (labels == 1).any(axis=-1), found, np.nan)
    return mean_defined(np.where(known, np.where(labels == 1, probabilities, 1 - probabilities), np.nan))


def score_classes(
    name: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    head: Head,
    *,
    images: Sequence[str],
    patients: Sequence[str] | None = None,
    thresholds: np.ndarray | None = None,
    healthy: str | None = None,
    prevalences: Sequence[float] = PREVALENCES,
    decided: np.ndarray | None = None,
) -> ClassifyScore:
    """Scores probabilities against labels.

    Args:
        probabilities: float[N, C] from 0 to 1.
        labels: float[N, C] of 0, 1 and NaN (missing).
        patients: of each image; by default each image is a patient of its own, which makes intervals too narrow if it
            is not so.
        thresholds: float[C] of sigmoids, at least which is positive; 0.5 by default.
        healthy: the class of a softmax that is no disease, for figures of disease against healthy.
        prevalences: of the disease, for predictive values.
        decided: bool[N, C], decisions that take the place of thresholds of sigmoids.

    Raises:
        DataError: shapes that differ, a label or probability out of range, an image of a softmax that has not exactly
            one class, an unknown class, thresholds or ``healthy`` with the wrong head.
    """
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels, float)
    shape = (len(images), len(classes))
    for what, array in (("probabilities", probabilities), ("labels", labels), ("decisions", decided)):
        if array is not None and array.shape != shape:
            raise DataError(
                f"{name}: {what} are {list(array.shape)}, and there are {shape[0]} images x {shape[1]} classes"
            )
    if patients is not None and len(patients) != len(images):
        raise DataError(f"{name}: {len(patients)} patients for {len(images)} images; name the patient of every image")
    _refuse(name, images, ~((probabilities >= 0) & (probabilities <= 1)), "a probability that is not from 0 to 1")
    _refuse(name, images, ~((labels == 0) | (labels == 1) | np.isnan(labels)), "a label that is not 0, 1 or missing")
    if head == "softmax":
        wrong = ~np.isnan(labels).any(axis=1) & ((labels == 1).sum(axis=1) != 1)
        _refuse(name, images, wrong[:, None], "not exactly one class; use head=sigmoid for several or none")
        if thresholds is not None:
            raise DataError(f"{name}: thresholds are for head=sigmoid; a softmax takes its largest probability")
    elif healthy is not None:
        raise DataError(f"{name}: healthy={healthy} is for head=softmax; with sigmoids, no class is the absence of all")
    if healthy is not None and healthy not in classes:
        raise DataError(f"{name}: healthy={healthy} is not a class; known: {', '.join(classes)}")
    if any(not 0 < prevalence < 1 for prevalence in prevalences):
        raise DataError(f"{name}: prevalence={[*prevalences]} must be above 0 and below 1")
    if decided is not None and (head == "softmax" or thresholds is not None):
        raise DataError(f"{name}: decisions take the place of thresholds of sigmoids; give one of the two")
    if head == "sigmoid" and decided is None:
        thresholds = np.full(len(classes), THRESHOLD) if thresholds is None else np.asarray(thresholds, float)
        if thresholds.shape != (len(classes),) or not np.isfinite(thresholds).all():
            raise DataError(f"{name}: {thresholds.size} thresholds for {len(classes)} classes; give a number for each")
    return ClassifyScore(
        name, tuple(images), tuple(classes), head, probabilities, labels,
        tuple(images if patients is None else patients), patients is not None, thresholds, healthy, tuple(prevalences),
        decided,
    )  # fmt: skip


def _refuse(name: str, images: Sequence[str], wrong: np.ndarray, what: str) -> None:
    rows = np.flatnonzero(wrong.any(axis=1))
    if len(rows):
        raise DataError(f"{name}: image {images[rows[0]]!r} has {what} ({len(rows)} such images)")
