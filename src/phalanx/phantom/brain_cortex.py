"""The brain in its cavity: cortex folded by sulci, ventricles, deep grey matter, cerebellum, brain stem, vessels."""

from dataclasses import replace

import cv2
import numpy as np

from .brain_grid import Grid, capsule, ellipsoid, sample_noise, smooth_max, smooth_min
from .brain_head import CELL, Canvas, Head

RIBBON = 3.4  # thickness of the cortex in mm
CENTRES = {"axial": (-6.0, 0.0), "coronal": (6.0, 0.0), "sagittal": (6.0, -6.0)}  # from which sulci radiate
RADII = {"axial": (82.0, 64.0), "coronal": (58.0, 64.0), "sagittal": (60.0, 82.0)}


def paint_brain(canvas: Canvas, head: Head, inside: np.ndarray) -> np.ndarray:
    """Paints what is in the cavity on a canvas filled with CSF; returns the fraction of white matter, float32[H, W]."""
    grid = canvas.grid
    fine, slow = canvas.noise
    tent = _tent(grid) + 1.5 * slow
    gap = np.float32(0.6 + 1.2 * head.atrophy)
    depth = np.minimum(-inside - gap - 0.6 * slow, -tent - 1.2)
    middle = ellipsoid(grid, (0, -6, 6), (24, 39, 21), mirrored=False)  # callosum, fornix, thalami: not fissured
    sulcus = _sulci(grid, head, depth, fine)
    # the fissure between the hemispheres and the Sylvian fissures
    wander = np.float32(1.2) * slow
    across = np.abs(grid.x + wander) - np.float32(0.1)
    if grid.plane == "sagittal":  # the fissure is hardly as wide as a slice is thick
        across = np.maximum(across, 2.6 + 0.5 * slow)
    between = np.maximum(across, 1.5 - middle)
    cleft = smooth_min(_sylvian(grid, slow, fine), between, 1.5)
    open_sulcus = (np.float32(0.35) + np.exp(-np.maximum(depth, 0) / 9)) * np.float32(1.1 * head.atrophy)
    open_sulcus = open_sulcus * np.clip(0.75 + 0.55 * sample_noise(head.fine, grid, CELL * 2.6), 0.05, 1.8)
    wide = np.float32(0.15 + 0.75 * head.atrophy) + 0.5 * slow
    shallow = np.where(middle < 1.5, np.float32(99), sulcus)
    water = np.minimum(shallow - open_sulcus, cleft - wide)
    cerebrum = -depth
    white = np.zeros(grid.shape, np.float32)
    soft = canvas.soft
    # grey matter first, white matter inside of it
    canvas.paint(cerebrum, canvas.value("grey") * (1 + np.float32(0.05) * fine))
    folds = np.minimum(np.minimum(water, depth), np.where(middle < 0, np.float32(99), water))
    core = np.float32(RIBBON) + 0.35 * fine - folds
    wm = canvas.value("white") * (1 + np.float32(0.03) * slow + np.float32(0.03) * fine)
    mask = np.maximum(core, cerebrum + 1)
    canvas.paint(mask, wm, soft=soft * 1.6)
    white += np.clip(0.5 - mask / (1.6 * soft), 0, 1)
    _deep(canvas)
    # a slice is thick, so that most sulci are only partly in it
    part = np.clip(0.62 + 0.3 * sample_noise(head.fine, grid, CELL * 3.1) + 0.12 * head.atrophy, 0.15, 1)
    blend(canvas, np.maximum(water, cerebrum), "csf", soft * 1.2, part)
    vessels = np.maximum(np.minimum(sulcus, cleft) - 0.35, 0.9 - fine - 0.4 * slow)
    canvas.paint(np.maximum(vessels, cerebrum), "vein", soft=1.3, opacity=0.75)
    _callosum(canvas)
    _ventricles(canvas, head)
    _hindbrain(canvas, head, inside, tent)
    return white


def blend(canvas: Canvas, distance: np.ndarray, tissue: str, soft: float, opacity: np.ndarray) -> None:
    """Paints a tissue with an opacity that varies, float32[H, W]."""
    alpha = np.clip(np.float32(0.5) - distance * np.float32(1 / soft), 0, 1) * opacity
    canvas.image += alpha * (canvas.value(tissue) - canvas.image)


def _tent(grid: Grid) -> np.ndarray:
    """Negative above the tentorium, positive in the posterior fossa, in about mm."""
    roof = 1 - 0.30 * grid.ax - 0.30 * np.maximum(-(grid.y + 40), 0) - 0.1 * np.maximum(grid.y + 40, 0)
    behind = -(grid.y + 16 + np.float32(0.55) * grid.ax)
    below = smooth_min(roof - grid.z, behind, 5) * np.float32(0.9)
    across = np.sqrt(np.square(grid.ax) + np.square(0.75 * (grid.y + 11)))
    trunk = np.minimum(17 - across, -13 - grid.z - 0.6 * np.maximum(grid.y, 0))  # brain stem and cisterns before it
    return smooth_max(below, trunk, 4)


def _sulci(grid: Grid, head: Head, depth: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Distance to the middle of the nearest sulcus.

    Sulci are the zeros of noise that hardly changes from the surface inwards, so that they run inwards; the distance
    is the noise over its gradient. They end at a depth that varies; smaller ones end sooner.
    """
    rows, columns = grid.rows_columns()
    (cr, cc), (rr, rc) = CENTRES[grid.plane], RADII[grid.plane]
    dr, dc = rows - np.float32(cr), columns - np.float32(cc)
    radius = np.sqrt(np.square(dr / np.float32(rr)) + np.square(dc / np.float32(rc)))
    factor = np.power(np.maximum(radius, 0.15), np.float32(-0.62 * head.gyral))
    rows, columns = cr + dr * factor, cc + dc * factor
    ends = sample_noise(head.slow, grid, CELL * 0.8)
    # near the midline a sagittal plane runs along the inner side of the hemisphere, and others meet it
    inner = np.maximum(14 - grid.ax, 0) * np.float32(4 if grid.plane == "sagittal" else 0.8)
    large = _zeros(sample_noise(head.sulci, grid, CELL, (rows, columns)) + np.float32(0.16) * fine, grid)
    large = large + np.maximum(depth - (14 + 7 * ends + inner), 0) * np.float32(0.45)
    small = _zeros(
        sample_noise(head.sulci, grid, CELL * 0.68, (rows + 40, columns - 30)) + np.float32(0.2) * fine, grid
    )
    small = small + np.maximum(depth - (7 - 4 * ends + inner), 0) * np.float32(0.45) + np.float32(0.6)
    return np.minimum(large, small)


def _zeros(noise: np.ndarray, grid: Grid) -> np.ndarray:
    """Distance in mm to the zeros of noise, float32[H, W]: the noise over its gradient."""
    noise = cv2.GaussianBlur(noise, (0, 0), max(0.8 / grid.mm, 0.4))
    gy, gx = cv2.Sobel(noise, cv2.CV_32F, 0, 1, ksize=3), cv2.Sobel(noise, cv2.CV_32F, 1, 0, ksize=3)
    slope = np.sqrt(gx * gx + gy * gy) * np.float32(1 / (8 * grid.mm))
    return np.abs(noise) / np.maximum(slope, 0.09)


def _sylvian(grid: Grid, slow: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Distance to the fissure between frontal and temporal lobe, which ends at the insula."""
    surface = grid.z - (-4 - 0.22 * (grid.y - 5)) + 4.0 * slow + 0.002 * np.square(grid.ax - 50) * grid.y * 0.2
    along = np.maximum(np.abs(grid.y + 2) - 30, 0)
    cleft = np.sqrt(np.square(surface) + np.square(along) + np.square(np.maximum(36 - grid.ax, 0)))
    bend = 35 - 0.012 * np.square(grid.y - 4)
    insula = np.sqrt(
        np.square(grid.ax - bend + 2.4 * slow + 0.5 * fine)
        + np.square(np.maximum(np.abs(grid.z - 1) - 11, 0))
        + np.square(np.maximum(np.abs(grid.y - 2) - 20, 0))
    )
    return np.minimum(cleft, insula)


def _deep(canvas: Canvas) -> None:
    """Basal ganglia and thalami."""
    rough = (canvas.noise[1], 0.9)
    soft = canvas.soft * 2.2
    canvas.blob((25.5, 4, 3), (5, 18, 12), "deep", rough=rough, soft=soft)  # putamen
    canvas.blob((19.5, 1, 1), (4, 11, 8), "pallidum", rough=rough, soft=soft)
    canvas.blob((10.5, -13, 6), (9, 15, 9.5), "deep", rough=rough, soft=soft)  # thalamus
    canvas.blob((13.5, 21, 11), (5.5, 9, 10), "deep", rough=rough, soft=soft)  # caudate
    canvas.tube((14, 16, 19), (20, -22, 21), 3.6, 2.0, "deep", soft=soft)
    canvas.blob((34, -2, -18), (7, 14, 7), "deep", rough=rough, soft=soft)  # hippocampus, amygdala


def _callosum(canvas: Canvas) -> None:
    """An arch of white matter in the midline, with the cingulate gyri above it."""
    grid = canvas.grid
    if float(np.min(grid.ax)) > 14:
        return
    slow = canvas.noise[1]
    y, z = grid.y + 4, grid.z + 2
    angle = np.arctan2(z, y)
    radius = np.sqrt(np.square(y / 37) + np.square(z / 26)) * 30
    half = 2.6 + 1.6 * np.exp(-np.square((angle - 0.25) / 0.35)) + 2.2 * np.exp(-np.square((angle - 2.8) / 0.3))
    arch = np.maximum(np.abs(radius - 30) - half, np.maximum(-z + np.float32(1) - 0.1 * np.abs(y), grid.ax - 11))
    canvas.paint(np.broadcast_to(arch, grid.shape) + 0.3 * slow, "white", soft=canvas.soft * 1.4)
    fornix = np.maximum(np.abs(np.sqrt(np.square(y / 26) + np.square((z + 1) / 19)) * 22 - 22) - 1.4, grid.ax - 3)
    canvas.paint(np.broadcast_to(np.maximum(fornix, -z + 1), grid.shape), "white")


def _ventricles(canvas: Canvas, head: Head) -> None:
    """Lateral ventricles with their plexus, third ventricle."""
    box = canvas.grid.box((20, -15, 4), (22, 52, 32), 6, mirrored=True)
    if box is None:
        return
    canvas = canvas.crop(box)
    fine, slow = canvas.noise
    grid, v = canvas.grid, head.ventricles
    parts = (  # lateral ventricles: horns, body, atrium
        ((13.5, 30, 7), (7.5, 10, 12), 3.0, 4.2, (1.2, 1, 0.75)),
        ((7.5, 10, 12), (12, -16, 19), 4.0, 4.0, (1.0, 1, 1.25)),
        ((13.5, 24, 13), (12.5, -8, 19), 2.4, 2.8, (1, 1, 1.1)),
        ((12, -16, 19), (23, -36, 12), 4.0, 5.6, (1.15, 1, 0.9)),
        ((23, -36, 12), (25, -48, 8), 5.2, 3.0, (1.2, 1, 0.9)),
        ((25, -48, 8), (19, -60, 6), 3.0, 1.2, (1.2, 1, 0.9)),
        ((23, -36, 12), (32, -14, -12), 4.4, 1.8, (1, 1, 1)),
        ((32, -14, -12), (30, 4, -17), 1.9, 1.6, (1, 1, 1)),
    )
    if grid.plane == "sagittal":  # a slice is thick: near the midline it shows the ventricle beside the septum
        grid = replace(grid, x=np.maximum(grid.ax, np.float32(5.5)))
    space = np.full(grid.shape, 99, np.float32)
    for a, b, ra, rb, flat in parts:
        space = smooth_min(space, capsule(grid, a, b, ra * v, rb * v, flat), 2.5)
    space = np.maximum(space + 0.5 * slow, np.float32(0.9) - grid.ax)  # the septum between them
    canvas.paint(space, "csf")
    plexus = np.maximum(space + 2.2, ellipsoid(grid, (23, -36, 11), (3.5, 9, 5)) + 1.6 * slow + 1.2 * fine)
    canvas.paint(plexus, "plexus", opacity=0.55, soft=2.2)
    canvas.blob((0, -3, 1), (2.0 * v, 13, 10), "csf", mirrored=False)  # third ventricle
    canvas.blob((0, -20, 1), (2, 2.5, 2.5), "white", mirrored=False)


def _stem(grid: Grid) -> np.ndarray:
    """Signed distance to the brain stem."""
    midbrain = ellipsoid(grid, (0, -16, -9), (17, 12, 15), mirrored=False)
    peduncle = capsule(grid, (9, -10, -6), (7, -9, -18), 6, 6)
    pons = ellipsoid(grid, (0, -11, -27), (17, 12.5, 13), mirrored=False)
    medulla = capsule(grid, (0, -17, -36), (0, -26, -60), 8.0, 6.0, (0.8, 1, 1))
    cord = capsule(grid, (0, -26, -60), (0, -40, -185), 5.8, 5.4, (0.8, 1, 1))
    return smooth_min(smooth_min(smooth_min(smooth_min(midbrain, peduncle, 3), pons, 3), medulla, 4), cord, 2)


def _hindbrain(canvas: Canvas, head: Head, inside: np.ndarray, tent: np.ndarray) -> None:
    """Cerebellum with folia, brain stem, fourth ventricle, cisterns."""
    box = canvas.grid.box((0, -45, -95), (75, 75, 105), 0, mirrored=False)
    if box is None:
        return
    canvas, inside, tent = canvas.crop(box), inside[box], tent[box]
    fine, slow = canvas.noise
    stem = _stem(canvas.grid)
    grid = canvas.grid
    canvas.blob((0, 9, -18), (10, 9, 8), "csf", mirrored=False, rough=(slow, 1.5))  # cistern above the sella
    around = np.maximum(stem - 0.5 - 1.0 * head.atrophy, grid.z - 1)
    canvas.paint(around + 0.8 * slow, "csf")
    front = grid.y + 27 - 0.25 * np.minimum(grid.ax, 40) + 0.012 * np.square(grid.z + 30)
    body = smooth_max(smooth_max(inside + np.float32(1.6 + head.atrophy), -tent + 1.5, 4), front, 8)
    if float(body.min()) < 0:
        # folia: thin leaves around the white matter, whose branches fan out from the fourth ventricle
        angle = np.arctan2(grid.x, -(grid.y + 30)) if grid.plane == "axial" else np.arctan2(grid.z + 30, grid.y + 34)
        if grid.plane == "coronal":
            angle = np.arctan2(grid.z + 30, grid.ax - 8)
        course = {
            "axial": np.sqrt(np.square(0.75 * grid.x) + np.square(grid.y + 22)) + 2.0 * np.cos(3 * angle),
            "coronal": grid.z + 0.004 * np.square(grid.x) + 0.35 * body,
            "sagittal": np.float32(9.0) * angle + 0.5 * body,
        }[grid.plane]
        leaves = np.sin(course * 0.75 + 1.6 * slow + 0.6 * fine)
        strength = np.clip(0.4 + 0.6 * sample_noise(head.fine, grid, CELL * 2.3), 0, 1)
        branch = np.cos(angle * np.float32(9 if grid.plane == "sagittal" else 7) + 1.6 * slow)
        white = body + 8 - 5.0 * np.maximum(branch, -0.2) + 1.2 * fine
        canvas.paint(body, canvas.value("grey") * (1 + np.float32(0.03) * fine))
        canvas.paint(white, "white", soft=canvas.soft * 2.5)
        folded = (
            np.clip(0.9 - np.abs(leaves) * 1.5, 0, 1) * strength * np.clip(1.1 + (body + 6) / 14, 0, 1) * (body < 0)
        )
        canvas.image += (min(0.4 + 0.4 * head.atrophy, 0.95) * folded) * (canvas.value("csf") - canvas.image)
    canvas.paint(stem, canvas.value("white") * (1 + np.float32(0.03) * slow + np.float32(0.02) * fine))
    canvas.blob((0, -14, -27), (11, 6, 9), "deep", mirrored=False, opacity=0.4, soft=4)
    canvas.tube((17, -22, -28), (26, -42, -30), 6, 7, "white", soft=3)  # middle cerebellar peduncles
    canvas.blob(
        (0, -31, -28), (7 * head.ventricles, 5.5 * head.ventricles, 9), "csf", mirrored=False, rough=(slow, 0.8)
    )
    canvas.tube((0, -21, -4), (0, -24, -18), 1.1, 1.3, "csf")  # aqueduct
    canvas.blob((0, -42, -60), (14, 8, 5), "csf", mirrored=False, rough=(slow, 1))


def paint_vessels(canvas: Canvas, inside: np.ndarray) -> None:
    """Dura, falx, sinuses and larger arteries, which are bright with contrast agent."""
    grid = canvas.grid
    slow = canvas.noise[1]
    middle = ellipsoid(grid, (0, -6, 6), (27, 44, 25), mirrored=False)
    falx = np.maximum(np.abs(grid.x + 1.2 * slow) - 0.35, np.maximum(-middle, inside + 0.5))
    tent = _tent(grid) + 1.5 * slow
    falx = np.maximum(falx, tent)
    if grid.plane != "sagittal":
        canvas.paint(falx, "dura", opacity=0.55)
    canvas.paint(np.maximum(np.abs(tent) - 0.5, inside + 0.5) + np.maximum(grid.y + 14, 0), "dura", opacity=0.7)
    canvas.paint(np.abs(inside - 0.2) - 0.35 - 0.35 * slow, "dura", opacity=0.55)
    top = np.maximum(ellipsoid(grid, (0, -7, 12), (3.4, 84, 60), mirrored=False), -(inside + 4.5))
    canvas.paint(np.maximum(top, np.maximum(inside - 1, 10 - grid.z - 0.5 * grid.ax)), "vessel")
    canvas.tube(
        (2, -86, -12), (46, -62, -20), 2.6, 2.6, "vessel", flat=(1, 1.3, 1), rough=(slow, 1.2), opacity=0.8
    )  # transverse sinuses
    canvas.tube((46, -62, -20), (50, -34, -34), 2.6, 3.0, "vessel", rough=(slow, 1.6), opacity=0.7)
    canvas.tube((0, -40, 2), (0, -80, -9), 1.0, 1.4, "vessel", rough=(slow, 1.4), opacity=0.6)  # straight sinus
    canvas.blob((0, 9, -24.5), (6.5, 5, 3.2), "gland", mirrored=False)
    canvas.tube((0, 9, -22), (0, 7, -13), 1.2, 1.4, "gland", opacity=0.8)
    canvas.tube((7.5, 6, -30), (8.5, 9, -17), 2.4, 2.2, "vessel")  # carotid arteries, circle of Willis
    canvas.tube((8.5, 9, -17), (26, 10, -13), 1.2, 1.0, "vessel", rough=(slow, 0.7), opacity=0.75)
    canvas.tube((26, 10, -13), (36, 0, -4), 1.0, 0.8, "vessel", rough=(slow, 0.7), opacity=0.7)
    canvas.tube((7, 10, -16), (1, 28, -6), 1.0, 0.9, "vessel", rough=(slow, 0.9), opacity=0.55)
    canvas.tube((1, 28, -6), (1, 40, 10), 0.9, 0.8, "vessel", rough=(slow, 0.9), opacity=0.5)
    canvas.tube((0, 3, -20), (0, 1, -40), 1.2, 1.4, "vessel", rough=(slow, 0.8), opacity=0.7)
    canvas.tube((3, 0, -13), (18, -22, -8), 1.0, 0.9, "vessel", rough=(slow, 0.6), opacity=0.7)
