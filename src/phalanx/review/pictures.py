"""The pictures of a failure review: which images, outlines and texts they show."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import flatten
from ..data.images import read_grey
from ..scoring.object_suspects import Annotated, Suspect
from ..visualize.outlined import Line, colours_of
from ..visualize.review_pages import Colours, Column, Entry, Row, Tile, draw_comparison, draw_gallery
from ..visualize.review_plots import Points, draw_by_class
from .case import NAMES, Case, Reviewed, Seen
from .tables import named, number, ordered

MEASURED = {"area": "area", "width": "width along the midline", "prediction": "what is predicted there"}
RECIPE = 3  # keys that differ between runs, shown above a column
RUN_KEYS = ("name", "runs", "workers", "device", "progress", "image_f1", "validate_every", "validate_steps", "tracking")


def lines_of(seen: Seen, *, truth: bool = True, predicted: bool = True) -> list[Line]:
    """Outlines to draw, the ground truth's solid, the prediction's dashed."""
    shown = [(outline, False) for outline in seen.truth if truth]
    shown += [(outline, True) for outline in seen.predicted if predicted]
    return [Line(outline.points, outline.label, dashed) for outline, dashed in shown]


def colours(reviewed: Reviewed) -> Colours:
    """Of the disease, the normal organ, then other classes that the run has."""
    rule = reviewed.rule
    return colours_of(reviewed.config.data.classes, (rule.positive, rule.negative))


def draw_cell(reviewed: Reviewed, cell: str, worst: int, out: Path) -> None:
    """The gallery of a cell."""
    numbers = ordered(reviewed, cell)
    shown = numbers[:worst]
    rule = reviewed.rule
    title = f"{NAMES[cell].capitalize()} of {reviewed.name}: {len(numbers)} of {len(reviewed.cases)} images"
    order = "All of them" if len(shown) == len(numbers) else f"The first {len(shown)}"
    text = f"{order}, from the lowest mean IoU over the classes; positive: {rule.positive} with IoU {rule.iou:g}"
    tiles = [_tile(reviewed, k) for k in shown]
    draw_gallery(tiles, title, text, _used(reviewed, shown), out)


def _used(reviewed: Reviewed, numbers: Sequence[int]) -> Colours:
    """Colours of the classes that some images have, for the legend; those of the rule are always there."""
    there = {
        label for k in numbers for side in (reviewed.cases[k].truth, reviewed.cases[k].predicted) for label in side
    }
    there |= {reviewed.rule.positive, reviewed.rule.negative or reviewed.rule.positive}
    return {label: colour for label, colour in colours(reviewed).items() if label in there}


def _tile(reviewed: Reviewed, k: int) -> Tile:
    case = reviewed.cases[k]
    sure = "" if case.confidence is None else f" ({case.confidence:.2f})"
    areas = f"area {_area(case.truth)} → {_area(case.predicted)} px"
    text = [
        f"{case.image}  ·  IoU {case.iou:.2f}",
        f"truth: {named(case.truth)}",
        f"predicted: {named(case.predicted)}{sure}",
        areas,
    ]
    return Tile(read_grey(case.path), lines_of(reviewed.seen(case.image)), text)


def _area(areas: Mapping[str, float]) -> str:
    return f"{sum(areas.values()):,.0f}"


def draw_suspects(reviewed: Reviewed, found: Sequence[Suspect], names: tuple[str, str], worst: int, out: Path) -> None:
    """The gallery of the objects whose class is most in doubt."""
    place, tiles = {case.image: case for case in reviewed.cases}, []
    for rank, one in enumerate(found[:worst], 1):
        case = place[one.object.image]
        reasons = [*one.reasons, "", "", ""][:3] if one.reasons else ["no single measure is odd", "", ""]
        text = [f"{rank}. {case.image}  ·  score {one.score:.2f}", f"annotated: {names[one.object.diseased]}", *reasons]
        tiles.append(Tile(read_grey(case.path), lines_of(reviewed.seen(case.image)), text))
    title = f"Annotations in doubt, by {reviewed.name}: the first {len(tiles)} of {len(found)} objects"
    by = ", ".join(MEASURED[name] for name in found[0].doubts)
    rule = f"Score: probability of the other class, by {by}; all are in suspects.csv"
    shown = {one.object.image for one in found[:worst]}
    numbers = [k for k, case in enumerate(reviewed.cases) if case.image in shown]
    draw_gallery(tiles, title, rule, _used(reviewed, numbers), out)


def draw_measures(
    found: Sequence[Suspect], names: tuple[str, str], worst: int, region: str, folder: Path
) -> list[Path]:
    """Plots of area and, if there are any, of widths against class; returns their files."""
    objects = [one.object for one in found]
    doubtful = [i for i, one in enumerate(found[:worst]) if one.score > 0.5]

    def points(values: Sequence[float | None]) -> Points:
        known = np.array([np.nan if value is None else value for value in values], float)
        return Points(known, np.array([one.diseased for one in objects]), [one.image for one in objects], doubtful)

    made = [folder / "area.png"]
    draw_by_class(
        points([one.area for one in objects]), names, "area of an object (pixels, logarithmic)",
        f"{region}: area against class as annotated", made[0], log=True,
    )  # fmt: skip
    widths: dict[str, tuple[Sequence[float | None], str]] = {
        "width.png": ([one.width for one in objects], "as annotated"),
        "predicted_width.png": ([one.predicted_width for one in objects], "as predicted"),
    }
    for file, (values, whose) in widths.items():
        if any(value is not None for value in values):
            made.append(folder / file)
            draw_by_class(
                points(values), names, f"least / median width along the midline, {whose}",
                f"{region}: how much an object narrows, against class as annotated", made[-1],
            )  # fmt: skip
    return made


def chosen_images(reviewed: Sequence[Reviewed], images: Sequence[str], rows: int) -> dict[str, str]:
    """Images of a comparison with the reason: half of them those with the lowest mean IoU of all runs, the others at
    even ranks among the rest, so that the best one is there, too."""
    places = [{case.image: case.iou for case in one.cases} for one in reviewed]
    mean = {image: float(np.mean([place[image] for place in places])) for image in images}
    ranked = sorted(images, key=lambda image: (mean[image], image))
    worst, rest = ranked[: (rows + 1) // 2], ranked[(rows + 1) // 2 :]
    picked = dict.fromkeys(worst, "worst")
    count = min(rows - len(worst), len(rest))
    if count > 0:
        places_of_rest = np.unique(np.linspace(len(rest) - 1, 0, count, endpoint=count == 1 or count < len(rest)))
        for place in sorted(set(places_of_rest.round().astype(int).tolist())):
            picked[rest[place]] = "spread"
    return picked


def draw_runs(reviewed: Sequence[Reviewed], picked: Mapping[str, str], common: int, out: Path) -> None:
    """The comparison of runs on the picked images."""
    places = [{case.image: k for k, case in enumerate(one.cases)} for one in reviewed]
    rows = []
    for image in picked:
        numbers = [place[image] for place in places]
        case: Case = reviewed[0].cases[numbers[0]]
        found = []
        for one, k in zip(reviewed, numbers, strict=True):
            cell = "+".join(one.cells_of(k)).upper()
            seen = one.seen(image)
            found.append(Entry(lines_of(seen), f"IoU {one.cases[k].iou:.2f}  ·  {cell}"))
        truth = Entry(lines_of(reviewed[0].seen(image), predicted=False), f"{image}: {named(case.truth)}")
        rows.append(Row(image, read_grey(case.path), truth, found))
    worst = sum(why == "worst" for why in picked.values())
    about = recipes(reviewed)
    columns = [Column(one.name, lines) for one, lines in zip(reviewed, about, strict=True)]
    rule = (
        f"Of {common} images, the {worst} with the lowest IoU (mean over classes and runs), then {len(picked) - worst} "
        "at even ranks among the rest"
    )
    title = f"The same images by {len(reviewed)} runs" if len(reviewed) > 1 else f"Images by {reviewed[0].name}"
    draw_comparison(rows, columns, title, rule, colours(reviewed[0]), out)


def recipes(reviewed: Sequence[Reviewed]) -> list[list[str]]:
    """For each run, keys of its recipe in which the runs differ, as lines; the optimizer and the loss come first."""
    flat = [flatten(one.config.model_dump(mode="json")) for one in reviewed]
    keys = sorted({key for one in flat for key in one})
    differing = [
        key for key in keys
        if key not in RUN_KEYS and len({str(one.get(key)) for one in flat}) > 1 and not key.startswith("predict.")
    ]  # fmt: skip
    first = ("optim.name", "loss.stages", "loss.class_weights", "loss.focal", "model.architecture", "model.arch")
    differing.sort(key=lambda key: (key not in first, first.index(key) if key in first else 0, key))
    return [[f"{key}={_short(one.get(key))}" for key in differing[:RECIPE]] for one in flat]


def _short(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "weights" in value[0]:  # stages of a loss
        return " | ".join(" ".join(f"{term} {weight:g}" for term, weight in one["weights"].items()) for one in value)
    return number(value) if isinstance(value, float) else str(value)


def names_of(reviewed: Reviewed) -> tuple[str, str] | None:
    """Names of the normal and the diseased class; None if only lesions are annotated."""
    rule = reviewed.rule
    return None if rule.negative is None else (rule.negative, rule.positive)


def objects_of(reviewed: Reviewed) -> list[Annotated]:
    """All annotated objects of the images."""
    return [one for case in reviewed.cases for one in case.objects]
