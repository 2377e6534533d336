"""Boxes of every image: of a prediction, whose CSV is ``HEADER``, one row per box, or of the ground truth.

Corners are in pixels of the stored image and lie on edges: a box of the first pixel alone is 0, 0, 1, 1. Numbers of a
CSV have at most ``CORNER_DECIMALS`` and ``SCORE_DECIMALS`` decimals.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, brief
from ..runtime.sidecar import Sidecar, Size, checked_size, read_sidecar
from ..runtime.spelling import nfc
from .table import check_name, csv_field
from .writing import write_with_sidecar

HEADER = ("image_name", "class", "score", "x_min", "y_min", "x_max", "y_max")
CORNERS = HEADER[3:]
CORNER_DECIMALS = 4
SCORE_DECIMALS = 9
OUTSIDE = 1.0  # pixels that a box may leave the frame by: tools round outwards, or count pixels from 1


class Boxes(NamedTuple):
    """Boxes of one image."""

    corners: np.ndarray  # float64[N, 4]: x_min, y_min, x_max, y_max in pixels of the stored image
    scores: np.ndarray  # float64[N] from 0 to 1; of the ground truth 1
    classes: np.ndarray  # int64[N], index into the list of classes
    ignore: np.ndarray | None = None  # bool[N] of the ground truth: finding it is neither right nor wrong

    @classmethod
    def of(cls, corners: Any = (), scores: Any = None, classes: Any = None, ignore: Any = None) -> "Boxes":
        """Boxes of anything that numpy reads; by default of class 0 and score 1.

        >>> Boxes.of([[0, 0, 1, 1]]).areas
        array([1.])

        Raises:
            DataError: numbers of corners, scores, classes and flags that differ.
        """
        found = np.asarray(corners, np.float64).reshape(-1, 4) if np.size(corners) else np.empty((0, 4))
        count = len(found)
        made = cls(
            found,
            np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(-1),
            np.zeros(count, np.int64) if classes is None else np.asarray(classes, np.int64).reshape(-1),
            None if ignore is None else np.asarray(ignore, bool).reshape(-1),
        )
        for what, values in zip(("scores", "classes", "ignore flags"), made[1:], strict=True):
            if values is not None and len(values) != count:
                raise DataError(f"{len(values)} {what} for {count} boxes; give one for each")
        return made

    @property
    def areas(self) -> np.ndarray:
        """float64[N]: pixels."""
        return np.asarray((self.corners[:, 2:] - self.corners[:, :2]).prod(axis=1))

    @property
    def ignored(self) -> np.ndarray:
        """bool[N]: ``ignore``, or False for each box."""
        return np.zeros(len(self.corners), bool) if self.ignore is None else self.ignore

    def chosen(self, index: np.ndarray) -> "Boxes":
        """The boxes of an index or mask, in its order."""
        ignore = None if self.ignore is None else self.ignore[index]
        return Boxes(self.corners[index], self.scores[index], self.classes[index], ignore)

    def order(self) -> np.ndarray:
        """int64[N]: from the highest score to the lowest; equal ones by class and corners, not by chance."""
        return np.lexsort((*self.corners.T[::-1], self.classes, -self.scores))

    def sorted(self) -> "Boxes":
        """The same boxes in their :meth:`order`."""
        return self.chosen(self.order())

    def rounded(self) -> "Boxes":
        """As a CSV contains them: rounded, and :meth:`sorted`."""
        corners = np.round(self.corners, CORNER_DECIMALS) + 0.0  # no -0
        return Boxes(corners, np.round(self.scores, SCORE_DECIMALS), self.classes, self.ignore).sorted()


@dataclass(frozen=True)
class BoxSubmission:
    """Boxes of several images.

    Attributes:
        name: what errors and tables call it: the file's path.
        images: sorted if read from a file.
        classes: their order is that of ``Boxes.classes``.
        boxes: of each image.
        sizes: (height, width) of the images whose size is known.
        patients: of the images, if a ground truth names them.
        run_hashes: name to hash of the training runs it was made from, if its sidecar records them.
        notes: what the user should know; no errors.
        closed: the list of classes is known to be whole, by the caller or a sidecar; else it is of those that were found.
    """

    name: str
    images: Sequence[str]
    classes: Sequence[str]
    boxes: Sequence[Boxes]
    sizes: Mapping[str, Size] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    run_hashes: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    closed: bool = True

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        sizes: Mapping[str, Size] | Size | None = None,
        *,
        truth: bool = False,
    ) -> "BoxSubmission":
        """Reads a CSV and its sidecar, if there is one. Rows and columns may be in any order.

        Args:
            classes: the classes there may be, and their order; by default the sidecar's, or else those found, sorted.
            sizes: (height, width) per image, or one for all, for a CSV without sidecar.
            truth: a ground truth: ``score`` may be absent, ``ignore`` and ``patient`` may be there.

        Raises:
            DataError: with the file and, if it applies, line, image and class: see ``box_rows.read_rows``.
        """
        from .box_rows import read_rows
        from .table import merge_sizes

        path = Path(path)
        sidecar, notes = read_sidecar(path)
        if sidecar is not None and classes is None:
            classes = sidecar.classes
        rows = read_rows(path, classes, truth=truth)
        known = merge_sizes(path, rows.images, dict(sidecar.sizes) if sidecar else {}, sizes)
        rows.check_frames(known)
        hashes = sidecar.run_hashes if sidecar else {}
        return cls(
            str(path), rows.images, rows.classes, rows.boxes, known, rows.patients, hashes, tuple(notes),
            classes is not None,
        )  # fmt: skip

    def write(
        self, path: str | os.PathLike[str], *, vote: Mapping[str, Any] | None = None, key: str | None = None
    ) -> str:
        """Writes ``FILE.csv``, sorted by image and score, and its sidecar; a write that fails leaves nothing.

        An image without boxes is a row with empty columns. ``ignore`` and ``patients`` are not written.

        Args:
            path: ends in .csv; its folder is made. Existing files may be replaced: see ``table.check_target``.
            vote: what the sidecar records of a fusion.
            key: of all that a prediction depends on.

        Returns:
            sha256 of the CSV.

        Raises:
            DataError: no image, a duplicate one, a name that no row can have, a box that is not one: see
                :func:`check_boxes`.
            TrainingError, OutputError: as ``table.write``.
        """
        path = Path(path)
        check_name(path)
        names, labels = [nfc(image) for image in self.images], [nfc(name) for name in self.classes]
        for what, given in (("image", names), ("class", labels)):
            if not given:
                raise DataError(f"{path}: has no {what} to write")
            if twice := next((name for name in given if given.count(name) > 1), None):
                raise DataError(f"{path}: {what} {brief(twice)} is there twice; give each once")
        if len(self.boxes) != len(names):
            raise DataError(f"{path}: boxes of {len(self.boxes)} images for {len(names)} names")
        found = {name: boxes.rounded() for name, boxes in zip(names, self.boxes, strict=True)}
        known = {nfc(image): checked_size(size, image) for image, size in self.sizes.items() if nfc(image) in found}
        for name, boxes in found.items():
            if fault := next(check_boxes(boxes, len(labels), known.get(name)), None):
                raise DataError(f"{path}: image {brief(name)}, box {fault[0] + 1}: {fault[1]}")

        def blocks() -> Iterator[bytes]:
            yield (",".join(HEADER) + "\n").encode()
            cells = [csv_field(label) for label in labels]
            for name in sorted(found):
                yield _lines(csv_field(name), cells, found[name]).encode()

        def about(digest: str) -> Sidecar:
            return Sidecar(digest, labels, known, dict(self.run_hashes), vote, key)

        return write_with_sidecar(path, blocks(), about)

    def only(self, images: Iterable[str]) -> "BoxSubmission":
        """The same without the images that are not among ``images``."""
        wanted = set(images)
        kept = [i for i, image in enumerate(self.images) if image in wanted]
        return replace(self, images=tuple(self.images[i] for i in kept), boxes=tuple(self.boxes[i] for i in kept))

    def reorder(self, classes: Sequence[str]) -> "BoxSubmission":
        """The same boxes with another order of classes; ``classes`` may have more of them.

        Raises:
            DataError: a class of this submission is not among them.
        """
        if lacking := next((name for name in self.classes if name not in classes), None):
            raise DataError(f"{self.name}: has the class {brief(lacking)}, which is not among {brief(list(classes))}")
        to = np.array([list(classes).index(name) for name in self.classes], np.int64)
        boxes = tuple(each._replace(classes=to[each.classes]) for each in self.boxes)
        return replace(self, classes=tuple(classes), boxes=boxes)


def check_boxes(boxes: Boxes, classes: int, size: Size | None = None) -> Iterator[tuple[int, str]]:
    """Yields the place and fault of each box that is not one.

    Corners that are not finite or not in order (no area), that leave the frame by more than ``OUTSIDE``, a score
    outside 0 to 1, an unknown class, the same box with the same class and score twice.
    """
    seen: set[tuple[float, ...]] = set()
    for place, (corners, score, label) in enumerate(
        zip(boxes.corners.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True)
    ):
        values = (*corners, score, label)
        if fault := box_fault(corners, score, size):
            yield place, fault
        elif not 0 <= label < classes:
            yield place, f"class {label} is not one of {classes}"
        elif values in seen:
            yield place, "is there twice with the same score; keep one of them"
        seen.add(values)


def box_fault(corners: Sequence[float], score: float, size: Size | None = None) -> str | None:
    """What is wrong with the numbers of a box, and the remedy; None if nothing is."""
    x_min, y_min, x_max, y_max = corners
    for name, value in zip((*CORNERS, "score"), (*corners, score), strict=True):
        if not np.isfinite(value):
            return f"{name} is {value:g}; every number must be finite"
    for name, low, high in (("x", x_min, x_max), ("y", y_min, y_max)):
        if high <= low:
            return f"{name}_max {number(high)} is not above {name}_min {number(low)}, so it has no area; leave it out"
    if not 0 <= score <= 1:
        return f"score {score:g} is not from 0 to 1; scale the scores"
    edges = (("x", x_min, x_max, size and size[1]), ("y", y_min, y_max, size and size[0]))
    for name, low, high, side in edges:
        if low < -OUTSIDE:
            return f"{name}_min {number(low)} is outside the image, which begins at 0; clip it"
        if side is not None and high > side + OUTSIDE:
            return f"{name}_max {number(high)} is outside the image, whose side is {side}; clip it"
    return None


def number(value: float, decimals: int = CORNER_DECIMALS) -> str:
    """A number as a CSV contains it.

    >>> number(12.0), number(0.5), number(1 / 3), number(-1e-9), number(0.25, 9)
    ('12', '0.5', '0.3333', '0', '0.25')
    """
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _lines(image: str, labels: Sequence[str], boxes: Boxes) -> str:
    """The rows of one image."""
    if not len(boxes.corners):
        return f"{image}{',' * (len(HEADER) - 1)}\n"
    rows = zip(boxes.corners.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True)
    return "".join(
        f"{image},{labels[label]},{number(score, SCORE_DECIMALS)},{','.join(map(number, corners))}\n"
        for corners, score, label in rows
    )
