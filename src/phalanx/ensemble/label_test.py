"""Test images of a data set with labels: their truth, and what folds of a run predict for them together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import ClassifyConfig, ClassifyData
from ..data.label_table import header_of_table
from ..data.labels import read_labels
from ..data.layouts import test_records
from ..data.records import Record, scan, stem_of
from ..errors import DataError
from ..predict.classify import open_classifier
from ..scoring.calibration import fit_thresholds
from ..scoring.label_table import LabelTable, Predicted
from .classify_oof import read_out_of_fold

TWINS = "clean"  # folder of a data set with test images of the same names, without burnt-in marks


def truth_place(data: ClassifyData, truth: str | None) -> Path:
    """File or folder of the labels of the test images, in the data set's folder unless it is a path."""
    assert data.root is not None
    usual = "answers.csv" if data.layout == "table" else str(data.folders and data.folders.test)
    return data.root / (truth or usual)


def read_test_table(data: ClassifyData, truth: str | None = None) -> LabelTable:
    """Labels of the test images of a data set.

    Args:
        truth: see :func:`truth_place`.

    Raises:
        DataError: there are none, or not of every test image.
    """
    place = truth_place(data, truth)
    if place.is_file() and data.table:
        # a table that forces one label on an image may also have a column per class, with all labels
        named = [name for name in header_of_table(place) if name in data.classes]
        table = data.table.model_copy(update={"label": None})
        data = data.model_copy(update={"classes": named, "table": table} if named else {})
    labels, patients = read_labels(place, data)
    records = test_records(data)
    keys = {name: name if name in labels else stem_of(name) for name in (record.name for record in records)}
    if lost := next((name for name, key in keys.items() if key not in labels), None):
        raise DataError(f"{place}: has no row of {lost}, which is a test image; the ground truth must have them all")
    names = tuple(keys)
    twins = {record.name for record in twin_records(data)}
    return LabelTable(
        names, tuple(patients[keys[name]] for name in names), tuple(data.classes),
        np.array([labels[keys[name]] for name in names], float), np.array([name in twins for name in names], bool),
    )  # fmt: skip


def twin_records(data: ClassifyData) -> Sequence[Record]:
    """Test images without their marks, in the order of their names; none if the data set has none."""
    assert data.root is not None
    place = data.root / TWINS
    return scan(place) if place.is_dir() and any(place.iterdir()) else []


def predict_test(
    folders: Sequence[Path], config: ClassifyConfig, table: LabelTable, *, cross_fitted: bool = False
) -> Predicted:
    """What folds of a run predict together for the images of a table, and for their twins.

    Args:
        folders: of the trained folds, whose probabilities are averaged.
        config: of the run; its data set is where it is now.
        cross_fitted: the classes of the truth get thresholds, fitted to the out-of-fold probabilities of these folds.
    """
    by_name = {record.name: record for record in test_records(config.data)}
    images = [by_name[name] for name in table.images]
    marked = {record.name: record for record in twin_records(config.data)}
    clean = [marked[name] for name, has in zip(table.images, table.has_twin, strict=True) if has]
    found = list[list[np.ndarray]]()
    for folder in folders:
        run = open_classifier(str(folder), runs=config.runs, device=config.device, precision=config.precision)
        kinds = [images, clean] if clean else [images]
        found.append([run.predict(each, config.predict.batch, progress=False) for each in kinds])
    limits = out_of_fold_thresholds(folders, table.classes) if cross_fitted else None
    columns = tuple(config.data.classes)
    means = [np.mean([values[k] for values in found], axis=0) for k in range(1 + bool(clean))]
    return Predicted(columns, config.model.head, means[0], means[1] if clean else None, limits)


def out_of_fold_thresholds(folders: Sequence[Path], classes: Sequence[str]) -> np.ndarray:
    """Thresholds float64[C] of the largest F1 of each class, on images that the predicting fold has not seen.

    Args:
        folders: folds of one run, whose held-out images count.
        classes: of the truth.
    """
    found = read_out_of_fold(str(folders[0].parent), folders[0].parents[1])
    numbers = [int(folder.name.removeprefix("fold")) for folder in folders]
    rows = np.isin(found.folds, numbers)
    places = [found.classes.index(name) for name in classes]
    return fit_thresholds(found.probabilities[rows][:, places], found.labels[rows][:, places])
