"""How the members of a fusion of boxes agree, and which of them are misaligned."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..submission.boxes import BoxSubmission
from ..submission.matching import check_matching, known_sizes
from .agreement_pairs import pairs_json, pairs_table
from .box_faults import BoxPair, faults, overlaps, strong_boxes
from .guard import judge

MIN_OTHERS = 0.5  # mean overlap of the others with each other, to report that a member agrees with none
MAX_ALONE = 0.5  # of that: its overlap with them


class BoxAgreement:
    """Overlap of the strong boxes of every pair of members, and what is misaligned.

    Made by :func:`measure_box_agreement`.

    Attributes:
        overlap: float64[M, M, C], mean over the images where either has a box of the class; NaN if there is none.
        mean: float64[M, M], the same over images and all boxes; 1 on its diagonal.
        misaligned: one text per misaligned member: which it is, and how.
        notes: what is odd, and may be an honest mistake.
    """

    def __init__(self, members: Sequence[BoxSubmission]):
        first = members[0]
        self.names = [member.name for member in members]
        self.images, self.classes = tuple(first.images), tuple(first.classes)
        self._sizes = known_sizes(members)
        places = [{image: i for i, image in enumerate(member.images)} for member in members]
        self._all = [
            [member.boxes[place[image]] for image in self.images] for member, place in zip(members, places, strict=True)
        ]
        self._strong = [strong_boxes(boxes) for boxes in self._all]
        count = len(members)
        self.mean = np.eye(count)
        self.overlap = np.full((count, count, len(self.classes)), np.nan)
        for a, b in combinations(range(count), 2):
            both = self._strong[a], self._strong[b]
            self.mean[a, b] = self.mean[b, a] = _mean(overlaps(*both))
            for c in range(len(self.classes)):
                of = [[boxes.chosen(boxes.classes == c) for boxes in each] for each in both]
                self.overlap[a, b, c] = self.overlap[b, a, c] = _mean(overlaps(*of), np.nan)
        self.misaligned, self.notes = self._verdict()

    def identical(self) -> list[tuple[str, str]]:
        """Names of the pairs whose boxes are all the same."""
        same = [
            (a, b)
            for a, b in combinations(range(len(self.names)), 2)
            if all(
                all(np.array_equal(x, y) for x, y in zip(one[:3], other[:3], strict=True))
                for one, other in zip(self._all[a], self._all[b], strict=True)
            )
        ]
        return [(self.names[a], self.names[b]) for a, b in same]

    def _faults(self, a: int, b: int) -> tuple[list[str], list[str]]:
        names = (self.names[a], self.names[b])
        return faults(BoxPair(names, self.images, self.classes, self._strong[a], self._strong[b], self._sizes))

    def _verdict(self) -> tuple[list[str], list[str]]:
        texts, wrong, notes = judge(self.names, self.mean, self._faults)
        for name, boxes in zip(self.names, self._all, strict=True):
            if not any(len(each.scores) for each in boxes):
                notes.append(f"{name} has no box in any image")
        return texts + self._alone(wrong), notes

    def _alone(self, wrong: set[int]) -> list[str]:
        """Members whose boxes are elsewhere, though the others agree with each other."""
        texts = []
        for member in range(len(self.names)):
            rest = [other for other in range(len(self.names)) if other not in wrong | {member}]
            if member in wrong or len(rest) < 2 or not any(len(each.scores) for each in self._all[member]):
                continue
            own = float(np.median(self.mean[member, rest]))
            usual = float(np.median([self.mean[pair] for pair in combinations(rest, 2)]))
            if usual >= MIN_OTHERS and own < MAX_ALONE * usual:
                texts.append(
                    f"{self.names[member]} is misaligned: its boxes are elsewhere than those of the others (overlap "
                    f"{own:.2f}; the others have {usual:.2f} with each other)"
                )
        return texts

    def to_json(self) -> dict[str, Any]:
        """Overlap of each pair, by class in their order; members by number, from 1; which are misaligned."""
        return {
            "images": len(self.images),
            "pairs": pairs_json("overlap", self.mean, self.overlap),
            "misaligned": self.misaligned,
        }

    def to_text(self) -> str:
        """A table with one row per class and one column per pair; for five members or more, one column per member."""
        title = f"agreement (overlap of boxes) over {len(self.images)} images"
        return pairs_table(title, self.names, self.classes, self.mean, self.overlap, last="all")


def _mean(values: np.ndarray, empty: float = 0.0) -> float:
    """Mean of what is not NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else empty


def measure_box_agreement(members: Sequence[BoxSubmission]) -> BoxAgreement:
    """The agreement of submissions of boxes, over all their images.

    Raises:
        DataError: members that differ in images, classes or sizes.
    """
    check_matching(members)
    classes = members[0].classes
    return BoxAgreement([member.reorder(classes) for member in members])
