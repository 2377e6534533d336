"""Where each file of a tar begins, found in one pass and stored next to it, so that any file is read by its offset.

The index is a file ``.NAME.index`` next to the archive or, where that folder cannot be written, one in the user's cache
folder. It is used as long as the archive has the size and time that it was made of.
"""

import hashlib
import os
import struct
import tarfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, OutputError, PhalanxError, shown
from .columns import Texts
from .files import write_bytes
from .locks import lock
from .reading import LARGE, read_bytes

MAGIC = b"phalanx-tar-index-1\n"
HEAD = struct.Struct("<4q")  # size and time of the archive, files, bytes of their names
MAKE = "make it again, as in tar --sort=name -cf set.tar -C FOLDER ."
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip -k"),
    b"BZh": ("bzip2", "bunzip2 -k"),
    b"\xfd7zXZ\0": ("xz", "unxz -k"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd -k"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"7z\xbc\xaf": ("7z", "7z x"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4 -k"),
}
REFUSED = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}
FOLDER = -1  # offset of an empty folder, whose name ends in a slash


class Index(NamedTuple):
    """The files of an archive, sorted by name.

    Attributes:
        names: one after the other, in bytes.
        ends: int64[N], where each name ends.
        offsets: int64[N], where each file begins in the archive; -1 of an empty folder.
        sizes: int64[N], in bytes.
    """

    names: bytes
    ends: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    def name(self, row: int) -> bytes:
        """The name of a file."""
        return self.names[int(self.ends[row - 1]) if row else 0 : int(self.ends[row])]

    def place(self, name: bytes) -> int:
        """The first row whose name is not less."""
        low, high = 0, len(self.ends)
        while low < high:
            middle = (low + high) // 2
            if self.name(middle) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, name: bytes) -> int | None:
        """The row of a name."""
        row = self.place(name)
        return row if row < len(self.ends) and self.name(row) == name else None


def index_of(path: Path, state: os.stat_result) -> Index:
    """The index of an archive in this state; read if it is stored, or else made and stored.

    Raises:
        DataError: it is not a tar, is compressed, damaged, cut off, or stores what is not read.
    """
    places = [path.with_name(f".{path.name}.index"), _in_cache(path)]
    for place in places:
        if (found := _read(place, state)) is not None:
            return found
    for place in places:
        with _alone(place) as held:
            if held is None:
                continue
            if (found := _read(place, state)) is not None:  # another process has made it meanwhile
                return found
            made = scan(path)
            with suppress(OSError, PhalanxError):
                write_bytes(place, _packed(made, state))
                return made
    return scan(path)


def _in_cache(path: Path) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / "phalanx" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.index"


@contextmanager
def _alone(place: Path) -> Iterator[bool | None]:
    """Lets one process at a time make an index; None where no file can be written."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        held = lock(place.with_name(f"{place.name}.lock"))
        held.__enter__()
    except (OSError, OutputError):
        yield None
        return
    try:
        yield True
    finally:
        held.__exit__(None, None, None)


def _packed(index: Index, state: os.stat_result) -> bytes:
    head = HEAD.pack(state.st_size, state.st_mtime_ns, len(index.ends), len(index.names))
    body = b"".join([head, index.names, *(column.astype("<i8").tobytes() for column in index[1:])])
    return MAGIC + hashlib.sha256(body).digest() + body


def _read(place: Path, state: os.stat_result) -> Index | None:
    """The index in a file; None if it is missing, damaged, or of another state."""
    try:
        content = read_bytes(place, LARGE)
    except DataError:
        return None
    begin = len(MAGIC) + 32
    if content[: len(MAGIC)] != MAGIC or len(content) < begin + HEAD.size:
        return None
    if hashlib.sha256(memoryview(content)[begin:]).digest() != content[len(MAGIC) : begin]:
        return None
    size, time, count, named = HEAD.unpack_from(content, begin)
    begin += HEAD.size
    if (size, time) != (state.st_size, state.st_mtime_ns) or len(content) != begin + named + 24 * count:
        return None
    columns = np.frombuffer(content, "<i8", offset=begin + named).reshape(3, count).astype(np.int64)
    return Index(content[begin : begin + named], *columns)


def scan(path: Path) -> Index:
    """The index of an archive by reading the head of each of its files. Raises as :func:`index_of`."""
    names, offsets, sizes = Texts(), array("q"), array("q")
    links: dict[int, str] = {}
    with path.open("rb") as file:
        _check_kind(path, file.read(512))
        file.seek(0)
        total = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all, a kilobyte each
                    name = _checked(path, member)
                    if name is None:
                        continue
                    if member.islnk():
                        links[len(names)] = _plain(path, member.linkname)
                    elif member.isfile() and member.offset_data + member.size > total:
                        raise DataError(f"{path}: is cut off in {shown(member.name)}; {MAKE}")
                    names.append(name)
                    offsets.append(FOLDER if member.isdir() else member.offset_data)
                    sizes.append(0 if member.isdir() else member.size)
                end = tar.offset
        except (tarfile.TarError, OSError, UnicodeError) as error:
            after = f" after {shown(names[-1])}" if names else ""
            raise DataError(f"{path}: is damaged or cut off{after} ({error}); {MAKE}") from None
        file.seek(end)
        if len(tail := file.read(512)) < 512 or any(tail):  # a tar ends in blocks of zeros; else its reader gave up
            raise DataError(f"{path}: is damaged or cut off at byte {end}, after {len(names)} files; {MAKE}")
    return _sorted(path, names, np.array(offsets, np.int64), np.array(sizes, np.int64), links)


def _check_kind(path: Path, head: bytes) -> None:
    for mark, (kind, tool) in COMPRESSED.items():
        if head.startswith(mark):
            raise DataError(
                f"{path}: is compressed ({kind}), so files in it have no offset to read them by; unpack it to a plain "
                f"tar or a folder ({tool} {path.name})"
            )
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        raise DataError(f"{path}: is an empty archive; {MAKE}") from None
    except tarfile.HeaderError:
        raise DataError(f"{path}: is a file, but not a tar; name the folder of a data set, or a tar of one") from None


def _checked(path: Path, member: tarfile.TarInfo) -> str | None:
    """The name that a file or folder is found by; None of the folder of all."""
    if member.issparse() or not (member.isfile() or member.isdir() or member.islnk()):
        what = "a sparse file" if member.issparse() else REFUSED.get(member.type, "of an unknown kind")
        remedy = "pack what links lead to with tar --dereference" if member.issym() else "pack regular files alone"
        raise DataError(f"{path}: {shown(member.name)} is {what}, which is not read from an archive; {remedy}")
    name = _plain(path, member.name)
    if not name:
        return None
    return f"{name}/" if member.isdir() else name


def _plain(path: Path, name: str) -> str:
    """A name without ``./``. Raises DataError if it leads out of the archive."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise DataError(
            f"{path}: has the name {shown(name)}, which leads out of the archive; pack the folder itself, as in tar "
            "--sort=name -cf set.tar -C FOLDER ."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _sorted(path: Path, names: Texts, offsets: np.ndarray, sizes: np.ndarray, links: dict[int, str]) -> Index:
    kept, packed, ends = array("q"), bytearray(), array("q")
    before, folder = "", (-1, "")

    def keep(row: int, name: str) -> None:
        nonlocal packed
        packed += encoded(name)
        kept.append(row)
        ends.append(len(packed))

    for row in map(int, names.order()):
        name = names[row]
        if folder[1] and not name.startswith(folder[1]):
            keep(*folder)  # nothing follows that is in it: it is empty
            folder = -1, ""
        if name.endswith("/"):
            folder = row, name
            continue
        if name == before:
            raise DataError(f"{path}: has {shown(name)} twice; {MAKE}")
        keep(row, name)
        before, folder = name, (-1, "")
    if folder[1]:
        keep(*folder)
    rows = np.array(kept, np.int64)
    index = Index(bytes(packed), np.array(ends, np.int64), offsets[rows], sizes[rows])
    places = {row: index.find(encoded(names[row])) for row in links}
    linked = set(places.values())
    for row, target in links.items():
        found = index.find(encoded(target))
        if found is None or index.offsets[found] == FOLDER or found in linked:
            what = f"{shown(names[row])} is a link to {shown(target)}"
            raise DataError(f"{path}: {what}, which is not a file in the archive; {MAKE}")
        index.offsets[places[row]], index.sizes[places[row]] = index.offsets[found], index.sizes[found]
    return index


def encoded(name: str) -> bytes:
    """A name as an index has it; what is not UTF-8 is in it, too."""
    return name.encode("utf-8", "surrogatepass")
