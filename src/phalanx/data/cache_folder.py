"""The folder of ``data.cache=disk``: one file per sample, shared by the processes and machines that train on it.

Samples belong to shares by their keys. Whoever prepares the samples of a share holds its lock, so that jobs that start
at once divide the work, and none is done twice; a kill releases the lock, and another job goes on with the share.
"""

import hashlib
import os
import re
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ..errors import DataError, OutputError
from ..masks.planes import PlaneRuns
from ..runtime.files import refuse_link, write_bytes
from ..runtime.leftovers import clear
from ..runtime.locks import LockHeld, lock
from ..runtime.reading import LARGE, read_bytes, read_text
from ..runtime.terminal import say
from .images import Grid
from .prepared import Prepared

ENTRY = re.compile(r"[0-9a-f]{64}\.(sample|npz)")  # other files in the folder are neither counted nor removed
MAGIC = b"phalanx-sample-1"
HEAD = struct.Struct("<5Q")  # height, width, side, planes, runs
MIN_IDLE = 3600  # seconds: an entry used within this time is not removed for a new one
SHARES = 256  # of the work that jobs divide
USED = ".used"  # bytes of all samples, as far as they were counted


class Folder:
    """Samples by key in files of one folder, which processes may share, up to ``limit`` bytes."""

    def __init__(self, place: Path, limit: int):
        self.place, self.limit, self.full, self.cleared = place, limit, False, False

    def __contains__(self, key: str) -> bool:
        there = self._path(key).is_file()
        if there:
            self._use(key)
        return there

    def get(self, key: str) -> Prepared | None:
        """The sample; None if there is none. A damaged one, or a link or pipe in its place, is removed."""
        path = self._path(key)
        try:
            found = unpacked(key, b"" if path.is_symlink() else read_bytes(path, LARGE))
        except DataError:  # no regular file, or none at all
            found = None
        if found is None:
            with suppress(OSError):
                path.unlink()
        else:
            self._use(key)
        return found

    def _use(self, key: str) -> None:
        """Marks a sample as used now."""
        with suppress(OSError):  # in a folder that is read-only for this user
            os.utime(self._path(key), follow_symlinks=False)

    def put(self, key: str, prepared: Prepared, wanted: set[str]) -> None:
        """Writes a sample if there is room, once idle samples that are not ``wanted`` are removed."""
        content = packed(key, prepared)
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with lock(self.place / ".lock"):
                fits = self._reserve(len(content), wanted)
            if fits:  # written without the lock, which other jobs wait for
                write_bytes(self._path(key), content)
            else:
                self.full = True
        except (OSError, OutputError) as error:  # the latter of a link or folder of the entry's name
            if not self.full:
                text = getattr(error, "strerror", None) or error
                say(f"data.cache_dir={self.place}: {text}; missing samples are computed again each time")
            self.full = True

    @contextmanager
    def claim(self, share: int) -> Iterator[bool]:
        """Whether this process alone may prepare the samples of a share now; another's claim ends with it at the
        latest. In a folder that cannot be written nobody can claim anything, so everybody may."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            held = lock(self.place / f".share-{share:02x}.lock", wait=False)
            held.__enter__()
        except LockHeld:
            yield False
            return
        except (OSError, OutputError):
            yield True
            return
        try:
            yield True
        finally:
            held.__exit__(None, None, None)

    def _reserve(self, need: int, wanted: set[str]) -> bool:
        """Whether there is room for ``need`` more bytes, which then count as used.

        The files are counted when this process first asks, and again before any is removed: what others remove, damage
        or do not come to write only makes the recorded number too large.
        """
        used = self._recorded()
        if not self.cleared:
            clear(self.place, lambda name: ENTRY.fullmatch(name) is not None)
            self.cleared = True
            used = max(used or 0, self._make_room(0, wanted))  # others may be writing what they reserved
        if used is None or used + need > self.limit:
            used = self._make_room(need, wanted)
        fits = used + need <= self.limit
        place = self.place / USED
        refuse_link(place)
        place.write_text(f"{used + need * fits}\n", encoding="ascii")  # under the lock; a torn one is counted again
        return fits

    def _recorded(self) -> int | None:
        """Bytes in use as the last process that wrote a sample counted them; None if that is not known."""
        with suppress(DataError):
            text = read_text(self.place / USED, 64)
            return int(text) if re.fullmatch("[0-9]{1,18}\n", text) else None
        return None

    def _make_room(self, need: int, wanted: set[str]) -> int:
        """Bytes in use once the samples idle for longest are removed, as far as ``need`` bytes do not fit."""
        with os.scandir(self.place) as files:
            ours = [file for file in files if ENTRY.fullmatch(file.name) and file.is_file(follow_symlinks=False)]
        entries = [(file.stat(follow_symlinks=False), Path(file.path)) for file in ours]
        used = sum(state.st_size for state, _ in entries)
        before = time.time() - MIN_IDLE
        idle = [
            (state.st_mtime, state.st_size, path)
            for state, path in entries
            if state.st_mtime < before and path.stem not in wanted
        ]
        for _, size, path in sorted(idle):
            if used + need > self.limit:
                path.unlink(missing_ok=True)
                used -= size
        return used

    def _path(self, key: str) -> Path:
        return self.place / f"{key}.sample"


def packed(key: str, prepared: Prepared) -> bytes:
    """A sample as the content of its file: see `docs/formats.md`."""
    image, runs, grid = prepared
    head = HEAD.pack(*grid, runs.shape[2], len(runs.starts))
    body = head + image.tobytes() + runs.starts.astype("<i4").tobytes() + runs.values.tobytes()
    return MAGIC + _seal(key, body) + body


def unpacked(key: str, content: bytes) -> Prepared | None:
    """The sample in the content of its file; None if it is damaged or of another key."""
    body = memoryview(content)[len(MAGIC) + 32 :]
    if content[: len(MAGIC)] != MAGIC or len(body) < HEAD.size or content[len(MAGIC) :][:32] != _seal(key, body):
        return None
    height, width, side, planes, count = HEAD.unpack_from(body)
    pixels = len(body) - HEAD.size - count * (4 + planes)  # bytes, of one channel or three
    if not min(height, width, side, planes, count) or pixels not in (side * side, 3 * side * side):
        return None
    values = np.frombuffer(bytearray(body[HEAD.size :]), np.uint8)  # not read-only, as torch wants it
    image, starts = values[:pixels], values[pixels:][: 4 * count].view("<i4").astype(np.int32)
    if starts[0] != 0 or starts[-1] >= side * side or (np.diff(starts) <= 0).any():
        return None
    runs = PlaneRuns((side, side, planes), starts, values[pixels + 4 * count :].reshape(count, planes))
    shape = (side, side) if pixels == side * side else (side, side, 3)
    return Prepared(image.reshape(shape), runs, Grid(height, width, side))


def _seal(key: str, body: "bytes | memoryview") -> bytes:
    digest = hashlib.sha256(MAGIC + key.encode())
    digest.update(body)
    return digest.digest()
