"""The factors of ``data.oversample``: how often an epoch shows each training image."""

from collections.abc import Sequence

import numpy as np

from ..config import SegmentData
from ..config.ranges import Range
from ..errors import ConfigError
from .attributes import read_attributes
from .records import Record


def oversampled(records: Sequence[Record], data: SegmentData) -> tuple[np.ndarray, list[str]]:
    """Weights float64[N], the product of all factors that apply to an image, and these factors as text.

    A factor does not apply to an image whose attribute is missing.

    Raises:
        ConfigError: a factor applies to no image, so that the recipe would not be what it says.
        DataError: the metadata sheet that the factors need is missing.
    """
    weights, reasons = np.ones(len(records)), [list[str]() for _ in records]
    factors = data.oversample.factors() if data.oversample else {}
    if not factors:
        return weights, [""] * len(records)
    attributes = read_attributes(records, data, sorted({name for name, _ in factors}))
    for (name, value), factor in factors.items():
        column = attributes[name]
        applies = (column.between(*value) if isinstance(value, Range) else column == value).to_numpy(bool)
        if not applies.any():
            raise ConfigError(f"data.oversample: no training image is {name}={value}; correct the sheet, or drop it")
        weights[applies] *= factor
        text = f"{name} x {factor:g}" if value is True else f"{name} {value} x {factor:g}"
        for place in np.flatnonzero(applies):
            reasons[place].append(text)
    return weights, [", ".join(texts) for texts in reasons]
