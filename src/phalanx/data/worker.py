"""Errors of loader processes, with the file, the step that failed, and the free memory."""

import os
import re
import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from ..errors import DataError, TrainingError
from .records import Record

READ, WARP, PIXELS, SENT = range(4)
LOADER_STEPS = ("reading (image, annotation)", "the warp", "pixel transforms", "handing over")
MAX_WORKERS = 256  # whose progress is recorded
DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
SHARED = (
    "unable to open shared memory",
    "unable to write to file </torch",
    "unable to resize file </torch",
    "unable to mmap",
    "ancdata",
    "Too many open files",
)


class WorkerProgress:
    """Record and step that each loader process works on, in shared memory, for the error message if one dies."""

    def __init__(self) -> None:
        self.rows = torch.zeros(MAX_WORKERS, 3, dtype=torch.int64)  # process, record, step
        with suppress(RuntimeError):  # no room: loader processes will say so, and without them it is not needed
            self.rows.share_memory_()

    def note(self, record: int, step: int) -> None:
        """Records the progress of this loader process; does nothing in any other process."""
        info = get_worker_info()
        if info is not None and info.id < MAX_WORKERS:
            self.rows[info.id] = torch.tensor((os.getpid(), record, step))

    def of(self, process: int) -> tuple[int, int] | None:
        """The last record and step of a process."""
        for pid, record, step in self.rows.tolist():
            if pid == process:
                return record, step
        return None


def failure(error: Exception, path: Path, step: int) -> DataError:
    """A DataError for an unexpected error, with file, step, our innermost function and the free memory."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "phalanx" in Path(frame.filename).parts]
    place = f" in {Path(ours[-1].filename).name}, {ours[-1].name}" if ours else ""
    text = " ".join([*str(error).split(), *(f"[{note}]" for note in getattr(error, "__notes__", []))])
    return DataError(f"{path}: {LOADER_STEPS[step]} failed{place} ({type(error).__name__}: {text}). {free_memory()}")


@contextmanager
def worker_errors(records: Sequence[Record], progress: WorkerProgress) -> Iterator[None]:
    """Adds file and step of a loader process that died to the error, which torch raises at any time without a cause.

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
                f"the loader processes cannot hand over batches ({text}). {free_memory()} Enlarge /dev/shm "
                "(docker run --shm-size=8g), allow more open files (ulimit -n), or lower workers="
            ) from None
        at = [
            f"{LOADER_STEPS[step]} of {records[record].image}"
            for process in died[1].split(",")
            if (found := progress.of(int(process))) is not None
            for record, step in [found]
        ]
        raise TrainingError(
            f"a loader process died during {' and '.join(at) or 'its start'} ({text}). {free_memory()} If the system "
            "killed it for memory: lower workers=, data.cache_gb= or batch=; for a bus error: enlarge /dev/shm (docker "
            "run --shm-size=8g). The same command continues"
        ) from None


def free_memory() -> str:
    """Free memory of the machine, of the container or job if it has a limit, and of shared memory, as text."""
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
    """Bytes free within the memory limit of the control group (version 1 or 2), without the cache of inactive files."""
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
