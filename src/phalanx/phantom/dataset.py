"""Everything that synthetic sets of all kinds share: the checks, the folder that appears whole or not at all, the
manifest.

A set is written into a work folder next to ``out``, locked against a second process, and renamed at the end. Patients
are drawn from (seed, patient) only, so the files are the same for any number of workers.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import __version__
from ..config import Strict
from ..errors import ConfigError, DataError
from ..runtime.processes import cores, process_map
from ..runtime.removal import remove_tree
from ..runtime.work import clear_work, work_folder

MAX_PATIENTS = 99_999
Rows = list[dict[str, Any]]  # of a manifest, one per image


class PhantomOptions(Strict):
    """Options of ``phalanx phantom`` for every kind; the function that makes the set refuses impossible values."""

    out: Path
    patients: int = 80
    size: int = 512
    seed: int = 0
    test_patients: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Order:
    """What is asked of every kind of set, checked.

    ``patients``: of train; ``test_patients``: None for a quarter of them, at least one; ``size``: side of the images
    in pixels; ``workers``: processes, None for one per core; ``sizes``: smallest and largest side of this kind.

    Raises:
        ConfigError: an impossible value, which is named.
    """

    kind: str
    patients: int
    size: int
    seed: int
    test_patients: int | None
    workers: int | None
    progress: bool
    sizes: tuple[int, int]

    def __post_init__(self) -> None:
        check_whole("patients", self.patients, 1, MAX_PATIENTS)
        check_whole("size", self.size, *self.sizes)
        check_whole("seed", self.seed, 0, 2**63)
        check_whole("test_patients", self.tested, 1, MAX_PATIENTS)
        check_whole("workers", self.processes, 1, 1024)

    @property
    def tested(self) -> int:
        """Number of test patients."""
        return max(1, self.patients // 4) if self.test_patients is None else self.test_patients

    @property
    def processes(self) -> int:
        """Number of processes."""
        return cores() if self.workers is None else self.workers


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raises ConfigError unless an option is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r}: must be a whole number from {low} to {high}")


def check_fraction(name: str, value: Any) -> None:
    """Raises ConfigError unless an option is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name}={value!r}: must be a fraction from 0 to 1")


@contextmanager
def new_set(out: Path, files: re.Pattern[str]) -> Iterator[Path]:
    """A work folder that becomes ``out`` if the block ends well, and is removed otherwise.

    Args:
        files: full match of every path of a set, with ``/``, from its folder on. Nothing else is ever removed.

    Raises:
        DataError: ``out`` exists or cannot be written. Held: another process is making it. OutputError: something is
            in the way of the work folder.
    """
    if out.exists() or out.is_symlink():
        clear_left(out, files)
        raise DataError(f"{out}: exists already; remove it, or give another folder (out=)")
    with _begun(out, files) as work:
        yield work
        try:
            work.rename(out)
        except OSError:
            raise DataError(f"{out}: appeared while the set was written; remove it and start again") from None


@contextmanager
def _begun(out: Path, files: re.Pattern[str]) -> Iterator[Path]:
    """The work folder. Raises DataError if it cannot be made or written; Held, OutputError."""
    written = False
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(out, lambda folder: remove_set(folder, files)) as work:
            written = True
            yield work
    except OSError as error:
        if written:
            raise DataError(f"{out}: cannot be written ({error.strerror}); free some space and start again") from None
        raise DataError(f"{out}: cannot be made ({error.strerror}); give a folder you may write to (out=)") from None


def remove_set(folder: Path, files: re.Pattern[str]) -> None:
    """Removes a folder of a set, or nothing if it holds anything but ``files``; see :func:`new_set`."""
    remove_tree(folder, lambda path: files.fullmatch(path) is not None)


def clear_left(out: Path, files: re.Pattern[str]) -> None:
    """Removes what is left of a process that was killed when it had made a set and nothing more was to do."""
    clear_work(out, lambda folder: remove_set(folder, files))


def make_patients(make: Callable[[Any], Rows], people: Sequence[Any], order: Order, name: str) -> Rows:
    """All images, in one process or several; their manifest rows in the order of the patients.

    Args:
        make: writes the images of one patient; can be pickled.
        name: on the progress bar.
    """
    made = process_map(make, people, workers=order.processes, name=name, unit="patient", progress=order.progress)
    return [row for rows in made for row in rows]


def write_manifest(
    work: Path, order: Order, options: dict[str, Any], classes: Sequence[str], images: Rows
) -> dict[str, Any]:
    """Writes ``manifest.json`` and returns it.

    Args:
        options: of this kind of set, by name.
    """
    manifest = {
        "kind": order.kind,
        "version": __version__,
        "seed": order.seed,
        "size": order.size,
        "patients": {"train": order.patients, "test": order.tested},
        **options,
        "classes": list(classes),
        "images": images,
    }
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def write_png(image: np.ndarray, path: Path) -> None:
    """Writes uint8[H, W] and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes())
