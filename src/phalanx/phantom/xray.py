"""From bones and flesh to an X-ray: path lengths add, intensity falls exponentially (Beer-Lambert), film is log.

Bones are tubes with a dense cortex around a spongy core. Their path length is added where they overlap, so that
overlaps are brighter, as in a real X-ray. Lengths are canvas pixels (2048), whatever the size of the image, and
noise and blur are scaled so that a small image is like a downsampled large one.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .anatomy import CANVAS, CARPALS, Bone, Hand

TILE = 512  # side of the texture tiles


@dataclass(frozen=True)
class Appearance:
    """How an image is taken: densities per canvas pixel of path, blur in canvas pixels, the rest without unit."""

    flesh: float
    cortex: float
    sponge: float
    shell: float  # cortex thickness over the usual one
    flat: float  # 0: round bones, 1: bones of even depth, as in crude drawings
    texture: float
    scatter: float
    heel: tuple[float, float]
    blur: float
    noise: float
    grain: float
    static: float  # electronic noise in grey levels, the same in air and in bone
    sharpen: float
    gamma: float
    floor: float  # fraction of the flesh density that is still black
    black: float
    white: float


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """An appearance for one patient, the same for both hands. Varied on purpose: a model must not rely on one."""
    contrast = rng.uniform(0.5, 1.7)
    return Appearance(
        flesh=rng.uniform(0.0022, 0.0042),
        cortex=0.0125 * contrast,
        sponge=0.0052 * contrast * rng.uniform(0.7, 1.5),
        shell=rng.uniform(0.55, 1.4),
        flat=float(rng.uniform(0.3, 1.0) if rng.random() < 0.35 else rng.uniform(0.0, 0.3)),
        texture=rng.uniform(0.05, 0.45),
        scatter=rng.uniform(0.03, 0.25),
        heel=(rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)),
        blur=float(rng.uniform(0.8, 3.0) if rng.random() < 0.85 else rng.uniform(3.0, 6.0)),
        noise=float(np.exp(rng.uniform(np.log(0.01), np.log(0.11)))),
        grain=rng.uniform(0.0, 3.0),
        static=float(rng.uniform(1, 16) if rng.random() < 0.4 else 0.0),
        sharpen=float(rng.uniform(0.1, 0.7) if rng.random() < 0.5 else 0.0),
        gamma=rng.uniform(0.65, 1.35),
        floor=float(rng.uniform(-0.15, 0.35) if rng.random() < 0.8 else rng.uniform(0.35, 0.8)),
        black=float(rng.uniform(0, 14) if rng.random() < 0.8 else rng.uniform(14, 45)),
        white=rng.uniform(190, 262),
    )


def bone_density(hand: Hand, appearance: Appearance, size: int, rng: np.random.Generator) -> np.ndarray:
    """Attenuation by all bones, float32[size, size]: the sum over bones, drawn at twice the size if affordable."""
    fine = 2 if size <= 1024 else 1
    scale = size * fine / CANVAS
    total = np.zeros((size * fine, size * fine), np.float32)
    for name, bone in hand.bones.items():
        add_bone(total, bone, appearance, scale, rng, long=name not in CARPALS)
    # sesamoids of the thumb: small bones without a label
    thumb = hand.bones["finger-3"]
    across = thumb.axis[::-1] * (1, -1)
    for side in (-0.24, 0.30):
        if rng.random() < 0.7:
            centre = thumb.centre + thumb.axis * thumb.length * rng.uniform(0.33, 0.39) + across * thumb.width * side
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            radii = thumb.width * rng.uniform(0.12, 0.19, 2)
            outline = centre + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii
            add_bone(total, Bone(outline, centre, thumb.axis, *(2 * radii)), appearance, scale, rng, long=False)
    return cv2.resize(total, (size, size), interpolation=cv2.INTER_AREA) if fine > 1 else total


def add_bone(
    total: np.ndarray, bone: Bone, appearance: Appearance, scale: float, rng: np.random.Generator, *, long: bool
) -> None:
    """Adds one bone's attenuation to float32[H, W], in place.

    A bone is round: at distance d from the edge and with R the greatest d of the same cross-section, rays pass
    2 sqrt(R^2 - (R - d)^2) of it. The part outside the inner tube of radius R - t is cortex.
    """
    points = (bone.outline + 0.5) * scale - 0.5
    x0, y0 = np.maximum(np.floor(points.min(0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 3, total.shape[::-1])
    if x0 >= x1 or y0 >= y1:
        return
    # more rows if the border crops the bone, so that the border does not count as an edge
    below = 64 if points[:, 1].max() > total.shape[0] else 0
    mask = np.zeros((y1 - y0 + below, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round((points - (x0, y0)) * 16).astype(np.int32)], 1, shift=4)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[: y1 - y0]
    rows, columns = np.nonzero(depth)
    if not len(rows):
        return
    d = depth[rows, columns] / np.float32(scale)
    centre, (ax, ay) = (bone.centre + 0.5) * scale - 0.5, bone.axis
    dx, dy = (columns + (x0 - centre[0])).astype(np.float32), (rows + (y0 - centre[1])).astype(np.float32)
    along = (dx * np.float32(ax) + dy * np.float32(ay)) / np.float32(scale)  # towards the finger tips
    across = (dx * np.float32(-ay) + dy * np.float32(ax)) / np.float32(scale)
    # radius of each cross-section, in steps of some pixels along the bone
    step = max(4.0, 1.5 / scale)
    start, stop = along.min(), along.max()
    section = ((along - start) / step).astype(np.int32)
    widest = np.zeros(section.max() + 1, np.float32)
    np.maximum.at(widest, section, d)
    smooth = np.convolve(np.pad(widest, 4, mode="edge"), np.ones(9) / 9, mode="valid")
    radius = np.maximum(widest, smooth).astype(np.float32)
    u = np.linspace(-1, 1, len(radius)) if long else np.ones(len(radius))
    shaft = np.clip(1.25 - 1.6 * u * u, 0, 1)  # 1 in the middle of a long bone, 0 at its ends
    if bone.length > 1000:  # the forearm: one end is in the image, the shaft leaves it
        shaft = np.clip((np.linspace(stop - start, 0, len(radius)) - 130) / 250, 0, 1)
    wall = (3.5 + 9.0 * shaft) * appearance.shell * rng.uniform(0.85, 1.15) * (bone.width / 95) ** 0.5
    core = appearance.sponge * (1.0 - 0.75 * shaft) * rng.uniform(0.85, 1.15)
    r, t = radius[section], wall.astype(np.float32)[section]
    off = np.maximum(r - d, 0)
    outer = np.sqrt(np.maximum(r * r - off * off, 0))
    inner = np.sqrt(np.maximum(np.maximum(r - t, 0) ** 2 - off * off, 0))
    # wide parts are flat bones: the end of the radius is not as deep as it is wide
    oval = np.minimum(45 / np.maximum(radius, 1), 1).astype(np.float32)[section] ** np.float32(0.8)
    outer, inner = outer * oval, inner * oval
    if appearance.flat:
        # an even slab of the same mean depth, with a thin bright rim
        even = np.float32(0.55 * float(np.percentile(radius, 60)) + 10)
        rim = np.where(d < 6 * appearance.shell, even, 0.35 * even)
        outer = outer + np.float32(appearance.flat) * (even - outer)
        inner = inner + np.float32(appearance.flat) * (even - rim - inner)
    grain = _texture(scale, rng, along, across, appearance.texture)
    density = 2 * (outer - inner) * np.float32(appearance.cortex) * (1 + 0.25 * grain)
    density += 2 * inner * core.astype(np.float32)[section] * (1 + grain)
    total[rows + y0, columns + x0] += density


@lru_cache(maxsize=8)
def _tiles(blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Two endless textures float32[TILE, TILE] of unit spread: fine sponge and coarse patches."""
    rng = np.random.default_rng(20240229)
    noise = np.fft.rfft2(rng.standard_normal((2, TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    tiles = []
    for spectrum, period in zip(noise, (7.0, 45.0), strict=True):
        band = np.exp(-((np.log(np.maximum(frequency, 1e-4) * period) / 0.7) ** 2))
        plain = np.fft.irfft2(spectrum * band)
        seen = np.fft.irfft2(spectrum * band * np.exp(-2 * (np.pi * frequency * blur) ** 2))
        tiles.append((seen / plain.std()).astype(np.float32))
    return tiles[0], tiles[1]


def _texture(
    scale: float, rng: np.random.Generator, along: np.ndarray, across: np.ndarray, strength: float
) -> np.ndarray:
    """Trabecular texture float32[N] at points given in canvas pixels of the bone's own frame; struts run along it."""
    fine, coarse = _tiles(round(0.45 / scale, 2))
    x, y = rng.integers(0, TILE, 2)
    column, row = (across + x).astype(np.int32) % TILE, (along * np.float32(0.45) + y).astype(np.int32) % TILE
    return np.float32(strength) * (0.7 * fine[row, column] + 0.28 * coarse[row, column])


def expose(attenuation: np.ndarray, appearance: Appearance, rng: np.random.Generator) -> np.ndarray:
    """Attenuation float32[S, S] to a grey image uint8[S, S]: scatter, quantum noise, detector, film curve."""
    size = len(attenuation)
    scale = size / CANVAS
    small = cv2.resize(attenuation, (64, 64), interpolation=cv2.INTER_AREA)
    scatter = cv2.GaussianBlur(np.exp(-small), (0, 0), 5)
    scatter = cv2.resize(scatter, (size, size), interpolation=cv2.INTER_LINEAR) * np.float32(appearance.scatter)
    film = attenuation
    if appearance.blur * scale > 0.3:
        film = cv2.GaussianBlur(film, (0, 0), appearance.blur * scale)
    film = -np.log((np.exp(-film) + scatter) / np.float32(1 + appearance.scatter))
    noise: np.ndarray = rng.standard_normal((size, size), dtype=np.float32)
    spread = appearance.noise * scale
    if appearance.grain * scale > 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), appearance.grain * scale)
        spread *= 1 + appearance.grain * scale  # as blurring removes most of it
    film += noise * np.exp(film / 2) * np.float32(spread)
    if appearance.sharpen:
        quarter = max(size // 16, 32)
        wide = cv2.resize(film, (quarter, quarter), interpolation=cv2.INTER_AREA)
        wide = cv2.resize(cv2.GaussianBlur(wide, (0, 0), 2), (size, size), interpolation=cv2.INTER_LINEAR)
        film += np.float32(appearance.sharpen) * (film - wide)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    film += np.float32(appearance.heel[0]) * ramp + np.float32(appearance.heel[1]) * ramp[:, None]
    sample = film[:: max(size // 256, 1), :: max(size // 256, 1)]
    flesh = np.percentile(sample[sample > 0.25], 30) if (sample > 0.25).sum() > 100 else 0.3
    low, high = appearance.floor * flesh, np.percentile(sample, 99.7)
    film = np.clip((film - np.float32(low)) / np.float32(max(high - low, 0.1)), 0, 1.3)
    film = film ** np.float32(appearance.gamma)
    grey = np.float32(appearance.black) + film * np.float32(appearance.white - appearance.black)
    if appearance.static:
        grey += rng.standard_normal((size, size), dtype=np.float32) * np.float32(appearance.static * scale)
    return np.clip(grey, 0, 255).astype(np.uint8)
