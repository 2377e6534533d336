"""From tissue intensities to an image: coil, k-space, noise, window, and the look of a source.

Acquisition is simulated in k-space: a finite matrix rings at edges, noise is complex (so that the magnitude is
Rician), and motion between lines makes ghosts along the phase encoding direction.
"""

from dataclasses import dataclass

import numpy as np

SOURCES = ("A", "B", "C", "D")


@dataclass(frozen=True)
class Source:
    """How a hospital's images differ: all that does not depend on the patient.

    ``matrix``: acquired lines per image; ``floor``: noise in air, over that of the others; ``level``: grey level of
    black; ``border``: what surrounds the image; ``sequences``: odds of T1ce, T1, T2, FLAIR.
    """

    border: str
    matrix: tuple[int, int]
    floor: tuple[float, float]
    level: tuple[float, float]
    gamma: tuple[float, float]
    white: tuple[float, float]
    fov: tuple[float, float]
    sequences: tuple[float, float, float, float]


LOOKS: dict[str, Source] = {
    "A": Source(
        "curved", (256, 320), (1.3, 2.2), (0, 1.5), (1.0, 1.25), (185, 235), (0.96, 1.1), (0.80, 0.04, 0.08, 0.08)
    ),
    "B": Source(
        "bands", (220, 260), (2.1, 3.1), (4, 9), (0.85, 1.0), (165, 215), (1.0, 1.15), (0.74, 0.04, 0.14, 0.08)
    ),
    "C": Source(
        "tight", (280, 340), (0.9, 1.5), (-6, -2), (0.9, 1.1), (215, 270), (0.88, 0.98), (0.74, 0.04, 0.08, 0.14)
    ),
    "D": Source(
        "none", (150, 190), (3.4, 5.0), (9, 18), (0.75, 0.9), (160, 205), (1.0, 1.15), (0.74, 0.10, 0.08, 0.08)
    ),
}
NOISE = 0.0085  # standard deviation of the noise over bright fat, for a source with floor 1


@dataclass(frozen=True)
class Series:
    """How one series of one patient is acquired."""

    source: str
    sequence: str
    matrix: float
    floor: float
    level: float
    gamma: float
    white: float
    fov: float
    coil: tuple[float, float, float]
    swap: bool  # phase encoding along columns
    ghost: float
    band: float  # width of the black bands, over the image


def draw_series(rng: np.random.Generator, source: str) -> Series:
    """A random series of a source."""
    look = LOOKS[source]
    return Series(
        source=source,
        sequence=str(rng.choice(["T1ce", "T1", "T2", "FLAIR"], p=look.sequences)),
        matrix=rng.uniform(*look.matrix),
        floor=rng.uniform(*look.floor),
        level=rng.uniform(*look.level),
        gamma=rng.uniform(*look.gamma),
        white=rng.uniform(*look.white),
        fov=rng.uniform(*look.fov),
        coil=(float(rng.normal(0, 0.22)), float(rng.normal(0, 0.22)), float(rng.uniform(0.05, 0.5))),
        swap=bool(rng.random() < 0.5),
        ghost=float(rng.uniform(0.25, 1.0) if rng.random() < 0.12 else 0.0),
        band=rng.uniform(0.06, 0.13),
    )


def acquire(image: np.ndarray, series: Series, rng: np.random.Generator) -> np.ndarray:
    """uint8[H, W] of tissue intensities float32[H, W], which are relative to bright fat."""
    size = len(image)
    place = np.linspace(-1, 1, size, dtype=np.float32)
    rows, columns = place[:, None], place[None]
    a, b, c = (np.float32(v) for v in series.coil)
    signal = image * np.exp(a * rows + b * columns + c * (rows * rows + columns * columns - np.float32(0.5)))
    kspace = np.fft.fft2(signal)
    keep = _kept(size, series.matrix), _kept(size, series.matrix * 0.82)
    keep = keep[::-1] if series.swap else keep
    if series.ghost:
        kspace = _move(kspace, series, rng)
    # noise of the acquired samples only: the same look at any size of the image
    noise = rng.standard_normal((size, size, 2), dtype=np.float32) * np.float32(NOISE * series.floor * size)
    kspace += noise.view(np.complex64)[..., 0]
    kspace *= keep[0][:, None] * keep[1][None]
    made = np.abs(np.fft.ifft2(kspace)).astype(np.float32)
    return _window(made, series, rng)


def _kept(size: int, matrix: float) -> np.ndarray:
    """Weights float32[size] of the frequencies: those acquired, softened a little at the limit."""
    f = np.abs(np.fft.fftfreq(size)).astype(np.float32) * size
    limit = min(matrix, float(size)) / 2
    edge = np.clip((limit - f) / np.float32(max(0.04 * limit, 1.0)), 0, 1)
    return edge * (1 - np.float32(0.2) * np.square(np.minimum(f / np.float32(limit), 1)))


def _move(kspace: np.ndarray, series: Series, rng: np.random.Generator) -> np.ndarray:
    """Shifts the head by up to some pixels, periodically between lines, as breathing and pulsation do."""
    size = len(kspace)
    f = np.fft.fftfreq(size).astype(np.float32)
    lines = f * size
    wave = np.sin(lines * np.float32(rng.uniform(0.5, 2.2)) + np.float32(rng.uniform(0, 6)))
    shift = np.float32(series.ghost * 0.9 * size / 256) * wave
    phase = np.exp(np.float32(-2 * np.pi) * 1j * f * shift).astype(np.complex64)
    return kspace * (phase[None] if series.swap else phase[:, None])


def _window(made: np.ndarray, series: Series, rng: np.random.Generator) -> np.ndarray:
    """Grey levels, and what surrounds the image."""
    size = len(made)
    top = np.float32(np.quantile(made[:: max(size // 128, 1), :: max(size // 128, 1)], 0.993))
    grey = np.power(np.clip(made / top, 0, 2), np.float32(series.gamma)) * np.float32(series.white - series.level)
    grey += np.float32(series.level)
    border = LOOKS[series.source].border
    if border == "curved":  # distortion correction bends the edges of the field of view
        place = np.linspace(-1, 1, size, dtype=np.float32)
        bulge = np.float32(1 - 0.35 * series.band) - np.float32(series.band) * np.square(place)
        grey *= np.abs(place)[None] < bulge[:, None]
    elif border == "bands":
        width = round(series.band * size)
        grey[:, :width] = grey[:, size - width :] = 0
    elif border == "tight":
        line = max(size // 256, 1)
        grey[:line] = grey[:, :line] = 200
    return np.clip(grey + np.float32(0.5), 0, 255).astype(np.uint8)
