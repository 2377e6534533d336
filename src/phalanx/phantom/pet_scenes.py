"""One image of an animal: what lies on the film, and the outlines of what is labelled."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import pet_abdomen, pet_bone, pet_hips, pet_skeleton, pet_thorax, pet_torso
from .pet_animal import Animal
from .pet_canvas import Canvas, View, fine_side
from .pet_film import Field, Film, develop, draw_field

EVEN = 0.86  # least width of a normal windpipe over its median, at least


class Thing(NamedTuple):
    """A labelled object: whether it is diseased, and its outline float64[N, 2] on pixel edges of the image."""

    sick: bool
    outline: np.ndarray
    facts: dict[str, Any]


@dataclass
class Picture:
    """An image uint8[S, S] with its objects and what was drawn."""

    image: np.ndarray
    things: list[Thing]
    facts: dict[str, Any]


@dataclass
class Shot:
    """How one image is taken.

    ``traits``: numbers from 0 to 1 of the animal, from which its organs are made; ``rng``: of this image alone.
    """

    animal: Animal
    film: Film
    sick: bool
    traits: np.ndarray
    size: int
    rng: np.random.Generator
    left: bool = field(init=False)
    breath: float = field(init=False)
    frame: Field = field(init=False)

    def __post_init__(self) -> None:
        self.left = bool(self.rng.random() < 0.5)
        self.breath = float(self.rng.uniform(-1, 1))
        self.frame = draw_field(self.film, self.rng)

    def canvas(self, centre: tuple[float, float], width: float, turn: float) -> Canvas:
        """An empty film, moved, enlarged and turned a little at random."""
        move = self.rng.normal(0, 0.02, 2) * width
        view = View(
            (centre[0] + float(move[0]), centre[1] + float(move[1])), width * float(self.rng.uniform(0.96, 1.05)),
            float(np.clip(self.rng.normal(0, turn), -3 * turn, 3 * turn)),
        )  # fmt: skip
        return Canvas(fine_side(self.size), view)

    def seen(self, canvas: Canvas, outline: np.ndarray) -> np.ndarray:
        """An outline in u on pixel edges of the image, moved into the field."""
        return self.frame.clip((canvas.place(outline) + 0.5) * (self.size / canvas.side), self.size)

    def done(self, canvas: Canvas, things: list[Thing], facts: dict[str, Any]) -> Picture:
        """Develops the film."""
        image, shown = develop(canvas, self.film, self.frame, "L" if self.left else "R", self.size, self.rng)
        view = {"turn": round(canvas.view.turn, 2), "width_u": round(canvas.view.width, 2)}
        numbers = {key: round(value, 4) for key, value in vars(self.film).items() if isinstance(value, float)}
        return Picture(image, things, {**view, **shown, "film": numbers, **facts})


class Organs(NamedTuple):
    """What a trunk contains."""

    heart: pet_thorax.Heart
    trachea: pet_thorax.Trachea
    liver: pet_abdomen.Liver
    bladder: np.ndarray
    stones: list[np.ndarray]


class Wish(NamedTuple):
    """How the organs of a trunk are to be.

    ``score``: of the heart; ``widths``: of the windpipe in u, by its midline; ``bulk``, ``crossing``, ``aim``: of the
    liver; ``full``: the bladder, 0 to 1; ``stones``: in it.
    """

    score: float
    widths: Callable[[np.ndarray], np.ndarray]
    bulk: float
    crossing: float
    aim: float
    full: float = 0.4
    stones: bool = False


def trunk(shot: Shot, canvas: Canvas, wish: Wish, *, chest: bool) -> Organs:
    """Draws a trunk; ``chest``: as far as the view of the chest shows it, else that of the belly."""
    a, rng = shot.animal, shot.rng
    pet_torso.draw_flesh(canvas, a, pet_torso.skin(a, rng), rng)
    heart = pet_thorax.draw_heart(a, wish.score, shot.breath, shot.left, rng)
    path = pet_thorax.trachea_path(a, wish.score, rng)
    trachea = pet_thorax.Trachea(path, wish.widths(path))
    lungs = pet_thorax.draw_lungs(canvas, a, shot.breath, shot.left, float(rng.uniform(0.6, 0.76)))
    pet_thorax.draw_mediastinum(canvas, a, heart, lungs, rng)
    pet_thorax.draw_vessels(canvas, a, heart, shot.breath, rng)
    liver = pet_abdomen.draw_liver(a, shot.breath, wish.bulk, wish.crossing, wish.aim, rng)
    pet_abdomen.draw_organs(canvas, a, liver, shot.left, rng)
    urine, stones = pet_abdomen.bladder_outline(a, wish.full, rng), list[np.ndarray]()
    if chest:
        pet_thorax.draw_trachea(canvas, trachea, a, float(rng.uniform(0.14, 0.2)))
        pet_torso.draw_fore_limbs(canvas, a, float(rng.uniform(0, 1)), rng)
    else:
        pet_abdomen.draw_bowel(canvas, a, rng)
        pet_abdomen.draw_bladder(canvas, a, urine)
        stones = pet_abdomen.draw_stones(canvas, urine, rng) if wish.stones else stones
        pet_torso.draw_hind_limbs(canvas, a, float(rng.uniform(-1, 2)), rng)
    pet_skeleton.draw_spine(canvas, a, rng)
    pet_skeleton.draw_ribs(canvas, a, float(rng.normal(0, 0.3)), rng)
    pet_skeleton.draw_sternum(canvas, a, rng)
    return Organs(heart, trachea, liver, urine, stones)


def _common(shot: Shot) -> dict[str, Any]:
    return {
        "species": shot.animal.species, "build": shot.animal.build,
        "view": f"{'left' if shot.left else 'right'} lateral", "breath": round(shot.breath, 2),
        "chest_depth_u": round(shot.animal.depth, 2), "chest_width": round(shot.animal.width, 3),
        "fat": round(shot.animal.fat, 3), "age": round(shot.animal.old, 3),
    }  # fmt: skip


def _even(shot: Shot) -> "Callable[[np.ndarray], np.ndarray]":
    """Widths of a windpipe that is even: wide, or narrow throughout."""
    t = shot.traits
    share = (0.118 if shot.sick else 0.125) + 0.055 * t[0]
    if t[1] < 0.22:
        share *= 0.55 + 0.2 * t[2]
    base = share * 0.56 * shot.animal.depth

    def widths(path: np.ndarray) -> np.ndarray:
        s = np.linspace(0, 1, len(path))
        return base * (1 + 0.035 * np.sin(9 * s + 6 * t[3]) + 0.03 * np.sin(17 * s + 6 * t[4]) - 0.03 * s)

    return widths


def _narrowed(shot: Shot) -> "Callable[[np.ndarray], np.ndarray]":
    """Widths of a windpipe that narrows at one place, or along a stretch of it."""
    even, t = _even(shot), shot.traits

    def widths(path: np.ndarray) -> np.ndarray:
        at = -1.7 + 4.6 * t[5]  # x of the narrowing
        half = 0.35 + 0.5 * t[6] if t[7] < 0.5 else 1.1 + 0.75 * t[6]
        depth = 0.42 + 0.33 * t[8]
        off = np.abs(path[:, 0] - at) / half
        dip = np.where(off < 0.55, 1.0, np.exp(-(((off - 0.55) / 0.4) ** 2))) if t[7] >= 0.5 else np.exp(-1.4 * off**2)
        return even(path) * (1 - depth * dip)

    return widths


def _liver(shot: Shot) -> tuple[float, float]:
    """Bulk and crossing of the liver of an animal. Both normal and diseased livers are small and large."""
    t = shot.traits
    if shot.sick:
        return float(t[0] ** 1.25), float(0.45 + 1.1 * t[1])
    return float(t[0]), float(-1.1 + 0.85 * t[1])


def draw_thorax(shot: Shot, disease: str) -> Picture:
    """The chest from the side: of ``ch02`` the windpipe is labelled, of ``ch05`` the heart."""
    a, t = shot.animal, shot.traits
    canvas = shot.canvas((4.9, 0.43 * a.depth), 16.3, 1.8)
    score, widths = a.vhs, _even(shot)
    if disease == "ch05" and shot.sick:
        score = (10.9 if a.species == "dog" else 8.5) + 2.2 * float(t[9])
    elif disease == "ch02" and t[10] < 0.1:  # a large heart lifts the windpipe without narrowing it
        score += 1.5
    if disease == "ch02" and shot.sick:
        widths = _narrowed(shot)
    organs = trunk(shot, canvas, Wish(score, widths, float(t[11]), float(-1 + 0.8 * t[12]), float(t[13])), chest=True)
    heart, trachea = organs.heart, organs.trachea
    facts = _common(shot) | {"vhs": round(heart.score, 2)}
    pixels = shot.size / canvas.view.width
    if disease == "ch05":
        box = shot.seen(canvas, heart.outline)
        return shot.done(canvas, [Thing(shot.sick, box, {"vhs": facts["vhs"]})], facts)
    inside = shot.seen(canvas, trachea.path)
    free = (canvas.place(trachea.path) + 0.5) * (shot.size / canvas.side)
    shown = np.flatnonzero(np.abs(inside - free).max(1) < 1e-6)
    part = pet_thorax.Trachea(trachea.path[max(shown[0] - 1, 0) :], trachea.widths[max(shown[0] - 1, 0) :])
    least, median = float(part.widths.min()), float(np.median(part.widths))
    facts |= {
        "trachea_least": round(least * pixels, 2), "trachea_median": round(median * pixels, 2),
        "narrowing": round(least / median, 3),
    }  # fmt: skip
    return shot.done(canvas, [Thing(shot.sick, shot.seen(canvas, part.outline), {})], facts)


def draw_abdomen(shot: Shot, disease: str) -> Picture:
    """The belly from the side: of ``ab01`` the liver is labelled, of ``ab04`` the bladder."""
    a, t = shot.animal, shot.traits
    canvas = shot.canvas((16.0, 0.45 * a.depth), 19.4, 1.8)
    bulk, crossing = _liver(shot) if disease == "ab01" else (float(t[0]), float(-1 + 0.8 * t[1]))
    stones = disease == "ab04" and shot.sick
    wish = Wish(a.vhs, _even(shot), bulk, crossing, float(t[2]), float(0.15 + 0.85 * t[13]), stones)
    _, _, liver, urine, found = trunk(shot, canvas, wish, chest=False)
    facts = _common(shot)
    pixels = shot.size / canvas.view.width
    if disease == "ab01":
        facts |= {"bulk": round(bulk, 3), "crossing": round(liver.crossing * pixels, 2)}
        return shot.done(canvas, [Thing(shot.sick, shot.seen(canvas, liver.outline), {})], facts)
    facts |= {"bladder_full": round(float(t[13]), 2), "stones": len(found)}
    return shot.done(canvas, [Thing(shot.sick, shot.seen(canvas, urine), {})], facts)


def draw_hips(shot: Shot, disease: str) -> Picture:
    """The pelvis from below with both hip joints, or a narrow view of one of them."""
    t, rng = shot.traits, shot.rng
    shape = pet_hips.draw_shape(np.random.default_rng(int(t[0] * 2**40)))
    grades = [0.0, 0.0]
    if shot.sick:
        both = t[1] < 0.8
        worse = int(t[2] < 0.5)
        grades[worse] = float(0.12 + 0.88 * t[3])
        grades[1 - worse] = float(np.clip(grades[worse] + 0.5 * (t[4] - 0.5), 0.12, 1.0)) if both else 0.0
    one = rng.random() < 0.59
    side = int(rng.random() < 0.5) if not shot.sick or min(grades) > 0 else int(np.argmax(grades))
    centre = ((-1, 1)[side] * (shape.reach + 0.9), shape.drop + 0.3) if one else (0.0, shape.drop - 0.3)
    canvas = shot.canvas(centre, 5.6 if one else 14.0, 1.8)
    hips = pet_hips.draw_pelvis(canvas, shape, (grades[0], grades[1]), rng)
    things = []
    for number, (hip, grade) in enumerate(zip(hips, grades, strict=True)):
        if one and number != side:
            continue
        facts = {
            "side": ("left", "right")[number],
            "norberg": round(hip.angle, 1),
            "cover": hip.cover,
            "gap_u": round(hip.gap, 3),
        }
        things.append(Thing(grade > 0, shot.seen(canvas, hip.outline), facts))
    facts = {"species": "cat" if shape.cat else "dog", "view": "ventrodorsal", "one_joint": bool(one)}
    return shot.done(canvas, things, facts)


def draw_bone(shot: Shot, disease: str) -> Picture:
    """A long bone between its joints, whole or with one fracture, which alone is an object."""
    t, rng = shot.traits, shot.rng
    bone = list(pet_bone.BONES)[int(t[0] * len(pet_bone.BONES))]
    canvas = shot.canvas((0.0, 0.0), 11.5, 9.0)
    young = bool(t[1] < 0.3)
    fracture = pet_bone.draw_limb(canvas, bone, shot.sick, young, rng)
    facts: dict[str, Any] = {"species": shot.animal.species, "view": bone, "growth_plates": young, "fracture": None}
    things = []
    if fracture:
        facts |= {"fracture": fracture.kind, "fracture_at": round(fracture.at, 3)}
        things.append(Thing(True, shot.seen(canvas, fracture.outline), {}))
    return shot.done(canvas, things, facts)


SCENES = {
    "ab01": draw_abdomen, "ab04": draw_abdomen, "ch02": draw_thorax, "ch05": draw_thorax, "mu04": draw_hips,
    "mu02": draw_bone,
}  # fmt: skip
