"""Pictures of the images of an evaluation, drawn in several processes and small enough for one file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import PhalanxError
from ..review.evaluated import Evaluated
from ..runtime.processes import process_map
from ..visualize.scene import Scene
from ..visualize.scene_frames import whole, zoom
from ..visualize.scene_panels import Panel, panels
from ..visualize.scene_small import small
from .options import ReportOptions

BUDGET = 20_000_000  # bytes of pictures on a page; as text they take a third more
LARGE, SMALL, THUMB = 448, 288, 152  # pixels of a panel of the worst and best images, of others, and of thumbnails
GAP = 8  # pixels between panels
QUALITY = {LARGE: 76, SMALL: 70}
ENLARGED = 3  # times that an image is enlarged at most
GREY = 24
CAPTION = 20


class Job(NamedTuple):
    """An image to draw. ``scenes`` are those of one run or more, which have the same image and the same truth."""

    scenes: tuple[Scene, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    side: int

    def without_heat(self) -> "Job":
        """The same without what a network is needed for."""
        return self._replace(scenes=tuple(map(without_heat, self.scenes)))


class Drawn(NamedTuple):
    """JPEG of the thumbnail and of the large picture."""

    thumb: bytes
    full: bytes


def draw_all(evaluations: Sequence[Evaluated], options: ReportOptions) -> tuple[dict[str, Drawn], list[str]]:
    """Pictures of the first evaluation's images by name, the worst and best of them large and beside other runs.

    Returns:
        also notes about what could not be drawn.
    """
    first = evaluations[0]
    ranked = [first.names[k] for k in first.ranked()]
    shown = ranked[: options.images]
    large = chosen(first, options)
    order = [*large, *(name for name in shown if name not in set(large))]
    jobs = []
    for name in order:
        runs = evaluations if name in large else evaluations[:1]
        known = [one for one in runs if name in one.number and one.classes == first.classes]
        scenes = tuple(one.scene(name) for one in known)
        if name not in large:
            scenes = tuple(without_heat(scene) for scene in scenes)
        side = LARGE if name in large else SMALL
        jobs.append(Job(scenes, tuple(one.name for one in known), first.classes, side))
    here = [job for job in jobs if any(getattr(scene, "heat", None) is not None for scene in job.scenes)]
    others = [job for job in jobs if not any(job is one for one in here)]
    drawn, notes = dict[int, Drawn](), list[str]()
    for job in here:  # networks do not go to other processes
        try:
            drawn[id(job)] = draw(job if not notes else job.without_heat())
        except PhalanxError as error:
            notes.append(f"Grad-CAM is not shown: {error}")
            drawn[id(job)] = draw(job.without_heat())
    made = process_map(
        draw, others, workers=options.workers, name="pictures", unit="image", progress=options.progress, least=12
    )
    drawn |= {id(job): one for job, one in zip(others, made, strict=True)}
    return within_budget({name: drawn[id(job)] for name, job in zip(order, jobs, strict=True)}), notes


def chosen(one: Evaluated, options: ReportOptions) -> list[str]:
    """Names of the worst images, then of the best ones, each once."""
    ranked = [one.names[k] for k in one.ranked()]
    best = [name for name in reversed(ranked) if name not in set(ranked[: options.worst])]
    return [*ranked[: options.worst], *best[: options.best]]


def without_heat(scene: Scene) -> Scene:
    """A scene that needs no network to be drawn."""
    replaced: Any = scene
    return replaced._replace(heat=None) if getattr(scene, "heat", None) is not None else scene


def within_budget(drawn: dict[str, Drawn]) -> dict[str, Drawn]:
    """The pictures in their order, without large ones that the page has no room for."""
    left, found = BUDGET - sum(len(one.thumb) for one in drawn.values()), {}
    for name, one in drawn.items():
        fits = len(one.full) <= left
        left -= len(one.full) if fits else 0
        found[name] = one if fits else one._replace(full=b"")
    return found


def draw(job: Job) -> Drawn:
    """Draws an image; in a process of its own."""
    from ..data.images import read_grey

    cv2.setNumThreads(1)
    first = job.scenes[0]
    image = read_grey(first.path)
    rows, thumb = [], None
    side = min(job.side, ENLARGED * max(first.size))
    for k, (scene, name) in enumerate(zip(job.scenes, job.names, strict=True)):
        tiny, grey = small(scene, image, 2 * side)
        kinds = ("truth", "prediction", "errors") if k == 0 else ("prediction", "errors")
        kinds = ("image", *kinds) if k == 0 and job.side == LARGE else kinds
        some = panels(tiny, job.classes, side, kinds=kinds, image=grey)
        if k == 0 and all(one.title != "errors" for one in some) and "image" not in kinds:  # labels: beside the image
            some = panels(tiny, job.classes, side, kinds=("image", *kinds), image=grey)
        thumb = thumb or next((one for one in some if one.title == "errors"), some[0])
        title = f"{name}: " if len(job.scenes) > 1 else ""
        rows.append(_row([one._replace(title=f"{title}{one.title}") for one in some]))
        if job.side == LARGE and (close := _zoomed(scene, job, image)):
            rows.append(_row([one._replace(title=f"{title}{one.title}, full resolution") for one in close]))
    assert thumb is not None
    tile = cv2.resize(thumb.pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return Drawn(_jpeg(tile, 70), _jpeg(_below(rows), QUALITY[job.side]))


def _zoomed(scene: Scene, job: Job, image: np.ndarray) -> list[Panel]:
    """Panels of the place with the most that is wrong; none if nothing is, or the image is that small."""
    wrong = [c for c, amount in enumerate(scene.faults()) if amount > 0]
    if not wrong:
        return []
    frame = zoom(scene, wrong, job.side)
    if frame.side >= 0.9 * whole(scene).side:
        return []
    kinds = ("image", "truth", "prediction", "errors") if scene is job.scenes[0] else ("prediction", "errors")
    return panels(scene, job.classes, job.side, chosen=wrong, frame=frame, image=image, kinds=kinds)


def _row(some: Sequence[Panel]) -> np.ndarray:
    parts = []
    for one in some:
        caption = np.full((CAPTION, one.pixels.shape[1], 3), GREY, np.uint8)
        room = max(8, one.pixels.shape[1] // 7)
        text = one.title if len(one.title) <= room else f"{one.title[: room - 3]}..."
        plain = text.encode("ascii", "replace").decode()  # cv2 draws no others
        cv2.putText(caption, plain, (3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
        parts += [np.concatenate([caption, one.pixels]), np.full((CAPTION + len(one.pixels), GAP, 3), GREY, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def _below(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    grey = [(GREY, GREY, GREY)] * len(rows)
    padded = [
        cv2.copyMakeBorder(row, 0, GAP, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=shade)
        for row, shade in zip(rows, grey, strict=True)
    ]
    return np.concatenate(padded)


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """JPEG of RGB uint8[H, W, 3]."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)[1])
