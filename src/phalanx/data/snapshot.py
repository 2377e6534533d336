"""Takes a snapshot of a data set: digests of all images and labels, and the labels themselves, compressed."""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..config import ClassifyData, Config, Data
from ..errors import ConfigError, DataError, OutputError
from ..runtime.files import refuse_link, write_report, write_text
from ..runtime.reading import LARGE, open_regular
from ..runtime.removal import remove_folder
from . import layouts
from .digests import Digests, current_digest
from .images import read_colour, read_grey
from .label_text import label_text
from .layouts import test_place, test_records
from .quarantine import kept_records
from .records import Record, root_of
from .versions import (
    LABELS,
    NAME,
    SHORT,
    TABLE,
    ImageRow,
    Rows,
    about_snapshot,
    digest_of_rows,
    read_table,
    relative,
    snapshots_in,
    to_csv,
)

SPELLED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RESERVED = "present"  # the data set as it is now
AT_ONCE = 64  # images whose labels are in memory
DATED = (1980, 1, 1, 0, 0, 0)  # of all entries, so that equal labels make equal files
# options of data by which labels are read; if one differs, no label of another snapshot is taken over
READ_BY = (
    "classes",
    "layout",
    "coco",
    "masks",
    "boxes",
    "table",
    "folders",
    "labels",
    "overlap",
    "negative",
    "targets",
)


class Version(NamedTuple):
    """A data set at one moment.

    Attributes:
        name: of the snapshot, ``present``, or a run's folder.
        kind: the task.
        root: its folder, which may have changed since or be gone.
        splits: those that it knows.
        texts: labels by their digest.
        folds: fold of each image, if it is a run.
    """

    name: str
    kind: str
    classes: list[str]
    root: Path
    rows: Rows
    splits: tuple[str, ...]
    texts: Callable[[str], str]
    folds: dict[str, int] | None = None


def check_name(name: str, folder: Path) -> Path:
    """The folder of a new snapshot. Raises ConfigError if the name cannot be used, OutputError if it is taken."""
    if not SPELLED.fullmatch(name) or name == RESERVED:
        raise ConfigError(
            f"{name}: cannot name a snapshot; use letters, digits, '.', '-' and '_', and not {RESERVED}, which is the "
            "data set of now"
        )
    refuse_link(folder)
    place = folder / name
    refuse_link(place)
    if place.exists():
        raise OutputError(
            f"{place}: exists; snapshots never change once taken. Give another name, or delete it yourself"
        )
    return place


def take(config: Config, name: str, folder: Path) -> str:
    """Writes the snapshot ``folder/name`` of a recipe's data set, whose root is known; returns the summary.

    What an earlier snapshot has of the same files is taken over, so that only new files are decoded.

    Raises:
        ConfigError, OutputError: as :func:`check_name`.
        DataError: an image or annotation cannot be used.
    """
    place = check_name(name, folder)
    part = place.with_name(f".{name}.part")  # whole or not at all: renamed when all is on disk
    remove_folder(part, OURS.__contains__)
    new = not folder.exists()
    part.mkdir(parents=True)
    try:
        rows = _write(config, part / LABELS, Earlier.found(config, folder))
        digest = digest_of_rows(rows)
        write_text(part / TABLE, to_csv(rows))
        write_report(part / NAME, "snapshot", {
            "name": name, "task": config.task, "data": config.data.name, "root": str(root_of(config.data).resolve()),
            "digest": digest, "images": len(rows), "classes": list(config.data.classes),
            "read_by": reading(config.data),
        })  # fmt: skip
        part.rename(place)
    except BaseException:
        remove_folder(part, OURS.__contains__)
        if new:
            with suppress(OSError):  # another process uses it meanwhile
                folder.rmdir()
        raise
    splits = [f"{sum(row.split == split for row in rows.values())} {split}" for split in ("train", "test")]
    size = sum(path.stat().st_size for path in place.iterdir()) / 1e6
    return f"{place}: {' and '.join(splits)} images, digest {digest[:SHORT]}, {size:.1f} MB"


def reading(data: Data) -> dict[str, Any]:
    """The options by which the labels of a data set are read, as JSON types."""
    return data.model_dump(mode="json", include=set(READ_BY))


class Earlier(NamedTuple):
    """What earlier snapshots know, so that no file is decoded twice.

    Attributes:
        pixels: height, width and digest of the pixels by digest of the image's file.
        labels: digest of the labels, and the zip file that has them, by name and digests of image and annotation.
    """

    pixels: dict[str, tuple[int, int, str]]
    labels: dict[tuple[str, str, str], tuple[str, Path]]

    @classmethod
    def found(cls, config: Config, folder: Path) -> "Earlier":
        """Of snapshots whose images and labels were read as the recipe reads them."""
        known = cls({}, {})
        for place in snapshots_in(folder).values():
            try:
                about = about_snapshot(place)
                alike = about.get("task") == config.task and about.get("read_by") == reading(config.data)
                rows = read_table(place / TABLE) if alike else {}
            except (DataError, OSError):
                continue  # damaged ones only cost time
            for row in rows.values():
                known.pixels[row.image] = row.height, row.width, row.pixels
                if row.labels and config.data.layout != "folders":  # where a folder's name is the label
                    known.labels[row.name, row.image, row.annotation] = row.labels, place / LABELS
        return known


OURS = {NAME, TABLE, LABELS}


def present(config: Config, folder: Path) -> Version:
    """The data set as it is now; labels of changed files are read, those of others come from snapshots."""
    known, rows, stores, fresh = Earlier.found(config, folder), Rows(), dict[str, Path](), dict[str, Record]()
    for row, text, record in _rows(config, known, with_texts=False):
        rows[row.name] = row
        if text:
            fresh[row.labels] = record
        elif (found := known.labels.get((row.name, row.image, row.annotation))) is not None:
            stores[row.labels] = found[1]

    def read(digest: str) -> str:
        if digest in stores:
            return stored_text(stores[digest], digest)
        if digest not in fresh:
            return ""
        row = rows[fresh[digest].name]
        return label_text(fresh[digest], config.data, (row.height, row.width))

    splits = ("train", "test") if any(row.split == "test" for row in rows.values()) else ("train",)
    return Version(RESERVED, config.task, list(config.data.classes), root_of(config.data), rows, splits, read)


def _write(config: Config, store: Path, known: Earlier) -> Rows:
    rows: Rows = {}
    with store.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as labels:
            for row, text, _ in _rows(config, known, with_texts=True):
                if row.labels and row.labels not in labels.NameToInfo:  # images of equal labels share an entry
                    labels.writestr(_entry(row.labels), text)
                rows[row.name] = row
        file.flush()
        os.fsync(file.fileno())
    return rows


def _entry(digest: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(digest, DATED)
    found.compress_type = zipfile.ZIP_DEFLATED
    return found


def _rows(config: Config, known: Earlier, *, with_texts: bool) -> Iterator[tuple[ImageRow, str, Record]]:
    """Each image's row with the text of its labels, a few at a time; without ``with_texts`` only those newly read."""
    data = config.data
    work = [(record, "train") for record in kept_records(data)]
    files = {record.name: layouts.files(record, data) for record, _ in work}
    place = test_place(data)
    if place is not None and place.exists():
        work += [(record, "test") for record in test_records(data) if record.name not in files]
    digests = Digests.of(files)
    one = partial(_row, data=data, digests=digests, known=known, with_texts=with_texts)
    threads = None if config.workers < 0 else max(1, config.workers)
    bar = tqdm(total=len(work), unit="image", desc="digests", leave=False, disable=not config.progress)
    with ThreadPoolExecutor(threads) as pool, bar:
        for first in range(0, len(work), AT_ONCE):
            for item, (row, text) in zip(work[first:], pool.map(one, work[first : first + AT_ONCE]), strict=False):
                bar.update()
                yield row, text, item[0]


def _row(
    item: tuple[Record, str], data: Any, digests: Digests, known: Earlier, with_texts: bool
) -> tuple[ImageRow, str]:
    record, split = item
    labelled = split == "train"
    image, annotation = digests[record.name] if labelled else (current_digest(record.image), "")
    if image in known.pixels:
        height, width, pixels = known.pixels[image]
    else:
        found = (read_colour if isinstance(data, ClassifyData) and data.colour else read_grey)(record.image)
        height, width = found.shape[:2]
        pixels = hashlib.sha256(f"{found.shape}\n".encode() + found.tobytes()).hexdigest()
    labels, text = "", ""
    if labelled and (stored := known.labels.get((record.name, image, annotation))) is not None:
        labels, text = stored[0], stored_text(stored[1], stored[0]) if with_texts else ""
    elif labelled:
        text = label_text(record, data, (height, width))
        labels = hashlib.sha256(text.encode()).hexdigest()
    file = relative(record.image, root_of(data))
    return ImageRow(record.name, split, record.group, file, height, width, image, pixels, annotation, labels), text


def stored_text(store: Path, digest: str) -> str:
    """Labels of a snapshot by their digest. Raises DataError if the file is damaged."""
    try:
        with open_regular(store) as file, zipfile.ZipFile(file) as labels:
            if labels.getinfo(digest).file_size > LARGE:
                raise ValueError("an entry is too large")
            text = labels.read(digest)
    except (OSError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{store}: cannot be read ({error}); restore it, or take the snapshot again") from None
    if hashlib.sha256(text).hexdigest() != digest:
        raise DataError(f"{store}: is damaged; restore it, or take the snapshot again")
    return text.decode()


def open_snapshot(name: str, folder: Path) -> Version:
    """A snapshot by its name. Raises DataError if it is damaged."""
    place = folder / name
    about, rows = about_snapshot(place), read_table(place / TABLE)
    classes, kind = about.get("classes"), about.get("task")
    whole = isinstance(classes, list) and all(isinstance(one, str) for one in classes) and isinstance(kind, str)
    if not whole or not isinstance(about.get("root"), str):
        raise DataError(f"{place / NAME}: is damaged; restore it, or take the snapshot again")
    root = Path(about["root"])
    return Version(
        name, about["task"], about["classes"], root, rows, ("train", "test"), partial(stored_text, place / LABELS)
    )
