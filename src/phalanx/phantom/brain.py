"""Synthetic brain MRI: slices of healthy heads and of three kinds of tumours, in one folder per class.

Each patient has one class, one source and several slices, drawn from (seed, patient) only, so the files are the same
for any number of workers. What was planted (duplicates across splits, wrong labels, the association of classes with
sources) is listed in ``manifest.json``.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import Field

from ..errors import ConfigError
from .brain_lesion import CLASSES, REACH
from .brain_plan import Anatomy, BrainPatient, Shot, draw_anatomy, plan_patients
from .brain_scanner import SOURCES
from .brain_slice import render_slice
from .dataset import Order, PhantomOptions, Rows, check_fraction, make_patients, new_set, write_manifest, write_png

_CLASS = "|".join(CLASSES)
FILES = re.compile(rf"manifest\.json|masks(/P\d+-\d+\.png)?|(train|test)(/({_CLASS})(/P\d+-\d+\.png)?)?")  # of a set
SIZES = (128, 512)
MIN_AREA = 0.0004  # of the image, that a tumour covers in each of its slices

BEYOND = 6.0  # mm by which slices may leave the reach of the middles of tumours


class BrainOptions(PhantomOptions):
    """Options of ``phantom brain``; see :func:`make_brain`, which refuses impossible values."""

    size: int = 256
    confound: float = 0.0
    duplicates: float = 0.05
    wrong_labels: float = 0.02
    ratio: list[float] = Field([1, 1, 1, 1])
    planes: Literal["real", "same"] = "real"


def make_brain(
    out: Path,
    *,
    patients: int,
    size: int,
    seed: int,
    test_patients: int | None = None,
    confound: float = 0.0,
    duplicates: float = 0.05,
    wrong_labels: float = 0.02,
    ratio: "tuple[float, ...] | list[float]" = (1, 1, 1, 1),
    planes: str = "real",
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a synthetic data set of brain MRI slices, two to six per patient.

    Under ``out``: ``train/<class>/<image>.png``, ``test/<class>/<image>.png``, ``masks/<image>.png`` (0 and 255, for
    images with a tumour) and ``manifest.json``. A name is ``P0123-05``: patient and slice. All files are written next
    to ``out`` and renamed at the end.

    Args:
        patients: training patients.
        size: side of the square images in pixels, 128 to 512.
        seed: same seed, same files (of one version of this package and its libraries).
        test_patients: default a quarter of ``patients``, at least one.
        confound: fraction of each class's patients that come from a source of the class's own, in both splits. The
            others come from all sources in equal numbers, so that 0 plants no association.
        duplicates: copies of training images to add to test, over the other test images. Half of them are exact, the
            others encoded again or rescaled. They are named like images of new patients.
        wrong_labels: fraction of training images in another class's folder; at least one if there are 20 images.
        ratio: patients of the four classes, healthy first.
        planes: ``real``: pituitary tumours mostly sagittal and coronal, the others mostly axial; ``same``: the planes
            do not depend on the class.
        workers: processes; default one per core.

    Returns:
        The manifest.

    Raises:
        ConfigError: an impossible argument. DataError: ``out`` exists or cannot be written. Held: another process is
            making it. OutputError: something is in the way of the folder in which it is made.
    """
    order = Order("brain", patients, size, seed, test_patients, workers, progress, SIZES)
    for name, value in (("confound", confound), ("duplicates", duplicates), ("wrong_labels", wrong_labels)):
        check_fraction(name, value)
    ratio = _checked_ratio(ratio)
    if planes not in ("real", "same"):
        raise ConfigError(f"planes={planes!r}: must be real or same")
    people = plan_patients(patients, order.tested, ratio, confound, duplicates, wrong_labels, seed)
    with new_set(Path(out), FILES) as work:
        make = partial(_make_patient, planes=planes, size=size, seed=seed, work=work)
        images = make_patients(make, people, order, "brains")
        options = {
            "confound": confound,
            "duplicates": duplicates,
            "wrong_labels": wrong_labels,
            "ratio": list(ratio),
            "planes": planes,
            "sources": list(SOURCES),
        }
        return write_manifest(work, order, options, CLASSES, images)


def _checked_ratio(ratio: Any) -> tuple[float, ...]:
    """Refuses a ratio that is not one number per class with a positive sum."""
    numbers = list(ratio) if isinstance(ratio, list | tuple) else []
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < 1e6 for v in numbers)
    if len(numbers) != len(CLASSES) or not good or sum(numbers) <= 0:
        raise ConfigError(
            f"ratio={ratio!r}: must be {len(CLASSES)} numbers from 0, one for each of {', '.join(CLASSES)}"
        )
    return tuple(numbers)


def draw_image(
    anatomy: Anatomy, shot: Shot, person: BrainPatient, size: int, seed: int, *, lesion: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One image uint8[size, size] and its mask (0 or 255) of the same shape; ``lesion``: whether the tumour is drawn.

    A slice in which the tumour is too small to see moves towards its middle. The place and the noise are the same
    with and without it.
    """
    tumour, head = anatomy.lesion, anatomy.head
    axis, low, high = REACH[shot.view.plane]
    lean = shot.view.tilt * tumour.centre[2 if shot.view.plane == "coronal" else 1]
    offset, image, mask = shot.offset, np.zeros(0, np.uint8), np.zeros(0, np.uint8)
    for _ in range(4):
        at = min(max(tumour.centre[axis] + offset, low - BEYOND), high + BEYOND) * head.scale[axis] - lean
        rng = np.random.default_rng([seed, 25, person.index, shot.number])
        image, mask = render_slice(head, tumour if lesion else None, shot.view, at, shot.series, size, rng)
        if not lesion or np.count_nonzero(mask) >= MIN_AREA * size * size:
            break
        offset /= 2
    return image, mask


def _make_patient(person: BrainPatient, *, planes: str, size: int, seed: int, work: Path) -> Rows:
    """All images of one patient and their copies; returns their manifest rows."""
    cv2.setNumThreads(1)
    anatomy = draw_anatomy(person, planes, seed)
    rows: Rows = []
    for shot in anatomy.shots:
        image, mask = draw_image(anatomy, shot, person, size, seed, lesion=person.label != "healthy")
        name, label = person.image(shot.number), person.wrong.get(shot.number, person.label)
        row = {
            "image": name,
            "split": person.split,
            "patient": person.group,
            "class": label,
            "true_class": person.label,
            "slice": shot.number,
            "plane": shot.view.plane,
            "sequence": shot.series.sequence,
            "source": person.source,
            "duplicate_of": None,
            "duplicate_kind": None,
            "wrong_label": label != person.label,
            "lesion_area": int(np.count_nonzero(mask)),
        }
        rows.append(row)
        _write(work, row, image, mask)
        copy = person.copies.get(shot.number)
        if copy:
            rng = np.random.default_rng([seed, 26, person.index, shot.number])
            again = row | {"image": copy.image, "split": "test", "duplicate_of": name, "duplicate_kind": copy.kind}
            rows.append(again)
            _write(work, again, copied(image, copy.kind, rng), mask)
    return rows


def _write(work: Path, row: dict[str, Any], image: np.ndarray, mask: np.ndarray) -> None:
    write_png(image, work / row["split"] / row["class"] / f"{row['image']}.png")
    if row["lesion_area"]:
        write_png(mask, work / "masks" / f"{row['image']}.png")


def copied(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """A duplicate of uint8[S, S]: itself, compressed as JPEG, or scaled down and up again."""
    if kind == "exact":
        return image
    if kind == "reencoded":
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 85))]
        return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_GRAYSCALE))
    size = len(image)
    small = round(size * rng.uniform(0.6, 0.85))
    less = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(less, (size, size), interpolation=cv2.INTER_CUBIC)
