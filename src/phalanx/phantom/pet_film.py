"""How an animal is exposed: scatter, blur, noise, window, borders of the field, letter of the side, table."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .pet_canvas import Canvas


@dataclass(frozen=True)
class Film:
    """One detector and the taste of one clinic."""

    scatter: float
    blur: float  # pixels of 512
    noise: float
    grain: float
    sharpen: float
    gamma: float
    low: float  # percentile of the window
    high: float
    black: float
    white: float
    border: str  # none, black, grey: outside the field
    table: bool
    texture: float


def draw_film(rng: np.random.Generator) -> Film:
    """A random clinic, the same for all images of an animal."""
    return Film(
        scatter=rng.uniform(0.03, 0.2),
        blur=float(rng.uniform(0.4, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.7)),
        noise=float(np.exp(rng.uniform(np.log(0.005), np.log(0.024)))),
        grain=rng.uniform(0.3, 0.9),
        sharpen=float(rng.uniform(0.15, 0.9) if rng.random() < 0.65 else 0.0),
        gamma=rng.uniform(0.8, 1.35),
        low=rng.uniform(0, 4),
        high=rng.uniform(99.0, 99.9),
        black=float(rng.uniform(0, 12)),
        white=rng.uniform(215, 258),
        border=str(rng.choice(["none", "black", "black", "grey"])),
        table=bool(rng.random() < 0.3),
        texture=rng.uniform(0.02, 0.12),
    )


def texture(side: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Struts of spongy bone: noise float32[side, side] of unit spread, about 0.1 u fine."""
    noise = rng.standard_normal((side, side), dtype=np.float32)
    spread = min(max(0.035 * scale, 0.5), 1.3 * side / 512 + 0.2)
    fine: np.ndarray = cv2.GaussianBlur(noise, (0, 0), spread)
    fine = fine - cv2.GaussianBlur(fine, (0, 0), 2.5 * spread)
    return fine * np.float32(1 / max(float(fine[::4, ::4].std()), 1e-6))


@dataclass(frozen=True)
class Field:
    """What the shutters leave free. ``box``: left, top, right, bottom as fractions of the image; ``lean``: slope."""

    box: tuple[float, float, float, float]
    lean: float

    def clip(self, points: np.ndarray, size: int) -> np.ndarray:
        """Points on pixel edges moved into the field."""
        low, high = np.array(self.box[:2]) * size, np.array(self.box[2:]) * size
        return np.clip(points, low, high)


def draw_field(film: Film, rng: np.random.Generator) -> Field:
    """A random field; the whole image in clinics that show no border."""
    sides = [float(rng.uniform(0, 0.035)) for _ in range(4)]
    lean = math.tan(math.radians(rng.normal(0, 0.5)))
    if film.border == "none":
        return Field((0.0, 0.0, 1.0, 1.0), 0.0)
    return Field((sides[0], sides[1], 1 - sides[2], 1 - sides[3]), lean)


def develop(
    canvas: Canvas, film: Film, field: Field, letter: str, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, object]]:
    """The image uint8[size, size] of what a canvas holds, and what else was drawn: letter, border, exposure."""
    soft: np.ndarray = canvas.soft
    bone: np.ndarray = canvas.bone
    if canvas.side != size:
        soft = cv2.resize(soft, (size, size), interpolation=cv2.INTER_AREA)
        bone = cv2.resize(bone, (size, size), interpolation=cv2.INTER_AREA)
    grain = texture(size, size / canvas.view.width, rng)
    flesh = cv2.resize(rng.standard_normal((14, 14)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    film_: np.ndarray = soft * (1 + np.float32(0.018) * flesh + np.float32(0.012) * grain)
    np.maximum(film_, 0, out=film_)
    film_ += bone * (1 + np.float32(film.texture) * grain)
    if film.table:
        _table(film_, rng)
    placed = _letter(film_, field.box, letter, rng)
    blur = film.blur * size / 512
    small = cv2.resize(film_, (64, 64), interpolation=cv2.INTER_AREA)
    fog = cv2.resize(cv2.GaussianBlur(np.exp(-small), (0, 0), 6), (size, size), interpolation=cv2.INTER_LINEAR)
    if blur > 0.3:
        film_ = cv2.GaussianBlur(film_, (0, 0), blur)
    film_ = -cv2.log((cv2.exp(-film_) + np.float32(film.scatter) * fog) / np.float32(1 + film.scatter))
    noise: np.ndarray = rng.standard_normal((size, size), dtype=np.float32)
    spread = film.noise * (size / 512) ** 0.5
    if film.grain * size / 512 > 0.3:
        noise = cv2.GaussianBlur(noise, (0, 0), film.grain * size / 512)
        spread *= 1 + 2 * film.grain * size / 512
    film_ = film_ + noise * cv2.exp(film_ * np.float32(0.5)) * np.float32(spread)
    if film.sharpen:
        quarter = max(size // 8, 32)
        wide = cv2.GaussianBlur(cv2.resize(film_, (quarter, quarter), interpolation=cv2.INTER_AREA), (0, 0), 2.5)
        film_ = film_ + np.float32(film.sharpen) * (
            film_ - cv2.resize(wide, (size, size), interpolation=cv2.INTER_LINEAR)
        )
    exposure = float(rng.uniform(-0.08, 0.08))
    grey = _window(film_, _shown(size, field), film, exposure)
    return grey, {
        "letter": letter,
        "letter_at": placed,
        "exposure": round(exposure, 3),
        "border": film.border,
        "table": film.table,
    }


def _window(film_: np.ndarray, field: np.ndarray, film: Film, exposure: float) -> np.ndarray:
    step = max(len(film_) // 256, 1)
    inside = film_[::step, ::step][field[::step, ::step] > 0.9]
    low, high = np.percentile(inside, (film.low, film.high))
    low = min(low, 0.05) if low < 0.35 else 0.6 * low
    shown = np.clip((film_ - np.float32(low)) / np.float32(max(high - low, 0.1)) + np.float32(exposure), 0, 1.2)
    shown = cv2.pow(shown, film.gamma)
    grey = np.float32(film.black) + shown * np.float32(film.white - film.black)
    out = {"none": 0.0, "black": film.black, "grey": film.black + 18}[film.border]
    grey = grey * field + np.float32(out) * (1 - field)
    return np.clip(grey, 0, 255).astype(np.uint8)


def _shown(size: int, field: Field) -> np.ndarray:
    """1 inside a field and 0 outside, float32[size, size]."""
    if field.box == (0.0, 0.0, 1.0, 1.0):
        return np.ones((size, size), np.float32)
    left, top, right, bottom = field.box
    corners = np.array([(left, top), (right, top + field.lean), (right, bottom + field.lean), (left, bottom)]) * size
    shown = np.zeros((size, size), np.uint8)
    cv2.fillPoly(shown, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(shown.astype(np.float32) / 255, (0, 0), 0.003 * size)


def _letter(
    film_: np.ndarray, box: tuple[float, float, float, float], letter: str, rng: np.random.Generator
) -> list[float]:
    """A lead letter near a corner of the field, where there is least of the animal; returns its place."""
    size = len(film_)
    high = rng.uniform(0.04, 0.065)
    inset = 0.02 + high
    spots = [
        (x + rng.uniform(-0.01, 0.04) * sx, y + rng.uniform(-0.005, 0.03) * sy)
        for x, sx in ((box[0] + inset, 1), (box[2] - inset, -1))
        for y, sy in ((box[1] + inset, 1), (box[3] - inset, -1))
    ]
    r = max(int(high * size * 0.6), 3)
    load = []
    for x, y in spots:
        row, column = int(y * size), int(x * size)
        load.append(float(film_[max(row - r, 0) : row + r, max(column - r, 0) : column + r].mean()))
    x, y = spots[int(np.argmin(load))]
    mask = np.zeros((size, size), np.uint8)
    thick = max(round(0.16 * high * size), 1)
    scale = high * size / 22
    (wide, tall), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    cv2.putText(
        mask,
        letter,
        (int(x * size - wide / 2), int(y * size + tall / 2)),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        255,
        thick,
        cv2.LINE_AA,
    )
    film_ += mask * np.float32(rng.uniform(1.2, 1.8) / 255)
    return [round(x, 4), round(y, 4)]


def _table(film_: np.ndarray, rng: np.random.Generator) -> None:
    """The top of the table and its edge: a faint step along one side of the image."""
    size = len(film_)
    at = int(size * rng.uniform(0.02, 0.09))
    thick = max(int(size * rng.uniform(0.004, 0.012)), 1)
    film_ += np.float32(0.03)
    rows = slice(size - at - thick, size - at) if rng.random() < 0.7 else slice(at, at + thick)
    film_[rows] += np.float32(rng.uniform(0.05, 0.16))
