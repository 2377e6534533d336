"""How often an epoch shows each training image: data.oversample as weights, kept with the run."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import Data
from ..config.ranges import Range
from ..errors import ConfigError
from ..runtime.files import keep_text
from .attributes import read_traits
from .records import Record


def image_weights(records: Sequence[Record], data: Data) -> np.ndarray | None:
    """float64[N]: appearances of each image an epoch, the product of all factors that apply; None where all are 1.

    Where nothing is known of an image, its factor is 1.

    Raises:
        ConfigError: a factor applies to no image, so that the recipe would not be what it says.
        DataError: the sheet that the factors need is missing.
    """
    factors = data.oversample.factors() if data.oversample else {}
    if not factors:
        return None
    traits = read_traits(records, data, sorted({trait for trait, _ in factors}))
    weights = np.ones(len(records))
    for (trait, value), factor in factors.items():
        column = traits[trait]
        applies = (column.between(*value) if isinstance(value, Range) else column == value).to_numpy(bool)
        if not applies.any():
            raise ConfigError(f"data.oversample: no training image is {trait}={value}; correct the sheet, or drop it")
        weights[applies] *= factor
    return weights


def keep_weights(path: Path, records: Sequence[Record], weights: np.ndarray | None) -> None:
    """Writes ``image_name,weight``; a run that continues must still have the weights it began with.

    Raises:
        TrainingError: the file is there and says otherwise.
    """
    if weights is None:
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_name", "weight"])
    table.writerows((record.name, repr(float(weight))) for record, weight in zip(records, weights, strict=True))
    keep_text(path, text.getvalue(), "this run began with other weights, so the metadata or annotations changed since")
