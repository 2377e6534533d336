"""From tissues to a grey image, the way of a machine: beams through the plane, echoes, compression, scan conversion.

Everything is computed on the grid of the beams (rows: depth, columns: beams). Backscatter is complex noise that a
point-spread function blurs, wider with depth, so that the envelope has Rayleigh speckle whose grain grows with depth.
Interfaces reflect by their step of impedance along the beam. Loss adds up along a beam: shadow behind bone,
enhancement behind fluid. Depths are in mm along a beam from the probe's surface.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np

from .ultrasound_canvas import ABOVE, Canvas

SAMPLES, BEAMS = 512, 208
TILE = 256  # side of the texture tiles


@dataclass(frozen=True)
class Probe:
    """``curved``: an arc of ``radius`` mm whose beams diverge over ``angle`` degrees; ``flat``: the same from a flat
    surface (virtual convex); ``linear``: parallel beams over ``width`` mm."""

    shape: Literal["curved", "flat", "linear"]
    radius: float = 50.0
    angle: float = 65.0
    width: float = 60.0

    def surface(self, x: np.ndarray) -> np.ndarray:
        """z of the probe's surface at x, in mm, continued beyond its ends."""
        if self.shape != "curved":
            return np.zeros_like(x)
        inside = np.minimum(np.abs(x), 0.95 * self.radius)
        return np.sqrt(self.radius**2 - inside**2) - self.radius

    def span(self, depth: float) -> float:
        """Width in mm of the field at its deepest."""
        if self.shape == "linear":
            return self.width
        return 2 * (self.radius + depth) * math.sin(math.radians(self.angle / 2))

    def points(self, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """x and z in mm of all samples, float32[SAMPLES, BEAMS]."""
        t = np.linspace(0, depth, SAMPLES, dtype=np.float32)[:, None]
        if self.shape == "linear":
            x = np.linspace(-self.width / 2, self.width / 2, BEAMS, dtype=np.float32)[None]
            return np.broadcast_to(x, (SAMPLES, BEAMS)).copy(), np.broadcast_to(t, (SAMPLES, BEAMS)).copy()
        theta = np.radians(np.linspace(-self.angle / 2, self.angle / 2, BEAMS, dtype=np.float32))[None]
        first = self.radius / np.cos(theta) if self.shape == "flat" else np.float32(self.radius)
        rho = first + t
        return rho * np.sin(theta), rho * np.cos(theta) - np.float32(self.radius)

    def samples(self, x: np.ndarray, z: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """Inverse of :meth:`points`: fractional beam and sample of float32[H, W] in mm; outside of the field out of
        range."""
        per_mm = np.float32((SAMPLES - 1) / depth)
        if self.shape == "linear":
            return (x / np.float32(self.width) + np.float32(0.5)) * (BEAMS - 1), z * per_mm
        down = z + np.float32(self.radius)
        rho = np.sqrt(x * x + down * down)
        theta = np.arctan2(x, down)
        beam = (theta / np.float32(math.radians(self.angle)) + np.float32(0.5)) * (BEAMS - 1)
        first = np.float32(self.radius)
        if self.shape == "flat":
            first = first * rho / np.maximum(down, np.float32(1e-3))
        return beam, (rho - first) * per_mm


@dataclass(frozen=True)
class Settings:
    """How an image is taken and shown. Lengths in mm, levels in dB.

    ``axial``, ``lateral``: spread of the point-spread function at the focus; ``focus``: its depth as a fraction;
    ``compound``: two views are averaged; ``smooth``: how much speckle the machine takes away, 0 to 1; ``noise``: of the
    electronics, at the bottom; ``range``: dynamic range; ``gain``: of the whole image; ``tgc``: spread of the error of
    depth gain; ``gamma``, ``contrast``: grey map; ``reverb``: near-field echoes; ``contact``: loss of contact at the
    sides; ``haze``: side lobes and reverberation behind strong echoes; ``sharpen``: edge enhancement; ``bands``:
    shadows of gas or a rib at the skin, each by its place from -1 to 1, its width on that scale and its dB.
    """

    axial: float = 0.30
    lateral: float = 0.5
    focus: float = 0.5
    compound: bool = True
    smooth: float = 0.3
    noise: float = -34.0
    range: float = 58.0
    gain: float = 0.0
    tgc: float = 2.0
    gamma: float = 1.0
    contrast: float = 0.3
    reverb: float = 0.0
    contact: float = 6.0
    haze: float = -30.0
    sharpen: float = 0.0
    bands: tuple[tuple[float, float, float], ...] = ()

    def with_(self, **changes: Any) -> "Settings":
        """A copy with some values changed."""
        return replace(self, **changes)


@lru_cache(maxsize=1)
def _tiles() -> np.ndarray:
    """Textures of unit spread that repeat every TILE pixels, float32[3, 4 TILE, 5 TILE]: fine, middle, coarse."""
    rng = np.random.default_rng(20240229)
    spectrum = np.fft.rfft2(rng.standard_normal((3, TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    tiles = []
    for plane, period in zip(spectrum, (7.0, 17.0, 60.0), strict=True):
        tile = np.fft.irfft2(plane * np.exp(-((np.log(np.maximum(frequency, 1e-4) * period) / 0.6) ** 2)))
        tiles.append(tile / tile.std())
    return np.tile(np.array(tiles, np.float32), (1, 4, 5))


def tile(number: int, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random part of an endless texture, float32[shape], at most 3 x 4 TILE; read only."""
    y, x = rng.integers(0, TILE, 2)
    return _tiles()[number, y : y + shape[0], x : x + shape[1]]


def ripple(canvas: Canvas, rng: np.random.Generator, amplitude: float) -> None:
    """Displaces labels and regions of a canvas by a smooth random field of ``amplitude`` mm, in place."""
    height, width = canvas.labels.shape
    coarse = rng.standard_normal((2, 28, 28)).astype(np.float32) * np.float32(amplitude * canvas.scale)
    dx, dy = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in coarse)
    dx += np.arange(width, dtype=np.float32)
    dy += np.arange(height, dtype=np.float32)[:, None]
    for name in ("labels", "regions"):
        setattr(
            canvas, name, cv2.remap(getattr(canvas, name), dx, dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        )


def scan(canvas: Canvas, probe: Probe, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Grey levels along the beams, float32[SAMPLES, BEAMS] from 0 to 1."""
    x, z = probe.points(canvas.depth)
    step = canvas.depth / (SAMPLES - 1)
    columns = (x + np.float32(canvas.width / 2)) * np.float32(canvas.scale) - np.float32(0.5)
    rows = (z + np.float32(ABOVE)) * np.float32(canvas.scale) - np.float32(0.5)
    properties = cv2.GaussianBlur(canvas.properties(), (0, 0), 0.6)
    echo, impedance, loss, mottle = cv2.split(
        cv2.remap(properties, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )
    shape = canvas.labels.shape
    texture = 0.5 * tile(0, shape, rng) + 0.6 * tile(1, shape, rng) + 0.8 * tile(2, shape, rng)
    echo += mottle * cv2.remap(texture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mirror = _reflection(impedance, x, z, step, rng)
    edges = cv2.Sobel(impedance, cv2.CV_32F, 1, 0, ksize=3)
    through = -np.cumsum(cv2.GaussianBlur(loss + 0.05 * np.abs(edges), (0, 0), 2.2, sigmaY=0.5), axis=0) * np.float32(
        step
    )
    through = np.maximum(through, -45)
    amplitude = np.exp((echo + through) * np.float32(math.log(10) / 20))
    mirror *= np.exp(through * np.float32(math.log(10) / 20))
    spacing = probe.span(canvas.depth * settings.focus) / BEAMS
    intensity, mean = _envelope(amplitude, mirror, settings, step, spacing, rng)
    return _compress(intensity, mean, settings, canvas.depth, rng)


def _reflection(
    impedance: np.ndarray, x: np.ndarray, z: np.ndarray, step: float, rng: np.random.Generator
) -> np.ndarray:
    """Amplitude of the reflection at interfaces: the step of impedance along the beam, times the cube of the cosine
    between beam and normal, since what is reflected aside misses the probe."""
    down = cv2.Sobel(impedance, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    spacing = np.maximum(np.hypot(np.diff(x, axis=1, append=x[:, -1:]), np.diff(z, axis=1, append=z[:, -1:])), 0.05)
    aside = cv2.Sobel(impedance, cv2.CV_32F, 1, 0, ksize=3, scale=0.125) * (np.float32(step) / spacing)
    squared = down * down
    strength = np.abs(down) * squared / (squared + 1.6 * aside * aside + np.float32(1e-6))
    rough = tile(1, impedance.shape, rng) * 0.7 + tile(2, impedance.shape, rng) * 0.5
    return strength * np.exp(np.float32(0.45) * rough) * np.float32(6.0)


def _envelope(
    amplitude: np.ndarray,
    mirror: np.ndarray,
    settings: Settings,
    step: float,
    spacing: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Intensity with speckle, and the mean intensity without, both float32[SAMPLES, BEAMS].

    ``step``, ``spacing``: distance in mm of samples along a beam, and of beams at the focus.
    """
    axial = max(settings.axial / step, 0.6)
    narrow = max(settings.lateral / spacing, 0.5)
    wide = 2.6 * narrow
    t = np.linspace(0, 1, SAMPLES, dtype=np.float32)[:, None]
    blend = np.clip(np.abs(t - np.float32(settings.focus)) / np.float32(0.6), 0, 1)
    noise: np.ndarray = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    tail = np.exp(-np.arange(64, dtype=np.float32) * np.float32(step / 5.0))
    behind = cv2.filter2D(mirror, cv2.CV_32F, np.concatenate([np.zeros(63, np.float32), tail])[::-1].reshape(-1, 1))
    amplitude = amplitude + behind * np.float32(10 ** (settings.haze / 20))
    looks = [(noise[0], noise[1])]
    if settings.compound:  # the same noise elsewhere is as good as another view
        looks.append((np.roll(noise[1], 97, axis=0), np.roll(noise[0], 61, axis=0)))
    intensity = np.zeros_like(amplitude)
    for real, imaginary in looks:
        for plane in (real * amplitude + mirror, imaginary * amplitude):
            intensity += _blurred(plane, (narrow * math.sqrt(2), wide * math.sqrt(2)), axial * math.sqrt(2), blend) ** 2
    # as much energy as before the blur: it leaves 1 / (8 pi narrow axial) of the power of white noise
    intensity *= (8 * math.pi * axial / 2 / len(looks)) * (narrow + blend * np.float32(wide - narrow))
    mean = _blurred(amplitude * amplitude + mirror * mirror * 2, (narrow, wide), axial, blend)
    side = cv2.blur(mean, (61, 5)) * np.float32(10 ** ((settings.haze - 10) / 10))
    return intensity + side, mean + side


def _blurred(plane: np.ndarray, lateral: tuple[float, float], axial: float, blend: np.ndarray) -> np.ndarray:
    """A plane blurred by the narrower and the wider point-spread function, ``blend`` of the latter per sample."""
    narrow = cv2.GaussianBlur(plane, (0, 0), lateral[0], sigmaY=axial)
    more = math.sqrt(lateral[1] ** 2 - lateral[0] ** 2)  # variances of blurs add
    wide = cv2.GaussianBlur(narrow, (int(3 * more) * 2 + 1, 1), more)
    return narrow + blend * (wide - narrow)


def _compress(
    intensity: np.ndarray, mean: np.ndarray, settings: Settings, depth: float, rng: np.random.Generator
) -> np.ndarray:
    """Levels in dB with depth gain, contact and noise, mapped to grey."""
    t = np.linspace(0, 1, SAMPLES, dtype=np.float32)[:, None]
    grown = np.float32(10) ** ((np.float32(settings.noise) - 26 * (1 - t)) / 10)
    static = cv2.GaussianBlur(rng.standard_normal(intensity.shape, dtype=np.float32), (0, 0), 0.7) ** 2
    ring = _ring_down(depth, settings, rng)
    level = 10 * np.log10(intensity + grown * static * 4 + ring * static * 4 + np.float32(1e-7))
    if settings.smooth:
        level += np.float32(settings.smooth) * (10 * np.log10(mean + grown + ring + np.float32(1e-7)) - level)
    knots = rng.normal(0, settings.tgc, 8).astype(np.float32).reshape(-1, 1)
    level += cv2.resize(knots, (1, SAMPLES), interpolation=cv2.INTER_CUBIC)
    level += 2.0 * np.exp(-(((t - settings.focus) / 0.12) ** 2)) * np.float32(abs(settings.tgc) / 2)
    beams = np.linspace(-1, 1, BEAMS, dtype=np.float32)
    level -= np.float32(settings.contact) * np.clip((np.abs(beams) - 0.72) / 0.28, 0, 1) ** 2
    for middle, wide, loss in settings.bands:
        level -= (
            np.float32(loss) * np.exp(-(((beams - np.float32(middle)) / np.float32(wide)) ** 2)) * np.minimum(t * 12, 1)
        )
    patchy = cv2.resize(rng.standard_normal((1, 14)).astype(np.float32), (BEAMS, 1), interpolation=cv2.INTER_CUBIC)
    level += np.minimum(patchy, 0.4) * np.float32(settings.contact * 0.22)
    if settings.sharpen:
        level += np.float32(settings.sharpen) * (level - cv2.GaussianBlur(level, (0, 0), 2.5))
    grey = np.clip((level + np.float32(settings.gain + settings.range - 29)) / np.float32(settings.range), 0, 1)
    curved = grey * grey * (3 - 2 * grey)  # an S-curve
    return (grey + np.float32(settings.contrast) * (curved - grey)) ** np.float32(settings.gamma)


def _ring_down(depth: float, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Intensity of the probe's own ringing and of echoes between skin and probe: bands in the first millimetres."""
    mm = np.linspace(0, depth, SAMPLES, dtype=np.float32)[:, None]
    level = np.float32(6 + settings.reverb) - mm * np.float32(rng.uniform(2.6, 4.5))
    level += 4 * np.cos(mm * np.float32(2 * np.pi / rng.uniform(1.4, 2.6)))
    return np.float32(10) ** (level / 10)


def convert(
    grey: np.ndarray, probe: Probe, canvas: Canvas, side: tuple[int, int], scale: float, origin: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan conversion: the image, the regions and the field on a display.

    Args:
        grey: of :func:`scan`.
        side: height and width of the display in pixels.
        scale: pixels per mm.
        origin: x and y of the middle of the probe's surface in pixels.

    Returns:
        float32[H, W] from 0 to 1; uint8[H, W], a bit per class; bool[H, W], where the field is.
    """
    height, width = side
    x = ((np.arange(width, dtype=np.float32) - np.float32(origin[0])) / np.float32(scale))[None].repeat(height, 0)
    z = ((np.arange(height, dtype=np.float32) - np.float32(origin[1])) / np.float32(scale))[:, None].repeat(width, 1)
    beam, sample = probe.samples(x, z, canvas.depth)
    inside = (beam >= 0) & (beam <= BEAMS - 1) & (sample >= 0) & (sample <= SAMPLES - 1)
    image = cv2.remap(grey, beam, sample, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image[~inside] = 0
    columns = (x + np.float32(canvas.width / 2)) * np.float32(canvas.scale) - np.float32(0.5)
    rows = (z + np.float32(ABOVE)) * np.float32(canvas.scale) - np.float32(0.5)
    regions = cv2.remap(canvas.regions, columns, rows, cv2.INTER_NEAREST)
    regions[~inside] = 0
    return image, regions, inside
