"""Images with their splits, in about a hundred bytes each."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from .record_list import RecordList
from .records import Record

SPLITS = ("train", "test")
Item = tuple[Record, str]


class Items(Sequence[Item]):
    """Images and their splits (train or test), to which more can be added at the end."""

    def __init__(self, folder: Path, items: Iterable[Item] = ()):
        self.records, self._splits = RecordList(folder), bytearray()
        self.extend(items)

    def append(self, item: Item) -> None:
        """Adds an image."""
        self.records.append(item[0])
        self._splits.append(SPLITS.index(item[1]))

    def extend(self, items: Iterable[Item]) -> None:
        """Adds images."""
        for item in items:
            self.append(item)

    def __iadd__(self, items: Iterable[Item]) -> "Items":
        self.extend(items)
        return self

    def __len__(self) -> int:
        return len(self._splits)

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> list[Item]: ...
    def __getitem__(self, row: int | slice) -> Item | list[Item]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self.records[row], SPLITS[self._splits[row]]

    def __iter__(self) -> Iterator[Item]:
        return ((record, SPLITS[split]) for record, split in zip(self.records, self._splits, strict=True))

    def of(self, split: str) -> Iterator[Record]:
        """The images of a split."""
        number = SPLITS.index(split)
        return (record for record, own in zip(self.records, self._splits, strict=True) if own == number)

    def count(self, split: object) -> int:
        """Number of images of a split."""
        return self._splits.count(SPLITS.index(str(split)))

    def split(self, row: int) -> str:
        """The split of an image."""
        return SPLITS[self._splits[row]]

    def without(self, rows: Iterable[int]) -> "Items":
        """The others; these very items if none is left out."""
        out = set(rows)
        return Items(self.records.folder, (item for i, item in enumerate(self) if i not in out)) if out else self
