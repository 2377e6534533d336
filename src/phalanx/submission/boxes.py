"""The CSV of boxes, one row per box: read whole and checked, written whole. Its columns are ``HEADER``."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, brief
from ..runtime.sidecar import Sidecar, Size, checked_size, read_sidecar
from ..runtime.spelling import nfc
from .box import CORNERS, HEADER, SCORE_DECIMALS, Boxes, box_fault, check_boxes, number
from .box_rows import read_rows
from .table import check_name, csv_field, merge_sizes
from .writing import write_with_sidecar

__all__ = ["CORNERS", "HEADER", "SCORE_DECIMALS", "BoxSubmission", "Boxes", "box_fault", "check_boxes", "number"]


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
        thresholds: of the classes, if its sidecar records that boxes with lower scores were left out.
        closed: the list of classes is known to be whole, by the caller or a sidecar; else it has those found.
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
    thresholds: Mapping[str, float] | None = None

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
            classes is not None, sidecar.thresholds if sidecar else None,
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
            limits = None if self.thresholds is None else {nfc(name): at for name, at in self.thresholds.items()}
            return Sidecar(digest, labels, known, dict(self.run_hashes), vote, key, thresholds=limits)

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


def _lines(image: str, labels: Sequence[str], boxes: Boxes) -> str:
    """The rows of one image."""
    if not len(boxes.corners):
        return f"{image}{',' * (len(HEADER) - 1)}\n"
    rows = zip(boxes.corners.tolist(), boxes.scores.tolist(), boxes.classes.tolist(), strict=True)
    return "".join(
        f"{image},{labels[label]},{number(score, SCORE_DECIMALS)},{','.join(map(number, corners))}\n"
        for corners, score, label in rows
    )
