"""Finding the rows of a submission CSV: one pass that checks names and records the place of each RLE.

Runs themselves are parsed when an image is read, so a row takes tens of bytes, however long its RLE.
"""

import os
import re
import stat
import weakref
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError

HEADER = ("image_name", "class", "rle")
_QUOTED = rb'"((?:[^"]|"")*)"|([^",]*)'
_FIELDS = re.compile(rb"(?:%b),(?:%b),(?:%b)" % (_QUOTED, _QUOTED, _QUOTED))
_MAX_LINE = 1 << 26  # bytes of a line: several times the worst mask of 2048 x 2048, and no danger to the memory
_MAX_NAME = 1000  # bytes of an image's or class's name: file systems allow 255
_GAP = 1 << 16  # bytes between an image's rows that are cheaper to read than to skip


class RowFile:
    """An open submission CSV. Rows may be in any order, fields quoted or not, lines ended by LF or CRLF.

    Attributes:
        images: sorted.
        classes: in the given order, or else in that of first appearance.

    Raises:
        DataError: no such file, another header, a row without three fields, an empty name, a class that is
            not in ``classes``, a doubled row, a missing image x class row; with file, line, image and class.
    """

    def __init__(self, path: Path, classes: Sequence[str] | None):
        self.path = path
        if classes is not None and len(set(classes)) != len(classes):
            raise DataError(f"{path}: the class list {list(classes)} names a class twice")
        try:
            # O_NONBLOCK: opening a pipe without a writer would wait for ever
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError(f"{path}: is not a regular file; name a submission CSV")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                self._index(file, classes)
        except FileNotFoundError:
            raise DataError(f"{path}: no such submission file") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: is not a file name") from None
        self._descriptor = descriptor

    def _index(self, file: BinaryIO, classes: Sequence[str] | None) -> None:
        image_ids: dict[bytes, int] = {}
        class_ids: dict[bytes, int] = {name.encode(): i for i, name in enumerate(classes or ())}
        image_of, class_of, offsets, lengths = array("i"), array("i"), array("q"), array("q")
        position = 0
        header = True
        for line in iter(partial(file.readline, _MAX_LINE), b""):
            start, position = position, position + len(line)
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                raise DataError(
                    f"{self._line(start)}: has more than {_MAX_LINE >> 20} MiB, so it is not a row of a mask"
                )
            body = line.rstrip(b"\r\n")
            if header:
                self._check_header(body)
                header = False
                continue
            if not body:
                continue
            if b'"' in body:
                image, label, skip, length = self._quoted(body, start)
            else:
                fields = body.split(b",")
                if len(fields) != 3:
                    raise DataError(f"{self._line(start)}: {len(fields)} fields; a row is {','.join(HEADER)}")
                image, label, rle = fields
                skip, length = len(body) - len(rle), len(rle)
            image_id = image_ids.get(image)
            if image_id is None:
                image_id = image_ids.setdefault(self._name(image, start), len(image_ids))
            class_id = class_ids.get(label)
            if class_id is None:
                if classes is not None and len(label) <= _MAX_NAME:
                    raise DataError(self._unknown_class(image, label, classes, start))
                class_id = class_ids.setdefault(self._name(label, start), len(class_ids))
            image_of.append(image_id)
            class_of.append(class_id)
            offsets.append(start + skip)
            lengths.append(length)
        if not image_of:
            raise DataError(f"{self.path}: holds no rows; a submission has one row per image and class")
        names = [name.decode() for name in image_ids]
        order = sorted(range(len(names)), key=names.__getitem__)
        self.images = tuple(names[i] for i in order)
        self.classes = tuple(name.decode() for name in class_ids)
        rank = np.empty(len(names), np.int64)
        rank[order] = np.arange(len(names))
        key = rank[np.array(image_of)] * len(self.classes) + np.array(class_of)
        self._offsets = np.full((len(names), len(self.classes)), -1, np.int64)
        self._lengths = np.zeros((len(names), len(self.classes)), np.int64)
        self._offsets.reshape(-1)[key] = offsets
        self._lengths.reshape(-1)[key] = lengths
        self._check_complete(key, np.array(offsets))

    def rles(self, image: int) -> list[str]:
        """The RLE of every class of one image, by its place in ``images``, as in the file."""
        offsets, lengths = self._offsets[image], self._lengths[image]
        first, last = int(offsets.min()), int((offsets + lengths).max())
        if last - first <= int(lengths.sum()) + _GAP:
            block = self._read(first, last - first)
            pieces = [block[a - first : a - first + n] for a, n in zip(offsets.tolist(), lengths.tolist(), strict=True)]
        else:
            pieces = [self._read(a, n) for a, n in zip(offsets.tolist(), lengths.tolist(), strict=True)]
        return [piece.decode("utf-8", "backslashreplace") for piece in pieces]

    def stack(self, image: int) -> None:
        """A file holds text alone, which has to be parsed and checked."""

    def location(self, image: int, label: int) -> str:
        """The place of one row, for an error's text."""
        line = self._line(int(self._offsets[image, label]))
        return f"{line} (image {self.images[image]!r}, class {self.classes[label]!r})"

    def _read(self, offset: int, length: int) -> bytes:
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        if length:
            raise DataError(f"{self.path}: became shorter while it was read; write it aside and rename")
        return b"".join(pieces)

    def _line(self, offset: int) -> str:
        """File and line of a place in the file: counted only when an error needs it."""
        with self.path.open("rb") as file:
            line = file.read(offset).count(b"\n") + 1
        return f"{self.path} line {line}"

    def _check_header(self, body: bytes) -> None:
        body = body.removeprefix(b"\xef\xbb\xbf")  # the mark some spreadsheets put first
        match = _FIELDS.fullmatch(body)
        fields = [_plain(match, group) for group in (1, 3, 5)] if match else []
        if fields != [name.encode() for name in HEADER]:
            shown = body[:60].decode("utf-8", "backslashreplace")
            raise DataError(f"{self.path} line 1: the header is {shown!r}; a submission starts with {','.join(HEADER)}")

    def _quoted(self, body: bytes, start: int) -> tuple[bytes, bytes, int, int]:
        match = _FIELDS.fullmatch(body)
        if match is None:
            raise DataError(f"{self._line(start)}: quoted fields that are not three of {','.join(HEADER)}")
        skip, end = match.span(5 if match[5] is not None else 6)
        return _plain(match, 1), _plain(match, 3), skip, end - skip

    def _name(self, name: bytes, start: int) -> bytes:
        if len(name) > _MAX_NAME:
            raise DataError(f"{self._line(start)}: a name of {len(name)} bytes; is the file damaged?")
        try:
            if not name.decode():
                raise DataError(f"{self._line(start)}: an image_name or class is empty")
        except UnicodeDecodeError:
            raise DataError(f"{self._line(start)}: {name!r} is not UTF-8; save the CSV as UTF-8") from None
        return name

    def _unknown_class(self, image: bytes, label: bytes, classes: Sequence[str], start: int) -> str:
        from difflib import get_close_matches

        name = label.decode("utf-8", "backslashreplace")
        near = get_close_matches(name, classes, 1)
        hint = f"; nearest: {near[0]!r}" if near else ""
        shown = image.decode("utf-8", "backslashreplace")
        return f"{self._line(start)} (image {shown!r}): unknown class {name!r} of {len(classes)} known{hint}"

    def _check_complete(self, key: np.ndarray, offsets: np.ndarray) -> None:
        counts = np.bincount(key, minlength=self._offsets.size)
        if counts.max() > 1:
            image, label = divmod(int(counts.argmax()), len(self.classes))
            lines = [self._line(int(at)).rsplit(" ", 1)[1] for at in offsets[key == counts.argmax()][:2]]
            raise DataError(
                f"{self.path} lines {' and '.join(lines)}: doubled row for image {self.images[image]!r}, "
                f"class {self.classes[label]!r} ({int((counts > 1).sum())} such); keep one"
            )
        if counts.min() == 0:
            image, label = divmod(int(counts.argmin()), len(self.classes))
            raise DataError(
                f"{self.path}: {int((counts == 0).sum())} of {counts.size} image x class rows are missing, "
                f"first image {self.images[image]!r}, class {self.classes[label]!r}; a mask of nothing is a "
                "row with an empty rle"
            )


def _plain(match: re.Match[bytes], group: int) -> bytes:
    """A field that is either quoted (``group``) or bare (the next)."""
    quoted = match[group]
    return match[group + 1] if quoted is None else quoted.replace(b'""', b'"')
