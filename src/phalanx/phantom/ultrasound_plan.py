"""Which image shows what: exact numbers of organs, marks and wrong labels, dealt to the images of all patients."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError
from .dataset import Order, check_fraction
from .ultrasound_canvas import ORGANS
from .ultrasound_decoys import PLANES

SINGLE = {"AC": 0.27, "BPD": 0.25, "FL": 0.20, "AFI": 0.16, "3D": 0.12}
PAIRS = {
    "AC+AFI": 0.19, "FL+AFI": 0.14, "BPD+AFI": 0.12, "AC+FL": 0.15, "AC+BPD": 0.13, "BPD+FL": 0.09,
    "BPD+3D": 0.07, "AC+3D": 0.06, "AFI+3D": 0.05,
}  # fmt: skip
TRIPLES = {"AC+FL+AFI": 0.32, "AC+BPD+AFI": 0.20, "AC+BPD+FL": 0.18, "BPD+FL+AFI": 0.14, "AC+BPD+3D": 0.16}
DECOYS = dict.fromkeys(PLANES, 1.0) | {"placenta": 1.4, "blurred_volume": 2.0, "lost_contact": 0.5}
CONFUSED = {"AC": "AFI", "AFI": "AC", "BPD": "AC", "FL": "AFI", "3D": "BPD"}  # what a hurried reader writes instead
IMAGES = (4, 8)  # of a patient
MIN_DUAL = 0.07  # fraction of images with at most one organ that share the screen with a plane without any


@dataclass(frozen=True)
class Fractions:
    """Fractions of images; see :func:`.ultrasound.make_ultrasound`.

    Raises:
        ConfigError: one is not from 0 to 1, or some exclude each other.
    """

    marked: float
    ambiguous: float
    two_organs: float
    three_organs: float
    wrong_labels: float
    missing_labels: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_fraction(name, value)
        for names in (("ambiguous", "two_organs", "three_organs"), ("wrong_labels", "missing_labels")):
            total = sum(getattr(self, name) for name in names)
            if total > 1 + 1e-9:
                raise ConfigError(
                    f"{names[0]}={getattr(self, names[0])!r}: with {' and '.join(names[1:])} it is {total:g} of the "
                    "images; give fractions that add up to at most 1"
                )


@dataclass
class Shot:
    """What one image is to show.

    ``organs``: sorted as ``ORGANS``; ``decoys``: planes without an organ; ``marked``: with burnt-in marks; ``written``:
    the organs of its row in the table of labels, ``blank`` those whose cells are empty; ``repeat``: of an earlier
    image of the patient with the same organs, counted in pairs.
    """

    number: int
    organs: tuple[str, ...] = ()
    decoys: tuple[str, ...] = ()
    marked: bool = False
    written: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    scene: int = 0
    repeat: bool = False


@dataclass
class Patient:
    """One patient of a split with her images."""

    index: int
    group: str
    split: str
    shots: list[Shot] = field(default_factory=list)


def plan(order: Order, fractions: Fractions) -> list[Patient]:
    """All patients, first those of train, with exact numbers of everything per split (rounded half up).

    What an image shows depends on the whole plan; how it looks, on (seed, patient) only.
    """
    people, width = [], max(3, len(str(order.patients + order.tested)))
    for split, first, count in (("train", 0, order.patients), ("test", order.patients, order.tested)):
        found = []
        for i in range(first, first + count):
            person = Patient(i, f"P{i + 1:0{width}d}", split)
            images = int(np.random.default_rng([order.seed, 12, i]).integers(IMAGES[0], IMAGES[1] + 1))
            person.shots = [Shot(number) for number in range(images)]
            found.append(person)
        rng = np.random.default_rng([order.seed, 11, first])
        shots = [shot for person in found for shot in person.shots]
        _deal_organs(shots, fractions, rng)
        _deal_labels(shots, fractions, rng, wrong=split == "train")
        for person in found:
            _pair(person.shots)
        people += found
    return people


def part(fraction: float, count: int) -> int:
    """A fraction of a number of images, rounded half up."""
    return min(count, int(fraction * count + 0.5))


def deal(weights: dict[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """``count`` names in the proportions of their weights, by largest remainders, shuffled.

    >>> sorted(deal({"a": 2, "b": 1}, 3, np.random.default_rng(0)))
    ['a', 'a', 'b']
    """
    names, total = list(weights), sum(weights.values())
    exact = np.array([weights[name] * count / total for name in names])
    each = np.floor(exact + 1e-9).astype(int)
    for k in np.argsort(-(exact - each), kind="stable")[: count - each.sum()]:
        each[k] += 1
    found = [name for name, times in zip(names, each, strict=True) for _ in range(times)]
    return [found[k] for k in rng.permutation(count)]


def _deal_organs(shots: Sequence[Shot], fractions: Fractions, rng: np.random.Generator) -> None:
    mixed = [shots[k] for k in rng.permutation(len(shots))]
    none = part(fractions.ambiguous, len(shots))
    two = min(part(fractions.two_organs, len(shots)), len(shots) - none)
    three = min(part(fractions.three_organs, len(shots)), len(shots) - none - two)
    negative, positive = mixed[:none], mixed[none:]
    for shot, decoy in zip(negative, deal(DECOYS, none, rng), strict=True):
        shot.decoys = (decoy,)
    names = deal(PAIRS, two, rng) + deal(TRIPLES, three, rng) + deal(SINGLE, len(positive) - two - three, rng)
    for shot, name in zip(positive, names, strict=True):
        shot.organs = tuple(sorted(name.split("+"), key=ORGANS.index))
    for k in rng.permutation(len(positive))[: part(fractions.marked, len(positive))]:
        positive[k].marked = True
    simple = [shot for shot in mixed if len(shot.organs) < 2]
    for k in rng.permutation(len(simple))[: part(MIN_DUAL, len(simple))]:
        simple[k].decoys += (str(rng.choice(list(PLANES))),)


def _deal_labels(shots: Sequence[Shot], fractions: Fractions, rng: np.random.Generator, wrong: bool) -> None:
    """Labels as written: right in test; in train some wrong, and some cells of other images empty."""
    for shot in shots:
        shot.written = shot.organs
    if not wrong:
        return
    mixed = [shots[k] for k in rng.permutation(len(shots))]
    count = part(fractions.wrong_labels, len(shots))
    for shot in mixed[:count]:
        shot.written = _mistake(shot, rng)
    cells = [(shot, organ) for shot in mixed[count:] for organ in ORGANS]
    blank = min(part(fractions.missing_labels, len(ORGANS) * len(shots)), len(cells))
    for k in rng.permutation(len(cells))[:blank]:
        shot, organ = cells[k]
        shot.blank = tuple(sorted((*shot.blank, organ), key=ORGANS.index))


def _mistake(shot: Shot, rng: np.random.Generator) -> tuple[str, ...]:
    """Other organs than the image shows: one taken for another, one overlooked, or one seen in a decoy."""
    if not shot.organs:
        like = PLANES[shot.decoys[0]][1] if shot.decoys[0] in PLANES else None
        return (like or str(rng.choice(ORGANS)),)
    lost = str(rng.choice(shot.organs))
    rest = [organ for organ in shot.organs if organ != lost]
    instead = CONFUSED[lost]
    if instead not in rest and rng.random() < 0.75:
        rest.append(instead)
    return tuple(sorted(rest, key=ORGANS.index))


def _pair(shots: list[Shot]) -> None:
    """Images of a patient with the same content are pairs of looks at the same plane."""
    seen: dict[tuple[str, ...], int] = {}
    for shot in shots:
        key = shot.organs or shot.decoys[:1]
        times = seen.get(key, 0)
        shot.scene, shot.repeat = times // 2, times % 2 == 1
        seen[key] = times + 1
