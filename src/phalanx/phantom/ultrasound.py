"""Synthetic fetal ultrasound: planes with one to three organs, or none, for multi-label classification.

Each patient has several images from one machine, drawn from (seed, patient) only. Some are marked with calipers and
results that give the class away; the mask of these marks, and the test image without them, are part of the set.
"""

import csv
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .dataset import Order, PhantomOptions, Rows, make_patients, new_set, write_manifest, write_png
from .ultrasound_canvas import ORGANS, Canvas
from .ultrasound_decoys import PLANES
from .ultrasound_machine import Exam, draw_exam
from .ultrasound_marks import draw_marks
from .ultrasound_plan import Fractions, Patient, Shot, plan
from .ultrasound_scene import look, make_plane, visible
from .ultrasound_screen import Screen, decorate, layout, show_plane, show_volume

SIZES = (128, 1024)
FILES = re.compile(
    r"train\.csv|answers\.csv|manifest\.json|(train|test)(/images(/P\d+(/P\d+_\d\d\.png)?)?)?|"
    r"(overlays|regions|clean)(/P\d+_\d\d\.png)?"
)  # of a set
FORCED = ("largest", "split")  # columns of one label per image
RESEMBLED = {name: organ for name, (_, organ) in PLANES.items()} | {"blurred_volume": "3D"}
FINE = 448  # pixels of the screen on which an image is drawn, at least
TRIES = 30  # to draw a plane whose organs are in the field


class UltrasoundOptions(PhantomOptions):
    """Options of ``phantom ultrasound``; see :func:`make_ultrasound`."""

    size: int = 256
    marked: float = 0.3
    ambiguous: float = 0.15
    two_organs: float = 0.25
    three_organs: float = 0.05
    wrong_labels: float = 0.01
    missing_labels: float = 0.0


def make_ultrasound(
    out: Path,
    *,
    patients: int,
    size: int,
    seed: int,
    test_patients: int | None = None,
    marked: float = 0.3,
    ambiguous: float = 0.15,
    two_organs: float = 0.25,
    three_organs: float = 0.05,
    wrong_labels: float = 0.01,
    missing_labels: float = 0.0,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a synthetic data set of fetal ultrasound, four to eight images per patient.

    Under ``out``: ``train/images``, ``train.csv``, ``test/images``, ``answers.csv`` (of test, for scoring only),
    ``overlays`` (where marks are burnt in), ``clean`` (marked test images without marks), ``regions`` (a bit per class,
    in the order of ``ORGANS``) and ``manifest.json``. All files are written next to ``out`` and renamed at the end.

    Args:
        patients: training patients.
        size: side of the square images in pixels, 128 to 1024.
        seed: same seed, same files (of one version of this package and its libraries).
        test_patients: default a quarter of ``patients``, at least one.
        marked: fraction of the images with organs that have burnt-in marks.
        ambiguous: fraction of images without any organ; most resemble one.
        two_organs: fraction of images with two organs.
        three_organs: fraction of images with three organs.
        wrong_labels: fraction of training images whose row in ``train.csv`` is wrong.
        missing_labels: fraction of empty cells in ``train.csv``, of other rows than the wrong ones.
        workers: processes; default one per core.

    Returns:
        The manifest.

    Raises:
        ConfigError: an impossible argument. DataError: ``out`` exists or cannot be written. Held: another process is
            making it. OutputError: something is in the way of the folder in which it is made.
    """
    order = Order("ultrasound", patients, size, seed, test_patients, workers, progress, SIZES)
    fractions = Fractions(marked, ambiguous, two_organs, three_organs, wrong_labels, missing_labels)
    people = plan(order, fractions)
    with new_set(Path(out), FILES) as work:
        for name in ("overlays", "regions", "clean"):
            (work / name).mkdir()
        images = make_patients(partial(_make_patient, size=size, seed=seed, work=work), people, order, "ultrasound")
        areas = {row["image"]: row["organs"] for row in images}
        for split, name in (("train", "train.csv"), ("test", "answers.csv")):
            write_labels([person for person in people if person.split == split], areas, work / name)
        return write_manifest(work, order, vars(fractions), ORGANS, images)


def image_name(person: Patient, shot: Shot) -> str:
    """Name of an image without its ending."""
    return f"{person.group}_{shot.number:02d}"


def write_labels(people: list[Patient], areas: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """A CSV of labels as they are written: 1, 0, or empty for a cell that nobody filled in.

    Two more columns force one label on an image. ``largest`` names the written organ of the largest area, and ``none``
    if none is written. ``split`` divides the latter into ``no_<organ>`` for planes that resemble an organ and ``na``
    for others. Both are empty if a cell of the row is, as the largest organ is then not known.

    Args:
        areas: pixels by organ of each image, by its name.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image_name", "patient", *ORGANS, *FORCED])
        for person in people:
            for shot in person.shots:
                name = image_name(person, shot)
                cells = ["" if organ in shot.blank else int(organ in shot.written) for organ in ORGANS]
                forced = ("", "") if shot.blank else forced_labels(shot.written, shot.decoys, areas[name])
                table.writerow([name, person.group, *cells, *forced])


def forced_labels(written: Sequence[str], decoys: Sequence[str], areas: Mapping[str, int]) -> tuple[str, str]:
    """The one label of an image, without and with divided negatives; see :func:`write_labels`.

    Args:
        written: organs of its row. One that the image does not show has no area, so it counts only if no other is
            written; of equals the first of ``ORGANS`` does.
        decoys: its planes without an organ, of which the first that resembles one divides the negatives.
        areas: pixels by organ.
    """
    if written:
        largest = max(sorted(written, key=ORGANS.index), key=lambda organ: areas.get(organ, 0))
        return largest, largest
    resembled = next((RESEMBLED[decoy] for decoy in decoys if RESEMBLED.get(decoy)), None)
    return "none", f"no_{resembled}" if resembled else "na"


def _make_patient(person: Patient, *, size: int, seed: int, work: Path) -> Rows:
    """All images of one patient with their masks; returns their manifest rows."""
    cv2.setNumThreads(1)
    exam = draw_exam(np.random.default_rng([seed, 13, person.index]))
    return [_make_image(person, shot, exam, size, seed, work) for shot in person.shots]


def _make_image(person: Patient, shot: Shot, exam: Exam, size: int, seed: int, work: Path) -> dict[str, Any]:
    name = image_name(person, shot)
    exam = exam.wide() if len(shot.organs) > 1 else exam
    rng = np.random.default_rng([seed, 14, person.index, shot.number])
    scene = [seed, 15, person.index, zlib.crc32("+".join(shot.organs or shot.decoys[:1]).encode()), shot.scene]
    screen = make_screen(shot, exam, size, np.random.SeedSequence(scene), rng)
    decorate(screen, exam, rng, minute=5 + 2 * shot.number)
    clean = reduce(screen.grey, size)
    step = len(screen.regions) // size
    regions = np.ascontiguousarray(screen.regions[step // 2 :: step, step // 2 :: step])
    areas = {organ: int(np.count_nonzero(regions & (1 << k))) for k, organ in enumerate(ORGANS) if organ in shot.organs}
    image, marks = clean, Rows()
    if shot.marked:
        few = len(shot.organs) > 1 and rng.random() < 0.4
        chosen = [str(rng.choice(shot.organs))] if few else list(shot.organs)
        layer, marks = draw_marks(screen, chosen, exam, rng)
        image, mask = layer.over(clean)
        write_png(mask.astype(np.uint8) * 255, work / "overlays" / f"{name}.png")
        if person.split == "test":
            write_png(clean, work / "clean" / f"{name}.png")
    write_png(image, work / person.split / "images" / person.group / f"{name}.png")
    write_png(regions, work / "regions" / f"{name}.png")
    return {
        "image": name,
        "patient": person.group,
        "split": person.split,
        "machine": exam.machine.name,
        "weeks": round(exam.weeks, 1),
        "panels": len(screen.panels),
        "organs": areas,
        "largest": max(areas, key=lambda organ: areas[organ], default=None),
        "ambiguous": not shot.organs,
        "decoys": screen.decoys,
        "marks": marks,
        "repeat": shot.repeat,
        "wrong_label": list(shot.written) if shot.written != shot.organs else None,
        "missing_labels": list(shot.blank),
    }


def reduce(grey: np.ndarray, size: int) -> np.ndarray:
    """A fine screen float32[F, F] as uint8[size, size]."""
    return np.clip(np.round(cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)), 0, 255).astype(np.uint8)


def make_screen(shot: Shot, exam: Exam, size: int, scene: np.random.SeedSequence, rng: np.random.Generator) -> Screen:
    """The panels of one image, without captions and marks.

    Args:
        scene: the anatomy, shared by images that repeat each other.
        rng: all else.
    """
    shared = np.random.default_rng(scene)
    screen = Screen.empty(size * -(-FINE // size), exam)
    groups = _panels(shot, shared)
    places = layout(len(groups), len(screen.grey))
    for place, (organs, decoy) in zip(places, groups, strict=True):
        screen.decoys += [decoy] if decoy else []
        if organs == ("3D",) or decoy == "blurred_volume":
            inner = np.random.default_rng(shared.integers(2**63))
            show_volume(screen, place, exam, inner, rng, has_face=decoy is None)
            continue
        poor = decoy == "lost_contact"
        canvas = draw_plane(organs, "limbs" if poor else decoy, exam, shared, rng, shot.repeat)
        show_plane(screen, place, canvas, exam, rng, poor)
    return screen


def _panels(shot: Shot, rng: np.random.Generator) -> list[tuple[tuple[str, ...], str | None]]:
    """What the panels show, one after the other: organs, or a decoy."""
    flat = tuple(organ for organ in shot.organs if organ != "3D")
    groups: list[tuple[tuple[str, ...], str | None]] = []
    if len(flat) > 1 and rng.random() < 0.4:
        groups = [((organ,), None) for organ in flat]
    elif flat:
        groups = [(flat, None)]
    if "3D" in shot.organs:
        groups.append((("3D",), None))
    groups += [((), decoy) for decoy in shot.decoys]
    if len(groups) == 3:
        groups.append(((), str(rng.choice(list(PLANES)))))
    return groups if len(groups) < 2 or rng.random() < 0.5 else groups[::-1]


def draw_plane(
    organs: tuple[str, ...],
    decoy: str | None,
    exam: Exam,
    shared: np.random.Generator,
    rng: np.random.Generator,
    repeat: bool,
) -> Canvas:
    """A plane whose organs are all in the field: the first of several drawn."""
    for _ in range(TRIES):
        canvas = make_plane(organs, decoy, exam.weeks, exam.wall, exam.probe, shared)
        look(canvas, rng, moved=repeat)
        if visible(canvas, exam.probe, organs):
            break
    return canvas
