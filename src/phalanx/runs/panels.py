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
    """

    images: list[str]
    epochs: list[int] = []
    places: list[list[Place]] = []

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
            )
        except ValueError as error:
            raise fault(path, str(error), REMEDY) from None

    def write(self, folder: Path) -> None:
        """Writes ``panels.json``."""
        places = [[one._asdict() for one in row] for row in self.places]
        write_json(folder / INDEX, {"images": self.images, "epochs": self.epochs, "places": places})


def epoch_file(epoch: int) -> str:
    """The picture's name.

    >>> epoch_file(5)
    'epoch0005.jpg'
    """
    return f"epoch{epoch:04d}.jpg"


def to_drop(epochs: Sequence[int], most: int) -> set[int]:
    """Epochs whose pictures go, so that at most ``most`` stay: every second one, but for the first and the last.

    >>> sorted(to_drop([1, 2, 3, 4, 5], 4))
    [2, 4]
    """
    return set(epochs[1:-1:2]) if len(epochs) > most else set()


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


def _place(value: Any) -> Place:
    found = as_mapping(value, "place")
    return Place(
        as_name(found.get("title")), *(as_whole(found.get(key), 0, MAX_SIDE) for key in ("x", "y", "width", "height"))
    )
