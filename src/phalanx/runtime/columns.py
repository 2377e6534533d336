"""Long lists in little memory: texts one after the other in one array of bytes, found again by their hashes.

A list of a million strings takes 70 bytes for each, a dictionary over it 100 more; here it is the text and 8 bytes, and
12 for finding it. Items are made when they are asked for.
"""

from array import array
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import overload

import numpy as np

ROWS = 1 << 16  # that are unpacked at once
MAX_WIDTH = 256  # bytes of the longest text, up to which all are sorted as one array


class Texts(Sequence[str]):
    """Texts, to which more can be added at the end."""

    __slots__ = ("_content", "_ends")

    def __init__(self, texts: Iterable[str] = ()):
        self._content, self._ends = bytearray(), array("Q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text at the end."""
        self._content += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        begin = self._ends[row - 1] if row else 0
        return self._content[begin : self._ends[row]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        begin = 0
        for end in self._ends:
            yield self._content[begin:end].decode("utf-8", "surrogatepass")
            begin = end

    def order(self) -> np.ndarray:
        """int32[N]: the rows in the order of their texts; of equal ones in the order they have."""
        ends = np.frombuffer(self._ends, np.uint64).astype(np.int64)
        lengths = np.diff(ends, prepend=0)
        width = int(lengths.max(initial=1))
        if width > MAX_WIDTH:
            return np.array(sorted(range(len(self)), key=self.__getitem__), np.int32)
        table = np.zeros((len(self), width), np.uint8)
        content = np.frombuffer(self._content, np.uint8)
        for first in range(0, len(self), ROWS):
            rows = slice(first, min(first + ROWS, len(self)))
            inside = np.arange(width) < lengths[rows, None]  # of the content, row by row
            begin = int(ends[first] - lengths[first])
            table[rows][inside] = content[begin : int(ends[rows.stop - 1])]
        return table.view(f"S{width}")[:, 0].argsort(kind="stable").astype(np.int32)


class TextIndex:
    """The row of each of some texts; of equal ones the first."""

    def __init__(self, texts: Texts):
        self.texts = texts
        hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._order, self._hashes = order, array("q", hashes[order].tobytes())

    def find(self, text: str) -> int | None:
        """The row of a text."""
        key = hash(text)
        place = bisect_left(self._hashes, key)
        while place < len(self._hashes) and self._hashes[place] == key:
            row = int(self._order[place])
            if self.texts[row] == text:
                return row
            place += 1
        return None

    def doubled(self) -> int | None:
        """The first row whose text an earlier one has, too."""
        hashes = np.frombuffer(self._hashes, np.int64)
        same = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        later = sorted(int(self._order[place]) for place in same)
        return next((row for row in later if self.find(self.texts[row]) != row), None)


def repeated(keys: Iterable[Hashable]) -> list[int]:
    """Rows, ascending, of keys that other rows have, too; perhaps some more, and none of an empty key."""
    rows, hashes = array("i"), array("q")
    for row, key in enumerate(keys):
        if key:
            rows.append(row)
            hashes.append(hash(key))
    found = np.frombuffer(hashes, np.int64)
    order = np.argsort(found)
    same = found[order][1:] == found[order][:-1]
    several = np.append(same, False) | np.append(False, same)
    return sorted(np.frombuffer(rows, np.int32)[order[several]].tolist()) if len(found) else []
