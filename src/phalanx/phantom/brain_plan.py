"""What a brain set contains: the patients, their slices, and everything that is planted, counted exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .brain_grid import PLANES
from .brain_head import Head, draw_head
from .brain_lesion import CLASSES, TUMOURS, Lesion, draw_lesion
from .brain_scanner import SOURCES, Series, draw_series
from .brain_slice import View, draw_view

SLICES = (2, 6)  # per patient
PLANE_ODDS = {  # axial, coronal, sagittal
    "real": {"pituitary": (0.16, 0.42, 0.42), "other": (0.52, 0.26, 0.22)},
    "same": {"pituitary": (0.46, 0.29, 0.25), "other": (0.46, 0.29, 0.25)},
}
TWO_SERIES = 0.3  # fraction of patients with slices in two planes
WRONG_FROM = 20  # training images from which on at least one wrong label is planted
NEAR = ("reencoded", "rescaled")


@dataclass(frozen=True)
class Copy:
    """A test image that shows a training image again. ``kind``: exact, or one of :data:`NEAR`."""

    image: str
    kind: str


@dataclass(frozen=True)
class BrainPatient:
    """One patient. ``wrong``: class by slice number of the images with a wrong label; ``copies``: by slice number."""

    index: int
    group: str
    split: str
    label: str
    source: str
    slices: int
    wrong: dict[int, str]
    copies: dict[int, Copy]

    def image(self, number: int) -> str:
        """The name of a slice, counted from 1."""
        return f"{self.group}-{number:02d}"


@dataclass(frozen=True)
class Shot:
    """One slice to draw. ``offset``: from the middle of the tumour in mm."""

    number: int
    view: View
    series: Series
    offset: float


@dataclass(frozen=True)
class Anatomy:
    """What one patient's slices show. ``lesion``: of a healthy patient only chooses the place of the slices."""

    head: Head
    lesion: Lesion
    shots: tuple[Shot, ...]


def plan_patients(
    train: int,
    test: int,
    ratio: Sequence[float],
    confound: float,
    duplicates: float,
    wrong_labels: float,
    seed: int,
) -> list[BrainPatient]:
    """All patients, train first.

    Args:
        ratio: patients per class, in the order of ``CLASSES``.
        confound: fraction of a class's patients that come from the class's own source; the others come from all
            sources in equal numbers.
        duplicates: test images that are copies of training images, over the other test images.
        wrong_labels: fraction of training images.
    """
    people = []
    width = max(4, len(str(2 * (train + test))))
    for split, first, count in (("train", 0, train), ("test", train, test)):
        rng = np.random.default_rng([seed, 21, first])
        labels = [name for name, n in zip(CLASSES, apportion(count, ratio), strict=True) for _ in range(n)]
        sources = [s for name in CLASSES for s in _sources(labels.count(name), CLASSES.index(name), confound, rng)]
        for i, k in enumerate(rng.permutation(count)):
            slices = int(np.random.default_rng([seed, 22, first + i]).integers(SLICES[0], SLICES[1] + 1))
            people.append(
                BrainPatient(first + i, f"P{first + i + 1:0{width}d}", split, labels[k], sources[k], slices, {}, {})
            )
    present = [name for name, part in zip(CLASSES, ratio, strict=True) if part > 0]
    return _with_faults(people, present, duplicates, wrong_labels, width, seed)


def apportion(count: int, ratio: Sequence[float]) -> list[int]:
    """Whole numbers that add up to ``count`` in the given ratio (largest remainder).

    A positive part gets at least one if there are enough for all.
    """
    total = sum(ratio)
    exact = [count * part / total for part in ratio]
    parts = [int(value) for value in exact]
    order = sorted(range(len(ratio)), key=lambda k: (parts[k] - exact[k], k))
    for k in order[: count - sum(parts)]:
        parts[k] += 1
    for k, part in enumerate(ratio):
        if part > 0 and not parts[k] and max(parts) > 1:
            parts[parts.index(max(parts))] -= 1
            parts[k] = 1
    return parts


def _sources(count: int, own: int, confound: float, rng: np.random.Generator) -> list[str]:
    """The source of each patient of a class: the class's own, then all in turn in a random order."""
    bound = int(confound * count + 0.5)
    turn = rng.permutation(len(SOURCES))
    return [SOURCES[own]] * bound + [SOURCES[turn[k % len(SOURCES)]] for k in range(count - bound)]


def _with_faults(
    people: list[BrainPatient], present: list[str], duplicates: float, wrong_labels: float, width: int, seed: int
) -> list[BrainPatient]:
    """The patients with wrong labels and copies planted in different training images."""
    rng = np.random.default_rng([seed, 23])
    pool = [(p.index, number) for p in people if p.split == "train" for number in range(1, p.slices + 1)]
    tested = sum(p.slices for p in people if p.split == "test")
    wrong = round(wrong_labels * len(pool))
    if wrong_labels > 0 and len(pool) >= WRONG_FROM:
        wrong = max(wrong, 1)
    wrong = min(wrong, len(pool)) if len(present) > 1 else 0
    copies = min(round(duplicates * tested), len(pool) - wrong)
    order = [pool[k] for k in rng.permutation(len(pool))]
    for index, number in order[:wrong]:
        person = people[index]
        other = str(rng.choice([name for name in present if name != person.label]))
        people[index] = replace(person, wrong=person.wrong | {number: other})
    for k, (index, number) in enumerate(order[wrong : wrong + copies]):
        kind = "exact" if k % 2 == 0 else NEAR[k // 2 % 2]
        copy = Copy(f"P{len(people) + k + 1:0{width}d}-01", kind)  # as if it were another patient's
        people[index] = replace(people[index], copies=people[index].copies | {number: copy})
    return people


def draw_anatomy(person: BrainPatient, planes: str, seed: int) -> Anatomy:
    """A patient's head, tumour and slices, from (seed, patient) and the planned class and source only."""
    body, growth, acquisition = np.random.SeedSequence([seed, 24, person.index]).spawn(3)
    head = draw_head(np.random.default_rng(body))
    rng = np.random.default_rng(acquisition)
    odds = np.array(PLANE_ODDS[planes].get(person.label, PLANE_ODDS[planes]["other"]))
    count = 2 if person.slices >= 4 and rng.random() < TWO_SERIES else 1
    chosen = [PLANES[k] for k in rng.choice(len(PLANES), size=count, replace=False, p=odds)]
    growing = np.random.default_rng(growth)
    # slices of a healthy patient are where a tumour could be, so that their place does not give the class away
    kind = TUMOURS[int(growing.integers(len(TUMOURS)))] if person.label == "healthy" else person.label
    lesion = draw_lesion(growing, kind, chosen)
    shots: list[Shot] = []
    for k, plane in enumerate(chosen):
        view, series = draw_view(rng, plane), draw_series(rng, person.source)
        number = person.slices // count + (person.slices % count if k == 0 else 0)
        for offset in _offsets(rng, number, lesion.radius):
            shots.append(Shot(len(shots) + 1, view, series, offset))
    return Anatomy(head, lesion, tuple(shots))


def _offsets(rng: np.random.Generator, count: int, radius: float) -> list[float]:
    """Places of the slices of one series across a tumour, in mm from its middle."""
    if count == 1:
        return [float(rng.uniform(-0.4, 0.4) * radius)]
    reach = float(rng.uniform(0.5, 0.72) * radius)
    places = np.linspace(-reach, reach, count) + rng.uniform(-0.08, 0.08, count) * radius
    return [float(v) for v in places]
