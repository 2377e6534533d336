"""The validation panels of a fold's folder: their list, and the choice of epochs. Loads no image library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..runtime.files import write_json
from ..runtime.reading import LIST, MissingFile, as_mapping, as_name, as_whole, fault, read_mapping

FOLDER, INDEX = "panels", "panels.json"
MAX_KEPT = 40  # pictures of a fold; of more epochs evenly spaced ones are kept, the first and the last among them
REMEDY = "delete the folder; the next validation begins it again"
MAX_SIDE = 1 << 16  # pixels
SIGNS = ("masks", "boxes", "")


class Place(NamedTuple):
    """A panel in a picture: its title, and its left, top, width and height in pixels."""

    title: str
    x: int
    y: int
    width: int
    height: int


class PanelIndex(NamedTuple):
    """What ``panels.json`` lists.

    Attributes:
        images: names of the images that are followed, in the order of the rows.
        epochs: that have a picture, rising.
        places: of each row, the panels.
        signs: what errors are drawn of: ``masks``, ``boxes``, or nothing.
    """

    images: list[str]
    epochs: list[int]
    places: list[list[Place]]
    signs: str

    @classmethod
    def read(cls, folder: Path) -> "PanelIndex | None":
        """The list of a folder ``panels``; None if there is none.

        Raises:
            DataError: it is damaged.
        """
        path = folder / INDEX
        try:
            values = read_mapping(path, LIST, remedy=REMEDY)
        except MissingFile:
            return None
        try:
            return cls(
                [as_name(name) for name in _list(values.get("images"))],
                [as_whole(epoch, 1) for epoch in _list(values.get("epochs"))],
                [[_place(one) for one in _list(row)] for row in _list(values.get("places"))],
                _sign(values.get("signs")),
            )
        except ValueError as error:
            raise fault(path, str(error), REMEDY) from None

    def write(self, folder: Path) -> None:
        """Writes ``panels.json``."""
        places = [[one._asdict() for one in row] for row in self.places]
        write_json(folder / INDEX, self._asdict() | {"places": places})


def epoch_file(epoch: int) -> str:
    """The picture's name.

    >>> epoch_file(5)
    'epoch0005.jpg'
    """
    return f"epoch{epoch:04d}.jpg"


def to_drop(epochs: Sequence[int], most: int) -> set[int]:
    """Epochs whose pictures go, so that at most ``most`` stay, about evenly spaced: those between the nearest others,
    but for the first and the last.

    >>> to_drop([1, 2, 3, 5, 9], 4)
    {2}
    """
    kept = list(epochs)
    while len(kept) > max(2, most):
        del kept[min(range(1, len(kept) - 1), key=lambda k: kept[k + 1] - kept[k - 1])]
    return set(epochs) - set(kept)


def nearest_epoch(wanted: int, epochs: Sequence[int]) -> int:
    """The epoch with a picture that is nearest to one; of two the earlier.

    >>> nearest_epoch(5, [1, 4, 6])
    4
    """
    return min(epochs, key=lambda epoch: (abs(epoch - wanted), epoch))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("has no lists of images, epochs and places")
    return value


def _sign(value: Any) -> str:
    if value not in SIGNS:
        raise ValueError("has other signs than masks or boxes")
    return str(value)


def _place(value: Any) -> Place:
    found = as_mapping(value, "place")
    return Place(
        as_name(found.get("title")), *(as_whole(found.get(key), 0, MAX_SIDE) for key in ("x", "y", "width", "height"))
    )
