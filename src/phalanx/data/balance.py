"""``data.balance``: in which ratio an epoch shows the classes, by how often it shows their images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from ..config import DetectData, SegmentData
from ..config.data import Balanced
from ..config.loss import BACKGROUND
from ..errors import ConfigError
from ..masks.planes import present_classes
from .images import Grid, image_size
from .layouts import truth
from .records import Record

NO_CLASS = -1


def factors_of(of_class: np.ndarray, counts: np.ndarray, data: Balanced, names: Sequence[str]) -> np.ndarray:
    """Appearances float64[N] per epoch of each image, so that the classes have the ratio of ``data.balance``.

    The class that needs it least keeps 1, so that no image is left out. With ``balance_epoch=same`` all are divided by
    their mean, and an epoch has as many images as before.

    Args:
        of_class: int[N], each image's class among ``names``; NO_CLASS for those that keep 1.
        counts: float[C], appearances of each class without balancing.
        names: of the classes.

    Raises:
        ConfigError: a class of the ratio without images.
    """
    assert data.balance is not None
    if empty := [n for n, count in zip(names, counts, strict=True) if not count and n in data.balance]:
        raise ConfigError(f"data.balance: no training image is of class {empty[0]}; leave the class out")
    ratio = np.array([data.balance.get(name, 1.0) for name in names])
    with np.errstate(divide="ignore"):
        needed = ratio / counts
    by_class = np.append(needed / needed.min(), 1.0)  # the last is that of NO_CLASS
    found = by_class[of_class]
    return found / found.mean() if data.balance_epoch == "same" else found


def rarest_classes(records: Sequence[Record], data: SegmentData) -> np.ndarray:
    """The class int[N] by which ``data.balance`` counts each image of a segmentation: of those that it shows, the one
    that the fewest images show. Of an image that shows none it is the number of classes, which is background, if the
    ratio names that; else NO_CLASS.

    Raises:
        DataError: an annotation that cannot be used.
    """
    with ThreadPoolExecutor() as pool:
        return rarest(list(pool.map(partial(classes_of, data=data), records)), data)


def rarest(shown: Sequence[np.ndarray], data: SegmentData | DetectData) -> np.ndarray:
    """As :func:`rarest_classes`, of the classes int[K] that each image shows."""
    count = len(data.classes)
    images = np.bincount(np.concatenate([np.zeros(0, int), *shown]), minlength=count)
    assert data.balance is not None
    none = count if BACKGROUND in data.balance else NO_CLASS
    return np.array([min(some.tolist(), key=lambda c: (images[c], c)) if len(some) else none for some in shown], int)


def classes_of(record: Record, data: SegmentData) -> np.ndarray:
    """int[N]: the classes that an image shows at the input size."""
    return present_classes(truth(record, data, Grid(*image_size(record.image), data.size)))


def balanced_masks(records: Sequence[Record], data: SegmentData) -> tuple[np.ndarray, list[str]]:
    """Weights float64[N] of the images of a segmentation by ``data.balance``, and why they are not 1, or "".

    Raises:
        ConfigError: a class without images, or a ratio that changes nothing. DataError: as :func:`rarest_classes`.
    """
    if data.balance is None or not records:
        return np.ones(len(records)), [""] * len(records)
    return balanced_by(rarest_classes(records, data), data)


def balanced_by(of_class: np.ndarray, data: SegmentData | DetectData) -> tuple[np.ndarray, list[str]]:
    """As :func:`balanced_masks`, by the class int[N] of each image."""
    assert data.balance is not None
    weights, reasons = np.ones(len(of_class)), [""] * len(of_class)
    names = [*data.classes, *([BACKGROUND] if BACKGROUND in data.balance else [])]
    counts = np.bincount(of_class[of_class != NO_CLASS], minlength=len(names)).astype(float)
    if (counts > 0).sum() < 2:
        raise ConfigError(
            f"data.balance: all images count as {names[int(counts.argmax())]}, the rarest class that they show, so "
            "there is nothing to balance; leave it out"
        )
    if shadowed := [name for name, n in zip(names, counts, strict=True) if not n and name in data.balance]:
        raise ConfigError(
            f"data.balance: no training image counts as {shadowed[0]}: none shows it, or each that does also shows a "
            "rarer class; leave the class out"
        )
    weights = factors_of(of_class, counts, data, names)
    for place, c in enumerate(of_class.tolist()):
        if weights[place] != 1:
            name = "no class" if c == NO_CLASS else names[c]
            reasons[place] = f"balance: {name} x {weights[place]:.6g}"
    return weights, reasons
