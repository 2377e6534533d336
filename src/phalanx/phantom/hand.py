"""Synthetic hands: a data set in the competition's layout whose 29 bones have the geometry of real hands.

Each patient has two hands, alike and mirrored, drawn from (seed, patient) only, so the files are the same for any
number of workers. What was planted (rings, noise bands, wrong annotations, ...) is listed in ``manifest.json``.
"""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .anatomy import CANVAS, HAND_CLASSES, Hand, cut_below, pose_hand, rotation
from .dataset import Order, PhantomOptions, check_fraction, make_patients, new_set, write_manifest, write_png
from .faults import add_metal, add_noise_band, draw_faults
from .patients import Patient, draw_patients, write_sheet
from .tissue import draw_flesh, flesh_path
from .xray import bone_density, draw_appearance, expose

FILES = re.compile(
    r"meta_data\.xlsx|manifest\.json|(train|test)(/(DCM|outputs_json|answers_json)(/ID\d+(/image\d+_[LR]\.(png|json))?)?)?"
)  # of a set
SIZES = (128, CANVAS)
WRONG_FRACTION = (
    0.005  # of training images, for each kind of wrong annotation; at least one if there are WRONG_FROM images
)
WRONG_FROM = 20
WRONG = {
    "pisiform_trapezoid_swapped": {"Pisiform": "Trapezoid", "Trapezoid": "Pisiform"},
    "thumb_order_swapped": {"finger-1": "finger-3", "finger-3": "finger-1"},
}


class HandOptions(PhantomOptions):
    """Options of ``phantom hand``; see :func:`make_hands`."""


def make_hands(
    out: Path,
    *,
    patients: int,
    size: int,
    seed: int,
    test_patients: int | None = None,
    rotated_test: float = 0.5,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a synthetic data set of hand X-rays, two images per patient.

    Under ``out``: ``train/DCM``, ``train/outputs_json``, ``test/DCM``, ``test/answers_json`` (for scoring only),
    ``meta_data.xlsx`` and ``manifest.json``. All files are written next to ``out`` and renamed at the end.

    Args:
        patients: training patients.
        size: side of the square images in pixels, 128 to 2048.
        seed: same seed, same files (of one version of this package and its libraries).
        test_patients: default a quarter of ``patients``, at least one.
        rotated_test: fraction of test patients with a deviated wrist; a tenth of it in train.
        workers: processes; default one per core.

    Returns:
        The manifest.

    Raises:
        ConfigError: an impossible argument. DataError: ``out`` exists or cannot be written. Held: another process is
            making it. OutputError: something is in the way of the folder in which it is made.
    """
    order = Order("hand", patients, size, seed, test_patients, workers, progress, SIZES)
    check_fraction("rotated_test", rotated_test)
    people = draw_patients(patients, order.tested, rotated_test, seed)
    with new_set(Path(out), FILES) as work:
        make = partial(_make_patient, wrong=_wrong_annotations(patients, seed), size=size, seed=seed, work=work)
        images = make_patients(make, people, order, "hands")
        write_sheet(people, seed, work / "meta_data.xlsx")
        return write_manifest(work, order, {"rotated_test": rotated_test}, HAND_CLASSES, images)


def _wrong_annotations(patients: int, seed: int) -> dict[tuple[int, int], str]:
    """(patient, hand) of the training images that get wrong labels, and the kind."""
    images = 2 * patients
    count = max(round(WRONG_FRACTION * images), int(images >= WRONG_FROM))
    chosen = np.random.default_rng([seed, 4]).permutation(images)[: count * len(WRONG)]
    return {(int(i) // 2, int(i) % 2): kind for i, kind in zip(chosen, sorted(WRONG) * count, strict=True)}


def _make_patient(
    person: Patient, *, wrong: dict[tuple[int, int], str], size: int, seed: int, work: Path
) -> list[dict[str, Any]]:
    """Both images of one patient with their annotations; returns their manifest rows."""
    cv2.setNumThreads(1)
    root = np.random.SeedSequence([seed, 5, person.index])
    shared, style, *hands = root.spawn(4)
    rows = []
    for number, (hand_seed, right) in enumerate(zip(hands, (False, True), strict=True)):
        both, rng = np.random.default_rng(style), np.random.default_rng(hand_seed)
        appearance, flesh = draw_appearance(both), draw_flesh(both, person.weight_z)
        stamp = 1_660_000_000_000 + person.index * 1_000_000 + int(both.integers(0, 900_000)) + 500 * number
        name = f"image{stamp}_{'R' if right else 'L'}"
        hand = pose_hand(shared, rng, rotated=person.rotated, right=right, size_z=person.size_z)
        faults = draw_faults(rng)
        attenuation = flesh_path(hand, flesh, size, rng) * np.float32(appearance.flesh)
        attenuation += bone_density(hand, appearance, size, rng)
        add_metal(attenuation, hand, faults, rng)
        image = expose(attenuation, appearance, rng)
        if "noise_band" in faults:
            add_noise_band(image, rng)
        kind = wrong.get((person.index, number)) if person.split == "train" else None
        split = work / person.split
        write_png(image, split / "DCM" / person.group / f"{name}.png")
        answers = split / ("outputs_json" if person.split == "train" else "answers_json") / person.group
        answers.mkdir(parents=True, exist_ok=True)
        labels = WRONG[kind] if kind else {}
        text = json.dumps({"annotations": annotate(hand, size, labels)}, separators=(",", ":"))
        (answers / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        rows.append(
            {
                "image": name,
                "group": person.group,
                "split": person.split,
                "side": "right" if right else "left",
                "rotated": person.rotated,
                "rotation_deg": round(rotation(hand.bones), 1),
                "faults": faults,
                "wrong_annotation": kind,
            }
        )
    return rows


def annotate(hand: Hand, size: int, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Polygons of a hand in pixels of a image of ``size``, cropped at its lower border; ``labels`` renames some.

    Coordinates are whole pixels from 1024 on, tenths below, where a pixel is a large part of a bone.
    """
    items = []
    for name in HAND_CLASSES:
        points = (cut_below(hand.bones[name].outline, CANVAS - 0.5) + 0.5) * (size / CANVAS) - 0.5
        points = np.clip(points, 0, size - 1).round(0 if size >= 1024 else 1)
        keep = np.any(points != np.roll(points, 1, axis=0), axis=1)
        values = points[keep].astype(int) if size >= 1024 else points[keep]
        items.append({"label": labels.get(name, name), "points": values.tolist()})
    return items
