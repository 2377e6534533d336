"""The rules of ``data.*`` that make the selection of training images."""

from collections.abc import Mapping, Sequence

from ..config import Data, SegmentData
from .drop import dropped
from .layouts import train_names
from .oversample import oversampled
from .quarantine import quarantined
from .records import Record
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
    weights, factors = oversampled(records, data)
    for record, weight, text in zip(records, weights.tolist(), factors, strict=True):
        if text:
            rows[record.name] = SelectionRow(record.name, weight, rule="oversample", reason=text)
    rows |= {
        name: SelectionRow(name, 0.0, rule="drop", reason=text)
        for name, text in dropped(records, data, scores or {}).items()
    }
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
