"""Dice of every out-of-fold image, class and candidate, from counts of pixels in one pass over the stored maps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..config import SegmentData
from ..data.images import image_size
from ..data.records import Record
from ..data.truth import planes_of
from ..errors import DataError
from ..masks.dice import dice_from_counts
from ..masks.planes import areas, one_class
from ..predict.components import filled, parts
from ..predict.maps import EMPTY, Box, ProbabilityMaps, Size
from ..predict.stored import MapsFolder
from ..runtime.progress import tracked

MAX_BLOCK = 1 << 24  # pixels times weightings at once

# levels float32[M, h, w] of a class, truth bool[h, w] in the same box -> pixels shared and pixels set, int[K] each
Measure = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class HeldOutImage(NamedTuple):
    """A held-out image with its members' maps and truth."""

    name: str
    size: Size
    maps: list[ProbabilityMaps]
    planes: np.ndarray  # uint8[H, W, P]


@dataclass(frozen=True)
class OutOfFold:
    """Images that every member was trained without.

    Attributes:
        folds: int[I], the fold that held the image out, the same of all members.
        folders: by fold, the maps of each member.
    """

    members: tuple[str, ...]
    data: SegmentData
    records: Sequence[Record]
    folds: np.ndarray
    folders: dict[int, list[MapsFolder]]
    progress: bool = True

    @property
    def options(self) -> list[dict[str, Any] | None]:
        """The options of prediction with which each member's maps were made, as `soft.made_with`."""
        first, *_ = self.folders.values()
        return [maps.options for maps in first]

    def __iter__(self) -> Iterator[HeldOutImage]:
        """The images one by one.

        Raises:
            DataError: a map is damaged, or was made of an image of another size.
        """
        found = zip(self.records, self.folds.tolist(), strict=True)
        for record, fold in tracked(found, "out of fold", len(self.records), unit="image", enabled=self.progress):
            size = image_size(record.image)
            for folder in self.folders[fold]:
                if folder.sizes[record.name] != size:
                    raise DataError(
                        f"{folder.folder}: made from an image {record.name} of {folder.sizes[record.name]}, "
                        f"{record.image} has {size}; name the data set it was trained on with data.root="
                    )
            maps = [folder.maps([record], [])[0] for folder in self.folders[fold]]
            yield HeldOutImage(record.name, size, maps, planes_of(record, self.data, size))


def gather(held: OutOfFold, candidates: int, lowest: float, measure: Measure) -> np.ndarray:
    """Dice float32[I, C, K] of every image, class and candidate, at the images' own sizes.

    Args:
        lowest: a candidate's mask is empty wherever no member reaches this probability.
    """
    dice = np.empty((len(held.records), len(held.data.classes), candidates), np.float32)
    for row, image in enumerate(held):
        total = areas(image.planes, dice.shape[1])
        for c in range(dice.shape[1]):
            box = support(image.maps, c, lowest, image.size)
            if box == EMPTY:
                dice[row, c] = total[c] == 0
                continue
            levels = np.stack([m.resize(c, box, image.size, max(image.size) / m.side) for m in image.maps])
            truth = one_class(image.planes[box.slices], c)
            shared, area = measure(c, levels, truth)
            dice[row, c] = dice_from_counts(shared, area + total[c])
    return dice


def support(maps: Sequence[ProbabilityMaps], c: int, lowest: float, size: Size) -> Box:
    """A box outside which no member's class ``c`` reaches ``lowest``."""
    box = EMPTY
    for one in maps:
        box = box.join(one.support(c, lowest, size, max(size) / one.side))
    return box


def by_weights(weightings: np.ndarray, threshold: float) -> Measure:
    """Counts for the masks of every weighting int[K, M]; it changes only pixels on which the members disagree."""
    votes = weightings.astype(np.float32)
    limit = np.float32(threshold)

    def measure(c: int, levels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        passed = levels >= limit
        agreed = passed.all(0)
        disputed = passed.any(0) & ~agreed
        shared, area = np.full(len(votes), (agreed & truth).sum()), np.full(len(votes), agreed.sum())
        values, inside = levels[:, disputed], truth[disputed]
        step = max(1, MAX_BLOCK // len(votes))
        for first in range(0, len(inside), step):
            part = slice(first, first + step)
            mask = weighted_mean(values[:, part], votes) >= limit
            area += mask.sum(1)
            shared += mask[:, inside[part]].sum(1)
        return shared, area

    return measure


def weighted_mean(levels: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """float32[..., n] of levels [M, n] by float32 votes [..., M], added up in the order of a soft vote."""
    total = votes[..., 0, None] * levels[0]
    for m in range(1, len(levels)):
        total += votes[..., m, None] * levels[m]
    return total / votes.sum(-1)[..., None]


def by_threshold(thresholds: np.ndarray, votes: np.ndarray) -> Measure:
    """Counts for the masks of every threshold float32[K], ascending, on the mean by ``votes`` [M]: two histograms."""
    votes = votes.astype(np.float32)

    def measure(c: int, levels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reached = np.searchsorted(thresholds, weighted_mean(levels.reshape(len(levels), -1), votes), side="right")

        def passing(of: np.ndarray) -> np.ndarray:
            return np.bincount(of, minlength=len(thresholds) + 1)[:0:-1].cumsum()[::-1]

        return passing(reached[truth.ravel()]), passing(reached)

    return measure


def by_cleaning(smallest: Sequence[int], votes: np.ndarray, thresholds: Sequence[float]) -> Measure:
    """Counts for a class's mask without parts below each of ``smallest``, for its largest part and with holes filled.

    Args:
        thresholds: of each class.
    """
    votes = votes.astype(np.float32)

    def measure(c: int, levels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = weighted_mean(levels.reshape(len(levels), -1), votes)
        mask = (flat >= np.float32(thresholds[c])).reshape(truth.shape)
        if not mask.any():
            return np.zeros(len(smallest) + 2, int), np.zeros(len(smallest) + 2, int)
        labels, sizes = parts(mask)
        hits = np.bincount(labels[truth], minlength=len(sizes) + 1)[1:]
        retained = [sizes >= least for least in smallest] + [np.arange(len(sizes)) == sizes.argmax()]
        whole = filled(mask)
        shared = [hits[some].sum() for some in retained] + [(whole & truth).sum()]
        return np.array(shared), np.array([sizes[some].sum() for some in retained] + [whole.sum()])

    return measure
