"""Reading the rows of a CSV of boxes, each checked, with the line of each fault."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config.base import nearest
from ..errors import DataError, brief
from ..runtime.reading import LIST, fault, numbered_rows, read_text
from ..runtime.sidecar import Size
from ..runtime.spelling import nfc
from .box import CORNERS, HEADER, Boxes, box_fault

TRUTH_COLUMNS = ("ignore", "patient")
MAX_NAME = 1000  # bytes of an image's or class's name, as in a table of masks
MAX_CLASSES = 10_000
MAX_NUMBER = 40  # characters
START = f"it starts with {','.join(HEADER)}"
REMEDY = "write it again, or export it as UTF-8 with commas and decimal points"
_NUMBER = re.compile(r" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})? *")
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def is_box_header(cells: Sequence[str]) -> bool:
    """Whether the first row of a CSV is that of boxes."""
    return "image_name" in cells and {*CORNERS} <= {*cells}


@dataclass(frozen=True)
class BoxRows:
    """Rows of a CSV by image: what ``BoxSubmission`` is made of, and the line of each box."""

    path: Path
    images: tuple[str, ...]  # sorted
    classes: tuple[str, ...]
    boxes: tuple[Boxes, ...]  # sorted by score
    patients: dict[str, str]
    lines: dict[str, list[int]]  # of the boxes of each image, in the order of ``boxes``

    def check_frames(self, sizes: Mapping[str, Size]) -> None:
        """Raises DataError with the line of a box that is outside the frame of its image, if that is known."""
        for image, boxes in zip(self.images, self.boxes, strict=True):
            size = sizes.get(image)
            if size is None or not len(boxes.corners):
                continue
            for line, corners, score in zip(
                self.lines[image], boxes.corners.tolist(), boxes.scores.tolist(), strict=True
            ):
                if text := box_fault(corners, score, size):
                    raise fault(self.path, f"line {line} (image {brief(image)}): {text}")


class _Image:
    """Rows of one image as they are read."""

    def __init__(self, line: int):
        self.first = line
        self.empty: int | None = None  # line of the row without a box
        self.rows: dict[tuple[float, ...], tuple[int, bool]] = {}  # corners, score, class to line and ignore


def read_rows(path: Path, classes: Sequence[str] | None, *, truth: bool = False) -> BoxRows:
    """All rows of a CSV of boxes.

    Args:
        classes: the classes there may be, and their order; None: those found, sorted.
        truth: a ground truth: ``score`` may be absent, ``ignore`` and ``patient`` may be there.

    Raises:
        DataError: with file and line: not a CSV of boxes, a missing, unknown or duplicate column, a number that is not
            one, a box without area or outside its image, an unknown class, an image listed both empty and with boxes,
            the same row twice, an image of two patients.
    """
    text = read_text(path, LIST, REMEDY)
    try:
        rows = numbered_rows(text)
    except ValueError as error:
        raise fault(path, str(error), REMEDY) from None
    if not rows:
        raise fault(path, "is empty", START)
    place = _header(path, rows[0][1], truth)
    if len(rows) == 1:
        raise fault(path, "has no rows", "an image without a box is a row with the other columns empty")
    known = None if classes is None else [nfc(name) for name in classes]
    labels = {name: i for i, name in enumerate(known or ())}
    found, patients = dict[str, _Image](), dict[str, str]()
    for line, row in rows[1:]:
        if len(row) != len(place):
            raise fault(path, f"line {line}: has {len(row)} fields, the header has {len(place)}", REMEDY)
        cells = {name: row[i] for name, i in place.items()}
        image = _name(path, line, "the name of an image", cells["image_name"])
        if (patient := cells.get("patient", "")) and patients.setdefault(image, patient) != patient:
            raise fault(path, f"line {line}: image {brief(image)} has two patients", "give it one")
        _add(path, line, cells, image, found.setdefault(image, _Image(line)), labels, known)
    if known is None:
        known = sorted(labels)
    return _grouped(path, found, labels, known, patients)


def _header(path: Path, row: list[str], truth: bool) -> dict[str, int]:
    """Place of each column."""
    cells = [cell.strip() for cell in row]
    for mark, word in _OTHER_DELIMITERS.items():
        if len(cells) == 1 and is_box_header(cells[0].split(mark)):
            raise fault(path, f"line 1: has {word} between its fields", REMEDY)
    allowed = (*HEADER, *TRUTH_COLUMNS) if truth else HEADER
    for cell in cells:
        if cell not in allowed:
            if cell in TRUTH_COLUMNS:
                raise fault(path, f"line 1: column {brief(cell)} belongs to a ground truth", "leave it out")
            raise fault(path, f"line 1: unknown column {brief(cell)}{nearest(cell, allowed)}", START)
        if cells.count(cell) > 1:
            raise fault(path, f"line 1: column {brief(cell)} appears twice", "keep one of them")
    for name in HEADER:
        if name not in cells and not (truth and name == "score"):
            raise fault(path, f"line 1: has no column {name}", START)
    return {cell: i for i, cell in enumerate(cells)}


def _add(
    path: Path, line: int, cells: Mapping[str, str], image: str, found: _Image, labels: dict[str, int],
    known: Sequence[str] | None,
) -> None:  # fmt: skip
    """Enters a row of an image."""
    filled = [name for name in HEADER[1:] if cells.get(name, "").strip()]
    if not filled:
        if found.rows:
            first = next(iter(found.rows.values()))[0]
            raise _both(path, first, line, image)
        if found.empty is not None:
            raise fault(path, f"lines {found.empty} and {line}: image {brief(image)} is empty twice", "keep one row")
        found.empty = line
        return
    if found.empty is not None:
        raise _both(path, found.empty, line, image)
    where = f"line {line} (image {brief(image)})"
    if lacking := next((name for name in HEADER[1:] if name in cells and name not in filled), None):
        raise fault(path, f"{where}: {lacking} is empty", "a box has all columns, and an image without a box none")
    label = _name(path, line, "that of a class", cells["class"])
    if label not in labels:
        if known is not None:
            raise fault(path, f"{where}: unknown class {brief(label)} of {len(known)} known{nearest(label, known)}")
        if len(labels) == MAX_CLASSES:
            raise fault(path, f"{where}: more than {MAX_CLASSES} classes", REMEDY)
        labels[label] = len(labels)
    score = _number(path, where, "score", cells["score"]) if "score" in cells else 1.0
    corners = [_number(path, where, name, cells[name]) for name in CORNERS]
    if text := box_fault(corners, score):
        raise fault(path, f"{where}: {text}")
    ignore = cells.get("ignore", "").strip()
    if ignore not in ("", "0", "1"):
        raise fault(path, f"{where}: ignore is {brief(ignore, 40)}", "give 0 or 1")
    values = (*corners, score, labels[label])
    if values in found.rows:
        raise fault(path, f"lines {found.rows[values][0]} and {line}: the same row twice", "keep one of them")
    found.rows[values] = line, ignore == "1"


def _both(path: Path, first: int, line: int, image: str) -> DataError:
    return fault(
        path, f"lines {first} and {line}: image {brief(image)} is listed both empty and with boxes",
        "remove its empty row, or its boxes",
    )  # fmt: skip


def _name(path: Path, line: int, what: str, cell: str) -> str:
    name = nfc(cell)
    if not 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME or any(letter in name for letter in "\r\n\0"):
        raise fault(path, f"line {line}: {brief(name)} cannot be {what}", REMEDY)
    return name


def _number(path: Path, where: str, column: str, cell: str) -> float:
    if len(cell) <= MAX_NUMBER and _NUMBER.fullmatch(cell):
        return float(cell)
    raise fault(path, f"{where}: {column} is {brief(cell, 50)}, not a number with a decimal point", REMEDY)


def _grouped(
    path: Path, found: Mapping[str, _Image], labels: Mapping[str, int], known: Sequence[str], patients: dict[str, str]
) -> BoxRows:
    """Boxes of each image, from the highest score to the lowest, with classes in the order of ``known``."""
    to = np.array([known.index(name) for name in labels], np.int64)
    images, boxes, lines = tuple(sorted(found)), [], dict[str, list[int]]()
    for image in images:
        rows = found[image].rows
        values = np.array(list(rows), float).reshape(-1, 6)
        given = Boxes(values[:, :4], values[:, 4], to[values[:, 5].astype(np.int64)] if len(values) else
                      np.empty(0, np.int64))  # fmt: skip
        order = given.order()
        ignore = np.array([flag for _, flag in rows.values()], bool)
        made = given._replace(ignore=ignore if ignore.any() else None)
        boxes.append(made.chosen(order))
        places = [line for line, _ in rows.values()]
        lines[image] = [places[i] for i in order]
    return BoxRows(path, images, tuple(known), tuple(boxes), patients, lines)
