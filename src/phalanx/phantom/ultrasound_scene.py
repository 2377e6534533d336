"""A scan plane: which organs are where, what surrounds them, and how deep the machine looks."""

import math

import numpy as np

from .ultrasound_anatomy import abdomen, femur_length, head, head_width, waist
from .ultrasound_beam import BEAMS, SAMPLES, Probe, ripple
from .ultrasound_canvas import ABOVE, FLUID, ORGANS, SOFT, Canvas, Measure
from .ultrasound_decoys import PLANES
from .ultrasound_limbs import thigh
from .ultrasound_womb import back_wall, cavity, mother, neighbours, placenta, pocket

MIN_AREA, MIN_INSIDE = 90.0, 0.62  # mm^2 of an organ's region, and the part of it that is in the field
Half = tuple[float, float]  # half width and half height in mm


def half_size(organ: str, week: float, rng: np.random.Generator) -> Half:
    """Half width and height in mm of an organ of 2-D planes, about."""
    if organ == "AC":
        r = waist(week) / (2 * math.pi)
        return r, r
    if organ == "BPD":
        b = head_width(week) / 2
        return b / 0.79, b * 1.05
    if organ == "FL":
        length = femur_length(week)
        return 0.62 * length, 0.30 * length
    return rng.uniform(22, 40), rng.uniform(17, 30)


def arrange(sizes: list[Half], top: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Centres in mm: side by side from ``top`` on, a third one below."""
    gap = rng.uniform(1, 11)
    if len(sizes) == 1:
        return [np.array([rng.normal(0, 13), top + gap + sizes[0][1]])]
    (w0, h0), (w1, h1) = sizes[:2]
    between, lift = rng.uniform(-4, 4), rng.normal(0, 6, 2).clip(0, None)
    left = -(w0 + w1 + between / 2) + w0
    centres = [
        np.array([left, top + gap + h0 + lift[0]]),
        np.array([left + w0 + between + w1, top + gap + h1 + lift[1]]),
    ]
    for w, h in sizes[2:]:
        low = max(c[1] + s[1] for c, s in zip(centres, sizes, strict=False))
        centres.append(np.array([rng.normal(0, 0.3 * w), low + h * rng.uniform(0.95, 1.05)]))
    return centres


def make_plane(
    organs: tuple[str, ...], decoy: str | None, week: float, wall: Half, probe: Probe, rng: np.random.Generator
) -> Canvas:
    """A canvas with the organs, or with what is taken for one.

    Args:
        organs: one to three of AC, BPD, FL and AFI; none with a decoy.
        decoy: a name in ``PLANES``.
        week: of the pregnancy.
        wall: thickness in mm of the mother's fat, and of muscle and uterus behind it.
    """
    fat, rest = wall
    top = 1.6 + fat + rest
    order = sorted(organs, key=lambda organ: ("AFI", "FL", "AC", "BPD").index(organ))
    like = PLANES[decoy][1] if decoy else None
    names = order or [like or "AFI"]
    sizes = [half_size(organ, week, rng) for organ in names]
    places = arrange(list(reversed(sizes)) if rng.random() < 0.5 else sizes, top, rng)
    if len(sizes) > 1 and rng.random() < 0.5:
        places = [centre * (-1, 1) for centre in places]
    bottom = max(c[1] + s[1] for c, s in zip(places, sizes, strict=True)) + abs(rng.normal(2, 5))
    reach = max(abs(c[0]) + s[0] for c, s in zip(places, sizes, strict=True))
    depth = bottom + (rng.uniform(6, 30) if rng.random() < 0.75 else rng.uniform(30, 75))
    while probe.shape != "linear" and probe.span(depth * 0.6) / 2 < reach * 0.92 and depth < 240:
        depth += 6
    canvas = Canvas(depth, probe.span(depth) + 12, SOFT)
    front = mother(canvas, top, probe.surface, fat, rng)
    back = back_wall(canvas, bottom, rng)
    where = rng.random()
    if where < 0.3:
        placenta(canvas, front, 1, rng)
    elif where < 0.65:
        placenta(canvas, back, -1, rng)
    for organ, centre, size in zip(names, places, sizes, strict=True):
        if organ != "AFI":
            cavity(canvas, centre, size, rng)
    for centre, size in zip(places, sizes, strict=True):
        neighbours(canvas, centre, size, week, rng)
    for organ, centre, size in zip(order, places, sizes, strict=False):
        if organ == "AFI":
            pocket(canvas, centre, size, week, rng, FLUID._replace(echo=rng.uniform(-46, -33)))
        else:
            {"AC": abdomen, "BPD": head, "FL": thigh}[organ](canvas, centre, week, rng)
    if decoy:
        PLANES[decoy][0](canvas, places[0], week, rng)
    return canvas


def look(canvas: Canvas, rng: np.random.Generator, moved: bool) -> None:
    """Takes another look at a plane, in place: the probe is not held still (``moved``), tissue gives way."""
    if moved:
        canvas.shift(rng.normal(0, 3.5), rng.normal(0, 2.2, 2))
    ripple(canvas, rng, 0.45)
    if (canvas.regions == 1 << ORGANS.index("AFI")).any():
        canvas.measures.append(deepest(canvas))


def visible(canvas: Canvas, probe: Probe, organs: tuple[str, ...]) -> bool:
    """Whether most of each organ is in the probe's field, and not hidden by another."""
    part = canvas.regions[::4, ::4]
    rows, columns = np.nonzero(part)
    x = ((4 * columns + 0.5) / canvas.scale - canvas.width / 2).astype(np.float32)
    z = ((4 * rows + 0.5) / canvas.scale - ABOVE).astype(np.float32)
    beam, sample = probe.samples(x, z, canvas.depth)
    inside = (beam >= 0) & (beam <= BEAMS - 1) & (sample >= 0) & (sample <= SAMPLES - 1)
    for organ in organs:
        own = part[rows, columns] == 1 << ORGANS.index(organ)
        area = own.sum() * (4 / canvas.scale) ** 2
        if area < MIN_AREA or inside[own].mean() < MIN_INSIDE:
            return False
    return True


def deepest(canvas: Canvas) -> Measure:
    """The longest vertical within the pocket of fluid, as it is measured for AFI."""
    free = canvas.regions == 1 << ORGANS.index("AFI")
    run = np.zeros(free.shape[1], int)
    best, row = np.zeros_like(run), np.zeros_like(run)
    for r in range(len(free)):
        run = (run + 1) * free[r]
        longer = run > best
        best, row = np.where(longer, run, best), np.where(longer, r, row)
    best = np.convolve(best, np.ones(5) / 5, mode="same").astype(int)  # not in a notch
    column = int(best.argmax())
    x = (column + 0.5) / canvas.scale - canvas.width / 2
    low = (row[column] + 0.5) / canvas.scale - ABOVE
    return Measure("AFI", "AFI", ends=np.array([(x, low - best[column] / canvas.scale), (x, low)]))
