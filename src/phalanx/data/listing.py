"""What is in a folder of images: the images by content, and all else with the reason that it is passed over.

Nothing is passed over without a name: hidden files and copies that systems make (``.ipynb_checkpoints``, ``._x.png``),
other files, images of formats that are not read, folders that are empty, unreadable, or links that lead back.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..runtime.archive import ArchivePath
from .record_list import PathList

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".dcm", ".dicom",
)  # fmt: skip
# images that are not read, of which a data set may have some
UNREAD = (
    ".avif", ".cr2", ".dng", ".emf", ".exr", ".gif", ".hdr", ".heic", ".heif", ".img", ".j2c", ".j2k", ".jls", ".jp2",
    ".jpc", ".jpf", ".jpx", ".jxl", ".mha", ".mhd", ".mrxs", ".nef", ".nii", ".nii.gz", ".nrrd", ".pbm", ".pgm", ".pnm",
    ".ppm", ".psd", ".raw", ".svg", ".svs", ".tga", ".wmf", ".xcf",
)  # fmt: skip
HIDDEN = ("__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UNREAD_MAGIC = (b"GIF8", b"8BPS", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\0\0\0\x0cJXL ")
# what DICOM without its preamble begins with: the lowest tags that files have
_TAGS = tuple(
    bytes((group, 0, element, 0)) for group, element in ((2, 0), (2, 2), (8, 0), (8, 5), (8, 8), (8, 22), (8, 24))
)
_DIRECTORY = "DICOMDIR"  # a table of contents in DICOM's own format
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class PassedOver(NamedTuple):
    """A file or folder that is not used. ``kind``: hidden, empty-folder, not-an-image, or unread: perhaps an image."""

    path: Path
    kind: str
    why: str


class Listing(NamedTuple):
    """The files below a folder that are wanted, sorted, and what is passed over."""

    files: PathList
    passed: list[PassedOver]

    @property
    def unread(self) -> list[PassedOver]:
        """What may be an image that cannot be used."""
        return [one for one in self.passed if one.kind == "unread"]

    def to_text(self, folder: Path) -> str:
        """One line about what is passed over, with an example of each kind; empty if there is nothing."""
        kinds: dict[str, list[PassedOver]] = {}
        for one in self.passed:
            kinds.setdefault(one.kind, []).append(one)
        parts = [
            f"{len(found)} {NOUNS[kind]} ({found[0].path.relative_to(folder)}{', ...' * (len(found) > 1)})"
            for kind, found in kinds.items()
        ]
        return f"{folder}: passed over: {', '.join(parts)}" if parts else ""


NOUNS = {
    "hidden": "hidden", "empty-folder": "empty folder(s)", "not-an-image": "other file(s)",
    "unread": "that cannot be used",
}  # fmt: skip


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is one that systems and tools make for themselves."""
    return name.startswith(".") or name in HIDDEN


def list_images(folder: Path) -> Listing:
    """The images below a folder, by their endings or else their content. Links to folders are followed."""
    files, passed = PathList(folder), list[PassedOver]()
    for path, fault in _walk(folder):
        if isinstance(fault, PassedOver):
            passed.append(fault)
        elif (kind := kind_of(path)) == "image":
            files.append(path)
        elif kind == "unread":
            passed.append(PassedOver(path, "unread", "is of a format that is not read; convert it to PNG"))
        else:
            passed.append(PassedOver(path, "not-an-image", "is not an image"))
    return Listing(files.sorted(), sorted(passed))


def list_files(folder: Path, suffix: str) -> PathList:
    """The files below a folder with an ending, in capitals or not, sorted; without hidden ones."""
    found = (path for path, fault in _walk(folder) if fault is None and path.name.lower().endswith(suffix))
    return PathList(folder, found).sorted()


def kind_of(path: Path) -> str:
    """``image`` for a file that is read as one, by its ending or else its content; ``unread`` for an image that is not
    read; else ``other``."""
    name = path.name.lower()
    if name.endswith(SUFFIXES):
        return "image"
    if name.upper() == _DIRECTORY:
        return "other"
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return "unread"
    if head.startswith((*_MAGIC, *_TAGS)) or head[128:] == b"DICM" or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    foreign = name.endswith(UNREAD) or head.startswith(_UNREAD_MAGIC) or head[4:8] == b"ftyp"
    return "unread" if foreign else "other"


def _walk(folder: Path) -> Iterator[tuple[Path, PassedOver | None]]:
    """All regular files below a folder, and with a reason what is passed over."""
    pending: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    while pending:
        place, above = pending.pop()
        if isinstance(place, ArchivePath):
            empty = True
            for name, is_folder in place.entries():
                empty = False
                if is_hidden(name):
                    yield place / name, _hidden(place / name)
                elif is_folder:
                    pending.append((place / name, above))
                else:
                    yield place / name, None
            if empty and place != folder:
                yield place, PassedOver(place, "empty-folder", "is an empty folder")
            continue
        try:
            state = place.stat()
            found = os.scandir(place)
        except OSError as error:
            yield place, PassedOver(place, "unread", f"is a folder that cannot be read ({error.strerror})")
            continue
        here = state.st_dev, state.st_ino
        if here in above:
            found.close()
            yield place, PassedOver(place, "not-an-image", "is a link to a folder that contains it")
            continue
        empty = True
        with found as entries:
            for entry in entries:
                empty, path = False, Path(entry.path)
                if is_hidden(entry.name):
                    yield path, _hidden(path)
                elif entry.is_dir():
                    pending.append((path, (*above, here)))
                elif entry.is_file():
                    yield path, None
                else:
                    yield path, _odd(path)
        if empty and place != folder:
            yield place, PassedOver(place, "empty-folder", "is an empty folder")


def _hidden(path: Path) -> PassedOver:
    return PassedOver(path, "hidden", "is hidden, or a copy that a system or tool made for itself")


def _odd(path: Path) -> PassedOver:
    """What is neither a file nor a folder."""
    try:
        what = f"is {_KINDS.get(stat.S_IFMT(path.stat().st_mode), 'not a regular file')}, not a file"
    except OSError as error:
        what = f"is a link that leads nowhere ({error.strerror})"
    kind = "unread" if path.name.lower().endswith((*SUFFIXES, *UNREAD)) or path.is_symlink() else "not-an-image"
    return PassedOver(path, kind, f"{what}; restore it, or remove it")
