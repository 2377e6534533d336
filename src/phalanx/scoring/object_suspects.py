"""Annotated objects whose class is in doubt: by their size, by how they narrow, by what was predicted there.

Each doubt is the probability of the other class, by a logistic regression on one measure: logarithm of the area, least
over median width along the midline, and the fraction of what was predicted there that is diseased. A regression
is fitted on other patients than those it judges, with both classes of equal weight, so that no object defends its own
label. The score of an object is the same of all measures together: a small "diseased" liver may be early, a small one
that is also predicted normal is in doubt. Out-of-fold predictions are needed: a network that has seen a wrong label may
have learnt it (Northcutt et al., 2021).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

MEASURES = ("area", "width", "prediction")
DOUBT = 0.6  # from which a measure is a reason
TAIL = 0.05  # an object is small, or large, for its class if it is among this part of it
PARTS = 10  # of the patients, for the regressions
CLIP = 0.02  # probabilities are kept away from 0 and 1 by this, before their logit is taken


class Annotated(NamedTuple):
    """One annotated object.

    Attributes:
        number: of the object in its image, from 1.
        diseased: as it is annotated.
        area: pixels.
        prediction: the fraction of what is predicted there that is diseased, 0 to 1; 0.5 if nothing is.
        width, predicted_width: least over median width along the midline; None if there is none.
    """

    image: str
    patient: str
    number: int
    diseased: bool
    area: float
    prediction: float
    width: float | None = None
    predicted_width: float | None = None


class Suspect(NamedTuple):
    """An object and how doubtful its class is.

    Attributes:
        score: probability of the other class by all measures.
        doubts: the same of single measures, by name.
        smaller: fraction of the other objects of its class that are smaller.
        reasons: in words, the strongest first.
    """

    object: Annotated
    score: float
    doubts: Mapping[str, float]
    smaller: float
    reasons: tuple[str, ...]


def measures_of(objects: Sequence[Annotated]) -> dict[str, np.ndarray]:
    """Measures float64[N] that most of the objects have; a missing width is the median one."""
    found = {"area": np.log([max(one.area, 1.0) for one in objects])}
    widths = np.array([np.nan if one.width is None else one.width for one in objects])
    if 2 * np.isfinite(widths).sum() > len(widths):
        found["width"] = np.where(np.isfinite(widths), widths, np.nanmedian(widths))
    predicted = np.clip([one.prediction for one in objects], CLIP, 1 - CLIP)
    found["prediction"] = np.log(predicted / (1 - predicted))
    return found


def rank_objects(objects: Sequence[Annotated], names: tuple[str, str]) -> list[Suspect]:
    """All objects, the most doubtful first; equal ones by image. Empty if one of the classes has no object.

    Args:
        names: of the normal and the diseased class.
    """
    sick = np.array([one.diseased for one in objects], bool)
    if not len(sick) or sick.all() or not sick.any():
        return []
    measures = measures_of(objects)
    patients = [one.patient for one in objects]
    doubts = {name: _other(values[:, None], sick, patients) for name, values in measures.items()}
    score = _other(np.stack(list(measures.values()), axis=1), sick, patients)
    smaller = [_fraction_below(measures["area"], sick == own, i) for i, own in enumerate(sick)]
    found = []
    for i, one in enumerate(objects):
        own = {name: float(values[i]) for name, values in doubts.items()}
        found.append(Suspect(one, float(score[i]), own, smaller[i], _reasons(one, own, smaller[i], names)))
    return sorted(found, key=lambda suspect: (-suspect.score, suspect.object.image, suspect.object.number))


def _other(values: np.ndarray, sick: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """float64[N]: probability of the class that an object is not annotated with, by a regression on other patients."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fewest = min(int(sick.sum()), int((~sick).sum()))  # of a class
    count = min(PARTS, len(set(patients)), max(2, fewest)) if len(set(patients)) > 1 else 1
    found = np.full(len(sick), 0.5)
    if count < 2:
        return found
    parts = StratifiedGroupKFold(count, shuffle=True, random_state=0).split(values, sick, patients)
    for train, rest in parts:
        if sick[train].all() or not sick[train].any():
            continue  # nothing to compare with: 0.5
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        found[rest] = model.fit(values[train], sick[train]).predict_proba(values[rest])[:, 1]
    return np.where(sick, 1 - found, found)


def _fraction_below(values: np.ndarray, same: np.ndarray, i: int) -> float:
    """Fraction of the other objects of a class with a smaller value; equal ones count half."""
    others = values[same & (np.arange(len(values)) != i)]
    if not len(others):
        return 0.5
    return float(((others < values[i]).sum() + (others == values[i]).sum() / 2) / len(others))


def _reasons(one: Annotated, doubts: Mapping[str, float], smaller: float, names: tuple[str, str]) -> tuple[str, ...]:
    own, other = names[one.diseased], names[not one.diseased]
    texts = {
        "prediction": f"predicted {other}: {1 - one.prediction if one.diseased else one.prediction:.0%}",
        "area": f"area as of {other}",
        "width": "" if one.width is None else f"least/median width {one.width:.2f}: as {other}",
    }
    found = [texts[name] for name in sorted(doubts, key=lambda name: -doubts[name]) if doubts[name] >= DOUBT]
    if min(smaller, 1 - smaller) < TAIL:
        found.append(f"{'small' if smaller < TAIL else 'large'} for {own}")
    return tuple(text for text in found if text)
