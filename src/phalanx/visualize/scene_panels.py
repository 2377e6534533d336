"""Panels of a scene: the image, its ground truth, its prediction, and what is wrong of it.

Colour is never the only sign. Classes have numbers; outlines of the ground truth are solid, predicted ones dashed;
false positives are striped (boxes: crossed), false negatives dotted (boxes: dashed).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..data.images import read_grey
from .outlined import Frame, dashes, font
from .palette import RGB, colours
from .scene import BoxScene, LabelScene, MaskScene, Scene
from .scene_frames import FINE, View, whole
from .scene_labels import bars, heated

KINDS = ("image", "truth", "prediction", "errors")
FALSE, MISSED = (255, 196, 60), (84, 150, 255)  # RGB of false positives and of false negatives
STRIPE, DOT = 10, 10  # fine pixels between stripes, and between dots
FILL, LINE, HALO = 0.38, 3, 5  # part of a class's colour in its masks; widths in fine pixels
NUMBER = 11  # pixels of a class's number
THIN = 0.2  # errors that cover this part of a fine pixel are drawn


class Panel(NamedTuple):
    """A drawn panel: its title and RGB uint8[side, side, 3]."""

    title: str
    pixels: np.ndarray


def panels(
    scene: Scene, classes: Sequence[str], side: int, *, chosen: Sequence[int] | None = None, frame: Frame | None = None,
    kinds: Sequence[str] = KINDS, image: np.ndarray | None = None, numbers: bool = True,
) -> list[Panel]:  # fmt: skip
    """Square panels of a scene.

    Labels have no places: ``truth`` and ``prediction`` are one panel of the probabilities with marks at what is true,
    ``errors`` is the Grad-CAM of the class of ``chosen`` that is most wrong, or else most probable, if there are
    weights.

    Args:
        classes: names of all classes of the scene.
        side: of a panel in pixels.
        chosen: numbers of the classes to draw; None: all.
        frame: the part of the image; None: the whole.
        kinds: some of ``KINDS``, in the order of the panels.
        image: uint8[H, W], if it was read before.
        numbers: whether classes have their numbers (from 1) in the panels.
    """
    drawn = list(range(len(classes))) if chosen is None else list(chosen)
    grey = read_grey(scene.path) if image is None else image
    view = View.of(whole(scene) if frame is None else frame, side)
    if isinstance(scene, LabelScene):
        return list(_of_labels(scene, classes, drawn, view, kinds, grey))
    assert isinstance(scene, MaskScene | BoxScene)
    plain, hues = view.canvas(grey), colours(len(classes))
    make = _mask_panels if isinstance(scene, MaskScene) else _box_panels
    return [
        Panel(title, finished)
        for title, finished in make(scene, drawn, view, kinds, plain, hues, numbers)  # type: ignore[arg-type]
    ]


TITLES = {"image": "image", "truth": "ground truth", "prediction": "prediction", "errors": "errors"}


def _mask_panels(
    scene: MaskScene, drawn: list[int], view: View, kinds: Sequence[str], plain: np.ndarray, hues: Sequence[RGB],
    numbers: bool,
) -> Iterator[tuple[str, np.ndarray]]:  # fmt: skip
    fine = (view.side, view.side)
    sides: dict[str, list[tuple[int, np.ndarray]]] = {"truth": [], "prediction": []}
    false, missed, outside = np.zeros(fine, np.uint8), np.zeros(fine, np.uint8), np.zeros(fine, np.uint8)
    errors = "errors" in kinds
    for c in drawn:
        pair = [one.chosen([c]) for one in (scene.truth, scene.predicted)]
        if not any(len(one.runs) for one in pair):
            continue
        truth, made = (one.masks(scene.size)[0] for one in pair)
        for name, mask in (("truth", truth), ("prediction", made)):
            if name in kinds or (errors and name == "truth"):
                shown = view.mask(mask)
                if shown.any():
                    sides[name].append((c, shown))
        if errors:
            false |= view.mask(made & ~truth, THIN)
            missed |= view.mask(truth & ~made, THIN)
    for kind in kinds:
        canvas = plain.copy()
        if kind in sides:
            for c, mask in sides[kind]:
                _fill(canvas, mask, hues[c], FILL)
            for c, mask in sides[kind]:
                _outline(canvas, mask, hues[c], dashed=kind == "prediction")
        elif kind == "errors":
            for _, mask in sides["truth"]:
                outside |= _border(mask)
            canvas[outside > 0] = (canvas[outside > 0] * 0.5 + 110).astype(np.uint8)
            draw_errors(canvas, false, missed)
        panel = view.finished(canvas)
        places = [(*_deepest(mask), c) for c, mask in sides.get(kind, [])] if numbers else []
        yield TITLES[kind], _numbered(panel, places)


def _box_panels(
    scene: BoxScene, drawn: list[int], view: View, kinds: Sequence[str], plain: np.ndarray, hues: Sequence[RGB],
    numbers: bool,
) -> Iterator[tuple[str, np.ndarray]]:  # fmt: skip
    truth, made = np.isin(scene.truth.classes, drawn), np.isin(scene.predicted.classes, drawn)
    for kind in kinds:
        canvas, texts = plain.copy(), list[tuple[float, float, str]]()
        chosen = [(scene.truth, truth, False), (scene.predicted, made, True)]
        if kind == "errors":
            chosen = [(scene.truth, truth & scene.missed, False), (scene.predicted, made & ~scene.right, True)]
        for boxes, some, is_predicted in chosen:
            if kind == "image" or (kind == "truth" and is_predicted) or (kind == "prediction" and not is_predicted):
                continue
            for k in np.flatnonzero(some):
                c, corners = int(boxes.classes[k]), view.points(boxes.corners[k].reshape(2, 2))
                wrong = kind == "errors"
                colour = (FALSE if is_predicted else MISSED) if wrong else hues[c]
                _box(canvas, corners, colour, dashed=not is_predicted if wrong else is_predicted,
                     crossed=wrong and is_predicted)  # fmt: skip
                score = f" {boxes.scores[k]:.2f}" if is_predicted else ""
                texts.append((corners[0, 0] / FINE, corners[0, 1] / FINE, f"{c + 1}{score}"))
        yield TITLES[kind], _named(view.finished(canvas), texts) if numbers else view.finished(canvas)


def _of_labels(
    scene: LabelScene, classes: Sequence[str], drawn: list[int], view: View, kinds: Sequence[str], grey: np.ndarray
) -> Iterator[Panel]:
    side, done = view.side // FINE, False
    for kind in kinds:
        if kind == "image":
            yield Panel("image", view.finished(view.canvas(grey)))
        elif kind == "errors":
            if scene.heat is not None:
                c = heat_class(scene, drawn)
                heat = view.canvas((255 * np.clip(_at(scene.heat(c), grey.shape), 0, 1)).astype(np.uint8), 0)[:, :, 0]
                shown = heated(view.canvas(grey), heat / 255.0)
                yield Panel(f"Grad-CAM: {classes[c]}", view.finished(shown))
        elif not done:
            done = True
            yield Panel("probabilities", bars(scene, classes, drawn, side))


def heat_class(scene: LabelScene, chosen: Sequence[int]) -> int:
    """Number of the class whose heat is shown: one called wrongly, else a missed one, else the most probable."""
    called = scene.predicted & (scene.labels == 0)
    missed = ~scene.predicted & (scene.labels == 1)
    return max(chosen, key=lambda c: (bool(called[c]), bool(missed[c]), float(scene.probabilities[c])))


def _at(heat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Heat, up to its largest value, in the pixels of an image."""
    most = float(heat.max())
    scaled = (heat / most if most > 0 else heat).astype(np.float32)
    return np.asarray(cv2.resize(scaled, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def _fill(canvas: np.ndarray, mask: np.ndarray, colour: RGB, part: float) -> None:
    x, y, w, h = cv2.boundingRect(mask)
    window, inside = canvas[y : y + h, x : x + w], mask[y : y + h, x : x + w] > 0
    window[inside] = ((1 - part) * window[inside] + part * np.array(colour)).astype(np.uint8)


def _contours(mask: np.ndarray) -> list[np.ndarray]:
    lines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return [line[:, 0].astype(float) for line in lines]


def _outline(canvas: np.ndarray, mask: np.ndarray, colour: RGB, *, dashed: bool) -> None:
    lines: list[np.ndarray] = []
    for points in _contours(mask):
        lines += dashes(points) if dashed else [np.concatenate([points, points[:1]])]
    fixed = [np.round(line * 16).astype(np.int32) for line in lines]
    for shade, width in (((0, 0, 0), HALO), (colour, LINE)):
        cv2.polylines(canvas, fixed, False, shade, width, cv2.LINE_AA, shift=4)


def _border(mask: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))


def draw_errors(canvas: np.ndarray, false: np.ndarray, missed: np.ndarray) -> None:
    """False positives: yellow with dark stripes, solid border. False negatives: blue with light dots, dashed border."""
    rows, columns = np.ogrid[: false.shape[0], : false.shape[1]]
    for mask, colour in ((missed, MISSED), (false, FALSE)):
        _fill(canvas, mask, colour, 0.62)
    striped = (false > 0) & ((rows + columns) % STRIPE < 3)
    canvas[striped] = (70, 35, 0)
    dotted = (missed > 0) & (((rows % DOT - 4) ** 2 + (columns % DOT - 4) ** 2) <= 5)
    canvas[dotted] = (255, 255, 255)
    for mask, colour, dashed in ((missed, MISSED, True), (false, FALSE, False)):
        if mask.any():
            for points in _contours(mask):
                lines = dashes(points) if dashed else [np.concatenate([points, points[:1]])]
                cv2.polylines(canvas, [np.round(one).astype(np.int32) for one in lines], False, colour, 2, cv2.LINE_AA)


def _deepest(mask: np.ndarray) -> tuple[float, float]:
    """x, y in pixels of a panel of the place in a fine mask that is farthest from its border."""
    x, y, w, h = cv2.boundingRect(mask)
    part = np.pad(mask[y : y + h, x : x + w], 1)
    row, column = divmod(int(cv2.distanceTransform(part, cv2.DIST_L2, 3).argmax()), part.shape[1])
    return (x + column - 1) / FINE, (y + row - 1) / FINE


class _Free:
    """Where no text is yet: text over text could not be read."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float, float, float]] = []

    def takes(self, x: float, y: float, width: float, height: float) -> bool:
        """Whether a place is free; it then no longer is."""
        place = (x, y, x + width, y + height)
        if any(x < c and a < place[2] and y < d and b < place[3] for a, b, c, d in self.taken):
            return False
        self.taken.append(place)
        return True


def _numbered(panel: np.ndarray, places: Sequence[tuple[float, float, int]]) -> np.ndarray:
    if not places:
        return panel
    picture, face = Image.fromarray(panel), font(NUMBER, bold=True)
    pen, side = ImageDraw.Draw(picture), panel.shape[0]
    free = _Free()
    for x, y, c in sorted(places):
        where = (min(max(x, 9.0), side - 9.0), min(max(y, 8.0), side - 8.0))
        if not free.takes(where[0] - 7, where[1] - 6, 14, 12):
            continue
        pen.text(where, str(c + 1), (255, 255, 255), face, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)


def _box(canvas: np.ndarray, corners: np.ndarray, colour: RGB, *, dashed: bool, crossed: bool) -> None:
    x0, y0, x1, y1 = corners.ravel().tolist()
    ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    lines = dashes(ring) if dashed else [np.concatenate([ring, ring[:1]])]
    if crossed:
        lines += [ring[[0, 2]], ring[[1, 3]]]
    fixed = [np.round(np.clip(line, -9999, 9999) * 16).astype(np.int32) for line in lines]
    for shade, width in (((0, 0, 0), HALO + 1), (colour, LINE + 1)):
        cv2.polylines(canvas, fixed, False, shade, width, cv2.LINE_AA, shift=4)


def _named(panel: np.ndarray, texts: Sequence[tuple[float, float, str]]) -> np.ndarray:
    picture, face = Image.fromarray(panel), font(NUMBER, bold=True)
    pen, side = ImageDraw.Draw(picture), panel.shape[0]
    free = _Free()
    for x, y, text in texts:  # the highest scores first
        left = min(max(2.0, x + 3), side - face.getlength(text) - 3)
        top = min(max(2.0, y - NUMBER - 5), side - NUMBER - 4.0)
        if free.takes(left, top, face.getlength(text), NUMBER + 2):
            pen.text((left, top), text, (255, 255, 255), face, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(picture)
