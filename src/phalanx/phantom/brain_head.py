"""One patient's head: its measures, the cavity of the skull, the skin, and the canvas on which tissues are painted."""

from dataclasses import dataclass

import numpy as np

from .brain_grid import (
    Box,
    Centre,
    Grid,
    Point,
    capsule,
    egg,
    ellipsoid,
    noise_volumes,
    point,
    sample_noise,
    smooth_max,
    smooth_min,
)

CELL = 3.4  # mm per cell of the fine noise
Rough = tuple[np.ndarray, float]  # noise[H, W], and its amplitude in mm
Value = str | np.ndarray | np.float32  # a tissue, an image of intensities, or one intensity


@dataclass(frozen=True)
class Head:
    """One patient's head. Lengths in mm, factors without unit."""

    scale: Point
    skull: float  # thickness of the bone
    scalp: float  # thickness of skin and fat
    fat: float  # amount of fat in face and neck
    atrophy: float  # width of sulci, over the usual one
    ventricles: float  # radius of the ventricles, over the usual one
    gyral: float  # how much sulci wind
    face: float  # length of face and nose
    sinus: float  # size of the air cells
    sulci: np.ndarray  # noise of one gyrus' width
    fine: np.ndarray  # noise of a few mm
    slow: np.ndarray  # noise of some cm
    warp: np.ndarray  # float32[2, 8, 8, 8]: in-plane displacement


def draw_head(rng: np.random.Generator) -> Head:
    """A random head."""
    age = rng.random()
    sulci, fine, slow = noise_volumes(rng, 64, ((6.6, 0.33), (2.6, 0.45), (15.0, 0.5)))
    return Head(
        scale=point(rng.normal(1.0, 0.035, 3).clip(0.92, 1.08)),
        skull=rng.uniform(4.2, 7.5),
        scalp=rng.uniform(4.0, 8.0),
        fat=rng.uniform(0.3, 1.0),
        atrophy=float(0.45 + 1.1 * age**2 + rng.uniform(0, 0.35)),
        ventricles=float(0.72 + 0.5 * age + rng.normal(0, 0.1)),
        gyral=rng.uniform(0.6, 1.0),
        face=rng.uniform(0.9, 1.1),
        sinus=rng.uniform(0.75, 1.2),
        sulci=sulci,
        fine=fine,
        slow=slow,
        warp=rng.standard_normal((2, 8, 8, 8)).astype(np.float32),
    )


class Canvas:
    """An image of tissue intensities to which layers are added, each over those before it."""

    def __init__(self, grid: Grid, tissue: dict[str, float], soft: float, noise: tuple[np.ndarray, np.ndarray]) -> None:
        """``soft``: width in mm over which a border is blurred by partial volume; ``noise``: fine and slow."""
        self.grid, self.tissue, self.soft, self.noise = grid, tissue, soft, noise
        self.image = np.zeros(grid.shape, np.float32)

    def crop(self, box: Box) -> "Canvas":
        """A part of the canvas, which shares its image."""
        part = Canvas(self.grid.crop(box), self.tissue, self.soft, (self.noise[0][box], self.noise[1][box]))
        part.image = self.image[box]
        return part

    def value(self, tissue: str) -> np.float32:
        """The intensity of a tissue."""
        return np.float32(self.tissue[tissue])

    def paint(self, distance: np.ndarray, value: Value, *, opacity: float = 1.0, soft: float | None = None) -> None:
        """Paints where ``distance`` (mm) is negative."""
        over(self.image, distance, self.value(value) if isinstance(value, str) else value, soft or self.soft, opacity)

    def blob(
        self, centre: Centre, radii: Centre, value: str, *, mirrored: bool = True, opacity: float = 1.0,
        soft: float | None = None, rough: Rough | None = None,
    ) -> None:  # fmt: skip
        """Paints an ellipsoid; ``rough`` is added to the distance."""
        margin = self.soft + (2.5 * abs(rough[1]) if rough else 0.0)
        box = self.grid.box(centre, radii, margin, mirrored=mirrored)
        if box is None:
            return
        distance = ellipsoid(self.grid.crop(box), centre, radii, mirrored=mirrored)
        if rough:
            distance = distance + rough[0][box] * np.float32(rough[1])
        over(self.image[box], distance, self.value(value), soft or self.soft, opacity)

    def tube(
        self, a: Centre, b: Centre, ra: float, rb: float, value: str, *, flat: Centre = (1, 1, 1),
        opacity: float = 1.0, soft: float | None = None, rough: Rough | None = None,
    ) -> None:  # fmt: skip
        """Paints a mirrored capsule."""
        reach = max(ra, rb) / min(flat)
        low, high = np.minimum(a, b), np.maximum(a, b)
        margin = self.soft + (2.5 * abs(rough[1]) if rough else 0.0)
        box = self.grid.box(point((low + high) / 2), point((high - low) / 2 + reach), margin, mirrored=True)
        if box is not None:
            distance = capsule(self.grid.crop(box), a, b, ra, rb, flat)
            if rough:
                distance = distance + rough[0][box] * np.float32(rough[1])
            over(self.image[box], distance, self.value(value), soft or self.soft, opacity)


def over(image: np.ndarray, distance: np.ndarray, value: np.ndarray | np.float32, soft: float, opacity: float) -> None:
    """Blends a value over an image, in place, where the distance is negative."""
    alpha = np.clip(np.float32(0.5) - distance * np.float32(1 / soft), 0, 1)
    if opacity != 1.0:
        alpha *= np.float32(opacity)
    image += alpha * (value - image)


def textures(head: Head, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The head's fine and slow noise on a plane, float32[H, W] each."""
    return sample_noise(head.fine, grid, CELL), sample_noise(head.slow, grid, CELL)


def cavity(grid: Grid) -> np.ndarray:
    """Signed distance to the inside of the skull, negative inside."""
    main = egg(grid, (0, -7, 12), (67, 85, 61), 0.0012, 2.35)
    roof = np.exp(-np.square((grid.ax - 29) / 15) - np.square((grid.y - 42) / 24))  # of the orbits
    floor = -20 + 0.16 * np.maximum(grid.y - 12, 0) + 6 * roof + 3 * np.exp(-np.square(grid.y / 12 - 2))
    inside = smooth_max(main, floor - grid.z, 8)
    for centre, radii, k, mirrored in (
        ((41, 6, -20), (25, 42, 22), 8, True),  # temporal lobes
        ((0, -48, -24), (56, 40, 35), 10, False),  # posterior fossa
        ((0, -15, -38), (14, 14, 25), 6, False),  # brain stem
    ):
        _unite(inside, grid, centre, radii, k, mirrored=mirrored)
    box = grid.box((0, -30, -120), (10, 18, 76), 20, mirrored=False)
    if box is not None:  # spinal canal
        inside[box] = smooth_min(inside[box], capsule(grid.crop(box), (0, -21, -55), (0, -38, -185), 9.5, 8.5), 5)
    return inside


def _unite(
    distance: np.ndarray, grid: Grid, centre: Centre, radii: Centre, k: float, *, mirrored: bool = False
) -> None:
    """Adds an ellipsoid to a signed distance, in place, with a seam rounded over ``k`` mm.

    Farther away than 30 mm it is left out: there both are outside.
    """
    box = grid.box(centre, radii, 30, mirrored=mirrored)
    if box is not None:
        distance[box] = smooth_min(distance[box], ellipsoid(grid.crop(box), centre, radii, mirrored=mirrored), k)


def skin(grid: Grid, head: Head, inside: np.ndarray) -> np.ndarray:
    """Signed distance to the outside of the head."""
    f = head.face
    outer = inside - np.float32(head.skull + head.scalp)
    parts = (
        ((0, 30, -62), (60, 54 * f, 62 * f), 22),  # face
        ((0, 44, -34), (55, 40, 32), 14),  # brows and cheekbones
        ((0, 70, -90 * f), (27, 26, 26), 18),  # jaw
        ((0, 80, -78 * f), (24, 14, 10), 8),  # lips
        ((0, 82, -106 * f), (20, 13, 12), 10),  # chin
        ((0, 83, -50 * f), (16, 14, 16), 10),  # nose
        ((0, 93, -56 * f), (12, 13, 9), 6),
        ((0, -28, -140), (64, 52, 110), 24),  # neck
        ((0, -45, -205), (170, 50, 62), 45),  # shoulders
    )
    for centre, radii, k in parts:
        _unite(outer, grid, centre, radii, k)
    _unite(outer, grid, (42, 6, -74), (24, 26, 40), 14, mirrored=True)  # jaw muscles, parotid glands
    for centre, radii in (((70, -14, -28), (10, 9, 22)), ((79, -20, -22), (7, 6, 15))):  # ears
        _unite(outer, grid, centre, radii, 3, mirrored=True)
    return outer
