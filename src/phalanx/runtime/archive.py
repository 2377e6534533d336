"""Files of a tar, read by offset through paths that behave as those of a folder: ``set.tar/train/images/x.png``.

Every process opens the archive itself, so that none moves another's place in it, and reads only what is asked for.
"""

import errno
import os
import stat
import threading
import weakref
from collections.abc import Generator, Iterator
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path, PurePath
from typing import Any

from ..errors import DataError
from .archive_index import FOLDER, Index, encoded, index_of
from .stored import Stored, is_archive

_opened: dict[str, "Archive"] = {}  # by the path of the file
_opening = threading.Lock()  # an index is made by one thread


class Archive:
    """An open archive in one state of its file."""

    def __init__(self, path: Path, state: os.stat_result, index: Index):
        self.path, self.state, self.index = path, state, index
        self._owner, self._descriptor = 0, -1

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset of the file."""
        return os.pread(self._own(), length, offset)

    def _own(self) -> int:
        """The descriptor of this process; a fork opens its own."""
        if self._owner != os.getpid():
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            if _identity(os.fstat(descriptor)) != _identity(self.state):
                os.close(descriptor)
                raise DataError(f"{self.path}: was replaced while it was read; start again, with one archive")
            weakref.finalize(self, os.close, descriptor)
            self._owner, self._descriptor = os.getpid(), descriptor
        return self._descriptor


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def archive_at(place: str) -> Archive:
    """The archive in a file, opened once per state of it.

    Raises:
        OSError: there is no such file.
        DataError: as `index_of`.
    """
    state = os.stat(place)
    found = _opened.get(place)
    if found is None or _identity(found.state) != _identity(state):
        with _opening:
            found = _opened.get(place)
            if found is None or _identity(found.state) != _identity(state):
                path = Path(place)
                found = _opened[place] = Archive(path, state, index_of(path, state))
    return found


class ArchivePath(Stored):
    """A path in an archive, or the archive itself, which is as its root folder. It can be read, not written."""

    __slots__ = ()

    def _found(self) -> tuple[Archive, bytes]:
        """The archive, and the name within it."""
        whole = str(self)
        for place, archive in _opened.items():
            if whole == place or whole.startswith(f"{place}/"):
                return archive_at(str(archive.path)), encoded(whole[len(place) + 1 :])
        for parent in (self, *self.parents):
            if is_archive(parent):
                return archive_at(str(parent)), encoded(whole[len(str(parent)) + 1 :])
        raise self._error(errno.ENOENT)

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), str(self))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size of the file stored here; time and owner are those of the archive, the number is its own."""
        archive, name = self._found()
        index, of = archive.index, archive.state
        row = index.find(name) if name else None
        if row is not None and index.offsets[row] != FOLDER:
            mode, number, size = stat.S_IFREG | 0o444, int(index.offsets[row]), int(index.sizes[row])
        elif not name or _within(index, name):
            mode, number, size = stat.S_IFDIR | 0o555, -1 - hash(name) % (1 << 60), 0
        else:
            raise self._error(errno.ENOENT)
        return os.stat_result((
            mode, number, of.st_dev ^ of.st_ino, 1, of.st_uid, of.st_gid, size, int(of.st_atime), int(of.st_mtime),
            int(of.st_ctime), of.st_atime, of.st_mtime, of.st_ctime, of.st_atime_ns, of.st_mtime_ns, of.st_ctime_ns,
        ))  # fmt: skip

    def lstat(self) -> os.stat_result:
        """As :meth:`stat`: there are no links."""
        return self.stat()

    def is_symlink(self) -> bool:
        return False

    def exists(self) -> bool:
        return self._kind() != 0

    def is_dir(self) -> bool:
        return self._kind() == stat.S_IFDIR

    def is_file(self) -> bool:
        return self._kind() == stat.S_IFREG

    def _kind(self) -> int:
        """0 if there is nothing. Those of pathlib would also hide what is wrong with the archive."""
        try:
            return stat.S_IFMT(self.stat().st_mode)
        except OSError:
            return 0

    def iterdir(self) -> "Generator[ArchivePath, None, None]":
        """What is in the folder, sorted by its bytes."""
        for name, _ in self.entries():
            yield self / name

    def entries(self) -> Iterator[tuple[str, bool]]:
        """Names in the folder, and whether each is a folder."""
        archive, name = self._found()
        if not stat.S_ISDIR(self.stat().st_mode):
            raise self._error(errno.ENOTDIR)
        index, before = archive.index, name + b"/" if name else b""
        row = index.place(before)
        while row < len(index.ends) and (found := index.name(row)).startswith(before):
            part, slash, _ = found[len(before) :].partition(b"/")
            if part:
                yield part.decode("utf-8", "surrogatepass"), bool(slash)
            row = index.place(before + part + b"0") if slash else row + 1  # 0 follows the slash

    def open(self, mode: str = "r", *args: Any, encoding: str | None = None, **kwargs: Any) -> Any:
        """The file, to be read. Raises OSError of any other mode."""
        if set(mode) - set("rbt"):
            raise self._error(errno.EROFS)
        file = self.open_stored()
        return file if "b" in mode else TextIOWrapper(file, encoding or "utf-8", **kwargs)

    def open_stored(self) -> BufferedReader:
        archive, _ = self._found()
        state = self.stat()
        if stat.S_ISDIR(state.st_mode):
            raise self._error(errno.EISDIR)
        return BufferedReader(_Part(archive, state.st_ino, state.st_size))

    def resolve(self, strict: bool = False) -> "ArchivePath":
        return ArchivePath(os.path.realpath(self))


def _within(index: Index, name: bytes) -> bool:
    """Whether a name is that of a folder."""
    row = index.place(name + b"/")
    return row < len(index.ends) and index.name(row).startswith(name + b"/")


class _Part(RawIOBase):
    """The bytes of one file of an archive."""

    def __init__(self, archive: Archive, begin: int, size: int):
        self._archive, self._begin, self._size, self._at = archive, begin, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._at))
        content = self._archive.read(self._begin + self._at, wanted) if wanted else b""
        if len(content) < min(wanted, 1):
            raise OSError(errno.EIO, "ends before the file in it does", str(self._archive.path))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def rooted(path: Path) -> Path:
    """The path of a data set: within an archive if it, or a folder it is in, is a file; else as it is.

    >>> rooted(Path("data/hand"))
    PosixPath('data/hand')
    """
    if isinstance(path, Stored) or not PurePath(path).parts or path.is_dir():
        return path
    return ArchivePath(path) if any(is_archive(place) for place in (path, *path.parents)) else path
