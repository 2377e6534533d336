"""Synthetic X-rays of dogs and cats: an organ that is normal or diseased, as label maps or boxes.

One set has one study (``disease``), named like those of the source it imitates, of which only the organ, the kind of
truth, the class ratios and two signs are known: ab01 is diseased if the liver crosses the costal arch, ch02 if the
trachea narrows. The signs of the others are a choice of this package: ab04 stones in the bladder, ch05 a heart that is
large for the length of its vertebrae, mu04 a shallow socket with a subluxated head, mu02 a fracture.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ..errors import ConfigError
from .dataset import (
    Order,
    PhantomOptions,
    Rows,
    check_fraction,
    check_whole,
    make_patients,
    new_set,
    write_manifest,
    write_png,
)
from .pet_animal import draw_animal
from .pet_film import draw_film
from .pet_plan import DISEASES, Disease, PetAnimal, animals_of_test, plan_animals
from .pet_scenes import SCENES, Picture, Shot, Thing
from .pet_truth import box_of, coco, label_map, write_coco, write_table

FILES = re.compile(
    r"manifest\.json|train\.(csv|json)|test/answers\.(csv|json)|train|test|"
    r"(train/(images|labels)|test/(images|answers))(/A\d+(/A\d+-\d+\.png)?)?"
)  # of a set
SIZES = (128, 1024)
TRAITS = 16  # numbers from which an animal's organs are made
TEST_DISEASED = 40


class PetOptions(PhantomOptions):
    """Options of ``phantom pet``; see :func:`make_pet`, which refuses impossible values."""

    size: int = 256
    disease: Literal["ab01", "ab04", "ch02", "ch05", "mu02", "mu04"] = "ab01"
    diseased: float | None = None
    test_diseased: int = TEST_DISEASED
    wrong_labels: float = 0.02


def make_pet(
    out: Path,
    *,
    patients: int,
    size: int,
    seed: int,
    disease: str = "ab01",
    diseased: float | None = None,
    test_patients: int | None = None,
    test_diseased: int = TEST_DISEASED,
    wrong_labels: float = 0.02,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a synthetic data set of pet X-rays, one to four images per animal.

    Under ``out``: ``train/images``, ``test/images``; of masks ``train/labels`` and ``test/answers`` (label maps: 0
    background, 1 normal, 2 diseased); ``train.csv`` and ``test/answers.csv``, ``train.json`` and ``test/answers.json``
    (COCO), ``manifest.json``. All files are written next to ``out`` and renamed at the end.

    Args:
        patients: animals of train.
        size: side of the square images in pixels, 128 to 1024.
        seed: same seed, same files (of one version of this package and its libraries).
        disease: ``ab01`` liver, ``ch02`` trachea (masks); ``ab04`` bladder, ``ch05`` heart, ``mu04`` hip joints,
            ``mu02`` fractures of long bones (boxes).
        diseased: fraction of diseased images; None for that of the source.
        test_patients: animals of test; default a quarter of ``patients``, but at least ``test_diseased``.
        test_diseased: diseased images of test, at least; test has more than its fraction of them if need be.
        wrong_labels: fraction of training images with a wrong label; at least one if there are 20 images.
        workers: processes; default one per core.

    Returns:
        The manifest.

    Raises:
        ConfigError: an impossible argument. DataError: ``out`` exists or cannot be written. Held: another process is
            making it. OutputError: something is in the way of the folder in which it is made.
    """
    if disease not in DISEASES:
        raise ConfigError(f"disease={disease!r}: must be one of {', '.join(DISEASES)}")
    study = DISEASES[disease]
    fraction = study.fraction if diseased is None else diseased
    check_fraction("diseased", fraction)
    check_fraction("wrong_labels", wrong_labels)
    check_whole("test_diseased", test_diseased, 0, 99_999)
    check_whole("patients", patients, 1, 99_999)
    order = Order(
        "pet", patients, size, seed, animals_of_test(patients, test_patients, test_diseased), workers, progress, SIZES
    )
    people = plan_animals(order, fraction, test_diseased, wrong_labels)
    with new_set(Path(out), FILES) as work:
        (work / "test").mkdir()
        make = partial(_make_animal, disease=disease, size=size, seed=seed, work=work)
        made = make_patients(make, people, order, "pets")
        outlines = {row["image"]: [row.pop("outline")] for row in made if "outline" in row}
        for split, place in (("train", "train"), ("test", "test/answers")):
            rows = [row for row in made if row["split"] == split]
            write_table(rows, study.truth, work / f"{place}.csv")
            write_coco(coco(rows, study.classes, size, outlines), work / f"{place}.json")
        options = {
            "disease": disease,
            "organ": study.region,
            "truth": study.truth,
            "diseased": round(fraction, 4),
            "test_diseased": test_diseased,
            "wrong_labels": wrong_labels,
        }
        return write_manifest(work, order, options, study.classes, made)


def check_layout(layout: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError if a disease has no truth in a layout: label maps, or a CSV of boxes; all have COCO JSON."""
    disease = options.get("disease", PetOptions.model_fields["disease"].default)
    if disease not in DISEASES:
        raise ConfigError(f"data.phantom.options.disease={disease}: must be one of {', '.join(DISEASES)}")
    wanted = layout if layout in ("masks", "boxes") else DISEASES[disease].truth
    if wanted != DISEASES[disease].truth:
        others = ", ".join(name for name, one in DISEASES.items() if one.truth == wanted)
        raise ConfigError(
            f"data.phantom.options.disease={disease}: is labelled with {DISEASES[disease].truth}, and "
            f"data.layout={layout} reads {wanted}; give one of {others}"
        )


def draw_picture(
    person: PetAnimal, number: int, disease: str, size: int, seed: int, sick: bool | None = None
) -> Picture:
    """One image of an animal; ``sick``: as planned by default. Only the disease's sign depends on it."""
    root = [seed, 44, person.index]
    animal = draw_animal(np.random.default_rng([*root, 0]))
    film = draw_film(np.random.default_rng([*root, 1]))
    traits = np.random.default_rng([*root, 2]).random(TRAITS)
    rng = np.random.default_rng([seed, 45, person.index, number])
    shot = Shot(animal, film, person.sick if sick is None else sick, traits, size, rng)
    return SCENES[disease](shot, disease)


def _make_animal(person: PetAnimal, *, disease: str, size: int, seed: int, work: Path) -> Rows:
    """All images of one animal with their truth; returns their manifest rows."""
    cv2.setNumThreads(1)
    study = DISEASES[disease]
    rows: Rows = []
    for number in range(1, person.images + 1):
        picture, name = draw_picture(person, number, disease, size, seed), person.image(number)
        wrong = number in person.wrong
        rng = np.random.default_rng([seed, 46, person.index, number])
        objects = _labelled(picture.things, study, wrong, size, rng)
        row = {
            "image": name,
            "split": person.split,
            "patient": person.group,
            "class": ("normal", "diseased")[person.sick != wrong],
            "true_class": ("normal", "diseased")[person.sick],
            "wrong_label": wrong,
            **picture.facts,
            "objects": objects,
        }
        write_png(picture.image, work / person.split / "images" / person.group / f"{name}.png")
        if study.truth == "masks":
            row |= _write_map(picture.things[0], objects[0], size, work / person.split, f"{person.group}/{name}.png")
        rows.append(row)
    return rows


def _labelled(things: list[Thing], study: Disease, wrong: bool, size: int, rng: np.random.Generator) -> Rows:
    """The objects of an image as they are written. Of several the first is wrong if the image is to be wrong."""
    if study.classes == ("fracture",):
        outlines = [thing.outline for thing in things]
        if wrong:  # a fracture that nobody saw, or one that is not there
            side = size * rng.uniform(0.12, 0.2, 2)
            at = size * rng.uniform((0.4, 0.25), (0.6, 0.75))
            outlines = [] if outlines else [np.stack([at - side / 2, at + side / 2])]
        return [{"class": "fracture", "box": box_of(outline, size)} for outline in outlines]
    objects: Rows = []
    for k, thing in enumerate(things):
        mine = wrong and k == 0
        objects.append(
            {
                "class": study.classes[thing.sick != mine],
                "true_class": study.classes[thing.sick],
                "box": box_of(thing.outline, size),
            }
            | thing.facts
        )
    return objects


def _write_map(thing: Thing, item: dict[str, Any], size: int, folder: Path, file: str) -> dict[str, Any]:
    """Writes a label map; returns the outline and the area for the manifest."""
    outline = np.round(thing.outline, 1)
    value = 1 + ("normal", "diseased").index(item["class"])
    labels = label_map(outline, value, size)
    where = folder / ("labels" if folder.name == "train" else "answers") / file
    write_png(labels, where)
    item["area"] = int(np.count_nonzero(labels))
    return {"outline": outline.ravel().tolist(), "area": item["area"], "share": round(item["area"] / size**2, 5)}
