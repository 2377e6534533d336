"""What a set of pet X-rays contains: the animals, their images, which are diseased and which labels are wrong."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from .dataset import Order

IMAGES = (1, 4)  # per animal
WRONG_FROM = 20  # training images from which on at least one wrong label is planted


class Disease(NamedTuple):
    """One study. ``truth``: masks or boxes; ``classes``: of its objects; ``images``: normal and diseased ones of the
    source, whose ratio train has."""

    region: str
    truth: str
    classes: tuple[str, ...]
    images: tuple[int, int]

    @property
    def fraction(self) -> float:
        """Fraction of diseased images in the source."""
        return self.images[1] / sum(self.images)


BOTH = ("normal", "diseased")
DISEASES = {
    "ab01": Disease("liver", "masks", BOTH, (3954, 1579)),
    "ch02": Disease("trachea", "masks", BOTH, (8336, 1106)),
    "ab04": Disease("bladder", "boxes", BOTH, (9140, 370)),
    "ch05": Disease("heart", "boxes", BOTH, (17251, 402)),
    "mu04": Disease("hips", "boxes", BOTH, (3915, 886)),
    "mu02": Disease("long bone", "boxes", ("fracture",), (4214, 897)),
}


@dataclass
class PetAnimal:
    """One animal of a split. ``sick``: in all of its images; ``wrong``: numbers of its images with a wrong label."""

    index: int
    group: str
    split: str
    images: int
    sick: bool = False
    wrong: tuple[int, ...] = ()

    def image(self, number: int) -> str:
        """Name of an image, counted from 1."""
        return f"{self.group}-{number:02d}"


def animals_of_test(patients: int, test_patients: int | None, test_diseased: int) -> int:
    """Number of test animals: a quarter of those of train unless given, enough for ``test_diseased``."""
    return test_patients if test_patients is not None else max(1, patients // 4, test_diseased)


def plan_animals(order: Order, diseased: float, test_diseased: int, wrong_labels: float) -> list[PetAnimal]:
    """All animals, train first.

    Args:
        diseased: fraction of the images of train, and of test if that gives as many as ``test_diseased``.
        test_diseased: diseased images of test, at least.
        wrong_labels: fraction of the images of train.

    Raises:
        ConfigError: test has fewer images than ``test_diseased``.
    """
    people: list[PetAnimal] = []
    width = max(4, len(str(order.patients + order.tested)))
    for split, first, count in (("train", 0, order.patients), ("test", order.patients, order.tested)):
        part = []
        for i in range(first, first + count):
            images = int(np.random.default_rng([order.seed, 41, i]).integers(IMAGES[0], IMAGES[1] + 1))
            part.append(PetAnimal(i, f"A{i + 1:0{width}d}", split, images))
        total = sum(animal.images for animal in part)
        want = round(diseased * total)
        if split == "test":
            if test_diseased > total:
                raise ConfigError(
                    f"test_diseased={test_diseased}: the {count} test animals have {total} images; raise test_patients "
                    "or lower test_diseased"
                )
            want = max(want, test_diseased)
        elif diseased > 0 and total > 1:
            want = max(want, 1)
        _make_sick(part, want, np.random.default_rng([order.seed, 42, first]))
        people += part
    _mislabel(people, wrong_labels, order.seed)
    return people


def _make_sick(part: list[PetAnimal], want: int, rng: np.random.Generator) -> None:
    """Makes animals sick whose images are ``want`` together, or the fewest above if that is impossible."""
    left = want
    turn = [part[int(k)] for k in rng.permutation(len(part))]
    for animal in turn:
        if animal.images <= left:
            animal.sick = True
            left -= animal.images
    if left > 0:
        min((a for a in turn if not a.sick), key=lambda a: a.images).sick = True


def _mislabel(people: list[PetAnimal], wrong_labels: float, seed: int) -> None:
    """Chooses the training images with a wrong label, over all animals."""
    pool = [(k, number) for k, a in enumerate(people) if a.split == "train" for number in range(1, a.images + 1)]
    count = round(wrong_labels * len(pool))
    if wrong_labels > 0 and len(pool) >= WRONG_FROM:
        count = max(count, 1)
    for k in np.random.default_rng([seed, 43]).permutation(len(pool))[:count]:
        index, number = pool[int(k)]
        people[index].wrong = (*people[index].wrong, number)
