"""Pictures of changed labels: the old ones against the new ones, over the image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data.changes import Changes
from ..data.digests import current_digest
from ..data.images import read_colour, read_grey
from ..data.label_text import Found, read_text
from ..data.snapshot import Version
from ..data.versions import ImageRow
from ..errors import DataError
from ..runtime.files import check_report_folder, write_report
from ..visualize.marks import numbered, shrunk
from ..visualize.outlined import Frame, Line, frame_around, panel
from ..visualize.palette import RGB, class_colours
from ..visualize.png import refuse_others, write_png
from ..visualize.sheets import Panel, page
from .labels import words_of

REPORT = "diff.json"
ROWS = 4  # of a page
BLANK = 512  # pixels of the side of an image whose size is not known


def write_changes(before: Version, after: Version, found: Changes, out: Path, *, images: int, size: int) -> list[str]:
    """Writes ``diff.json`` and ``changed_1.png``, ... into a folder; returns the names of the files.

    Args:
        images: with changed labels that are drawn, at most.
        size: pixels of a panel's side.

    Raises:
        OutputError: the folder contains files of other programs. DataError: a damaged snapshot.
    """
    there = sorted(path.name for path in out.glob("changed_*.png")) if out.is_dir() else []
    check_report_folder(out, REPORT, "data-diff", there)
    drawable = [name for name in found.relabelled if before.kind == after.kind]
    write_report(out / REPORT, "data-diff", {"task": after.kind, **found.to_json()})
    written = [REPORT]
    names = drawable[:images]
    for first in range(0, len(names), ROWS):
        part = names[first : first + ROWS]
        file = f"changed_{first // ROWS + 1}.png"
        write_png(out / file, _page(before, after, found, part, size))
        written.append(file)
    for file in there:  # of an earlier call with more pictures
        if file not in written:
            refuse_others(out / file)
            (out / file).unlink(missing_ok=True)
    return written


def _page(before: Version, after: Version, found: Changes, names: Sequence[str], size: int) -> np.ndarray:
    classes = list(dict.fromkeys([*before.classes, *after.classes]))
    hues, old_names = class_colours(classes), {move.after: move.before for move in found.renamed}
    rows, shown = [], set[int]()
    for name in names:
        one, other = before.rows[old_names.get(name, name)], after.rows[name]
        image = image_of(before, one, after, other)
        shape = image.shape[:2]
        old, new = (
            read_text(version.texts(row.labels), version.kind, (shape[0], shape[1]))
            for version, row in ((before, one), (after, other))
        )
        if old.values or new.values:
            caption = [name, f"before: {_words(old)}", f"after: {_words(new)}"]
            rows.append([Panel(shrunk(image, size), caption)])
            continue
        changed = changed_classes(old, new, classes)
        shown |= {classes.index(label) for label in changed}
        rows.append(_compared(image, name, old, new, changed, size, hues))
    title = f"Changed labels, {before.name} -> {after.name}"
    if not shown:  # labels of images, in the captions
        return page(title, "", rows).pixels
    text = "Dashed: before; solid: after. Only classes that changed are drawn; the last panel shows where they differ."
    return page(title, text, rows, classes, shown, only_present=True).pixels


def _words(found: Found) -> str:
    values = [float(cell) if cell else float("nan") for cell in found.values.values()]
    return words_of(values, list(found.values))


def changed_classes(old: Found, new: Found, classes: Sequence[str]) -> list[str]:
    """Classes whose masks or boxes differ, in the order of ``classes``."""
    found = set()
    for label in {*old.masks, *new.masks}:
        one, other = old.masks.get(label), new.masks.get(label)
        if one is None or other is None or not np.array_equal(one, other):
            found.add(label)
    boxes = [sorted((label, *box.tolist()) for label, box in side.boxes) for side in (old, new)]
    found |= {one[0] for one in boxes[0] if one not in boxes[1]} | {one[0] for one in boxes[1] if one not in boxes[0]}
    return [label for label in classes if label in found]


def _compared(
    image: np.ndarray, name: str, old: Found, new: Found, changed: Sequence[str], size: int, hues: dict[str, RGB]
) -> list[Panel]:
    before = [line for label in changed for line in lines_of(old, label, dashed=True)]
    after = [line for label in changed for line in lines_of(new, label, dashed=False)]
    whole, grey = frame_around([], image.shape), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    near = frame_around(list(_moved(old, new, changed)) or [*before, *after], image.shape)
    listed = ", ".join(changed[:6]) + (f" and {len(changed) - 6} more" if len(changed) > 6 else "")
    order = list(hues)

    def drawn(lines: Sequence[Line], frame: Frame) -> np.ndarray:
        picture, scale = panel(grey, lines, frame, size, hues), size / frame.side
        middles = [((line.points.mean(0) - (frame.x, frame.y)) * scale, order.index(line.label)) for line in lines]
        return numbered(picture, [(float(x), float(y), label) for (x, y), label in middles])

    return [
        Panel(drawn(before, whole), [name, f"before: {_count(before)}"]),
        Panel(drawn(after, whole), [f"changed: {listed}", f"after: {_count(after)}"]),
        Panel(drawn([*before, *after], near), ["both", "where they differ"]),
    ]


def _count(lines: Sequence[Line]) -> str:
    return f"{len(lines)} outline(s)" if lines else "nothing there"


def lines_of(found: Found, label: str, *, dashed: bool) -> list[Line]:
    """Outlines of the masks and boxes of a class."""
    lines = []
    if (mask := found.masks.get(label)) is not None:
        parts, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines += [Line(part[:, 0].astype(float) + 0.5, label, dashed) for part in parts]
    for name, (x0, y0, x1, y1) in found.boxes:
        if name == label:
            lines.append(Line(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float), label, dashed))
    return lines


def _moved(old: Found, new: Found, changed: Sequence[str]) -> Iterator[Line]:
    """Around the pixels that differ, and the boxes that one side has alone."""
    for label in changed:
        one, other = old.masks.get(label), new.masks.get(label)
        either = one if other is None else other if one is None else one ^ other
        if either is not None:
            x, y, wide, high = cv2.boundingRect(either.astype(np.uint8))
            yield Line(np.array([[x, y], [x + wide, y + high]], float), label, False)
    boxes = [{(label, *box.tolist()) for label, box in side.boxes} for side in (old, new)]
    for label, x0, y0, x1, y1 in boxes[0] ^ boxes[1]:
        yield Line(np.array([[x0, y0], [x1, y1]], float), label, False)


def image_of(before: Version, old: ImageRow, after: Version, new: ImageRow) -> np.ndarray:
    """The image as it is in one of the two versions, if its file is still the same; else an empty one of its size."""
    for version, row in ((after, new), (before, old), (after, old), (before, new)):
        path = version.root / row.file
        try:
            if row.file and path.is_file() and current_digest(path) == row.image:
                return read_colour(path) if version.kind == "classify" else read_grey(path)
        except DataError:
            continue
    height, width = next(((row.height, row.width) for row in (new, old) if row.height), (BLANK, BLANK))
    return np.zeros((height, width), np.uint8)
