"""The bones of the trunk in side view: spine, ribs with their cartilages, breastbone."""

from collections.abc import Callable

import numpy as np

from .pet_animal import FIRST, VERTEBRAE, Animal
from .pet_canvas import Canvas, band, curve, moved, normals

WALL = 0.055  # u of dense bone


def draw_spine(canvas: Canvas, animal: Animal, rng: np.random.Generator) -> None:
    """Vertebrae with their arches and spinous processes."""
    joints = animal.joints
    for k, (name, length) in enumerate(VERTEBRAE):
        a, b = joints[k], joints[k + 1]
        along = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
        frame = np.stack([along, np.array([along[1], -along[0]])])  # forwards, up
        _vertebra(canvas, animal, name, length, (a + b) / 2, frame, rng)


def _vertebra(
    canvas: Canvas, animal: Animal, name: str, length: float, middle: np.ndarray, frame: np.ndarray,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    region, number = name.rstrip("0123456789"), int(name.lstrip("CTLSd"))
    if np.abs(canvas.place(middle[None])[0] - canvas.side / 2).max() > 0.72 * canvas.side:
        return
    t, grow = animal.thick, animal.density

    def put(points: "list[tuple[float, float]]", amount: float, wall: float, edge: float | None = None) -> None:
        canvas.add_bone(np.array(points) @ frame + middle, amount * grow, wall * t, edge)

    half = length / 2 - (0.07 if region not in ("S",) else 0.015)
    high = {"C": 0.27, "T": 0.25, "L": 0.30, "S": 0.24, "Cd": 0.15}[region] * t
    if region == "Cd":
        high *= 1 - 0.05 * number
    waist, lip = 0.82 * high, 0.04 * animal.old * rng.uniform(0, 1.6)
    put(
        [(-half, high), (0, waist + 0.03), (half, high), (half + lip, -high), (0.5 * half, -waist),
         (-0.5 * half, -waist), (-half - lip, -high)], 0.55, 0.05, 0.32,
    )  # fmt: skip
    for side in (-1, 1):  # end plates
        x = side * (half - 0.03)
        put([(x - 0.03, high), (x + 0.03, high), (x + 0.03, -high), (x - 0.03, -high)], 0.42, 0.03, 0.25)
    if region == "Cd":
        return
    roof = high + 0.34 * t
    put([(-0.42 * length, high - 0.05), (-0.40 * length, roof), (0.02, roof), (0.02, high - 0.05)], 0.3, 0.04, 0.2)
    put([(-0.52 * length, roof - 0.02), (-0.5 * length, roof + 0.2 * t), (0.5 * length, roof + 0.16 * t),
         (0.62 * length, roof - 0.05), (0.35 * length, roof - 0.08)], 0.36, 0.04, 0.16)  # fmt: skip
    if region == "L":  # transverse processes, seen from their ends
        put(
            [(-0.55 * length, -0.25 * high), (-0.45 * length, 0.0), (0.1, 0.1 * high), (0.1, -0.3 * high)],
            0.2,
            0.04,
            0.2,
        )
    _spinous(put, animal, region, number, length, roof)


def _spinous(put: Callable[..., None], animal: Animal, region: str, number: int, length: float, roof: float) -> None:
    """The process on top: leaning back to T10, upright at T11, broad and leaning forwards behind it."""
    if region == "T" and number <= 11:
        tall = (2.35 - 0.155 * (number - 1)) * animal.spinous
        lean = 0.75 * tall if number < 11 else 0.1
        base, tip = 0.26 * length, 0.13
    elif region in ("T", "L"):
        tall, lean, base, tip = 0.88 * animal.spinous, -0.26, 0.36 * length, 0.27 * length
    elif region == "C":
        tall, lean, base, tip = (0.75 if number == 7 else 0.4) * animal.spinous, 0.05, 0.25, 0.15
    else:
        tall, lean, base, tip = 0.45 * animal.spinous, 0.1, 0.35 * length, 0.25 * length
    low = roof + 0.1
    put(
        [(-base, low), (lean - tip, low + tall * 0.93), (lean, low + tall), (lean + tip, low + tall * 0.95),
         (base + 0.08, low)], 0.38, 0.05, 0.14,
    )  # fmt: skip


def draw_ribs(canvas: Canvas, animal: Animal, spread: float, rng: np.random.Generator) -> None:
    """Both rows of ribs and their cartilages; ``spread``: how far the far row is behind the near one in u."""
    heads, sternum = animal.joints[FIRST : FIRST + 13], animal.sternum
    spots: list[tuple[np.ndarray, float]] = []
    for side in (0, 1):
        shift = np.array([spread * (side - 0.5), 0.05 * (side - 0.5)])
        for k in range(13):
            own = rng.normal(0, 0.05, 2)
            head, end = heads[k] + (0.02, -0.05), animal.rib_ends[k] + shift + own
            drop = end - head
            angle = head + np.array([0.28 + 0.04 * k, 0.02]) + shift * 0.6
            bend = head + drop * (0.42, 0.38) + (0.28 + 0.05 * k, 0.0) + shift * 0.8
            lower = head + drop * (0.8, 0.74) + (0.16 + 0.01 * k, 0.0) + shift
            path = curve(np.array([head, angle, bend, lower, end]), 28)
            width = (0.26 + 0.05 * np.linspace(-1, 1, 28) ** 2) * animal.thick * (0.8 if k == 12 else 1.0)
            canvas.add_bone(band(path, width), 0.30 * animal.density, 0.055 * animal.thick)
            if k < 12:
                spots += _cartilage(canvas, animal, k, path, sternum, shift, rng)
    grains = canvas.spots(np.array([at for at, _ in spots]), np.array([radius for _, radius in spots]))
    canvas.bone += np.float32((0.02 + 0.05 * animal.old) * animal.density) * grains


def _cartilage(
    canvas: Canvas, animal: Animal, k: int, rib: np.ndarray, sternum: np.ndarray, shift: np.ndarray,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, float]]:  # fmt: skip
    """From the end of a rib to the breastbone, or along the costal arch; returns the places and radii of its grains."""
    end = rib[-1]
    if k < 8:
        joint = sternum[min(5 * (k + 1) - 2, 40)] + (0.0, -0.18)
        knee = moved(end, 0.1 + 0.03 * k, 0.42 * (joint[1] - end[1]))
        path = curve(np.array([end, knee, joint]), 14)
    else:
        arch = animal.arch - normals(animal.arch) * 0.12 + shift * 0.4
        at = int(np.argmin(((arch - (moved(end, 0.35, 0.7))) ** 2).sum(1)))
        path = curve(np.concatenate([[end], arch[max(at - 2, 0) : max(at - 24, 3) : -4]]), 22)
    amount = (0.12 + 0.24 * animal.old) * animal.density
    canvas.add_bone(band(path, 0.21 * animal.thick), amount * 0.55, 0.04)
    grains = path[:: 2 if animal.old > 0.4 else 3]
    return [(p + rng.normal(0, 0.03, 2), float(rng.uniform(0.03, 0.09)) * animal.thick) for p in grains]


def draw_sternum(canvas: Canvas, animal: Animal, rng: np.random.Generator) -> None:
    """Eight sternebrae, of which the first is pointed and the last long."""
    path, across = animal.sternum, normals(animal.sternum)
    for k in range(8):
        i, j = 5 * k, 5 * (k + 1)
        a, b = path[i] + 0.06 * (path[j] - path[i]), path[j] - 0.06 * (path[j] - path[i])
        high = (0.26 - 0.014 * k) * animal.thick * rng.uniform(0.92, 1.08)
        up = across[(i + j) // 2] * high
        first, last = (0.55 if k == 0 else 1.0), (0.5 if k == 7 else 1.0)
        middle = (a + b) / 2
        shape = np.array(
            [a - up * first, middle - up * 0.78, b - up * last, b + up * last, middle + up * 0.78, a + up * first]
        )
        canvas.add_bone(shape, 0.42 * animal.density, WALL * animal.thick, 0.2)
    tip = path[-1]
    xiphoid = curve(np.array([tip, moved(tip, 0.6, 0.02), moved(tip, 1.1, 0.12)]), 8)
    canvas.add_bone(band(xiphoid, np.linspace(0.2, 0.08, 8)), 0.12 * animal.density, 0.04)
