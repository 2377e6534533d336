"""A folder of probability maps as a member of soft votes: one file per image, and what they have in common."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..config.loss import Head
from ..data.records import Record
from ..errors import DataError, OutputError, brief, one_line
from ..runtime.files import refuse_foreign, write_json
from ..runtime.provenance import digest
from ..runtime.reading import LIST, as_mapping, as_name, as_names, as_real, read_mapping
from ..runtime.removal import check_files, remove_folder
from ..runtime.sidecar import checked_size
from .map_file import EARLIER_FORMAT, FORMAT, REMAKE_HINT, read_map
from .maps import ProbabilityMaps, Size

MARK = '"format": "phalanx-map-'  # of files of either


class MapsFolder:
    """A folder of stored maps as a member of a soft vote.

    Attributes:
        sizes: height and width of each image it holds.
        head: of the networks it was made by.
        hashes: of the weights of each fold it was made from, by folder.
        threshold: at which its codes preserve the masks.
        options: of prediction, as `soft.made_with`, with which its maps were made; None if they are of several
            members, or of an earlier version.

    Raises:
        DataError: its maps.json cannot be read.
    """

    needs_images, on_gpu = False, False

    def __init__(self, folder: Path):
        path = folder / "maps.json"
        about = read_mapping(path, LIST, REMAKE_HINT)
        try:
            self._take(about)
        except ValueError as error:
            text = f"{folder}: not a folder of probability maps (maps.json: {one_line(str(error))}); {REMAKE_HINT}"
            raise DataError(text) from None
        self.name, self.folder = str(folder), folder

    def _take(self, about: dict[str, Any]) -> None:
        """Takes over the content of maps.json. Raises ValueError if it is not one."""
        found = about.get("format")
        if found not in (FORMAT, EARLIER_FORMAT):
            raise ValueError(f"its format is {brief(found, 40)}, not {FORMAT!r}")
        if about.pop("digest", None) != (digest(about) if found == FORMAT else None):
            raise ValueError("it was altered")
        self.classes = as_names(about.get("classes"), "classes")
        hashes = as_mapping(about.get("run_hashes"), "run_hashes")
        self.hashes = {as_name(run): as_name(value) for run, value in hashes.items()}
        sizes = as_mapping(about.get("sizes"), "sizes")
        if odd := next((name for name in sizes if "/" in as_name(name)), None):
            raise ValueError(f"the image {one_line(odd, 60)} is not a file name")
        self.sizes: dict[str, Size] = {name: checked_size(size, name) for name, size in sizes.items()}
        self.key = as_name(about.get("key"))
        head = about.get("head", "sigmoid")
        if head not in ("sigmoid", "softmax"):
            raise ValueError(f"its head is {brief(head, 40)}, neither sigmoid nor softmax")
        self.head: Head = head
        self.threshold = as_real(about.get("threshold"))
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold:g}")
        options = about.get("options")
        self.options: dict[str, Any] | None = None if options is None else as_mapping(options, "options")

    def maps(self, records: Sequence[Record], images: Sequence[np.ndarray]) -> list[ProbabilityMaps]:
        """The stored maps of each image. ``images`` uint8[H, W], if there are any, must have its size.

        Raises:
            DataError: it lacks an image, has it in another size, or a file is damaged or in the wrong place.
        """
        for record, image in zip(records, images, strict=False):
            size = self._size(record.name)
            if size != image.shape:
                raise DataError(
                    f"{self.path_of(record.name)}: made from an image of {size[0]} x {size[1]}, {record.image} has "
                    f"{image.shape[0]} x {image.shape[1]}"
                )
        return [self._one(record.name) for record in records]

    def _one(self, name: str) -> ProbabilityMaps:
        size, path = self._size(name), self.path_of(name)
        found = read_map(path)
        expected = {"image": name, "classes": self.classes, "size": size, "run_hashes": self.hashes}
        other = next((key for key, value in expected.items() if getattr(found, key) != value), None)
        if other is not None:
            raise DataError(
                f"{path}: has another {other.replace('_', ' ')} than {self.folder / 'maps.json'}; files of two "
                "predictions are mixed here, make them again with maps=true"
            )
        return found.maps

    def _size(self, name: str) -> Size:
        if name not in self.sizes:
            raise DataError(f"{self.folder}: holds no map of {name}; members must cover the same images")
        return self.sizes[name]

    def path_of(self, name: str) -> Path:
        """The file of an image's map."""
        return self.folder / f"{name}.npz"


def check_maps(folder: Path) -> None:
    """Refuses to have a folder replaced that is not a folder of maps, or has something else in it.

    Raises:
        OutputError: it is a link, or a file in it is none of its maps.
    """
    check_files(folder, _names(folder).__contains__)


def remove_maps(folder: Path) -> None:
    """Removes a folder of maps, if there is one. Raises OutputError as :func:`check_maps`."""
    remove_folder(folder, _names(folder).__contains__)


def _names(folder: Path) -> set[str]:
    """Files of a folder of maps: those that maps.json lists, and those that say so themselves."""
    names: set[str] = set()
    try:
        names = {"maps.json", *(f"{name}.npz" for name in MapsFolder(folder).sizes)}
    except DataError:
        with suppress(OutputError):  # damaged, but it was one of ours
            refuse_foreign(folder / "maps.json", MARK)
            names = {"maps.json"}
    for path in folder.glob("*.npz"):
        if path.name not in names:
            with suppress(DataError):
                read_map(path)
                names.add(path.name)
    return names


def write_about(
    folder: Path,
    classes: Sequence[str],
    run_hashes: Mapping[str, str],
    sizes: Mapping[str, Size],
    key: str,
    threshold: float,
    options: Mapping[str, Any] | None = None,
    head: Head = "sigmoid",
) -> None:
    """Writes ``maps.json``, which makes the folder a member.

    Args:
        key: of members, images and options.
        options: with which the maps were made, as `soft.made_with`, if all have the same.
    """
    about: dict[str, Any] = {"format": FORMAT, "key": key, "threshold": threshold, "options": options}
    about |= {"classes": list(classes), "run_hashes": dict(run_hashes)}
    about |= {"head": head} if head != "sigmoid" else {}
    about |= {"sizes": {name: list(size) for name, size in sizes.items()}}
    write_json(folder / "maps.json", about | {"digest": digest(about)})
