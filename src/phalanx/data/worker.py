"""Errors of loader processes, told with the file, what was done to it, and the memory that is left."""

import os
import re
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from ..errors import DataError, TrainingError
from .records import Record

READ, WARP, PIXELS, SENT = range(4)
STAGES = ("reading (image, annotation)", "the warp", "pixel transforms", "handing over")
WORKERS = 256  # whose whereabouts are noted
DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
SHARED = (
    "unable to open shared memory",
    "unable to write to file </torch",
    "unable to mmap",
    "ancdata",
    "Too many open files",
)


class Trail:
    """What each loader process is at, in memory it shares with the one that trains, which reads it once one died."""

    def __init__(self) -> None:
        self.rows = torch.zeros(WORKERS, 3, dtype=torch.int64).share_memory_()  # process, record, stage

    def note(self, record: int, stage: int) -> None:
        """Called in a loader process; elsewhere it does nothing."""
        info = get_worker_info()
        if info is not None and info.id < WORKERS:
            self.rows[info.id] = torch.tensor((os.getpid(), record, stage))

    def of(self, process: int) -> tuple[int, int] | None:
        """Record and stage that a process was last at."""
        for pid, record, stage in self.rows.tolist():
            if pid == process:
                return record, stage
        return None


def failure(error: Exception, path: Path, stage: int) -> DataError:
    """An error that nobody foresaw, as one that names file, stage, the function of ours, and the memory left."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "phalanx" in Path(frame.filename).parts]
    place = f" in {Path(ours[-1].filename).name}, {ours[-1].name}" if ours else ""
    text = " ".join([*str(error).split(), *(f"[{note}]" for note in getattr(error, "__notes__", []))])
    return DataError(f"{path}: {STAGES[stage]} failed{place} ({type(error).__name__}: {text}). {free_memory()}")


@contextmanager
def worker_errors(records: Sequence[Record], trail: Trail) -> Iterator[None]:
    """Names what a loader process was at when it died, which torch tells at any moment and without the cause.

    Raises:
        TrainingError: instead of torch's RuntimeError about its loader.
    """
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        died = DIED.search(text)
        if died is None:
            if not any(sign in text for sign in SHARED):
                raise
            raise TrainingError(
                f"batches cannot be handed over by the loader processes ({text}). {free_memory()} Enlarge /dev/shm "
                "(docker run --shm-size=8g), allow more open files (ulimit -n), or lower workers="
            ) from None
        at = [
            f"{STAGES[stage]} of {records[record].image}"
            for process in died[1].split(",")
            if (found := trail.of(int(process))) is not None
            for record, stage in [found]
        ]
        raise TrainingError(
            f"a loader process died, at {' and '.join(at) or 'nothing yet'} ({text}). {free_memory()} Where the system "
            "killed it for memory: lower workers=, data.cache_gb= or batch=; for a bus error: enlarge /dev/shm (docker "
            "run --shm-size=8g). The same command continues"
        ) from None


def free_memory() -> str:
    """What is free: of the machine, of the container or job where it has a limit, and of shared memory."""
    parts = []
    machine = re.search(r"MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")))
    if machine:
        parts.append(f"{int(machine[1]) * 1024 / 1e9:.1f} GB of the machine")
    group = _group_free()
    if group is not None:
        parts.append(f"{group / 1e9:.1f} GB of this container or job")
    if Path("/dev/shm").is_dir():
        parts.append(f"{shutil.disk_usage('/dev/shm').free / 1e9:.2f} GB of /dev/shm")
    return f"Free memory: {', '.join(parts) or 'unknown'}."


def _group_free(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes free within the memory limit of the control group (version 1 or 2), files read of late not counted."""
    for number, names, path in re.findall(r"^(\d+):([^:]*):(.*)$", _text(own), re.M):
        if number == "0":
            base, limit, used, idle = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in names.split(","):
            base, limit, used, idle = (
                root / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        for folder in (base / path.lstrip("/"), base):  # within a container its own group is the root
            limits, uses = _text(folder / limit).strip(), _text(folder / used).strip()
            if limits.isdigit() and uses.isdigit() and int(limits) < 1 << 60:
                files = re.search(rf"^{idle} (\d+)$", _text(folder / "memory.stat"), re.M)
                return int(limits) - int(uses) + (int(files[1]) if files else 0)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
