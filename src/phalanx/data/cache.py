"""Prepared samples, each computed once: cached in memory, or on disk for all processes and for the next run.

Entries are keyed by the content of the files they were computed from, so a changed file never hits an old entry.
"""

import hashlib
import os
import re
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np

from ..config import Data
from ..errors import DataError, OutputError
from ..masks.planes import PlaneRuns
from ..runtime.files import write_bytes
from ..runtime.leftovers import clear
from ..runtime.locks import lock
from ..runtime.progress import tracked
from ..runtime.reading import LARGE, read_bytes
from ..runtime.terminal import say
from .cache_place import cache_place
from .digests import State, digest_of, state_of
from .images import Grid
from .layouts import check, files
from .prepared import Prepared, prepare, prepared_key
from .records import Record

ENTRY = re.compile(r"[0-9a-f]{64}\.(sample|npz)")  # other files in the folder are neither counted nor removed
MAGIC = b"phalanx-sample-1"
HEAD = struct.Struct("<5Q")  # height, width, side, planes, runs
MIN_IDLE = 3600  # seconds: an entry used within this time is not removed for a new one


class SampleCache:
    """The prepared samples of a data set by record, each computed once as far as ``data.cache`` has room.

    ``ram`` stores them in this process, and forked worker processes share them. ``disk`` stores them below
    ``data.cache_dir``, one file each, for all processes and runs. ``none`` computes them on every access.
    """

    def __init__(self, data: Data):
        self.data = data
        self.known: dict[Record, tuple[list[State], str]] = {}
        self.store: Memory | Folder | None = None
        if data.cache != "none":
            limit = round(data.cache_gb * 1e9)
            self.store = Memory(limit) if data.cache == "ram" else Folder(cache_place(data), limit)

    def add(self, records: Sequence[Record], *, progress: bool) -> None:
        """Caches as many samples as there is room for, and checks the rest: bad files should show at the start.

        Raises:
            DataError: of the first record that cannot be used.
        """
        bar = partial(tracked, total=len(records), unit="image", enabled=progress and len(records) > 0)
        with ThreadPoolExecutor() as pool:
            list(bar(pool.map(self._know, records), "hashing files"))
            wanted, lock = {key for _, key in self.known.values()}, Lock()
            list(bar(pool.map(partial(self._make, wanted=wanted, lock=lock), records), "preparing images"))

    def __call__(self, record: Record) -> Prepared:
        """The sample of a record.

        Raises:
            DataError: its files cannot be used, or changed since it was added.
        """
        if self.store is None or record not in self.known:
            return prepare(record, self.data)
        states, key = self.known[record]
        now = self._states(record)
        if now != states:
            if self._key(record, now) != key:
                raise DataError(
                    f"{record.image}: the image or its annotation changed while training, which must not see both. "
                    "Restore the file, or start another run"
                )
            self.known[record] = now, key  # copied or touched, with the same content
        return self.store.get(key) or prepare(record, self.data)

    def _know(self, record: Record) -> None:
        if self.store is not None:
            states = self._states(record)
            self.known[record] = states, self._key(record, states)

    def _make(self, record: Record, wanted: set[str], lock: Lock) -> None:
        if self.store is None or (self.store.full and self.known[record][1] not in self.store):
            return check(record, self.data)
        states, key = self.known[record]
        if key not in self.store:
            prepared = prepare(record, self.data)
            if self._states(record) == states:  # else a file was just written, and the sample is not of this key
                with lock:  # not an attribute of the store, which is pickled for spawned workers
                    self.store.put(key, prepared, wanted)
        return None

    def _states(self, record: Record) -> list[State]:
        return [state_of(path) for path in files(record, self.data)]

    def _key(self, record: Record, states: list[State]) -> str:
        digests = [digest_of(path, state) for path, state in zip(files(record, self.data), states, strict=True)]
        return prepared_key(record, digests, self.data)


class Memory:
    """Samples by key in this process's memory, up to ``limit`` bytes."""

    def __init__(self, limit: int):
        self.limit, self.used, self.full = limit, 0, False
        self.samples: dict[str, Prepared] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.samples

    def get(self, key: str) -> Prepared | None:
        return self.samples.get(key)

    def put(self, key: str, prepared: Prepared, wanted: set[str]) -> None:
        """Stores a sample if there is room."""
        self.full = self.full or self.used + prepared.nbytes > self.limit
        if not self.full:
            self.used += prepared.nbytes
            self.samples[key] = prepared


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
                if not self.cleared:
                    clear(self.place, lambda name: ENTRY.fullmatch(name) is not None)
                    self.cleared = True
                if self._make_room(len(content), wanted):
                    write_bytes(self._path(key), content)
                else:
                    self.full = True
        except (OSError, OutputError) as error:  # the latter of a link or folder of the entry's name
            if not self.full:
                text = getattr(error, "strerror", None) or error
                say(f"data.cache_dir={self.place}: {text}; missing samples are computed again each time")
            self.full = True

    def _make_room(self, need: int, wanted: set[str]) -> bool:
        """Whether ``need`` bytes fit, once the samples idle for longest are removed as far as needed."""
        with os.scandir(self.place) as files:
            ours = [file for file in files if ENTRY.fullmatch(file.name) and file.is_file(follow_symlinks=False)]
        entries = [(file.stat(follow_symlinks=False), Path(file.path)) for file in ours]
        excess = sum(state.st_size for state, _ in entries) + need - self.limit
        before = time.time() - MIN_IDLE
        idle = [
            (state.st_mtime, state.st_size, path)
            for state, path in entries
            if state.st_mtime < before and path.stem not in wanted
        ]
        for _, size, path in sorted(idle):
            if excess > 0:
                path.unlink(missing_ok=True)
                excess -= size
        return excess <= 0

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
