"""The review of a run or a vote of any task: worst images and classes, tables, and plots by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import nearest
from ..errors import ConfigError
from ..runtime.files import write_text
from ..scoring.class_figures import Sort, by
from ..visualize.outlined import Frame
from ..visualize.review_classes import Errors, draw_balance, draw_confusion, draw_sizes
from ..visualize.scene import Scene, worst_classes
from ..visualize.scene_frames import whole, zoom
from ..visualize.scene_panels import Panel, panels
from ..visualize.scene_sheet import SheetRow, write_sheet
from .evaluated import Evaluated
from .general_tables import classes_csv, images_csv, ranked, to_text
from .run import GENERAL

SIDE, SMALL = 320, 256  # pixels of a panel; with another run beside it
ZOOMED = 3  # of an image's worst classes, which a zoom is around
SIGNS = {"pixels": "masks", "boxes": "boxes", "images": ""}


class Asked(NamedTuple):
    """What is shown: how many images, numbers of the classes, and the order of tables."""

    worst: int
    classes: tuple[int, ...]
    sort: Sort


def asked_of(one: Evaluated, worst: int, classes: Sequence[str] | None, sort: Sort) -> Asked:
    """Numbers of the named classes; all by default.

    Raises:
        ConfigError: a class that is not one of the run.
    """
    if lost := next((name for name in classes or () if name not in one.classes), None):
        raise ConfigError(f"classes={lost}: is not a class of {one.name}{nearest(lost, list(one.classes))}")
    chosen = range(len(one.classes)) if classes is None else sorted({one.classes.index(name) for name in classes})
    return Asked(worst, tuple(chosen), sort)


def write_general(evaluated: Sequence[Evaluated], asked: Asked, folder: Path) -> str:
    """Writes tables and pictures about the first evaluation, beside the others, into a folder; returns the summary.

    Raises:
        OutputError: files of other programs are in the way.
    """
    first = evaluated[0]
    for other in evaluated[1:]:
        if other.unit != first.unit or not set(other.classes) >= {first.classes[c] for c in asked.classes}:
            raise ConfigError(
                f"{other.name}: has other classes than {first.name}, or another task; review it by itself"
            )
    write_text(folder / "classes.csv", classes_csv(evaluated, asked.sort, asked.classes))
    write_text(folder / "images.csv", images_csv(evaluated, asked.sort, asked.classes))
    _draw_worst(evaluated, asked, folder / "worst.png")
    _draw_classes(evaluated, asked, folder / "classes.png")
    _draw_balance(evaluated, asked, folder / "balance.png")
    if first.unit == "pixels":
        _draw_sizes(first, asked, folder / "size.png")
    if first.unit == "images":
        _draw_confusion(first, asked, folder / "confusion.png")
    drawn = ", ".join(name for name in GENERAL if (folder / name).exists())
    return "\n".join([*(to_text(one, asked.sort, _same(first, one, asked.classes)) for one in evaluated),
                      f"{folder}: {drawn}"])  # fmt: skip


def _same(first: Evaluated, other: Evaluated, chosen: Sequence[int]) -> list[int]:
    """Numbers that classes of the first have in another one."""
    return [other.classes.index(first.classes[c]) for c in chosen]


def _draw_worst(evaluated: Sequence[Evaluated], asked: Asked, out: Path) -> None:
    first, chosen = evaluated[0], list(asked.classes)
    order = ranked(first, chosen)
    rows = []
    for rank, k in enumerate(order[: asked.worst], 1):
        name = first.names[k]
        scene = first.scene(name)
        worst = worst_classes(scene, ZOOMED, chosen)
        lines = [f"{rank}. {name}", _about(first, k, worst)]
        rows.append(_row(evaluated, name, lines, scene, chosen, worst))
    over = "" if len(chosen) == len(first.classes) else f", over {', '.join(first.classes[c] for c in chosen)}"
    text = f"The {len(rows)} with the lowest {first.per_image_name}{over}. "
    text += {
        "pixels": f"The zoom shows the {ZOOMED} worst classes of an image, at full resolution where most is wrong.",
        "boxes": "The zoom is around what is wrong. Numbers: class and score.",
        "images": "Heat: Grad-CAM of the class that is called wrongly, by the fold that held the image out.",
    }[first.unit]
    title = f"Worst of {len(first.images)} images of {first.name}"
    write_sheet(rows, title, text, out, classes=_legend(first), shown=chosen, errors=SIGNS[first.unit])


def _legend(one: Evaluated) -> tuple[str, ...]:
    """Classes that have colours in the panels: of labels the bars have names."""
    return () if one.unit == "images" else one.classes


def _about(one: Evaluated, k: int, worst: Sequence[int]) -> str:
    image = one.images[k]
    parts = [f"{one.per_image_name} {one.per_image[k]:.3f}"]
    parts += [f"patient {image.patient}"] if one.grouped and image.patient != image.name else []
    parts += [f"fold {image.fold}"] if image.fold is not None else []
    for c in worst:
        fp, fn = one.counts.fp[k, c], one.counts.fn[k, c]
        parts.append(f"{c + 1} {one.classes[c]}: {fp:.0f} false, {fn:.0f} missed")
    return "  ·  ".join(parts)


def _row(
    evaluated: Sequence[Evaluated], name: str, lines: list[str], scene: Scene, chosen: list[int], worst: list[int]
) -> SheetRow:
    """The whole image, then a zoom; below, in the same columns, what the other evaluations predict."""
    first = evaluated[0]
    side = SIDE if len(evaluated) == 1 else SMALL
    others = [other for other in evaluated[1:] if name in other.number]
    if first.unit == "images":
        own, below = list(panels(scene, first.classes, side, chosen=chosen)), []
        for other in others:
            made = panels(other.scene(name), other.classes, side, chosen=_same(first, other, chosen),
                          kinds=("truth", "errors"))  # fmt: skip
            named = [Panel(f"{other.name}: {one.title}", one.pixels) for one in made]
            below.append([None, *named])  # below the image
        return SheetRow(lines, own, below)
    frame = zoom(scene, worst or chosen, side)
    parts: list[tuple[Frame, list[int], tuple[str, ...]]] = [
        (whole(scene), chosen, ("image", "truth", "prediction", "errors"))
    ]
    if worst and frame != whole(scene):
        parts.append((frame, worst, ("truth", "prediction", "errors")))
    own, below = [], [[] for _ in others]
    for number, (place, some, kinds) in enumerate(parts):
        before = "zoom: " if number else ""
        made = panels(scene, first.classes, side, chosen=some, frame=place, kinds=kinds)
        own += [Panel(f"{before}{one.title}", one.pixels) for one in made]
        for other, line in zip(others, below, strict=True):
            shown = panels(other.scene(name), other.classes, side, chosen=_same(first, other, some), frame=place,
                           kinds=("prediction", "errors"))  # fmt: skip
            named = [Panel(f"{other.name}: {one.title}", one.pixels) for one in shown]
            line += [*[None] * (len(kinds) - len(named)), *named]
    return SheetRow(lines, own, below)


def _draw_classes(evaluated: Sequence[Evaluated], asked: Asked, out: Path) -> None:
    """A row per class, the worst first: the image in which most of it is wrong."""
    first = evaluated[0]
    table = {row.label: row for row in first.table()}
    rows = []
    for row in by([table[first.classes[c]] for c in asked.classes], asked.sort)[: asked.worst]:
        c = first.classes.index(row.label)
        wrong = first.counts.fp[:, c] + first.counts.fn[:, c]
        if not wrong.any():
            continue
        if first.unit == "images":  # the image whose label has the least probability
            own = np.where(wrong > 0, first.per_class[:, c], np.inf)
            k = int(np.nanargmin(own))
        else:
            k = int(wrong.argmax())
        name = first.names[k]
        scene = first.scene(name)
        text = f"{row.fp:.0f} false, {row.fn:.0f} missed {first.unit}; the most in {name}"
        value = "" if np.isnan(row.value) else f"{first.metric.name} {row.value:.3f}"
        rows.append(_row(evaluated, name, [f"{c + 1} {row.label}  {value}", text], scene, [c], [c]))
    text = f"A row per class, from the worst by {asked.sort}: the image in which most of the class is wrong."
    title = f"Worst classes of {first.name}"
    write_sheet(rows, title, text, out, classes=_legend(first), shown=asked.classes, errors=SIGNS[first.unit])


def _draw_balance(evaluated: Sequence[Evaluated], asked: Asked, out: Path) -> None:
    first = evaluated[0]
    names = [first.classes[c] for c in asked.classes]
    models = []
    for one in evaluated:
        rows = {row.label: row for row in one.table()}
        whole = np.array([rows[name].tp + rows[name].fn or np.nan for name in names])
        models.append(Errors(one.name, *(np.array([getattr(rows[name], key) for name in names]) / whole
                                         for key in ("fp", "fn"))))  # fmt: skip
    whose = f": {first.name}" if len(evaluated) == 1 else "; the bars of a class are in the order of the legend"
    title = f"What each class has too much, and what it lacks{whose}"
    draw_balance(names, models, first.unit, title, out)


def _draw_sizes(one: Evaluated, asked: Asked, out: Path) -> None:
    some = list(asked.classes)
    sizes = (one.counts.tp + one.counts.fn)[:, some]
    title = f"{one.per_image_name} of each image and class against its area, {one.name}"
    names = [one.classes[c] for c in some]
    draw_sizes(names, sizes, one.per_class[:, some], one.per_image_name, "area in pixels", title, out)


def _draw_confusion(one: Evaluated, asked: Asked, out: Path) -> None:
    """True against called classes. Of sigmoids: images with a class, by what is called of it and of the others."""
    scenes = one.extra["score"]
    labels, called = np.nan_to_num(scenes.labels) == 1, np.asarray(scenes.predicted)
    some = list(asked.classes)
    none = labels.any(axis=1) & ~called.any(axis=1)
    names = [one.classes[c] for c in some]
    counts = (labels[:, some].T.astype(int) @ called[:, some].astype(int)).astype(int)
    columns = list(names)
    if none.any():
        counts = np.column_stack([counts, labels[none][:, some].sum(axis=0)])
        columns.append("none")
    title = f"Ground truth against prediction, {one.name}"
    if scenes.head == "sigmoid":
        title += ": an image counts for each pair of its classes"
    draw_confusion(names, columns, counts, title, out)
