"""The masks of all classes of one image as runs laid end to end, so that one sweep serves every class.

Class c's pixels are shifted by c x offset, where the offset is more than any run's end: runs of two classes
then never meet, and an operation on the one long line is the operation on each class.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from . import rle
from .dice import dice_from_counts


class Stack(NamedTuple):
    """Masks of C classes over one frame."""

    runs: np.ndarray  # int64[N, 2], class by class, each in pixels of its own frame
    splits: np.ndarray  # int64[C + 1]: class c owns runs[splits[c] : splits[c + 1]]

    @classmethod
    def parse(cls, rles: Sequence[str], pixels: int | None = None) -> "Stack":
        """One text per class; raises DataError as ``rle.parse``."""
        return cls(*rle.parse_many(rles, pixels))

    @classmethod
    def of_runs(cls, runs: Sequence[np.ndarray]) -> "Stack":
        """Runs int64[N, 2] of each class; there is at least one."""
        return cls(np.concatenate(runs), np.cumsum([0, *map(len, runs)]))

    @classmethod
    def of_planes(cls, planes: np.ndarray, classes: int) -> "Stack":
        """The classes of bit-planes uint8[H, W, P], in one pass; no text is written to be parsed again."""
        return cls.of_runs(rle.plane_runs(planes, classes))

    @classmethod
    def of_masks(cls, masks: Sequence[np.ndarray]) -> "Stack":
        """One bool[H, W] mask per class."""
        return cls.of_runs([rle.mask_runs(mask) for mask in masks])

    def chosen(self, classes: Sequence[int]) -> "Stack":
        """The given classes, in their order."""
        return Stack.of_runs([self.runs[self.splits[c] : self.splits[c + 1]] for c in classes])

    @property
    def classes(self) -> int:
        return len(self.splits) - 1

    @property
    def labels(self) -> np.ndarray:
        """int64[N]: the class of each run."""
        return np.repeat(np.arange(self.classes), np.diff(self.splits))

    @property
    def areas(self) -> np.ndarray:
        """float64[C]: pixels of each class (whole numbers)."""
        return _sums(self.labels, self.runs, self.classes)

    def masks(self, shape: tuple[int, int]) -> np.ndarray:
        """bool[C, H, W] in a frame of ``shape`` (height, width).

        Raises:
            DataError: a run ends outside the frame.
        """
        if len(self.runs) and (end := int(self.runs[:, 1].max())) > shape[0] * shape[1]:
            raise DataError(f"a mask has pixel {end}, outside an image of {shape[0]}x{shape[1]}")
        masks = np.zeros((self.classes, shape[0] * shape[1]), bool)
        for mask, (first, last) in zip(masks, pairwise(self.splits), strict=True):
            for start, end in self.runs[first:last].tolist():
                mask[start:end] = True
        return masks.reshape(self.classes, *shape)

    def flatten(self, offset: int) -> np.ndarray:
        """Runs int64[N, 2] on the one long line."""
        return self.runs + (self.labels * offset)[:, None]

    def texts(self) -> list[str]:
        """One RLE per class."""
        return [rle.format_runs(self.runs[a:b]) for a, b in pairwise(self.splits)]


def class_offset(stacks: Sequence[Stack]) -> int:
    """A distance between classes that keeps the runs of all stacks apart."""
    return 1 + max((int(stack.runs[:, 1].max()) for stack in stacks if len(stack.runs)), default=0)


def unflatten(runs: np.ndarray, offset: int, classes: int) -> Stack:
    """Runs int64[N, 2] on the one long line back to a stack."""
    splits = np.searchsorted(runs[:, 0], np.arange(classes + 1) * offset)
    label = np.repeat(np.arange(classes), np.diff(splits))
    return Stack(runs - (label * offset)[:, None], splits)


def dice_per_class(a: Stack, b: Stack) -> np.ndarray:
    """float64[C]: ``rle.dice`` of every class of two stacks."""
    return dice_from_counts(shared_areas(a, b), a.areas + b.areas)


def shared_areas(a: Stack, b: Stack) -> np.ndarray:
    """float64[C]: pixels that both stacks have, of every class."""
    offset = class_offset([a, b])
    both = rle.intersection(a.flatten(offset), b.flatten(offset))
    return _sums(both[:, 0] // offset, both, a.classes)


def any_class(stack: Stack) -> np.ndarray:
    """Runs int64[N, 2] of the pixels that some class has; touching runs are joined."""
    if not len(stack.runs):
        return stack.runs
    runs = stack.runs[np.argsort(stack.runs[:, 0], kind="stable")]
    ends = np.maximum.accumulate(runs[:, 1])
    first = np.append(True, runs[1:, 0] > ends[:-1])
    last = np.append(first[1:], True)
    return np.column_stack([runs[first, 0], ends[last]])


def _sums(labels: np.ndarray, runs: np.ndarray, classes: int) -> np.ndarray:
    """float64[C]: total length of each label's runs; exact, being whole numbers far below 2^53."""
    return np.bincount(labels, weights=runs[:, 1] - runs[:, 0], minlength=classes)
