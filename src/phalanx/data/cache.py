"""Prepared samples, each computed once: cached in memory, or on disk for all processes and for the next run.

Entries are keyed by the content of the files they were computed from, so a changed file never hits an old entry.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from threading import Event, Lock

from ..config import Data
from ..errors import DataError
from ..runtime.progress import tracked
from ..runtime.terminal import say
from .cache_folder import SHARES, Folder
from .cache_place import cache_place
from .digests import State, digest_of, state_of
from .layouts import check, files
from .prepared import Prepared, prepare, prepared_key
from .records import Record

POLL = 0.2  # seconds between looks at what another job prepares


class SampleCache:
    """The prepared samples of a data set by record, each computed once as far as ``data.cache`` has room.

    ``ram`` stores them in this process, and forked worker processes share them. ``disk`` stores them below
    ``data.cache_dir``, one file each, for all processes and runs; those that start at once divide the work. ``none``
    computes them on every access.
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
            make = partial(self._make, wanted=wanted, lock=lock)
            folder = self.store if isinstance(self.store, Folder) else None
            made = pool.map(make, records) if folder is None else self._shared(folder, records, make, pool)
            list(bar(made, "preparing images"))

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

    def _shared(
        self, folder: Folder, records: Sequence[Record], make: Callable[[Record], None], pool: Executor
    ) -> Iterator[None]:
        """Prepares what a folder lacks, one item per record that it has. A share that another job holds is put off, and
        waited for when nothing else is left: whoever held it has prepared it then, or was killed."""
        shares: dict[int, list[Record]] = {}
        for record in records:
            shares.setdefault(int(self.known[record][1][:8], 16) % SHARES, []).append(record)
        stop = Event()

        def lacking(share: int) -> bool:
            return any(self.known[record][1] not in folder for record in shares[share])

        def take(share: int) -> bool:
            if stop.is_set() or (not folder.full and not lacking(share)):
                return True
            with folder.claim(share) as ours:
                for record in shares[share] if ours else ():
                    if not stop.is_set():
                        make(record)
            return ours

        def wait(share: int) -> None:
            while not take(share):
                stop.wait(POLL)

        try:
            put_off = []
            for share, done in zip(shares, pool.map(take, shares), strict=True):
                if done:
                    yield from [None] * len(shares[share])
                else:
                    put_off.append(share)
            if put_off:
                say(f"data.cache_dir={folder.place}: another job prepares what is missing; waiting for it")
            for share, _ in zip(put_off, pool.map(wait, put_off), strict=True):
                yield from [None] * len(shares[share])
        finally:
            stop.set()  # of an error or Ctrl-C: threads that wait for other jobs end

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
