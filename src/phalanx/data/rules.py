"""The rules of ``data.*`` that make the selection of training images."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import ClassifyData, Data, DetectData, RestoreData, SegmentData
from ..errors import ConfigError, DataError
from .balance import balanced_by, balanced_masks, factors_of, rarest
from .drop import dropped
from .label_table import BETWEEN
from .labels import labels_of
from .layouts import train_names
from .objects import shapes_of
from .oversample import oversampled
from .quarantine import quarantined
from .records import Record
from .restored import read_restored, restored_records
from .selection import Selection, SelectionRow


def select(records: Sequence[Record], data: SegmentData, scores: Mapping[str, float] | None = None) -> Selection:
    """What the rules of a data configuration make of its training images.

    Args:
        records: the annotated images outside the quarantine.
        scores: out-of-fold scores by image of the run that ``data.drop.dice`` names.

    Raises:
        ConfigError: a rule applies to no image of the set, so that the recipe would not be what it says.
        DataError: an unreadable image or sheet, or names and scores of images that are not in the data set.
    """
    rows = dict(left_out(records, data).by_image)
    drops = dropped(records, data, scores or {})
    kept = [record for record in records if record.name not in drops]
    weights, factors = oversampled(records, data)
    times = dict(zip([record.name for record in kept], zip(*balanced_masks(kept, data), strict=True), strict=True))
    for record, weight, text in zip(records, weights.tolist(), factors, strict=True):
        if record.name in drops:
            rows[record.name] = SelectionRow(record.name, 0.0, rule="drop", reason=drops[record.name])
            continue
        factor, why = times[record.name]
        if text or why:
            reason = "; ".join(filter(None, (why, text)))
            rule = "balance" if why else "oversample"
            rows[record.name] = SelectionRow(record.name, weight * float(factor), rule=rule, reason=reason)
    return Selection(tuple(rows[name] for name in sorted(rows)))


def select_objects(records: Sequence[Record], data: DetectData) -> Selection:
    """The selection of a detection, by ``data.balance``: an image counts as the rarest class of its objects."""
    rows = dict(left_out(records, data).by_image)
    if data.balance is not None:
        shown = [np.unique([shape.label for shape in shapes_of(record, data)]).astype(int) for record in records]
        for record, weight, text in zip(records, *balanced_by(rarest(shown, data), data), strict=True):
            if text:
                rows[record.name] = SelectionRow(record.name, float(weight), rule="balance", reason=text)
    return Selection(tuple(rows[name] for name in sorted(rows)))


def left_out(records: Sequence[Record], data: Data) -> Selection:
    """The selection by ``data.quarantine`` and ``data.skip_unlabelled`` alone, which all tasks have.

    Args:
        records: the annotated images outside the quarantine.
    """
    rows = {record.name: SelectionRow(record.name) for record in records}
    if data.skip_unlabelled:
        unlabelled = train_names(data) - rows.keys()
        rows |= {name: SelectionRow(name, 0.0, "none", "skip_unlabelled", "no annotation") for name in unlabelled}
    rows |= {name: SelectionRow(name, 0.0, "none", "quarantine", text) for name, text in quarantined(data).items()}
    return Selection(tuple(rows[name] for name in sorted(rows)))


def select_labelled(records: Sequence[Record], data: ClassifyData) -> Selection:
    """The selection of a classification, by ``data.restored`` and ``data.balance`` as well.

    It lists the restored images of all folds; the training of a fold uses those of its own.

    Raises:
        ConfigError: a rule that applies to no image. DataError: as :func:`restored.restored_records`.
    """
    rows = dict(left_out(records, data).by_image)
    made = restored_records(data, records)
    labels = labels_of([*records, *made], data)
    if made:
        assert data.restored is not None  # where they are from
        of = read_restored(data.restored).by_image
        for record, label in zip(made, labels[len(records) :], strict=True):
            row = of[record.name]
            now = class_names(label, data.classes)
            if now != row.classes:
                raise DataError(
                    f"data.restored={data.restored}: {row.source} was restored as {row.classes}, and now is {now}; "
                    "make the folder again"
                )
            reason = f"{row.source} by the network of {row.fold}, noise {row.noise:g}"
            rows[record.name] = SelectionRow(record.name, 1.0, "restored", "restored", reason)
    if data.balance is not None:
        for name, factor, text in _balanced([record.name for record in [*records, *made]], labels, data):
            before = rows[name]
            reason = f"{before.reason}; {text}" if before.rule else text
            rows[name] = before._replace(weight=factor, rule=before.rule or "balance", reason=reason)
    return Selection(tuple(rows[name] for name in sorted(rows)))


def class_names(label: np.ndarray, classes: Sequence[str]) -> str:
    """The classes of an image by its labels float32[C], as restored.csv names them."""
    return BETWEEN.join(name for name, value in zip(classes, label, strict=True) if value == 1)


def _balanced(names: Sequence[str], labels: np.ndarray, data: ClassifyData) -> list[tuple[str, float, str]]:
    """Weight and reason of each image whose weight ``data.balance`` changes.

    An epoch shows the classes in that ratio. The class that needs it least keeps weight 1, so that no image is left
    out. Restored images count for their class: on average over the folds, as a fold has only its own.

    Raises:
        ConfigError: an image that has not exactly one class, or a class without images.
    """
    assert data.balance is not None
    odd = np.flatnonzero(~(np.nan_to_num(labels, nan=9).sum(axis=1) == 1))
    if len(odd):
        raise ConfigError(
            f"data.balance: {names[odd[0]]} has not exactly one class ({len(odd)} such image(s)); a ratio of classes "
            "is for images of one class each"
        )
    of_class = labels.argmax(axis=1)
    counts = _per_epoch(names, of_class, data)
    if empty := [name for name, count in zip(data.classes, counts, strict=True) if not count]:
        raise ConfigError(f"data.balance: no training image is of class {empty[0]}; leave the class out")
    factors = factors_of(of_class, counts, data, data.classes)
    return [
        (name, factor, f"balance: {data.classes[c]} x {factor:.6g}")
        for name, c, factor in zip(names, of_class.tolist(), factors.tolist(), strict=True)
        if factor != 1
    ]


def _per_epoch(names: Sequence[str], of_class: np.ndarray, data: ClassifyData) -> np.ndarray:
    """float64[C]: images per class and epoch; with restored ones, the mean over the folds that have some."""
    count = len(data.classes)
    if data.restored is None:
        return np.bincount(of_class, minlength=count).astype(float)
    found = read_restored(data.restored)
    class_of = dict(zip(names, of_class.tolist(), strict=True))
    totals = np.zeros(count)
    for fold in found.names_of_folds:
        shown = [name for name in found.trained_on(fold) if name in class_of]
        shown += [row.image for row in found.rows if row.fold == fold and row.image in class_of]
        tally = Counter(class_of[name] for name in shown)
        totals += [tally[c] for c in range(count)]
    return totals / len(found.names_of_folds)


def select_restoring(records: Sequence[Record], data: RestoreData) -> Selection:
    """The selection of a denoiser: images of ``data.restore.classes`` alone."""
    rows = dict(left_out(records, data).by_image)
    wanted = data.restore.classes
    if wanted is not None:
        columns = [data.classes.index(name) for name in wanted]
        for record, label in zip(records, labels_of(records, data), strict=True):
            if not (label[columns] == 1).any():
                reason = f"classes: is {class_names(label, data.classes) or 'not labelled'}"
                rows[record.name] = SelectionRow(record.name, 0.0, rule="restore", reason=reason)
    return Selection(tuple(rows[name] for name in sorted(rows)))
