"""The submission CSV ``image_name,class,rle``, one row per image and class: read lazily, written whole."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol

from ..errors import DataError, OutputError
from ..masks.stack import Stack
from ..runtime.files import refuse_foreign, refuse_link
from ..runtime.sidecar import FORMAT, Sidecar, Size, checked_size, read_sidecar, sidecar_path
from .rows import HEADER, RowFile
from .writing import write_with_sidecar


class _Rows(Protocol):
    def rles(self, image: int) -> list[str]: ...
    def stack(self, image: int) -> Stack | None: ...  # if masks are not text that has to be checked
    def location(self, image: int, label: int) -> str: ...


class Submission:
    """Masks of every image and class, as RLEs that are parsed and checked when they are read.

    Attributes:
        name: what errors and tables call it: the file's path.
        images: sorted.
        classes: their order is that of ``rles`` and ``stack``.
        sizes: (height, width) of the images whose size is known; their runs are checked against the frame.
        run_hashes: name to hash of the training runs it was made from, if its sidecar records them.
        head: softmax if its sidecar says that its masks exclude each other.
        notes: what the user should know, such as sizes that are not known; no errors.
    """

    def __init__(
        self,
        name: str,
        images: Sequence[str],
        classes: Sequence[str],
        rows: _Rows,
        *,
        sizes: Mapping[str, Size],
        run_hashes: Mapping[str, str],
        notes: Sequence[str],
        head: str | None = None,
    ):
        self.name, self.images, self.classes = name, tuple(images), tuple(classes)
        self.sizes, self.run_hashes, self.notes = dict(sizes), dict(run_hashes), list(notes)
        self._rows, self.head = rows, head
        self._order: Sequence[int] = range(len(self.classes))  # place of each class in the rows
        self._place = {image: i for i, image in enumerate(self.images)}

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        sizes: Mapping[str, Size] | Size | None = None,
    ) -> "Submission":
        """Opens a CSV and its sidecar, if there is one. The file stays open; runs are read per image.

        Args:
            classes: the classes there must be, and their order; by default the sidecar's, or else those
                found, in the order of first appearance.
            sizes: (height, width) per image, or one for all, for a CSV without sidecar.

        Raises:
            DataError: with file and, if it applies, line, image and class: another header, doubled,
                missing or malformed rows, unknown classes, sizes that contradict the sidecar.
        """
        path = Path(path)
        sidecar, notes = read_sidecar(path)
        rows = RowFile(path, sidecar.classes if sidecar and classes is None else classes)
        known = merge_sizes(path, rows.images, sidecar.sizes if sidecar else {}, sizes)
        unknown = len(rows.images) - len(known)
        if unknown:
            first = next(image for image in rows.images if image not in known)
            remedy = "give the images or a size" if sizes is None else f"the images given have no {first!r}"
            notes.append(
                f"{path}: the size of {unknown} of {len(rows.images)} images is not known, so their runs are "
                f"not checked against the frame; {remedy}"
            )
        hashes = sidecar.run_hashes if sidecar else {}
        head = sidecar.head if sidecar else None
        return cls(str(path), rows.images, rows.classes, rows, sizes=known, run_hashes=hashes, notes=notes, head=head)

    @classmethod
    def of(
        cls,
        masks: Mapping[str, "Sequence[str] | Stack"],
        classes: Sequence[str],
        sizes: Mapping[str, Size] | None = None,
        name: str = "truth",
    ) -> "Submission":
        """A submission in memory: for each image a stack, or one RLE per class, in the order of ``classes``."""
        for image, found in masks.items():
            count = found.classes if isinstance(found, Stack) else len(found)
            if count != len(classes):
                raise DataError(f"{name}: image {image!r} has {count} masks for {len(classes)} classes")
        images = sorted(masks)
        known = {image: checked_size(sizes[image], image) for image in images if sizes and image in sizes}
        return cls(name, images, classes, _Memory(name, images, classes, masks), sizes=known, run_hashes={}, notes=[])

    def rles(self, image: str) -> list[str]:
        """The RLE of every class of an image, unchecked."""
        texts = self._rows.rles(self._place[image])
        return [texts[i] for i in self._order]

    def stack(self, image: str, size: Size | None = None) -> Stack:
        """The checked masks of an image; ``size`` is its frame if another source knows it.

        Raises:
            DataError: a row that cannot be parsed or leaves the frame, with its file, line, image and class.
        """
        size = self.sizes.get(image, size)
        ready = self._rows.stack(self._place[image])
        if ready is not None:
            return ready.chosen(self._order)
        pixels = size[0] * size[1] if size else None
        texts = self.rles(image)
        try:
            return Stack.parse(texts, pixels)
        except DataError:
            for text, label in zip(texts, self._order, strict=True):
                try:
                    Stack.parse([text], pixels)
                except DataError as error:
                    raise DataError(f"{self._rows.location(self._place[image], label)}: {error}") from None
            raise

    def reorder(self, classes: Sequence[str]) -> "Submission":
        """The same rows with the classes in another order."""
        found = copy(self)
        found._order = [self._order[self.classes.index(name)] for name in classes]
        found.classes = tuple(classes)
        return found

    def only(self, images: Iterable[str]) -> "Submission":
        """The same rows without the images that are not among ``images``."""
        found, wanted = copy(self), set(images)
        found.images = tuple(image for image in self.images if image in wanted)
        return found


class _Memory:
    """Masks of a submission that is not in a file."""

    def __init__(
        self, name: str, images: Sequence[str], classes: Sequence[str], masks: Mapping[str, Sequence[str] | Stack]
    ):
        self.name, self.images, self.classes, self.masks = name, images, classes, masks

    def rles(self, image: int) -> list[str]:
        found = self.masks[self.images[image]]
        return found.texts() if isinstance(found, Stack) else list(found)

    def stack(self, image: int) -> Stack | None:
        found = self.masks[self.images[image]]
        return found if isinstance(found, Stack) else None

    def location(self, image: int, label: int) -> str:
        return f"{self.name} (image {self.images[image]!r}, class {self.classes[label]!r})"


def write(
    path: str | os.PathLike[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    classes: Sequence[str],
    sizes: Mapping[str, Size],
    run_hashes: Mapping[str, str] | None = None,
    vote: Mapping[str, Any] | None = None,
    key: str | None = None,
    head: str | None = None,
) -> str:
    """Writes ``FILE.csv`` and its sidecar ``FILE.json``, each aside, synced and renamed; nothing is left of a
    write that fails. Existing files may be replaced: see :func:`check_target`.

    Args:
        path: ends in .csv; its folder is made.
        rows: (image, one RLE per class), images sorted; may be a generator: one image is held at a time.
        classes: in the order of the data config.
        sizes: (height, width) per image; images without one may be left out.
        run_hashes: name to hash of the training runs the masks come from.
        vote: what the sidecar records of a vote.
        key: of all that a prediction depends on.
        head: softmax if the masks of an image exclude each other; None: they may overlap.

    Returns:
        sha256 of the CSV.

    Raises:
        DataError: images doubled or unsorted, an RLE too many or too few, no image, a name no row can hold.
        TrainingError: a disk that is full, beyond a quota or failed.
        OutputError: ``path`` or the sidecar's place is a link or a folder.
    """
    path = Path(path)
    check_name(path)
    if len(set(classes)) != len(classes) or not classes:
        raise DataError(f"{path}: classes {list(classes)} must be given, each once")
    known: dict[str, Size] = {}

    def about(digest: str) -> Sidecar:
        return Sidecar(digest, list(classes), known, dict(run_hashes or {}), vote, key, head)

    return write_with_sidecar(path, _blocks(path, rows, classes, sizes, known), about)


def _blocks(
    path: Path,
    rows: Iterable[tuple[str, Sequence[str]]],
    classes: Sequence[str],
    sizes: Mapping[str, Size],
    known: dict[str, Size],
) -> Iterator[bytes]:
    """The header, then the lines of one image at a time, whose size is entered in ``known``.

    Raises:
        DataError: as :func:`write`.
    """
    labels = [csv_field(name) for name in classes]
    previous = None
    yield (",".join(HEADER) + "\n").encode()
    for image, rles in rows:
        if previous is not None and image <= previous:
            raise DataError(f"{path}: image {image!r} comes after {previous!r}; give each once, sorted")
        if len(rles) != len(labels):
            raise DataError(f"{path}: image {image!r} has {len(rles)} RLEs for {len(labels)} classes")
        previous = image
        start = csv_field(image)
        yield "".join(f"{start},{label},{rle}\n" for label, rle in zip(labels, rles, strict=True)).encode()
        if image in sizes:
            known[image] = checked_size(sizes[image], image)
    if previous is None:
        raise DataError(f"{path}: no images to write")


def check_name(path: Path) -> None:
    """Raises DataError if no submission can have that name."""
    if path.suffix != ".csv":
        raise DataError(f"out={path}: a submission's name ends in .csv, since its sidecar takes the place of .json")


def check_target(path: Path) -> None:
    """Refuses a place for a submission before the work for it is done.

    Raises:
        DataError: no submission can have that name.
        OutputError: a link or a folder, a CSV that has no sidecar of ours, or another JSON file in the sidecar's place.
    """
    check_name(path)
    side = sidecar_path(path)
    for place in (path, side):
        if place.is_dir():
            raise OutputError(f"out={path}: {place} is a folder; give another name")
    refuse_link(path)
    refuse_foreign(side, f'"format": "{FORMAT}"')
    if path.exists() and not side.exists():
        raise OutputError(
            f"out={path}: exists, and no sidecar {side.name} says that it was written by this program; give another "
            "name, or delete it yourself"
        )


def merge_sizes(
    path: Path, images: Sequence[str], recorded: Mapping[str, Size], given: Mapping[str, Size] | Size | None
) -> dict[str, Size]:
    """Sizes of the sidecar and of the caller together."""
    known = {image: recorded[image] for image in images if image in recorded}
    if given is None:
        return known
    for image in images:
        size = given.get(image) if isinstance(given, Mapping) else given
        if size is None:
            continue
        size = checked_size(size, image)
        if known.setdefault(image, size) != size:
            raise DataError(
                f"{path}: image {image!r} is {_by(size)} by what is given (size= or images), but was predicted at "
                f"{_by(known[image])}; predict it again on these images, or give the right ones"
            )
    return known


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def csv_field(name: str) -> str:
    """A name as a CSV field."""
    if not name or any(c in name for c in "\r\n\0"):
        raise DataError(f"{name!r} cannot be an image or class name in a CSV: it is empty or breaks lines")
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"') else name
