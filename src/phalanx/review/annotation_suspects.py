"""Suspected errors of annotations of a run that segments or detects: ranked, listed and drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..masks.stack import Stack
from ..predict.maps import Box
from ..predict.stored import MapsFolder
from ..scoring.annotation_suspects import (
    Doubt,
    MaskEvidence,
    doubts_of_boxes,
    doubts_of_masks,
    order_of,
    overlaps_of,
    pixel_confidence,
    words,
)
from ..scoring.class_figures import figure
from ..scoring.surface import surface_scores
from ..visualize.outlined import Frame
from ..visualize.scene import BoxScene, MaskScene, Scene
from ..visualize.scene_frames import ZOOM, frame_at, whole
from ..visualize.scene_panels import Panel, panels
from ..visualize.scene_sheet import SheetRow, write_sheet
from .evaluated import Evaluated
from .tables import table_csv

HEADER = ("rank", "image_name", "patient", "fold", "class", "object", "score", "likelier", "instead", "reasons")
TOLERANCE = 0.01  # of borders, as a part of the image's long side
SIDE = 320  # pixels of a panel
KINDS = ("low", "swap", "missing", "extra", "order", "border", "pixels")


def rank_annotations(one: Evaluated) -> list[Doubt]:
    """All annotations of a run's held-out images, the most doubtful first.

    Raises:
        ConfigError: a run that classifies, whose labels another ranking is for.
    """
    if one.unit == "pixels":
        return doubts_of_masks([_evidence(one, name) for name in one.names])
    if one.unit == "boxes":
        score = one.extra["score"]
        return doubts_of_boxes(list(score.truth), list(score.predicted), len(one.classes))
    raise ConfigError(f"{one.name}: has labels; phalanx suspects ranks them by their probabilities")


def _evidence(one: Evaluated, name: str) -> MaskEvidence:
    scene = one.scene(name)
    assert isinstance(scene, MaskScene)
    tolerance = max(1.0, TOLERANCE * max(scene.size))
    surface = surface_scores(scene.truth, scene.predicted, scene.size, tolerance)[:, 0]
    return MaskEvidence(
        overlaps_of(scene.truth, scene.predicted), scene.truth.areas, scene.predicted.areas, surface,
        _pixels(one, name, scene), order_of(scene.truth, one.classes, scene.size[1]),
    )  # fmt: skip


def _pixels(one: Evaluated, name: str, scene: MaskScene) -> np.ndarray:
    """Softmin of the pixels' self-confidence of each class; NaN where maps are not stored."""
    found = np.full(len(one.classes), np.nan)
    fold = next((fold for fold in one.folds if fold.number == one.images[one.number[name]].fold), None)
    if fold is None or not (fold.folder / "oof_prob" / "maps.json").is_file():
        return found
    from ..data.records import Record

    image = one.images[one.number[name]]
    maps = MapsFolder(fold.folder / "oof_prob").maps([Record(name, image.patient, image.path, None)], [])[0]
    scale, frame = max(scene.size) / maps.side, Box(0, 0, *scene.size)
    for c in np.flatnonzero(scene.truth.areas).tolist():
        mask = scene.truth.chosen([c]).masks(scene.size)[0]
        found[c] = pixel_confidence(maps.resize(c, frame, scene.size, scale), mask)
    return found


def suspects_csv(one: Evaluated, found: Sequence[Doubt]) -> str:
    """A row per annotation; the columns after ``HEADER`` are the reasons' scores."""
    rows = []
    for rank, doubt in enumerate(found, 1):
        image = one.images[doubt.image]
        likelier, instead = (one.classes[c] if c >= 0 else "" for c in (doubt.other, doubt.instead))
        fold = "" if image.fold is None else str(image.fold)
        number = str(doubt.object + 1) if doubt.object >= 0 else ""
        rows.append([
            str(rank), image.name, image.patient, fold, one.classes[doubt.label], number, figure(doubt.score, 6),
            likelier, instead, "; ".join(words(doubt, one.classes)),
            *(figure(doubt.reasons.get(kind, 0.0)) for kind in KINDS),
        ])  # fmt: skip
    return table_csv([*HEADER, *KINDS], rows)


def suspects_text(one: Evaluated, found: Sequence[Doubt], top: int) -> str:
    """The first annotations, for the terminal."""
    lines = [f"{len(found)} annotations of {len(one.images)} images; the most doubtful are:"]
    for doubt in found[:top]:
        reasons = ", ".join(words(doubt, one.classes)) or "nothing is odd"
        lines.append(f"  {doubt.score:.3f}  {one.names[doubt.image]}  {one.classes[doubt.label]}: {reasons}")
    return "\n".join(lines)


def reasons_by_image(one: Evaluated, found: Sequence[Doubt]) -> dict[str, str]:
    """For a quarantine file: each image with its annotations in doubt, in their order."""
    lines: dict[str, list[str]] = {}
    for doubt in found:
        text = f"{one.classes[doubt.label]}: {', '.join(words(doubt, one.classes)) or 'in doubt'}"
        lines.setdefault(one.names[doubt.image], []).append(f"{text} (score {doubt.score:.4f})")
    return {image: "suspect annotation: " + "; ".join(texts) for image, texts in lines.items()}


def draw_suspects(one: Evaluated, found: Sequence[Doubt], top: int, out: Path) -> None:
    """Writes a PNG with a row per annotation in doubt: the whole image, then a zoom on it.

    Raises:
        OutputError: the file exists and was not written by this program.
    """
    rows, shown = [], set[int]()
    for rank, doubt in enumerate(found[:top], 1):
        scene = one.scene(one.names[doubt.image])
        some = sorted({doubt.label, doubt.other, doubt.instead} - {-1})
        shown |= set(some)
        text = ", ".join(words(doubt, one.classes)) or "nothing is odd"
        title = f"{rank}. {one.names[doubt.image]}  ·  {doubt.label + 1} {one.classes[doubt.label]}"
        frame = _around(scene, doubt)
        made = panels(scene, one.classes, SIDE, kinds=("truth",))
        zoomed = panels(scene, one.classes, SIDE, chosen=some, frame=frame, kinds=("image", "truth", "prediction"))
        drawn = [*made, *(Panel(f"zoom: {each.title}", each.pixels) for each in zoomed)]
        rows.append(SheetRow([title, f"score {doubt.score:.3f}: {text}"], drawn))
    title = f"Annotations in doubt, by {one.name}: the first {len(rows)} of {len(found)}"
    text = "Score: combined reasons, each the Dice or IoU that an annotation lacks of what its class has elsewhere."
    write_sheet(rows, title, text, out, classes=one.classes, shown=sorted(shown), errors="")


def _around(scene: Scene, doubt: Doubt) -> Frame:
    """The frame of an annotation and what is predicted of its class."""
    if isinstance(scene, MaskScene):
        points = [_extent(side.chosen([doubt.label]), scene.size) for side in (scene.truth, scene.predicted)]
        corners = np.concatenate([each for each in points if each is not None] or [np.zeros((0, 2))])
    else:
        assert isinstance(scene, BoxScene)
        some = [scene.predicted.corners[scene.predicted.classes == doubt.label].reshape(-1, 2)]
        if doubt.object >= 0:
            some = [scene.truth.corners[doubt.object].reshape(-1, 2)]
        corners = np.concatenate(some)
    if not len(corners):
        return whole(scene)
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = min(max(scene.size), max(1.5 * float((high - low).max()), ZOOM * max(scene.size) / 2))
    middle = (low + high) / 2
    return frame_at((float(middle[0]), float(middle[1])), side, scene.size)


def _extent(stack: Stack, size: tuple[int, int]) -> np.ndarray | None:
    """Corners float64[2, 2] of a mask; None if it is empty."""
    rows, columns = np.nonzero(stack.masks(size)[0])
    if not len(rows):
        return None
    return np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], float)


def header() -> str:
    """The first line of the table, by which files of ours are known."""
    return ",".join([*HEADER, *KINDS])
