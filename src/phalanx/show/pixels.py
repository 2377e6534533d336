"""Pictures of what is done to every image before training: noise bands, background, contrast, burnt-in marks, noise."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from ..config import Augment, ClassifyData
from ..data.images import read_colour, read_grey
from ..data.noisy import with_noise
from ..data.overlays import Overlays, find_overlays, remove_overlays
from ..data.preprocess import foreground, preprocess
from ..data.records import Record
from ..eda.report import hiding_blackout
from ..visualize.marks import shrunk
from ..visualize.removed_marks import coloured
from ..visualize.sheets import Panel, page
from .options import ShowOptions
from .subject import NotApplicable, Picture, Subject

CANDIDATES = 12  # images that marks are looked for in, for each one shown
FRAME = (0, 255, 255)


def background(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Noise bands and background before and after: blackout, contour, both, and the changes of contrast.

    Images with noise bands come first, the deepest before all others, then unusually bright ones, then any.
    """
    table = subject.measured
    hides = hiding_blackout(table[table["noise_band"]])["blackout"]
    ways = ways_of(subject.data, hides)
    depth = table[["noise_top", "noise_left"]].max(axis=1)
    ranked = table.assign(depth=depth.where(table["noise_band"], 0)).sort_values(
        ["depth", "bright_outlier", "image_name"], ascending=[False, False, True]
    )
    names = [options.image] if options.image else ranked["image_name"].tolist()[: options.images]
    sides = zip(table["noise_top"].tolist(), table["noise_left"].tolist(), strict=True)
    bands = dict(zip(table["image_name"].tolist(), sides, strict=True))
    records, side, rows = {record.name: record for record in subject.records}, max(256, options.size // 2), []
    for name in names:
        image = read_grey(records[name].image)
        top, left = bands.get(name, (0, 0))
        panels = [Panel(_framed(image, top, left, side), [name, f"noise: {top} rows, {left} columns; outline found"])]
        for label, change in ways.items():
            after = preprocess(image, subject.data.model_copy(update=PLAIN | change))
            gone = (after == 0) & (image > 0)
            panels.append(Panel(shrunk(after, side), [label, f"{gone.mean():.1%} of the pixels set to 0"]))
        rows.append(panels)
    used = [
        f"data.{key}={getattr(subject.data, key)}" for key in PREPROCESSED if getattr(subject.data, key) != PLAIN[key]
    ]
    count = int(table["noise_band"].sum())
    text = (
        f"{count} of {len(table)} images have noise bands. Dashed: their edge; solid: the outline of the largest "
        f"bright region. This recipe uses {', '.join(used) or 'none of these changes'}."
    )
    drawn = page("Noise bands and background, before and after", text, rows)
    facts = {"blackout": ways["blackout"]["blackout"], "noise_bands": {name: bands.get(name, (0, 0)) for name in names}}
    yield Picture("background", "Noise bands and background before and after", names, drawn, facts)


PREPROCESSED = ("blackout", "background", "contrast")
PLAIN: dict[str, Any] = {"blackout": 0, "background": "keep", "contrast": "keep", "colour": False, "overlays": "keep"}


def ways_of(data: Any, hides: int) -> dict[str, dict[str, Any]]:
    """Changes to show by name, as options of data.

    Args:
        hides: the blackout that hides most noise bands; of a set without any, a narrow one is shown.
    """
    rows = data.blackout or hides or 32
    return {
        "blackout": {"blackout": rows},
        "contour": {"background": "contour"},
        "blackout and contour": {"blackout": rows, "background": "contour"},
        "contrast: stretch": {"contrast": "stretch"},
        "contrast: clahe": {"contrast": "clahe"},
    }


def _framed(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """The image with the edges of its noise bands, dashed, and the outline of its foreground, solid."""
    picture, scale = shrunk(image, side).copy(), side / max(image.shape)
    outline = shrunk(foreground(image).astype(np.uint8), side)[:, :, 0]
    lines, _ = cv2.findContours(np.ascontiguousarray(outline), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, lines, -1, FRAME, 2, cv2.LINE_AA)
    height, width = picture.shape[:2]
    for k in range(0, max(height, width), 16):
        if top:
            y = round(top * scale)
            cv2.line(picture, (k, y), (k + 8, y), FRAME, 2)
        if left:
            x = round(left * scale)
            cv2.line(picture, (x, k), (x, k + 8), FRAME, 2)
    return picture


def marks(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Burnt-in marks of images with labels: before, what is found, after each way of removal."""
    assert isinstance(subject.data, ClassifyData)  # other tasks lack this section
    candidates = list(chosen) if options.image else subject.picked(CANDIDATES * options.images)
    found = [(record, _found(record)) for record in candidates]
    marked = sorted((one for one in found if one[1].marks.any()), key=lambda one: -one[1].marks.mean())
    if not marked:
        raise NotApplicable(f"no burnt-in mark was found in {len(candidates)} image(s)")
    side, rows = max(256, options.size // 2), []
    for record, overlays in marked[: options.images]:
        image = read_colour(record.image)
        panels = [
            Panel(shrunk(image, side), [record.name]),
            Panel(shrunk(coloured(image, overlays), side), ["found", f"red: {overlays.marks.mean():.2%}; blue stays"]),
        ]
        for how in ("black", "fast_marching", "bilinear"):
            panels.append(Panel(shrunk(remove_overlays(image, how), side), [how]))
        rows.append(panels)
    now = f"This recipe uses data.overlays={subject.data.overlays}."
    text = (
        f"Something was found in {len(marked)} of {len(candidates)} images by what looks for the marks of ultrasound: "
        f"in other images, as of bones, it may be bright anatomy. {now} All images: phalanx overlays."
    )
    drawn = page("Burnt-in marks, before and after", text, rows)
    names = [record.name for record, _ in marked[: options.images]]
    yield Picture("marks", "Burnt-in marks before and after", names, drawn, {"marked": len(marked)})


def _found(record: Record) -> Overlays:
    return find_overlays(read_colour(record.image))


def noise(subject: Subject, options: ShowOptions, chosen: Sequence[Record]) -> Iterator[Picture]:
    """Images of a denoiser at each level of noise."""
    side, rows = max(256, options.size // 2), []
    levels = subject.data.restore.levels
    for index, record in enumerate(chosen):
        clean = subject.sample(chosen, Augment(), index, 0).image
        panels = [Panel(shrunk(clean, side), [record.name, "clean"])]
        for number, level in enumerate(levels):
            noisy = with_noise(clean, level, np.random.default_rng((subject.config.seed, number, index)))
            shown = (noisy.clip(0, 1) * 255).round().astype(np.uint8)
            panels.append(Panel(shrunk(shown, side), [f"level {level:g}", "of full scale"]))
        rows.append(panels)
    drawn = page("Noise that the denoiser removes", "One level is drawn for each sample.", rows)
    yield Picture("noise", "Levels of noise", [record.name for record in chosen], drawn, {"levels": list(levels)})
