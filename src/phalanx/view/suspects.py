"""Annotations in doubt: rows of any CSV with the columns image_name and score, as ``suspects`` and ``review`` write."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import brief
from ..runtime.reading import LIST, fault, read_rows
from ..runtime.spelling import nfc
from ..scoring.suspects import BETWEEN
from .library import Library, Picture

IMAGE = "image_name"
IDENTITY = ("class", "object", "given", "reason_kind")  # with the image: which annotation it is, if they are there
REASONS = ("reason", "reasons")
NOTED = ("rank", "score", "class", "given", "likeliest", "likelier", "instead", "other", "doubted", "object")
ABOUT = ("doubted", "class", "given", "likelier", "instead", "likeliest")  # columns with names of classes
MAX_SHOWN = 300  # characters of a cell
REMEDY = "name a CSV of phalanx suspects or phalanx review with suspects="


class Doubt(NamedTuple):
    """An annotation in doubt.

    Attributes:
        id: the same in each session, as decisions name it.
        reason: in words.
        cells: other columns, by name.
        classes: numbers of the classes it is about, that of the annotation first.
        object: number of the object in the image from 0 on; None if it is not one object.
    """

    id: str
    image: str
    reason: str
    cells: Mapping[str, str]
    classes: tuple[int, ...]
    object: int | None = None


def read_suspects(path: Path, classes: Sequence[str]) -> list[Doubt]:
    """The rows of a CSV, in its order.

    Raises:
        DataError: it cannot be read, has no column image_name, or a row of another length.
    """
    header, *rows = read_rows(path, LIST, REMEDY) or [[]]
    if IMAGE not in header or len(set(header)) < len(header):
        raise fault(path, f"has no column {IMAGE} in its header {brief(','.join(header))}, or a column twice", REMEDY)
    number = {name: c for c, name in enumerate(classes)}
    found: dict[str, Doubt] = {}
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise fault(path, f"line {line} has {len(row)} cells for {len(header)} columns", REMEDY)
        cells = dict(zip(header, row, strict=True))
        image = nfc(cells[IMAGE])
        identity = "\0".join([image, *(cells.get(name, "") for name in IDENTITY)])
        own = hashlib.sha256(identity.encode()).hexdigest()[:20]
        about = [number[text] for key in ABOUT for text in cells.get(key, "").split(BETWEEN) if text in number]
        noted = {key: cells[key][:MAX_SHOWN] for key in NOTED if cells.get(key)}
        reason = next((cells[key] for key in REASONS if cells.get(key)), "") or _described(cells)
        if (label := cells.get("class", "")) and not reason.startswith(label):
            reason = f"{label}: {reason}"
        found.setdefault(own, Doubt(
            own, image, reason[:MAX_SHOWN], noted, tuple(dict.fromkeys(about)), _object_of(cells.get("object", ""))
        ))  # fmt: skip
    return list(found.values())


def worst_images(library: Library) -> list[Doubt]:
    """Images of the first scored run, the worst first: what is looked at without a list of suspects."""
    for source in library.sources.values():
        one = source.evaluated
        if one is None:
            continue
        found = []
        for rank, k in enumerate(one.ranked(), 1):
            image, value = one.images[k].name, float(one.per_image[k])
            own = hashlib.sha256(f"worst\0{image}".encode()).hexdigest()[:20]
            cells = {"rank": str(rank), "score": f"{value:.4f}"}
            found.append(Doubt(own, image, f"{one.per_image_name} {value:.4f} of {one.name}", cells, ()))
        return found
    return []


def doubts_json(found: Sequence[Doubt], pictures: Mapping[str, Picture]) -> list[dict[str, object]]:
    """Those whose image is there, as the page gets them."""
    return [
        {"id": one.id, "image": pictures[one.image].id, "reason": one.reason, "cells": dict(one.cells),
         "classes": list(one.classes), "object": one.object}
        for one in found if one.image in pictures
    ]  # fmt: skip


def _object_of(text: str) -> int | None:
    """The number of an object, which a CSV counts from 1."""
    return int(text) - 1 if re.fullmatch("[1-9][0-9]{0,8}", text) else None


def _described(cells: Mapping[str, str]) -> str:
    """A reason from the columns of ``phalanx suspects``."""
    if cells.get("given") and cells.get("likeliest"):
        return f"labelled {cells['given']}, likelier {cells['likeliest']}"
    return f"score {cells['score']}" if cells.get("score") else "no reason is given"
