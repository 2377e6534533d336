"""What ``data.overlays`` removes from a data set: a table of all images, and pictures of some."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import ClassifyData
from ..data.images import read_colour
from ..data.layouts import test_place, test_records
from ..data.overlays import Overlays, Removal, find_overlays, remove_overlays
from ..data.quarantine import kept_records
from ..data.records import Record
from ..errors import DataError
from ..runtime.files import refuse_foreign, write_text
from ..runtime.processes import process_map
from .cam_gallery import FONT, GAP, INK, SIZE, fitted
from .png import refuse_others, write_png

HEADER = "image_name,patient,split,removed,text,captions"
PANEL = 512  # pixels of a panel's long side in the pages; smaller images are enlarged
ROWS = 6  # images of a page
TITLE = 24
RED, BLUE = np.array([255, 40, 40], np.uint8), np.array([60, 140, 255], np.uint8)


def show_overlays(data: ClassifyData, out: Path, *, count: int = 24, workers: int = -1, progress: bool = True) -> str:
    """Writes ``overlays.csv``, one row per image, and pages ``overlays_1.png`` ... of images before, found and after.

    Args:
        count: images in the pages, from the one of which most is removed to the one of which least is.

    Returns:
        The summary.

    Raises:
        DataError: no image can be read.
        OutputError: ``out`` has a file of that name that is not from here.
    """
    how: Removal = "bilinear" if data.overlays == "keep" else data.overlays
    work = [(record, "train") for record in kept_records(data)]
    place = test_place(data)
    if place is not None and place.exists():
        work += [(record, "test") for record in test_records(data)]
    pages = [out / f"overlays_{k + 1}.png" for k in range(-(-min(count, len(work)) // ROWS))]
    refuse_foreign(out / "overlays.csv", HEADER)
    for page in pages:
        refuse_others(page)
    rows = process_map(_measure, work, workers=workers, name="overlays", unit="image", progress=progress, least=16)
    read = [row for row in rows if "problem" not in row]
    if not read:
        raise DataError(f"{data.root}: no usable image; {rows[0]['problem'] if rows else 'it has none'}")
    lines = [
        f"{_cell(row['name'])},{_cell(row['group'])},{row['split']},{row['removed']:.6f},{row['text']:.6f},"
        f"{row['captions']:.6f}"
        for row in read
    ]
    write_text(out / "overlays.csv", "\n".join([HEADER, *lines]) + "\n")
    ranked = sorted(read, key=lambda row: (-row["removed"], row["name"]))
    shown = [ranked[round(k)] for k in np.linspace(0, len(ranked) - 1, min(count, len(ranked)))]
    for number, page in enumerate(pages):
        write_png(page, _page(shown[number * ROWS : (number + 1) * ROWS], how))
    return "\n".join([*_summary(read, len(rows) - len(read)), f"{out}: overlays.csv, {len(pages)} page(s), {how}"])


def _measure(item: tuple[Record, str]) -> dict[str, Any]:
    """Fractions of an image's pixels that are found, by kind."""
    cv2.setNumThreads(1)
    record, split = item
    row = {"name": record.name, "group": record.group, "split": split, "path": record.image}
    try:
        found = find_overlays(read_colour(record.image))
    except DataError as error:
        return row | {"problem": str(error)}
    return row | {
        "removed": float(found.marks.mean()), "text": float(found.text.mean()), "captions": float(found.captions.mean())
    }  # fmt: skip


def _summary(rows: Sequence[dict[str, Any]], broken: int) -> list[str]:
    lines = []
    for split in ("train", "test"):
        own = [row["removed"] for row in rows if row["split"] == split]
        if own:
            marked = [part for part in own if part]
            mean = f", of {np.mean(marked):.2%} of their pixels" if marked else ""
            lines.append(f"{split}: marks found in {len(marked)} of {len(own)} images{mean}")
    return [*lines, f"{broken} image(s) cannot be read; see phalanx check"] if broken else lines


def _page(rows: Sequence[dict[str, Any]], how: Removal) -> np.ndarray:
    return np.concatenate([_tile(row, how) for row in rows])


def _tile(row: dict[str, Any], how: Removal) -> np.ndarray:
    """The image, what was found in it (red: removed, blue: captions), and the image after removal; RGB."""
    image = read_colour(row["path"])
    panels = [image, coloured(image, find_overlays(image)), remove_overlays(image, how)]
    scale = PANEL / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    tile = np.full((TITLE + PANEL + GAP, 3 * (PANEL + GAP), 3), 255, np.uint8)
    for k, panel in enumerate(panels):
        left = k * (PANEL + GAP)
        tile[TITLE : TITLE + size[1], left : left + size[0]] = cv2.resize(panel, size, interpolation=kind)
    texts = (
        f"{row['name']} ({row['split']})", f"removed (red): {row['removed']:.2%}; captions that stay (blue)", how
    )  # fmt: skip
    for k, text in enumerate(texts):
        left = 2 + k * (PANEL + GAP)
        cv2.putText(tile, fitted(text, PANEL), (left, 16), FONT, SIZE, INK, 1, cv2.LINE_AA)
    return tile


def coloured(image: np.ndarray, found: Overlays) -> np.ndarray:
    """An RGB image with marks in red and captions in blue."""
    shown = image.copy()
    shown[found.captions] = BLUE
    shown[found.marks] = RED
    return shown


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n\r') else text
