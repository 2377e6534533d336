"""Prepared samples, each computed once: cached in memory, or on disk for all processes and for the next run.

Entries are keyed by the content of the files they were computed from, so a changed file never hits an old entry.
"""

import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from threading import Lock
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from ..config import Data
from ..errors import DataError
from ..masks.planes import PlaneRuns
from ..runtime.files import sha256_file, write_bytes
from ..runtime.leftovers import clear
from ..runtime.locks import lock
from .images import Grid
from .layouts import check, files
from .prepared import Prepared, prepare, prepared_key
from .records import Record

ENTRY = re.compile(r"[0-9a-f]{64}\.npz")  # other files in the folder are neither counted nor removed
MIN_IDLE = 3600  # seconds: an entry used within this time is not removed for a new one
State = tuple[int, ...]


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
            self.store = Memory(limit) if data.cache == "ram" else Folder(data.cache_dir, limit)

    def add(self, records: Sequence[Record], *, progress: bool) -> None:
        """Caches as many samples as there is room for, and checks the rest: bad files should show at the start.

        Raises:
            DataError: of the first record that cannot be used.
        """
        bar = partial(tqdm, total=len(records), leave=False, disable=not progress)
        with ThreadPoolExecutor() as pool:
            list(bar(pool.map(self._know, records), "hash"))
            wanted, lock = {key for _, key in self.known.values()}, Lock()
            list(bar(pool.map(partial(self._make, wanted=wanted, lock=lock), records), "read"))

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
        return [_state(path) for path in files(record, self.data)]

    def _key(self, record: Record, states: list[State]) -> str:
        digests = [_digest(path, state) for path, state in zip(files(record, self.data), states, strict=True)]
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
        """The sample; None if there is none. A damaged one is removed."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            with np.load(BytesIO(content), allow_pickle=False) as arrays:
                height, width, side, planes = (int(value) for value in arrays["frame"])
                runs = PlaneRuns((side, side, planes), arrays["starts"], arrays["values"])
                found = Prepared(arrays["image"], runs, Grid(height, width, side))
        except (ValueError, KeyError, EOFError, BadZipFile):
            with suppress(OSError):
                path.unlink()
            return None
        self._use(key)
        return found

    def _use(self, key: str) -> None:
        """Marks a sample as used now."""
        with suppress(OSError):  # in a folder that is read-only for this user
            os.utime(self._path(key), follow_symlinks=False)

    def put(self, key: str, prepared: Prepared, wanted: set[str]) -> None:
        """Writes a sample if there is room, once idle samples that are not ``wanted`` are removed."""
        image, runs, grid = prepared
        content = BytesIO()
        frame = np.array([*grid, runs.shape[2]])
        np.savez(content, image=image, starts=runs.starts, values=runs.values, frame=frame)
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with lock(self.place / ".lock"):
                if not self.cleared:
                    clear(self.place, lambda name: ENTRY.fullmatch(name) is not None)
                    self.cleared = True
                if self._make_room(content.tell(), wanted):
                    write_bytes(self._path(key), content.getvalue())
                else:
                    self.full = True
        except OSError as error:
            if not self.full:
                print(f"data.cache_dir={self.place}: {error.strerror}; missing samples are computed again each time")
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
        return self.place / f"{key}.npz"


def _state(path: Path) -> State:
    """Properties of a file of which one changes with its content, without reading it."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or remove its record") from None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@cache
def _digest(path: Path, state: State) -> str:
    """SHA-256 of a file, read once per state."""
    try:
        return sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore it or remove its record") from None
