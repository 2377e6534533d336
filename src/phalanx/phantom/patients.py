"""The patients: sex, age, height, weight and bone size, and the metadata sheet with human spelling.

Bone size correlates most with height, less with weight and hardly with age: the correlations of mask area with them
are those published for the competition's data (.794, .649, .127).
"""

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from openpyxl import Workbook

from ..runtime.leftovers import temporary_folder

HEIGHT = {True: (174.0, 6.0), False: (161.0, 5.5)}  # cm, mean and spread; True: male
MALE_TRAIN, MALE_TEST = 0.44, 0.59  # the competition's test set has 1.34 times the males of its training set
MALE = ("M", "M", "M", "male", "Male", "MALE", " M", "m", "M.", "남", "man", "_M")
FEMALE = ("F", "F", "F", "female", "Female", "FEMALE", "F ", "f", "F.", "여", "woman", "_F")
MISSING = 0.03  # fraction of empty cells in each optional column


@dataclass(frozen=True)
class Patient:
    """One person. ``size_z``: log area of the bones in standard deviations; ``weight_z``: of the weight."""

    index: int
    group: str
    split: str
    rotated: bool
    male: bool
    age: int
    height: float
    weight: float
    size_z: float
    weight_z: float


def draw_patients(train: int, test: int, rotated_test: float, seed: int) -> list[Patient]:
    """Train patients, then test patients, each from (seed, index) only; who is rotated is drawn per split.

    The number of rotated patients is exact: ``rotated_test`` of the test set, a tenth of that fraction in train,
    rounded half up.
    """
    people = []
    width = max(3, len(str(train + test)))
    for split, first, count, fraction, males in (
        ("train", 0, train, rotated_test / 10, MALE_TRAIN),
        ("test", train, test, rotated_test, MALE_TEST),
    ):
        order = np.random.default_rng([seed, 1, first]).permutation(count)
        rotated = set(order[: int(fraction * count + 0.5)].tolist())
        for i in range(count):
            rng = np.random.default_rng([seed, 2, first + i])
            body = _draw_body(rng, bool(rng.random() < males))
            people.append(Patient(first + i, f"ID{first + i + 1:0{width}d}", split, i in rotated, *body))
    return people


def _draw_body(rng: np.random.Generator, male: bool) -> tuple[bool, int, float, float, float, float]:
    """sex, age, height, weight, and standard scores of bone size and weight, with the published correlations."""
    mean, spread = HEIGHT[male]
    height = float(np.clip(rng.normal(mean, spread), 140, 200))
    tall = (height - 168.7) / 8.7  # standard score in the mixture of sexes whose hands were measured
    z = rng.standard_normal(3)
    # a little above the published values: the border crops the forearm at random, which lowers them again
    size = 0.86 * tall + 0.51 * z[0]
    weight_z = 0.38 * tall + 0.38 * size + 0.68 * z[1]  # correlation .71 with either
    age_z = 0.15 * size + 0.99 * z[2]
    age = 19 + round(55 * NormalDist().cdf(age_z))
    weight = float(np.clip(65.0 * np.exp(0.17 * weight_z), 38, 140))
    return male, age, height, weight, float(size), float(weight_z)


def write_sheet(people: list[Patient], seed: int, path: Path) -> None:
    """The metadata sheet, xlsx: ID, age, sex, height, weight; spelled by several people, some cells empty.

    The bytes depend only on the content: an xlsx otherwise contains the time of writing.
    """
    rng = np.random.default_rng([seed, 3])
    book = Workbook()
    sheet = book.active
    sheet.title = "meta_data"
    sheet.append(["ID", "age", "sex", "height", "weight"])
    for person in people:
        spelled = str(rng.choice(MALE if person.male else FEMALE))
        row = [person.age, spelled, round(person.height, 1), round(person.weight, 1)]
        sheet.append([person.group, *(None if rng.random() < MISSING else cell for cell in row)])
    raw = io.BytesIO()
    with temporary_folder():  # openpyxl writes each sheet into a file first
        book.save(raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", b"2024-01-01T00:00:00Z", content)
            target.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
