"""One animal: species, shape of the chest, spine, rib cage; everything about it that its radiographs share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .pet_canvas import curve, normals

# chest depth and lateral width in u, thickness of bones, vertebral heart score, odds
BUILDS = {
    "deep": (9.4, 0.95, 1.05, 9.6),
    "medium": (8.5, 1.0, 1.0, 9.6),
    "barrel": (8.0, 1.2, 1.1, 10.0),
    "toy": (7.8, 0.95, 0.88, 9.6),
    "cat": (6.5, 0.85, 0.8, 7.5),
}
BUILD_ODDS = {"deep": 0.17, "medium": 0.27, "barrel": 0.14, "toy": 0.17, "cat": 0.25}
VERTEBRAE = (
    [(f"C{n}", 1.2) for n in range(3, 8)]
    + [(f"T{n}", 0.95 + 0.012 * n) for n in range(1, 14)]
    + [(f"L{n}", length) for n, length in zip(range(1, 8), (1.12, 1.18, 1.24, 1.28, 1.3, 1.28, 1.15), strict=True)]
    + [("S1", 0.95), ("S2", 0.8), ("S3", 0.75)]
    + [(f"Cd{n}", 0.78) for n in range(1, 8)]
)
FIRST = 5  # index of T1
# ends of the bony ribs: behind their heads in u, fraction of the depth of the chest
RIB_BACK = (0.5, 0.8, 1.2, 1.6, 2.0, 2.4, 2.7, 3.0, 3.3, 3.5, 3.55, 3.4, 2.7)
RIB_DEEP = (0.46, 0.545, 0.61, 0.665, 0.70, 0.725, 0.735, 0.73, 0.70, 0.655, 0.60, 0.53, 0.42)


@dataclass(frozen=True)
class Animal:
    """Shape of an animal, lengths in u. ``fat``: 0 thin to 1 fat; ``old``: 0 to 1, mineralised cartilages and spurs."""

    species: str
    build: str
    depth: float
    width: float
    thick: float
    vhs: float
    fat: float
    old: float
    density: float
    sway: np.ndarray  # float64[8], standard normal, of the spine
    slant: float  # of the ribs
    spinous: float  # height of the spinous processes

    @cached_property
    def spine(self) -> np.ndarray:
        """The middle of the spine as float64[400, 2], from the neck to the tail."""
        w = 0.12 * self.sway
        rise = 0.75 if self.species == "dog" else 0.55
        points = [
            (-7.5, -1.1 + 3 * w[0]), (-4.2, rise * 0.5 + w[1]), (-1.6, rise * 1.05), (0.2, rise * 0.95),
            (3.2, 0.5 + 0.5 * w[2]), (7, 0.12 + 0.5 * w[3]), (11, -0.05), (15, -0.1 + w[4]), (18.6, 0.02 + w[5]),
            (21.3, 0.35 + w[5]), (23.8, 1.0 + w[6]), (26.4, 2.2 + 2 * w[7]), (29, 4.4 + 4 * w[7]),
        ]  # fmt: skip
        return curve(points, 400)

    @cached_property
    def joints(self) -> np.ndarray:
        """Where vertebrae begin, float64[N + 1, 2], in the order of ``VERTEBRAE``."""
        steps = np.hypot(*np.diff(self.spine, axis=0).T)
        along = np.concatenate([[0], np.cumsum(steps)])
        start = float(np.interp(0.0, self.spine[:, 0], along))
        ends = np.concatenate([[0], np.cumsum([length for _, length in VERTEBRAE])])
        at = start + ends - ends[FIRST]
        return np.stack([np.interp(at, along, self.spine[:, k]) for k in (0, 1)], axis=1)

    def back(self, x: float) -> float:
        """Height of the spine at x."""
        return float(np.interp(x, self.spine[:, 0], self.spine[:, 1]))

    @cached_property
    def sternum(self) -> np.ndarray:
        """The middle of the breastbone, float64[41, 2], from its tip to the xiphoid."""
        d = self.depth
        points = [
            (-0.7, 0.62 + 0.52 * d), (1.5, 0.5 + 0.68 * d), (4.2, 0.35 + 0.82 * d), (7.0, 0.2 + 0.93 * d),
            (9.3, 0.12 + 0.975 * d),
        ]  # fmt: skip
        return curve(points, 41)

    @cached_property
    def rib_ends(self) -> np.ndarray:
        """Where bony ribs end, float64[13, 2]."""
        heads = self.joints[FIRST : FIRST + 13]
        back = np.array(RIB_BACK) * self.slant
        return np.stack([heads[:, 0] + back, heads[:, 1] + np.array(RIB_DEEP) * self.depth], axis=1)

    @cached_property
    def arch(self) -> np.ndarray:
        """The costal arch, float64[60, 2], from the xiphoid to the tip of the last rib."""
        tip, end = self.sternum[-1] + (0.25, 0.0), self.rib_ends[12] + (0.35, 0.2)
        bend = np.array([tip[0] + 0.74 * (end[0] - tip[0]), tip[1] - 0.08 * (tip[1] - end[1])])
        t = np.linspace(0, 1, 60)[:, None]
        return (1 - t) ** 2 * tip + 2 * t * (1 - t) * bend + t**2 * end

    def beyond_arch(self, points: np.ndarray) -> np.ndarray:
        """Signed distance float64[N] of points to the costal arch in u: positive behind and below it."""
        apart = points[:, None] - self.arch[None]
        nearest = np.argmin((apart**2).sum(-1), axis=1)
        return (apart[np.arange(len(points)), nearest] * normals(self.arch)[nearest]).sum(-1)


def draw_animal(rng: np.random.Generator) -> Animal:
    """A random animal."""
    build = str(rng.choice(list(BUILD_ODDS), p=list(BUILD_ODDS.values())))
    depth, width, thick, vhs = BUILDS[build]
    return Animal(
        species="cat" if build == "cat" else "dog",
        build=build,
        depth=depth * float(np.clip(1 + 0.045 * rng.standard_normal(), 0.9, 1.1)),
        width=width * float(rng.uniform(0.9, 1.12)),
        thick=thick * float(rng.uniform(0.9, 1.12)),
        vhs=vhs + float(np.clip(0.35 * rng.standard_normal(), -0.7, 0.7)),
        fat=float(rng.beta(2, 2.5)),
        old=float(rng.beta(1.5, 2)),
        density=float(rng.uniform(0.8, 1.25)),
        sway=np.clip(rng.standard_normal(8), -2, 2),
        slant=float(rng.uniform(0.9, 1.1)),
        spinous=float(rng.uniform(0.85, 1.15)) * (0.72 if build == "cat" else 1.0),
    )
