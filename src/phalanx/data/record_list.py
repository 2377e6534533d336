"""Records and paths of a large data set in about a hundred bytes each, made when they are asked for."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from ..runtime.columns import TextIndex, Texts
from ..runtime.spelling import nfc

MAX_PLACES = 4096  # of labels that are held as paths; others are stored with their record


class Record(NamedTuple):
    """One image. ``name`` is its file name, unique in the data set; ``group`` the patient; both in one normal form.

    ``labels`` is the place of its truth; the data set's layout defines what is there.
    """

    name: str
    group: str
    image: Path
    labels: Path | None


class PathList(Sequence[Path]):
    """Paths below a folder, to which more can be added at the end."""

    def __init__(self, folder: Path, paths: Iterable[Path] = ()):
        self.folder, self._begin, self._texts = folder, f"{folder}/", Texts()
        for path in paths:
            self.append(path)

    def append(self, path: Path) -> None:
        """Adds a path at the end."""
        self._texts.append(_below(path, self._begin))

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> list[Path]: ...
    def __getitem__(self, row: int | slice) -> Path | list[Path]:
        if isinstance(row, slice):
            return [self.folder / text for text in self._texts[row]]
        return self.folder / self._texts[row]

    def __iter__(self) -> Iterator[Path]:
        return (self.folder / text for text in self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _keys(self) -> Iterator[str]:
        return (text.replace("/", "\0") for text in self._texts)  # no other letter is less

    def without(self, other: "PathList") -> list[Path]:
        """Those that are not in another list of the same folder."""
        index = TextIndex(other._texts)
        return [self.folder / text for text in self._texts if index.find(text) is None]

    def sorted(self) -> "PathList":
        """The same in the order of paths: folder by folder."""
        if _ordered(self._keys()):
            return self
        keys = Texts(self._keys())
        return PathList(self.folder, (self[row] for row in keys.order().tolist()))


class RecordList(Sequence[Record]):
    """Records of images, most of them below a folder, to which more can be added at the end."""

    def __init__(self, folder: Path, records: Iterable[Record] = ()):
        self.folder, self._begin, self._texts, self._places = folder, f"{folder}/", Texts(), array("H")
        self._known: list[Path | None] = [None]
        self._numbers: dict[Path | None, int] = {None: 0}
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Adds a record at the end."""
        name, group, image, labels = record
        own = nfc(image.name)
        parts = [_below(image, self._begin), "" if name == own else f"={name}"]
        parts.append("." if group == name else "" if group == nfc(image.parent.name) else f"={group}")
        number = self._numbers.get(labels)
        if number is None and len(self._known) < MAX_PLACES:
            number = self._numbers[labels] = len(self._known)
            self._known.append(labels)
        if number is None:
            assert labels is not None
            parts.append(_below(labels, self._begin))
            number = MAX_PLACES
        self._texts.append("\0".join(parts))
        self._places.append(number)

    def _record(self, text: str, number: int) -> Record:
        place, own, group, *labels = text.split("\0")
        image = self.folder / place
        name = own[1:] if own else nfc(image.name)
        group = group[1:] if group[:1] == "=" else name if group else nfc(image.parent.name)
        return Record(name, group, image, self.folder / labels[0] if labels else self._known[number])

    def names(self) -> Iterator[str]:
        """The names alone, in a third of the time."""
        for text in self._texts:
            place, own, *_ = text.split("\0")
            yield own[1:] if own else nfc(place.rpartition("/")[2])

    def groups(self) -> Iterator[str]:
        """The patients alone."""
        for text, record in zip(self._texts, range(len(self)), strict=True):
            group = text.split("\0")[2]
            yield group[1:] if group[:1] == "=" else self[record].group

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> list[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | list[Record]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._record(self._texts[row], self._places[row])

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, self._texts, self._places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_same, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Sequence[Record]) -> list[Record]:
        return [*self, *other]

    def __radd__(self, other: Sequence[Record]) -> list[Record]:
        return [*other, *self]

    def __mul__(self, times: int) -> list[Record]:
        return list(self) * times

    def __repr__(self) -> str:
        return repr(list(self))

    def rows(self, rows: "Iterable[int] | np.ndarray") -> "RecordList":
        """Those in some rows, in their order."""
        return RecordList(self.folder, (self[int(row)] for row in rows))

    def sorted(self) -> "RecordList":
        """The same by name, and by patient where names are equal."""
        if _ordered(self._keys()):
            return self
        return self.rows(Texts(self._keys()).order())

    def _keys(self) -> Iterator[str]:
        return (f"{name}\0{group}" for name, group in zip(self.names(), self.groups(), strict=True))


def names_of(records: Sequence[Record]) -> Iterator[str]:
    """The names of records."""
    return records.names() if isinstance(records, RecordList) else (record.name for record in records)


def groups_of(records: Sequence[Record]) -> Iterator[str]:
    """The patients of records."""
    return records.groups() if isinstance(records, RecordList) else (record.group for record in records)


def _ordered(keys: Iterator[str]) -> bool:
    return all(one <= other for one, other in pairwise(keys))


def _below(path: Path, begin: str) -> str:
    """A path as a folder's name and a slash are put before it."""
    return str(path).removeprefix(begin)


def _same(one: Any, other: Any) -> bool:
    return bool(one == other)
