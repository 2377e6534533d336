"""Scores CSVs of probabilities by labels in a table or in folders. Imports no torch, so it starts at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import ClassifyConfig, ClassifyData, nearest, validate_as
from ..config.classify_loss import Head
from ..data.label_table import header_of_table, keys_of
from ..data.labels import labels_of, read_labels
from ..data.presence import has_annotations
from ..errors import ConfigError, DataError
from ..scoring.calibration_file import Calibration
from ..scoring.classify import PREVALENCES, ClassifyScore, score_classes
from ..scoring.several import score_several
from ..submission.probabilities import Probabilities
from .args import number_of

OPTIONS = ("data", "head", "healthy", "postprocess", "prevalence", "threshold")


def score_labels(file: Path, truth: Path | None, pairs: dict[str, str], *, partial: bool = False) -> ClassifyScore:
    """Scores of a CSV of probabilities.

    Args:
        truth: a CSV of labels, or a folder with one folder per class; None: the labelled images of ``data.root``. A
            softmax is scored as :func:`score_several` does if images have several labels or none.
        pairs: ``data`` and its keys, ``head`` of CSVs without sidecar, ``healthy``, ``prevalence``, ``threshold``,
            ``postprocess``, a file of `phalanx calibrate`.
        partial: the labels may have images that the CSV has not.

    Raises:
        ConfigError: an unknown or impossible option. DataError: files that cannot be used or do not match.
    """
    for key in pairs:
        if key not in OPTIONS and not key.startswith("data."):
            known = [*OPTIONS, "data.root", "data.table.group", "json", "partial"]
            raise ConfigError(f"{key}: no such option{nearest(key, known)}")
    head: Head | None = None
    if "head" in pairs:
        if pairs["head"] not in ("softmax", "sigmoid"):
            raise ConfigError(f"head={pairs['head']}: expected softmax or sigmoid")
        head = "softmax" if pairs["head"] == "softmax" else "sigmoid"
    made = Probabilities.read(file, head=head)
    if made.head is None:
        raise ConfigError(f"{file}: has no sidecar that records its head; give head=softmax or head=sigmoid")
    labels, patients, classes = _truth(truth, made, {k: v for k, v in pairs.items() if k.split(".")[0] == "data"})
    for note in made.notes:
        print(f"note: {note}")
    keys = keys_of(labels, made.images)
    missing, unknown = sorted(labels.keys() - set(keys.values())), sorted(set(made.images) - keys.keys())
    if unknown or (missing and not partial):
        name, where = (unknown[0], "labels have not") if unknown else (missing[0], "CSV has not")
        more = "" if unknown else "; partial=true scores the images that it has"
        raise DataError(f"{file}: the {where} {name} ({len(unknown) or len(missing)} such image(s)){more}")
    rows = np.array([labels[keys[name]] for name in made.images], float)
    of = [patients[keys[name]] for name in made.images] if patients else None
    several = made.head == "softmax" and (classes != made.classes or _has_several(rows))
    limits, values = _thresholds(pairs, classes, several or made.head == "sigmoid"), made.values
    if "postprocess" in pairs:
        if limits is not None:
            raise ConfigError("threshold: postprocess= sets it; leave one of the two out")
        calibration = Calibration.read(Path(pairs["postprocess"]))
        values = calibration.apply(str(file), values, made.classes, made.head, made.calibration)
        limits = calibration.limits(classes) if several or made.head == "sigmoid" else None
    if not several:
        return score_classes(
            str(file), values, rows, classes, made.head, images=made.images, patients=of, thresholds=limits,
            healthy=pairs.get("healthy"), prevalences=_prevalences(pairs),
        )  # fmt: skip
    for key in ("healthy", "prevalence"):
        if key in pairs:
            raise ConfigError(f"{key}: needs one class per image, and the ground truth has images with several or none")
    if negatives := [name for name in made.classes if name not in classes]:
        print(f"note: {file}: {', '.join(negatives)}: not in the ground truth; predicted, they mean no class")
    return score_several(
        str(file), values, made.classes, rows, classes, head=made.head, thresholds=limits, images=made.images,
        patients=of,
    )  # fmt: skip


def _has_several(labels: np.ndarray) -> bool:
    """Whether an image without missing labels float[N, C] has several or none."""
    known = ~np.isnan(labels).any(axis=1)
    return bool((known & ((labels == 1).sum(axis=1) != 1)).any())


def _truth(
    place: Path | None, made: Probabilities, pairs: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str] | None, tuple[str, ...]]:
    """Labels by image, patients by image if the truth names them, and the classes of the labels."""
    if place is None:
        if "data.root" not in pairs:
            raise ConfigError("no ground truth: name it, or a data set with labels, as in data.root=DIR")
        from ..config.compose import compose_as
        from ..data.quarantine import kept_records

        data = compose_as(ClassifyConfig, {"task": "classify", "model.head": "sigmoid"} | pairs).data
        several = made.head == "softmax" and data.table is not None and data.table.label is None
        classes = _scored(made, data.classes, "data.classes") if several else made.classes
        data = data.model_copy(update={"classes": list(classes)})
        records = kept_records(data)
        found = labels_of(records, data)
        by_name = dict(zip((record.name for record in records), found.tolist(), strict=True))
        return by_name, {record.name: record.group for record in records}, classes
    values: dict[str, Any] = {"name": "truth", "root": place, "classes": list(made.classes), "size": 32}
    values["layout"] = layout = _layout_of(place)
    section = values.setdefault(layout, {}) if layout != "presence" else {}
    if "data.groups_file" in pairs:
        values["groups_file"] = pairs.pop("data.groups_file")
    named = pairs.pop("data.classes", None)
    for key, text in pairs.items():
        group, _, option = key.removeprefix("data.").partition(".")
        if group != layout or not option:
            raise ConfigError(f"{key}: does not apply to {place}, whose layout is {layout}")
        section[option] = None if text == "null" else text
    several = made.head == "softmax" and layout == "table" and section.get("label") is None and place.is_file()
    if named is not None and not several:
        raise ConfigError("data.classes: chooses columns of a ground truth with a column per class, for a softmax")
    if several:
        there = [name.strip() for name in named.strip("[]").split(",")] if named else header_of_table(place)
        kept = [name for name in made.classes if name in there]
        values["classes"] = list(_scored(made, there, "data.classes") if named else kept or made.classes)
    if layout == "table" and "group" not in section and place.is_file() and "patient" not in header_of_table(place):
        section["group"] = None
    labels, patients = read_labels(place, validate_as(ClassifyData, values))
    grouped = len(set(patients.values())) < len(patients)
    return dict(labels), patients if grouped else None, tuple(values["classes"])


def _layout_of(place: Path) -> str:
    if not place.is_dir():
        return "table"
    return "presence" if has_annotations(place) else "folders"


def _scored(made: Probabilities, classes: Sequence[str], where: str) -> tuple[str, ...]:
    """The columns of a CSV that are classes of the truth. Raises DataError if a class has no column."""
    if lacking := next((name for name in classes if name not in made.classes), None):
        raise DataError(
            f"{made.name}: has no column of {lacking!r}, which {where} lists{nearest(lacking, made.classes)}"
        )
    return tuple(name for name in made.classes if name in classes)


def _thresholds(pairs: dict[str, str], classes: Sequence[str], used: bool) -> np.ndarray | None:
    if "threshold" not in pairs:
        return None
    value = number_of(pairs["threshold"])
    if value is None or not 0 < value < 1 or not used:
        raise ConfigError(
            f"threshold={pairs['threshold']}: expected a number between 0 and 1, of sigmoids, or of a softmax where "
            "images have several labels"
        )
    return np.full(len(classes), value)


def _prevalences(pairs: dict[str, str]) -> tuple[float, ...]:
    if "prevalence" not in pairs:
        return PREVALENCES
    values = [number_of(part.strip()) for part in pairs["prevalence"].strip("[]").split(",")]
    if any(value is None or not 0 < value < 1 for value in values):
        raise ConfigError(f"prevalence={pairs['prevalence']}: expected fractions between 0 and 1, as in .25,.1,.0001")
    return tuple(value for value in values if value is not None)
