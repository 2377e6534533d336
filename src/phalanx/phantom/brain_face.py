"""The head around the brain: scalp, skull, face, neck, sinuses, eyes, spine."""

import numpy as np

from .brain_grid import sample_noise, smooth_max
from .brain_head import CELL, Canvas, Head


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
    fibres = canvas.value("muscle") * (
        1 + np.float32(0.16) * fine + np.float32(0.16) * slow + np.float32(0.16) * streak
    )
    canvas.paint(flesh, fibres)
    # fat between the muscles
    between = np.abs(streak + 0.7 * slow) * 5 - 0.9 * head.fat
    canvas.paint(np.maximum(between, flesh + 2), fat, opacity=0.55, soft=3.0)
    # muscle of the temple, between scalp and skull
    temple = smooth_max(outer + head.scalp * 0.55, np.maximum(52 - grid.ax, grid.z - 22 + 0.012 * (grid.y - 5) ** 2), 6)
    canvas.paint(temple, fibres)
    _skull(canvas, head, inside, outer)
    _face(canvas, head)
    _mouth(canvas, head)
    _spine(canvas)


def _skull(canvas: Canvas, head: Head, inside: np.ndarray, outer: np.ndarray) -> None:
    """Bone: two dark tables with marrow between, thicker at the base, where it has air cells."""
    fine, slow = canvas.noise
    thick = np.float32(head.skull) + 1.1 * slow + 0.25 * fine
    bone = np.maximum(inside - thick, outer + 2.0)
    canvas.paint(bone, "bone", soft=2.2)
    marrow = canvas.value("diploe") * (1 + np.float32(0.1) * fine + np.float32(0.35) * slow)
    canvas.paint(
        np.maximum(np.abs(inside - thick * 0.52) - (thick * 0.5 - 1.7 + 0.8 * slow), outer + 3), marrow, soft=2.2
    )
    rough = (fine, 2.0)
    canvas.blob((40, -17, -40), (22, 16, 13), "bone", rough=rough)  # petrous bone, mastoid
    canvas.blob((58, -30, -46), (13, 15, 17), "bone", rough=rough)
    canvas.blob((57, -32, -46), (9, 11, 12), "diploe", rough=(fine, 4.0), opacity=0.7)
    canvas.blob((30, -14, -36), (9, 6, 6), "diploe", rough=rough)
    canvas.blob((30, 24, -24), (16, 7, 6), "bone", rough=rough)  # sphenoid wings
    canvas.tube((0, 0, -28), (0, -12, -54), 6.0, 3.5, "bone", flat=(0.7, 1, 1))
    canvas.tube((0, 0, -29), (0, -12, -52), 4.2, 2.2, "marrow", flat=(0.6, 1, 1))  # clivus


def _face(canvas: Canvas, head: Head) -> None:
    """Orbits, eyes, cheekbones, nose and the air cells around it."""
    fine, slow = canvas.noise
    f, s, blob = head.face, head.sinus, canvas.blob
    # orbits, cheekbones, maxillary sinuses
    blob((29, 50, -28), (15, 24, 14), "fat", rough=(slow, 1.5))
    blob((40, 62, -52 * f), (15, 13, 10), "bone", rough=(slow + 0.4 * fine, 3.0), opacity=0.6)
    blob((40, 61, -52 * f), (11, 9, 7), "diploe", rough=(slow + 0.4 * fine, 3.0), soft=3)
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


def _mouth(canvas: Canvas, head: Head) -> None:
    """Palate, tongue, throat, jaws and teeth."""
    fine, slow = canvas.noise
    f, blob, cells = head.face, canvas.blob, (fine, 1.2)
    blob((0, 46, -79 * f), (28, 34, 4), "bone", mirrored=False, rough=cells)  # palate
    blob((0, 46, -79 * f), (25, 30, 2.2), "marrow", mirrored=False, rough=cells)
    blob((0, 44, -100 * f), (26, 30, 19), "tongue", mirrored=False, rough=(slow, 2.5))
    for k in range(5):  # its fibres
        blob(
            (0, 58 - 9 * k, (-92 - 3 * k) * f),
            (20, 1.5, 14),
            "fat",
            mirrored=False,
            rough=(slow + fine, 1.6),
            opacity=0.14,
            soft=4,
        )
    rough = (slow, 2.0)
    canvas.tube((0, 74, -84 * f), (0, 22, -85 * f), 1.6, 2.5, "air", flat=(0.2, 1, 1), opacity=0.8, rough=(slow, 1.5))
    canvas.tube((0, 22, -46), (0, 11, -66), 6.0, 4.0, "air", flat=(0.8, 1, 1), rough=rough)
    canvas.tube((0, 11, -66), (0, 1, -125), 3.6, 5.0, "air", flat=(0.6, 1.1, 1), rough=rough)
    # jaws
    bend = (slow + 0.35 * fine, 1.9)
    for tissue, ramus, start, end in (("bone", 104, (5.0, 7.0), 7.5), ("marrow", 102, (2.8, 4.6), 4.8)):
        canvas.tube((47, 4, -60), (43, 14, -ramus * f), *start, tissue, flat=(1.6, 0.55, 1), rough=bend)
        canvas.tube((43, 14, -108 * f), (10, 76, -104 * f), end, end, tissue, flat=(1.4, 1.4, 0.8), rough=bend)
    for z, r in ((-86, 3.4), (-93, 3.4)):  # teeth
        canvas.tube((40, 28, z * f), (8, 78, z * f), r, r, "bone", rough=(fine, 0.8))


def _spine(canvas: Canvas) -> None:
    """Vertebrae and the vessels of the neck."""
    fine, slow = canvas.noise
    cells = (slow + 0.3 * fine, 1.5)
    for k, z in enumerate((-62, -76, -92, -108, -124, -140, -156)):
        y = -11 - 0.06 * (-60 - z)
        radii = (11, 5, 6) if k == 0 else (13, 9, 7.6)
        canvas.blob((0, y, z), (radii[0] + 1, radii[1] + 1, radii[2] + 0.9), "bone", mirrored=False, rough=cells)
        canvas.blob((0, y, z), radii, "marrow", mirrored=False, rough=cells)
        canvas.blob((0, -53, z - 5), (5, 12, 4.5), "bone", mirrored=False, rough=(slow + 0.4 * fine, 3.0), opacity=0.6)
        canvas.blob((0, -53, z - 5), (3.5, 10, 3), "diploe", mirrored=False, rough=(slow + 0.4 * fine, 3.0), soft=3)
        canvas.blob((20 + k % 2, y - 4, z), (8, 7, 6), "bone", rough=(slow + 0.5 * fine, 2.2), opacity=0.7)
        canvas.blob((20 + k % 2, y - 4, z), (5.5, 5, 4), "diploe", rough=(slow + 0.5 * fine, 2.2), soft=2.5)
    wavy = (slow + 0.5 * fine, 1.8)
    canvas.tube((24, 6, -50), (27, -2, -170), 2.2, 2.4, "vessel", rough=wavy, opacity=0.5)  # carotids, jugular veins
    canvas.tube((29, -4, -54), (36, -6, -170), 2.4, 2.8, "vessel", rough=wavy, opacity=0.5)
