"""Class weights of a fold: counted on what it trains on, printed and logged; and what does not go with balancing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..config import Config
from ..data.cache import SampleCache
from ..data.records import Record
from ..engine.task import Event
from ..errors import ConfigError
from ..losses.class_weights import Counts, Weights, weights_event
from ..runtime.terminal import say


def pixel_areas(cache: SampleCache, records: Sequence[Record], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels int64[N, C] of each image and class at the input size, and of each image int64[N], without the padding
    that makes it square.

    Raises:
        DataError: an annotation that cannot be used.
    """

    def one(record: Record) -> tuple[np.ndarray, int]:
        prepared = cache(record)
        rows, columns = prepared.grid.content
        return prepared.runs.areas(classes), rows * columns

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, records))
    return np.array([areas for areas, _ in found]).reshape(-1, classes), np.array([size for _, size in found], int)


def tell_weights(
    config: Config,
    rule: str | Mapping[str, float] | Sequence[float],
    weights: Weights,
    classes: Sequence[str],
    counts: Counts,
    *,
    after: bool,
) -> Event:
    """The event of class weights for the log; its text is printed, with a warning if the classes are balanced, too."""
    if getattr(config.data, "balance", None) is not None:
        effect = "are counted after it and even out what it leaves" if after else "count rare classes a second time"
        say(f"warning: loss.class_weights on top of data.balance {effect}; one of the two is enough")
    values = weights_event(rule, weights, classes, counts, after=after)
    say(values["text"])
    return "class_weights", values


def check_copies(config: Config, weights: np.ndarray | None) -> None:
    """Raises ConfigError if only repetitions are to be augmented, and there are none, or views would look like them."""
    if config.augment.copies_only and (weights is None or weights.max(initial=0) <= 1):
        raise ConfigError(
            "augment.copies_only: an epoch shows no image twice, so nothing would be augmented; give data.balance, or "
            "leave it out"
        )
    if config.augment.copies_only and config.predict.tta:
        raise ConfigError(
            f"predict.tta={','.join(config.predict.tta)}: with augment.copies_only nothing but repeated images is ever "
            "flipped or turned, so another view of any image looks like their class; leave predict.tta empty"
        )
