"""What a check retains of all images: columns of a few bytes each, and what is rarely read in a file.

Thumbnails of a million images are a gigabyte: they are read again for the few pairs that are compared pixel by pixel.
"""

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from ..data.items import Items
from ..data.record_list import RecordList, groups_of
from .inspection import Inspection
from .pixels import THUMB

DIGEST = 16  # bytes of a digest of pixels that are retained: enough to tell as many images apart as disks hold
READABLE, BLANK, SMALL = 1, 2, 4  # flags: has a shape; is blank; has a thumbnail
SIZE = THUMB * THUMB


class Inspected(Sequence[Inspection]):
    """The inspections of images in their order.

    Args:
        items: the images, if they are known already; else they are collected.
        whole: keep the inspections themselves as well, as checks of masks read them all.
    """

    def __init__(self, items: Items | None = None, *, whole: bool = False):
        self.items, self._own = items, items is None
        self._whole: list[Inspection] | None = [] if whole else None
        self._pixels, self._flags = bytearray(), bytearray()
        self._hashes, self._shapes, self._forms = array("Q"), array("i"), array("H")
        self.forms: list[str] = []
        self._thumbs = tempfile.TemporaryFile()  # noqa: SIM115  # closed, and gone, with this object

    @classmethod
    def of(cls, inspections: Sequence[Inspection]) -> "Inspected":
        """The columns of inspections."""
        if isinstance(inspections, cls):
            return inspections
        found = cls(whole=True)
        for one in inspections:
            found.add(one)
        return found

    def add(self, one: Inspection) -> None:
        """Takes in the next image; its findings are the caller's."""
        if self._own:
            if self.items is None:
                self.items = Items(one.record.image.parent)
            self.items.append((one.record, one.split))
        self._pixels += one.pixels[:DIGEST].ljust(DIGEST, b"\0")
        blank = any(finding.kind == "blank" for finding in one.findings)
        flags = READABLE * (one.shape is not None) | BLANK * blank | SMALL * (one.thumb is not None)
        self._flags.append(flags | 8 * bool(one.pixels))
        self._hashes.append(one.hash)
        self._shapes.extend(one.shape or (0, 0))
        if one.form not in self.forms:
            self.forms.append(one.form)
        self._forms.append(self.forms.index(one.form))
        self._thumbs.write(bytes(SIZE) if one.thumb is None else one.thumb.tobytes())
        if self._whole is not None:
            self._whole.append(one)

    @property
    def records(self) -> RecordList:
        """The images."""
        assert self.items is not None
        return self.items.records

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, row: int) -> Inspection: ...
    @overload
    def __getitem__(self, row: slice) -> list[Inspection]: ...
    def __getitem__(self, row: int | slice) -> Inspection | list[Inspection]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if self._whole is not None:
            return self._whole[row]
        assert self.items is not None
        record, split = self.items[row]
        shape = self._shapes[2 * row], self._shapes[2 * row + 1]
        return Inspection(
            record, split, np.zeros((0, 6)), shape if self._flags[row] & READABLE else None,
            form=self.forms[self._forms[row]], pixels=self.pixels_of(row), hash=self._hashes[row],
        )  # fmt: skip

    def __iter__(self) -> Iterator[Inspection]:
        return map(self.__getitem__, range(len(self)))

    def pixels_of(self, row: int) -> bytes:
        """The digest of an image's pixels; empty of an image that cannot be read."""
        return bytes(self._pixels[row * DIGEST : (row + 1) * DIGEST]) if self._flags[row] & 8 else b""

    def pixels(self) -> Iterator[bytes]:
        """The digests of all."""
        return map(self.pixels_of, range(len(self)))

    def comparable(self) -> np.ndarray:
        """int64[K]: the images that have a thumbnail and are not blank."""
        flags = np.frombuffer(self._flags, np.uint8) if self._flags else np.zeros(0, np.uint8)
        return np.flatnonzero((flags & SMALL > 0) & (flags & BLANK == 0))

    def hashes(self) -> np.ndarray:
        """uint64[N]: perceptual hashes."""
        return np.array(self._hashes, np.uint64)

    def sources(self) -> np.ndarray:
        """int64[N]: numbers that are equal for images of the same patient and split."""
        assert self.items is not None
        both = zip(groups_of(self.records), map(self.items.split, range(len(self))), strict=True)
        return np.fromiter(map(hash, both), np.int64, len(self))

    def differ(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """bool[K]: whether the pixels of two images differ, which can both be read."""
        digests = np.frombuffer(self._pixels, np.uint64).reshape(-1, DIGEST // 8)
        return (digests[rows] != digests[others]).any(axis=1)

    def thumbs(self, rows: "Iterable[int] | np.ndarray") -> np.ndarray:
        """uint8[K, THUMB * THUMB] of some images."""
        wanted = np.fromiter(map(int, rows), np.int64)
        table = np.empty((len(wanted), SIZE), np.uint8)
        for place, row in enumerate(wanted.tolist()):
            self._thumbs.seek(row * SIZE)
            table[place] = np.frombuffer(self._thumbs.read(SIZE), np.uint8)
        return table

    def kinds(self) -> tuple[dict[str, int], dict[str, int]]:
        """Number of readable images by file type, and by size."""
        flags = np.frombuffer(self._flags, np.uint8) if self._flags else np.zeros(0, np.uint8)
        readable = flags & READABLE > 0
        forms = np.bincount(np.array(self._forms, np.int64)[readable], minlength=len(self.forms))
        shapes = np.array(self._shapes, np.int32).reshape(-1, 2)[readable]
        first, sizes = dict[tuple[int, int], int](), list[int]()
        for shape in map(tuple, shapes):
            if shape not in first:
                first[shape] = len(sizes)
                sizes.append(0)
            sizes[first[shape]] += 1
        return (
            {form: int(count) for form, count in zip(self.forms, forms, strict=True) if count},
            {f"{height} x {width}": sizes[number] for (height, width), number in first.items()},
        )
