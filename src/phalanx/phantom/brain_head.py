"""The head around the brain: cavity of the skull, scalp, face, neck, sinuses, eyes, spine."""

from dataclasses import dataclass

import numpy as np

from .brain_grid import Centre, Grid, capsule, egg, ellipsoid, noise_volumes, sample_noise, smooth_max, smooth_min

CELL = 3.4  # mm per cell of the fine noise


@dataclass(frozen=True)
class Head:
    """One patient's head. Lengths in mm, factors without unit."""

    scale: tuple[float, float, float]
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
        scale=tuple(float(v) for v in rng.normal(1.0, (0.035, 0.035, 0.035)).clip(0.92, 1.08)),
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

    def value(self, tissue: str) -> np.float32:
        return np.float32(self.tissue[tissue])

    def paint(self, distance: np.ndarray, value: "str | np.ndarray", *, opacity: float = 1.0, soft: float | None = None):
        """Paints where ``distance`` (mm) is negative; ``value``: a tissue, or an image."""
        over(self.image, distance, self.value(value) if isinstance(value, str) else value, soft or self.soft, opacity)

    def blob(
        self, centre: Centre, radii: Centre, value: str, *, mirrored: bool = True, opacity: float = 1.0,
        soft: float | None = None, rough: tuple[np.ndarray, float] | None = None,
    ) -> None:  # fmt: skip
        """Paints an ellipsoid; ``rough``: noise[H, W] and its amplitude in mm, added to the distance."""
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
        opacity: float = 1.0, soft: float | None = None, rough: tuple[np.ndarray, float] | None = None,
    ) -> None:  # fmt: skip
        """Paints a mirrored capsule."""
        reach = max(ra, rb) / min(flat)
        low, high = np.minimum(a, b), np.maximum(a, b)
        margin = self.soft + (2.5 * abs(rough[1]) if rough else 0.0)
        box = self.grid.box((low + high) / 2, (high - low) / 2 + reach, margin, mirrored=True)
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
    main = smooth_max(main, floor - grid.z, 8)
    temporal = ellipsoid(grid, (41, 6, -20), (25, 42, 22))
    fossa = ellipsoid(grid, (0, -48, -24), (56, 40, 35), mirrored=False)
    stem = ellipsoid(grid, (0, -15, -38), (14, 14, 25), mirrored=False)
    canal = capsule(grid, (0, -21, -55), (0, -38, -185), 9.5, 8.5)
    return smooth_min(smooth_min(smooth_min(smooth_min(main, temporal, 8), fossa, 10), stem, 6), canal, 5)


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
        outer = smooth_min(outer, ellipsoid(grid, centre, radii, mirrored=False), k)
    outer = smooth_min(outer, ellipsoid(grid, (42, 6, -74), (24, 26, 40)), 14)  # jaw muscles, parotid glands
    for centre, radii in (((76, -14, -28), (6, 9, 22)), ((81, -20, -22), (7, 6, 15))):  # ears
        outer = smooth_min(outer, ellipsoid(grid, centre, radii), 3)
    return outer


def paint_outside(canvas: Canvas, head: Head, inside: np.ndarray, outer: np.ndarray) -> None:
    """Scalp, skull, face, neck: all but the cavity of the skull."""
    grid = canvas.grid
    fine, slow = canvas.noise
    rows, columns = grid.rows_columns()
    stretched = rows if grid.plane == "axial" else rows * np.float32(0.35)  # fibres run down the neck
    streak = sample_noise(head.fine, grid, CELL * 1.6, (stretched + 0.25 * columns, columns))
    outer = outer + np.float32(0.45) * slow * np.clip((outer + 14) * 0.1, 0, 1)
    canvas.paint(outer, "skin")
    # lobules of fat, darker to the depth
    fat = canvas.value("fat") * (0.86 + 0.05 * slow + 0.06 * fine + np.float32(0.012) * np.clip(outer + 9, -12, 8))
    canvas.paint(outer + 1.4, fat, soft=2.0)
    strands = np.maximum(np.abs(fine + 0.6 * slow) * 2.2 - 0.35, np.abs(outer + 0.62 * head.scalp) - 0.30 * head.scalp)
    canvas.paint(strands, "muscle", opacity=0.4, soft=1.8)
    # flesh of face and neck lies deeper than the fat under the skin
    depth = 1.6 + (head.scalp - 1.6) * 0.6 + head.fat * np.clip((-20 - grid.z) * 0.2, 0, 3.5)
    below = grid.z + 6 - 0.15 * np.clip(grid.y, -40, 60)
    flesh = np.maximum(smooth_max(outer + depth, below, 6), 3 - inside) + 1.8 * slow + 0.8 * fine
    fibres = canvas.value("muscle") * (1 + np.float32(0.16) * fine + np.float32(0.16) * slow + np.float32(0.16) * streak)
    canvas.paint(flesh, fibres)
    # fat between the muscles
    between = np.abs(streak + 0.7 * slow) * 5 - 0.9 * head.fat
    canvas.paint(np.maximum(between, flesh + 2), fat, opacity=0.55, soft=3.0)
    # muscle of the temple, between scalp and skull
    temple = smooth_max(outer + head.scalp * 0.55, np.maximum(52 - grid.ax, grid.z - 22 + 0.012 * (grid.y - 5) ** 2), 6)
    canvas.paint(temple, fibres)
    _skull(canvas, head, inside, outer, fine, slow)
    _face(canvas, head, fine, slow)
    _spine(canvas, head, fine, slow)


def _skull(canvas: Canvas, head: Head, inside, outer, fine, slow) -> None:
    """Bone: two dark tables with marrow between, thicker at the base, where it has air cells."""
    grid = canvas.grid
    thick = np.float32(head.skull) + 1.1 * slow + 0.25 * fine
    bone = np.maximum(inside - thick, outer + 2.0)
    canvas.paint(bone, "bone", soft=2.2)
    marrow = canvas.value("diploe") * (1 + np.float32(0.1) * fine + np.float32(0.35) * slow)
    canvas.paint(np.maximum(np.abs(inside - thick * 0.52) - (thick * 0.5 - 1.7 + 0.8 * slow), outer + 3), marrow, soft=2.2)
    rough = (fine, 2.0)
    canvas.blob((40, -17, -40), (22, 16, 13), "bone", rough=rough)  # petrous bone, mastoid
    canvas.blob((58, -30, -46), (13, 15, 17), "bone", rough=rough)
    canvas.blob((57, -32, -46), (9, 11, 12), "diploe", rough=(fine, 4.0), opacity=0.7)
    canvas.blob((30, -14, -36), (9, 6, 6), "diploe", rough=rough)
    canvas.blob((30, 24, -24), (16, 7, 6), "bone", rough=rough)  # sphenoid wings
    canvas.tube((0, 0, -28), (0, -12, -54), 6.0, 3.5, "bone", flat=(0.7, 1, 1))
    canvas.tube((0, 0, -29), (0, -12, -52), 4.2, 2.2, "marrow", flat=(0.6, 1, 1))  # clivus


def _face(canvas: Canvas, head: Head, fine, slow) -> None:
    f, s = head.face, head.sinus
    cells = (fine, 1.2)
    blob = canvas.blob
    # orbits, cheekbones, maxillary sinuses
    blob((29, 50, -28), (15, 24, 14), "fat", rough=(slow, 1.5))
    blob((40, 62, -52 * f), (15, 13, 10), "bone", rough=(slow, 2.5))
    blob((40, 61, -52 * f), (11, 9, 7), "marrow", rough=(slow, 2.5))
    blob((0, 34, -34), (16 * s, 20, 14), "bone", mirrored=False, rough=(slow, 2.0))
    blob((29, 50, -55 * f), (14 * s + 1.5, 18, 16 * s + 1.5), "bone", rough=(slow, 3.0))
    blob((29, 50, -55 * f), (14 * s, 17, 16 * s), "mucosa", rough=(slow, 3.0))
    blob((29, 50, -54 * f), (14 * s - 1.3, 15.5, 15 * s - 1.5), "air", rough=(slow + 0.25 * fine, 3.2))
    # nose: mucosa of the turbinates with air between them, the septum
    blob((0, 50, -52 * f), (13, 32, 21 * f), "mucosa", mirrored=False, rough=(slow, 2.5), opacity=0.75)
    for x, z, rx, rz in ((3.6, -42, 1.8, 8), (8, -49, 1.8, 6), (3.6, -57, 1.6, 6), (10, -63, 2.6, 3), (8, -37, 2.2, 3)):
        blob((x, 50, z * f), (rx, 30, rz), "air", rough=(fine, 1.1))
    if canvas.grid.plane == "sagittal":  # turbinates are long and lie above one another
        for k, z in enumerate((-37, -45, -54, -63)):
            blob((0, 48 - 2 * k, z * f), (13, 30 - k, 1.7), "air", rough=(slow, 2.4), mirrored=False, opacity=0.8)
    blob((0, 44, -27), (11, 22, 9), "mucosa", mirrored=False, rough=(slow, 1.5))  # ethmoid cells
    blob((5, 44, -26), (5.5, 22, 9), "air", rough=(fine, 3.0))
    blob((7 * s, 20, -33), (8.5 * s, 10 * s, 8 * s), "mucosa", rough=(slow, 2.8), opacity=0.6)  # sphenoid sinus
    blob((7 * s, 20, -33), (7.8 * s, 9.4 * s, 7.4 * s), "air", rough=(slow + 0.3 * fine, 2.8))
    blob((11, 77, -8), (10 * s, 5 * s, 10 * s), "bone", rough=(slow, 1.3))
    blob((11, 77, -8), (8.5 * s, 3.2 * s, 8 * s), "air", rough=(slow, 1.3))  # frontal sinuses
    # eyes
    blob((31, 63, -28), (12.6, 12.6, 12.6), "muscle")
    blob((31, 63, -28), (11.6, 11.6, 11.6), "vitreous")
    blob((31, 72.5, -28), (4.6, 2.4, 4.6), "lens")
    for a, b in (((27, 56, -28), (9, 18, -22)), ((40, 62, -28), (16, 28, -26)), ((21, 60, -29), (12, 28, -25))):
        canvas.tube(a, b, 1.9, 1.5, "muscle")
    canvas.tube((30, 64, -18), (12, 28, -20), 1.8, 1.5, "muscle")
    canvas.tube((30, 64, -38), (12, 28, -28), 1.8, 1.5, "muscle")
    # mouth, tongue and throat
    blob((0, 46, -79 * f), (28, 34, 4), "bone", mirrored=False, rough=cells)  # palate
    blob((0, 46, -79 * f), (25, 30, 2.2), "marrow", mirrored=False, rough=cells)
    blob((0, 44, -100 * f), (26, 30, 19), "tongue", mirrored=False, rough=(slow, 2.5))
    for k in range(5):  # its fibres
        blob((0, 58 - 9 * k, (-92 - 3 * k) * f), (20, 1.5, 14), "fat", mirrored=False, rough=(slow + fine, 1.6), opacity=0.14, soft=4)
    rough = (slow, 2.0)
    canvas.tube((0, 74, -84 * f), (0, 22, -85 * f), 1.6, 2.5, "air", flat=(0.2, 1, 1), opacity=0.8, rough=(slow, 1.5))
    canvas.tube((0, 22, -46), (0, 11, -66), 6.0, 4.0, "air", flat=(0.8, 1, 1), rough=rough)
    canvas.tube((0, 11, -66), (0, 1, -125), 3.6, 5.0, "air", flat=(0.6, 1.1, 1), rough=rough)
    # jaws
    ramus = {"flat": (1.6, 0.55, 1), "rough": (slow, 1.6)}
    canvas.tube((47, 4, -60), (43, 14, -104 * f), 5.0, 7.0, "bone", **ramus)
    canvas.tube((47, 4, -60), (43, 14, -102 * f), 2.8, 4.6, "marrow", **ramus)
    body = {"flat": (1.4, 1.4, 0.8), "rough": (slow, 1.6)}
    canvas.tube((43, 14, -108 * f), (10, 76, -104 * f), 7.5, 7.5, "bone", **body)
    canvas.tube((43, 14, -108 * f), (10, 76, -104 * f), 4.8, 4.8, "marrow", **body)
    for z, r in ((-86, 3.4), (-93, 3.4)):  # teeth
        canvas.tube((40, 28, z * f), (8, 78, z * f), r, r, "bone", rough=(fine, 0.8))


def _spine(canvas: Canvas, head: Head, fine, slow) -> None:
    """Vertebral bodies with discs, the canal, the muscles of the neck."""
    cells = (slow, 1.3)
    for k, z in enumerate((-62, -76, -92, -108, -124, -140, -156)):
        y = -11 - 0.06 * (-60 - z)
        radii = (11, 5, 6) if k == 0 else (13, 9, 7.6)
        canvas.blob((0, y, z), (radii[0] + 1, radii[1] + 1, radii[2] + 0.9), "bone", mirrored=False, rough=cells)
        canvas.blob((0, y, z), radii, "marrow", mirrored=False, rough=cells)
        canvas.blob((0, -53, z - 5), (5, 12, 4.5), "bone", mirrored=False, rough=(slow + 0.4 * fine, 3.0), opacity=0.6)
        canvas.blob((0, -53, z - 5), (3.5, 10, 3), "diploe", mirrored=False, rough=(slow + 0.4 * fine, 3.0), soft=3)
        canvas.blob((20 + k % 2, y - 4, z), (8, 7, 6), "bone", rough=(slow + 0.5 * fine, 2.2), opacity=0.7)
        canvas.blob((20 + k % 2, y - 4, z), (5.5, 5, 4), "diploe", rough=(slow + 0.5 * fine, 2.2), soft=2.5)
    wavy = (slow, 2.0)
    canvas.tube((24, 6, -50), (27, -2, -170), 2.4, 2.6, "vessel", rough=wavy, opacity=0.7)  # carotids, jugular veins
    canvas.tube((29, -4, -54), (36, -6, -170), 2.8, 3.4, "vessel", rough=wavy, opacity=0.7)
