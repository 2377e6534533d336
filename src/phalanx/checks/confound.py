"""The source-confound test: can the class be told from what is not the object?

A regression on features of background, borders and file (`background.py`) predicts the classes of patients that it was
not fitted on. It is compared with the same on labels that were permuted over patients: each patient gets the labels of
another, so that the images of a patient stay together. If it does clearly better, a network may learn the source of an
image instead of the disease, and a score on images of the same sources does not show it. Of many patients a trace is
significant that no score rests on, such as slices of other heights where other tumours grow; it is reported as that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..config import ClassifyData
from ..data.folds import draw
from ..data.labels import labels_of
from ..data.quarantine import kept_records
from ..errors import DataError
from ..runtime.processes import process_map
from ..scoring.classify_draws import GroupedFigures
from ..scoring.confusion import mean_defined
from ..scoring.ranking import Ranking
from ..scoring.resampling import Interval, draws, interval
from .background import NAMES, Background, measure_background

FOLDS = 5
PERMUTATIONS = 199
ALPHA = 0.01  # of the p-value, from which a confound or a trace of one is reported
CLEAR, CLEAR_OF_CLASS = 0.6, 0.7  # macro AUC, or AUC of a class, from which it is a confound
STRENGTH = 0.1  # of the regression: inverse weight of its penalty
LIMIT = 5.0  # standard deviations to which features are cut: a single odd image decides nothing


@dataclass(frozen=True)
class Confound:
    """What the background says about the classes.

    Attributes:
        auc: float64[C], of each class against the others, out of fold; NaN of a class that all or no images have.
        p: fraction of permutations whose macro AUC is as high, counting the data themselves as one.
        p_of_classes: float64[C]: of permutations in which the AUC of any class is as high, which allows for several.
        interval: 95% of the macro AUC, over draws of patients.
        by_features: macro AUC of each kind of feature alone.
    """

    root: str
    classes: tuple[str, ...]
    images: int
    patients: int
    permutations: int
    auc: np.ndarray
    p: float
    p_of_classes: np.ndarray
    interval: Interval
    by_features: dict[str, float]

    @property
    def macro_auc(self) -> float:
        """Mean over the classes that define it."""
        return float(mean_defined(self.auc))

    @property
    def detected(self) -> bool:
        """The macro AUC, or that of a class, is above those of permuted labels, and clearly above chance."""
        return bool(self.p <= ALPHA and self.macro_auc >= CLEAR) or bool(self.clear_classes)

    @property
    def clear_classes(self) -> list[str]:
        """The classes that can be told on their own: of many, one is lost in the mean."""
        clear = (self.p_of_classes <= ALPHA) & (self.auc >= CLEAR_OF_CLASS)
        return [name for name, one in zip(self.classes, clear.tolist(), strict=True) if one]

    @property
    def trace(self) -> bool:
        """The macro AUC is above those of permuted labels, but hardly above chance."""
        return self.p <= ALPHA and not self.detected

    @property
    def verdict(self) -> str:
        """One line."""
        span = f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]" if self.interval else ""
        found = f"macro AUC {self.macro_auc:.3f}{span}, p = {self.p:.3f}"
        best = max(self.by_features, key=lambda name: self.by_features[name])
        if self.trace:
            return (
                f"no confound found, but a trace: background, borders and file say something of the class ({found}; "
                f"most by {best}), less than the macro AUC of {CLEAR:g}, or {CLEAR_OF_CLASS:g} of a class, from which "
                "a score could rest on it"
            )
        if not self.detected:
            return f"no confound found: the class cannot be told from background, borders and file ({found})"
        what = " and ".join(self.clear_classes) or "the class"
        return (
            f"confounded: {what} can be told from background, borders and file alone ({found}; most by {best}). A "
            "score on images of these sources does not show what was learnt; hide the background (data.background="
            "contour), even out the sources, or test on a source of its own"
        )

    def to_text(self) -> str:
        """A table for the terminal, and the verdict."""
        width = max(map(len, ("class", *self.classes)))
        lines = [f"{'class':<{width}}    AUC      p"]
        for name, value, p in zip(self.classes, self.auc.tolist(), self.p_of_classes.tolist(), strict=True):
            cells = ("-", "-") if value != value else (f"{value:.3f}", f"{p:.3f}")
            lines.append(f"{name:<{width}}  {cells[0]:>5}  {cells[1]:>5}")
        lines.append("")
        lines += [f"by {name} alone: macro AUC {value:.3f}" for name, value in self.by_features.items()]
        lines.append(
            f"{self.root}: {self.images} images of {self.patients} patients, {self.permutations} permutations of labels"
        )
        lines.append(self.verdict)
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """All numbers as JSON types."""
        columns = zip(self.classes, self.auc.tolist(), self.p_of_classes.tolist(), strict=True)
        return {
            "root": self.root, "images": self.images, "patients": self.patients, "permutations": self.permutations,
            "macro_auc": _number(self.macro_auc), "interval": self.interval, "p": self.p, "detected": self.detected,
            "trace": self.trace,
            "classes": {name: {"auc": _number(auc), "p": _number(p)} for name, auc, p in columns},
            "by_features": self.by_features, "features": NAMES, "verdict": self.verdict,
        }  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def find_confound(
    data: ClassifyData, *, seed: int = 0, permutations: int = PERMUTATIONS, workers: int = -1, progress: bool = True
) -> Confound:
    """Tests the labelled training images of a data set.

    Args:
        permutations: of the labels; the smallest p-value is 1 / (permutations + 1).

    Raises:
        DataError: fewer than ``FOLDS`` patients, an image that cannot be read, or no class with both images with and
            without it.
    """
    records = kept_records(data)
    labels = labels_of(records, data).astype(float)
    groups = {record.group for record in records}
    if len(groups) < FOLDS:
        raise DataError(f"{data.root}: {len(groups)} patient(s), {FOLDS} at least are needed to test for a confound")
    paths = [record.image for record in records]
    run = partial(process_map, workers=workers, progress=progress)
    found: list[Background] = run(measure_background, paths, name="background", unit="image")
    columns = feature_columns(found)
    folds = draw(records, FOLDS, seed)
    numbers = np.array([folds[record.name] for record in records])
    patients = np.unique([record.group for record in records], return_inverse=True)[1]
    whole = np.concatenate(list(columns.values()), axis=1)
    made = predict_unseen(whole, labels, numbers)
    auc = auc_of(made, labels)
    if np.isnan(auc).all():
        raise DataError(f"{data.root}: no class has both images with and without it, so there is nothing to tell")
    test = partial(_permuted_auc, features=whole, labels=labels, folds=numbers, patients=patients)
    states = np.random.SeedSequence(seed).spawn(permutations)
    null = np.array(run(test, states, name="permutations", unit="draw", least=8)).reshape(permutations, -1)
    macro = float(mean_defined(auc))
    above = (mean_defined(null) >= macro - 1e-12).sum()
    highest = np.nanmax(null, axis=1)[:, None] if permutations else np.zeros((0, 1))
    return Confound(
        str(data.root), tuple(data.classes), len(records), len(groups), permutations, auc,
        (1 + int(above)) / (permutations + 1),
        np.where(np.isnan(auc), np.nan, (1 + (highest >= auc - 1e-12).sum(axis=0)) / (permutations + 1)),
        _interval(made, labels, patients),
        {name: float(mean_defined(auc_of(predict_unseen(part, labels, numbers), labels)))
         for name, part in columns.items()},
    )  # fmt: skip


def feature_columns(found: Sequence[Background]) -> dict[str, np.ndarray]:
    """Features float64[N, K] by kind. What cannot be measured has the median; forms of files have a column each."""
    values = np.stack([one.values for one in found])
    known = ~np.isnan(values)
    medians = [np.median(column[seen]) if seen.any() else 0.0 for column, seen in zip(values.T, known.T, strict=True)]
    values = np.where(known, values, medians)
    ends = np.cumsum([len(names) for names in NAMES.values()])
    parts = dict(zip(NAMES, np.split(values, ends[:-1], axis=1), strict=True))
    forms = sorted({one.form for one in found})
    named = np.array([[one.form == form for form in forms] for one in found], float)
    return parts | {"file": np.concatenate([parts["file"], named], axis=1)}


def predict_unseen(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Probabilities float64[N, C] by a logistic regression per class, fitted on the other folds.

    Args:
        features: float64[N, K].
        labels: float64[N, C] of 0, 1 and NaN (missing).
        folds: int64[N]; the images of a patient are in one.
    """
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression

    made = np.full(labels.shape, 0.5)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", solver="newton-cholesky")
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        mean, spread = features[outside].mean(axis=0), features[outside].std(axis=0)
        scaled = np.clip((features - mean) / np.where(spread > 1e-9, spread, np.inf), -LIMIT, LIMIT)
        for c in range(labels.shape[1]):
            used = outside & ~np.isnan(labels[:, c])
            if len(np.unique(labels[used, c])) == 2:
                with config_context(assume_finite=True, skip_parameter_validation=True):  # half the time of small fits
                    model.fit(scaled[used], labels[used, c])
                    made[inside, c] = model.predict_proba(scaled[inside])[:, 1]
    return made


def auc_of(made: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64[C]: area under the ROC curve of each class; NaN without images with and without it."""
    found = np.full(labels.shape[1], np.nan)
    for c in range(labels.shape[1]):
        known = ~np.isnan(labels[:, c])
        if known.any():
            found[c] = Ranking(made[known, c], labels[known, c] == 1).auc(np.ones((1, int(known.sum()))))[0]
    return found


def permute_labels(labels: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels float64[N, C] in which each patient has those of another, drawn without replacement.

    If that one has fewer images, its labels are repeated; if more, the last are not used.

    Args:
        patients: int64[N], 0 .. P - 1.
    """
    rows = [np.flatnonzero(patients == patient) for patient in range(int(patients.max()) + 1)]
    found = np.empty_like(labels)
    for mine, other in zip(rows, rng.permutation(len(rows)).tolist(), strict=True):
        found[mine] = labels[np.resize(rows[other], len(mine))]
    return found


def _permuted_auc(
    state: np.random.SeedSequence, features: np.ndarray, labels: np.ndarray, folds: np.ndarray, patients: np.ndarray
) -> np.ndarray:
    permuted = permute_labels(labels, patients, np.random.default_rng(state))
    return auc_of(predict_unseen(features, permuted, folds), permuted)


def _interval(made: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Interval:
    known = ~np.isnan(labels).all(axis=1)
    figures = GroupedFigures(made[known], labels[known], made[known] >= 0.5, patients[known], "sigmoid", None)
    of = figures.function("macro_auc")
    return interval(np.concatenate([of(drawn) for drawn in draws(figures.groups)]))
