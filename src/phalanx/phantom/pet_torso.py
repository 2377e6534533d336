"""The flesh around the trunk, and the limbs at both ends of it, in side view."""

import cv2
import numpy as np

from .pet_animal import Animal
from .pet_canvas import Canvas, band, closed, curve, moved, rod, wobble

BLADE = (  # a shoulder blade from its joint: along, as fractions of its length, and across in u
    (0.0, -0.32), (0.1, 0.0), (0.0, 0.34), (0.24, 0.24), (0.6, 0.55), (0.95, 0.95), (1.0, 0.4), (0.98, -0.5),
    (0.8, -0.85), (0.45, -0.62), (0.16, -0.24),
)  # fmt: skip


def skin(animal: Animal, rng: np.random.Generator) -> np.ndarray:
    """Outline of the trunk with neck and tail, without limbs."""
    d, fat = animal.depth, animal.fat
    pad = 0.22 + 0.5 * fat
    withers = 2.6 * animal.spinous
    top = [
        (-9, animal.back(-7.5) - 1.7), (-5, animal.back(-5) - 1.5 - pad), (-2.3, animal.back(-2) - 1.9 - pad),
        (0.8, animal.back(1) - withers * 1.0 - pad), (3.2, animal.back(3) - withers * 0.95 - pad),
        (6, animal.back(6) - withers * 0.78 - pad), (9.5, animal.back(9.5) - 1.35 * animal.spinous - pad),
        (14, animal.back(14) - 1.3 * animal.spinous - pad), (19, animal.back(19) - 1.32 * animal.spinous - pad),
        (22.5, animal.back(22.5) - 1.0 * animal.spinous - pad), (25.3, animal.back(25.3) - 0.85 - pad),
        (28, animal.back(28) - 0.6),
    ]  # fmt: skip
    tuck = 0.12 + 0.1 * (1 - fat) + (0.05 if animal.build == "deep" else 0)
    low = [
        (28.5, animal.back(28.5) + 0.6), (26.8, 0.9 * d), (24, 0.93 * d), (21, d * (1.0 - tuck) + 0.3 + fat),
        (17.5, d * (1.03 - 0.75 * tuck) + 0.35 + fat), (13.5, d * (1.04 - 0.2 * tuck) + 0.4 + 0.7 * fat),
        (9.5, d + 0.72 + 0.45 * fat), (5.5, 0.85 * d + 1.15 + 0.4 * fat), (1.5, 0.66 * d + 1.35 + 0.4 * fat),
        (-1.3, 0.53 * d + 1.3), (-3.2, 0.43 * d + 0.9), (-6, 0.36 * d + 0.5), (-9, 0.3 * d),
    ]  # fmt: skip
    return wobble(np.concatenate([curve(top, 90), curve(low, 90)]), 0.035, rng)


def draw_flesh(canvas: Canvas, animal: Animal, outline: np.ndarray, rng: np.random.Generator) -> None:
    """The trunk as a round body, its muscles along the spine, the layer of fat under the skin, and its coat."""
    d = animal.depth
    canvas.add_soft(outline, 0.84 * animal.width, 0.40 * d, 0.05)
    middle = (np.arange(canvas.side) - canvas.side / 2) / canvas.scale + canvas.view.centre[0]
    canvas.soft *= np.interp(middle, [-6, -3, 1.5, 13, 18, 24], [0.66, 0.7, 0.95, 1.0, 0.94, 0.92]).astype(np.float32)
    canvas.add_soft(outline, 0.10, 0.12, 0.0)
    loin = [(x, animal.back(x) + 0.2) for x in np.linspace(10.5, 24, 9)]
    canvas.add_soft(band(curve(np.array(loin), 30), 2.2), 0.12, 1.0, 0.3)
    back = [(x, animal.back(x) - 0.75) for x in np.linspace(-8, 24, 15)]
    canvas.add_soft(band(curve(np.array(back), 40), 1.3), 0.10, 0.6, 0.25)
    hair(canvas, outline, rng)


def hair(canvas: Canvas, outline: np.ndarray, rng: np.random.Generator) -> None:
    """A thin haze outside the skin that breaks up into tufts."""
    length = rng.uniform(0.08, 0.4)
    found = canvas.mask(outline, 3 * length * canvas.scale)
    if found is None:
        return
    crop, mask = found
    shape = max(mask.shape[1] // 4, 1), max(mask.shape[0] // 4, 1)
    small: np.ndarray = cv2.resize(mask.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
    haze: np.ndarray = cv2.GaussianBlur(small, (0, 0), max(length * canvas.scale / 4, 0.3))
    tufts: np.ndarray = rng.standard_normal(small.shape, dtype=np.float32)
    haze = haze * (1 + 0.5 * cv2.GaussianBlur(tufts, (0, 0), 0.8))
    haze = cv2.resize(haze, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    canvas.soft[crop] += np.float32(0.10 * rng.uniform(0.4, 1.2)) * haze * (1 - mask)


def draw_fore_limbs(canvas: Canvas, animal: Animal, forward: float, rng: np.random.Generator) -> None:
    """Shoulder blades and upper arms, pulled forwards by ``forward`` u, with their muscles."""
    d, t = animal.depth, animal.thick
    for side in (0, 1):
        shift = moved(np.array([rng.normal(-forward, 0.25), rng.normal(0, 0.15)]), 0.35 * side, 0.1 * side)
        joint = np.array([-2.7, 0.52 * d + 0.75]) + shift
        top = np.array([1.35, animal.back(1.0) - 1.75 * animal.spinous]) + shift * 0.6
        along = (top - joint) / np.hypot(*(top - joint))
        across = np.array([-along[1], along[0]])
        long = float(np.hypot(*(top - joint)))
        blade = np.array([joint + along * long * a + across * b * t for a, b in BLADE])
        canvas.add_bone(blade, 0.14 * animal.density, 0.05, 0.16)
        spine = np.array([joint + along * long * 0.14, joint + along * long * 0.55 + across * 0.1, top])
        canvas.add_bone(band(curve(spine, 10), np.linspace(0.3, 0.1, 10)), 0.22 * animal.density, 0.05, 0.12)
        elbow = joint + np.array([-2.0 - 1.2 * forward, 5.2])
        arm = curve(np.array([moved(joint, -0.1, 0.25), (joint + elbow) / 2 + (0.3, 0), elbow]), 24)
        u = np.linspace(0, 1, 24)
        width = t * (0.62 + 0.75 * np.exp(-((u / 0.14) ** 2)) + 0.3 * np.exp(-(((1 - u) / 0.15) ** 2)))
        canvas.add_bone(rod(arm, width), 0.26 * animal.density, 0.10 * t)
        flesh = curve(
            np.array(
                [
                    moved(top, -0.4, 0.6),
                    (top + joint) / 2,
                    moved(joint, 0.25, 0.2),
                    (joint + elbow) / 2 + (0.35, 0.2),
                    elbow * 1.5 - joint * 0.5,
                ]
            ),
            36,
        )
        canvas.add_soft(band(flesh, np.linspace(2.4, 2.9, 36)), 0.085, 1.1, 0.25)


def draw_hind_limbs(canvas: Canvas, animal: Animal, swing: float, rng: np.random.Generator) -> np.ndarray:
    """Pelvis and thighs, swung back by ``swing`` u at the knee; returns the hip joint."""
    t, dens = animal.thick, animal.density
    hip = np.array([24.0, animal.back(24.0) + 1.75])
    for side in (0, 1):
        shift = moved(rng.normal(0, 0.09, 2), 0.2 * side, 0.08 * side)
        joint = hip + shift
        wing = np.array([21.5, animal.back(21.5) - 0.35]) + shift
        ilium = [
            moved(wing, -0.35, -0.15),
            moved(wing, 0.35, -0.75),
            moved(wing, 1.15, -0.35),
            moved(joint, -0.5, -0.75),
            moved(joint, 0.25, -0.5),
            moved(joint, 0.35, 0.3),
            moved(joint, -0.35, 0.35),
            moved(joint, -0.95, -0.35),
            moved(wing, 0.75, 0.55),
            moved(wing, -0.15, 0.45),
        ]
        canvas.add_bone(closed(ilium, 50), 0.24 * dens * t, 0.08, 0.26)
        seat = moved(joint, 2.35, 0.75)
        rear = [
            *(joint + np.array([(0.1, -0.42), (1.3, -0.05)])),
            *(seat + np.array([(0.25, -0.45), (0.3, 0.25), (-0.6, 0.25)])),
            *(joint + np.array([(0.9, 0.55), (0.1, 0.4)])),
        ]  # fmt: skip
        canvas.add_bone(closed(rear, 40), 0.22 * dens * t, 0.08, 0.24)
        floor = curve(
            np.array(
                [moved(joint, -0.2, 0.3), moved(joint, -0.25, 1.15), moved(joint, 0.9, 1.45), moved(seat, -0.3, 0.15)]
            ),
            20,
        )
        canvas.add_bone(rod(floor, 0.42), 0.22 * dens * t, 0.07)
        knee = joint + np.array([swing - 0.6, 5.6])
        _long_bone(
            canvas, animal, np.array([moved(joint, 0.3, 0.35), (joint + knee) / 2 + (0.22, 0), knee]), (0.34, 0.6)
        )
        ankle = knee + np.array([2.2 + 0.6 * swing, 5.0])
        _long_bone(canvas, animal, np.array([moved(knee, 0.25, 0.75), (knee + ankle) / 2, ankle]), (0.6, 0.2))
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        canvas.add_bone(joint + 0.42 * t * np.stack([np.cos(angle), np.sin(angle)], 1), 0.27 * dens, 0.07)
        flesh = [
            moved(hip, 0.2, -1.0),
            moved(joint, 0.5, 1.2),
            (joint + knee) / 2 + (0.7, 0.4),
            moved(knee, 0.5, 0.3),
            ankle,
        ]
        wide = np.interp(np.linspace(0, 1, 40), [0, 0.5, 0.75, 1], [3.4, 3.3, 2.6, 1.5]) + 0.5 * animal.fat
        canvas.add_soft(band(curve(np.array(flesh), 40), wide), 0.11, 1.5, 0.2)
    return hip


def _long_bone(canvas: Canvas, animal: Animal, path: np.ndarray, ends: tuple[float, float]) -> None:
    """A shaft that widens by ``ends`` u at its ends."""
    u = np.linspace(0, 1, 30)
    width = 0.62 + ends[0] * np.exp(-((u / 0.13) ** 2)) + ends[1] * np.exp(-(((1 - u) / 0.14) ** 2))
    canvas.add_bone(rod(curve(path, 30), animal.thick * width), 0.28 * animal.density, 0.11 * animal.thick)
