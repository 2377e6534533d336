"""The evaluation of a CSV of probabilities by labels that are given: a table, a folder per class, or annotations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..config import ClassifyConfig, ClassifyData, Folders, Table
from ..data.label_table import header_of_table, keys_of
from ..data.labels import read_labels
from ..data.presence import has_annotations
from ..data.records import Record
from ..errors import ConfigError, DataError
from ..runtime.metric import Metric
from ..scoring.classify import score_classes
from ..scoring.several import score_several
from ..submission.probabilities import Probabilities
from .evaluate_labels import of_labels
from .evaluated import Evaluated


def evaluate_probabilities(
    file: Path, truth: Path, config: ClassifyConfig, records: Mapping[str, Record], threshold: float | None
) -> Evaluated:
    """Probabilities of images by the labels of these images; the ground truth may have more images.

    Args:
        config: of the run that predicted them.
        records: of the images, by name.
        threshold: of sigmoids; None: that of the recipe.

    Raises:
        ConfigError: a threshold of a softmax. DataError: files that cannot be read or do not fit.
    """
    classes, head = config.data.classes, config.model.head
    made = Probabilities.read(file, classes, head)
    labels, patients = read_labels(truth, _data(truth, config.data))
    keys = keys_of(labels, made.images)
    if lost := [image for image in made.images if image not in keys]:
        raise DataError(f"{truth}: has no label of {lost[0]} ({len(lost)} such); name the ground truth of these images")
    rows = np.array([labels[keys[image]] for image in made.images], float)
    grouped = len(set(patients.values())) < len(patients)
    of = [patients[keys[image]] for image in made.images] if grouped else None
    if threshold is not None and head == "softmax":
        raise ConfigError("threshold: a softmax takes its largest probability; leave it out")
    if config.data.negative is not None:  # an image may have several labels, or none
        scored = config.data.scored
        rows = rows[:, [classes.index(name) for name in scored]]
        score = score_several(file.stem, made.values, classes, rows, scored, head=head, images=made.images, patients=of)
    else:
        limit = config.predict.threshold if threshold is None else threshold
        limits = np.full(len(classes), limit) if head == "sigmoid" else None
        score = score_classes(
            file.stem, made.values, rows, classes, head, images=made.images, patients=of, thresholds=limits
        )
    if not score.labelled.any():
        raise DataError(f"{truth}: labels none of the images of {file}")
    paths = {image: records[image].image for image in made.images}
    return of_labels(file.stem, config, Metric(config.metric), score, paths, dict.fromkeys(made.images))


def _data(truth: Path, data: ClassifyData) -> ClassifyData:
    """How a ground truth is read: as the run's data set is, as far as it is of the same form."""
    if truth.is_dir():
        layout = "presence" if has_annotations(truth) else "folders"
        return data.model_copy(update={"layout": layout, "folders": data.folders or Folders(), "groups_file": None})
    table = data.table or Table()
    if truth.is_file():
        header = header_of_table(truth)
        group = table.group if table.group in header else None
        label = table.label if table.label in header else None
        # of all rows: those of training are not those of these images
        table = table.model_copy(update={"train": truth.name, "group": group, "label": label, "rows": None})
    return data.model_copy(update={"layout": "table", "table": table, "groups_file": None})
