"""``phalanx cam``: heat maps of a run's classes, their energy in masks, controls, a gallery."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from ..config import ClassifyData, Place, Seed, Strict, nearest
from ..data.images import Grid, read_colour
from ..data.label_table import Labels
from ..data.labels import read_labels
from ..data.layouts import test_place
from ..data.listing import list_files
from ..data.patients import FOLDERS_KEY, patient_of_name
from ..data.records import Record, by_stem, scan, stem_of
from ..errors import ConfigError, DataError
from ..models.feature_cells import Cells
from ..runtime.files import check_report_folder, write_report, write_text
from ..runtime.spelling import nfc
from ..visualize.cam_gallery import Tile, draw_gallery
from ..visualize.gradcam import Inside, heat_map, load_library
from .classify import ClassifierRun, open_classifier
from .explain import Case, Explainer, Located, check_control, energy_of, explainer_of, mask_of, random_explainer

FILES = ("cam.csv", "gallery.png")  # besides cam.json
MODES = ("predicted", "label")  # of class=, unless a class has that name


class CamOptions(Strict):
    """Options of ``cam``."""

    SPELLED: ClassVar = {"class": "target", "data.root": "root"}

    out: Path
    root: Place | None = None
    images: Place | None = None
    labels: Path | None = None
    masks: Path | None = None
    target: str = "predicted"
    control: str | None = None
    random: Annotated[int, Field(ge=0, le=100)] = 3  # networks with random weights, per fold
    count: Annotated[int, Field(ge=1, le=1000)] = 16  # images of the gallery
    seed: Seed = 0
    batch: Annotated[int, Field(ge=1, le=65536)] = 16
    weights: Literal["final", "best", "last"] = "final"
    device: str = "auto"
    runs: Path = Path("runs")
    progress: bool = True


def explain_run(name: str, options: CamOptions) -> str:
    """Writes ``cam.json``, ``cam.csv`` and ``gallery.png`` into ``out``; returns the summary.

    Raises:
        ConfigError: no such run, class or label; a network without a layer for Grad-CAM; grad-cam is not installed.
        DataError: images, labels or masks that cannot be used.
        OutputError: ``out`` contains files of other programs.
    """
    check_report_folder(options.out, "cam.json", "cam", FILES)
    load_library()
    run = _opened(name, options)
    control = None if options.control is None else _opened(options.control, options)
    if control is not None:
        if options.masks is None:
            raise ConfigError("control=: is compared by the energy inside masks; give masks=DIR")
        check_control(run, control)
    explainer = explainer_of(run)  # first: a network that cannot be explained says so before any image is read
    cases = find_cases(run, options)
    maps, inside = list[np.ndarray](), list[Inside | None]()
    for case, (found, grid) in zip(cases, explainer.maps(cases, options.batch, progress=options.progress), strict=True):
        maps.append(found)
        inside.append(energy_of(case, found, grid, explainer.cells))
    located, controls = None, dict[str, Located]()
    if options.masks is not None:
        located = Located.of([inside], cases)
        controls = _controls(run, control, cases, options)
    facts = {
        "run": str(name), "weights": options.weights, "run_hashes": run.hashes, "class": options.target,
        "layer": explainer.layer, "grad_cam": version("grad-cam"), "rows": len(cases),
        "images": len({case.record.name for case in cases}), "patients": len({case.record.group for case in cases}),
    }  # fmt: skip
    tiles = [_tile(cases[i], maps[i], explainer.cells, inside[i], run) for i in picked(inside, options.count)]
    # first: a later call may write into a folder that has it
    write_report(options.out / "cam.json", "cam", facts | _figures(located, controls, options))
    write_text(options.out / "cam.csv", _table(cases, inside, run.classes))
    draw_gallery(tiles, options.out / "gallery.png")
    return _summary(cases, located, controls, options)


def _opened(name: str, options: CamOptions) -> ClassifierRun:
    # whole precision: small gradients vanish in half
    return open_classifier(name, runs=options.runs, weights=options.weights, device=options.device, precision="32")


class Truth(NamedTuple):
    """Labels and patients by image name."""

    labels: Mapping[str, Labels]
    patients: Mapping[str, str]


def find_cases(run: ClassifierRun, options: CamOptions) -> list[Case]:
    """The images to explain, with the class of each by ``class=``; with ``label`` a row for each label of an image.

    Raises:
        ConfigError: no such class, or labels are needed.
        DataError: images, labels or masks that cannot be used.
    """
    wanted, classes = options.target, run.classes
    if wanted not in (*classes, *MODES):
        raise ConfigError(f"class={wanted}: is not a class{nearest(wanted, [*classes, *MODES])}")
    by_label = wanted == "label" and wanted not in classes
    place, data = _place(run, options)
    truth = _truth(place, data, options, needed=by_label)
    records = _with_patients(scan(place), data, truth)
    masks = {} if options.masks is None else _masks(options.masks, records)
    values = run.predict(records, options.batch, progress=options.progress)
    cases = []
    for record, row in zip(records, values, strict=True):
        if by_label:
            labels = truth.labels.get(record.name, ()) if truth else ()
            targets = [c for c, label in enumerate(labels) if label == 1]
        else:
            targets = [classes.index(wanted) if wanted in classes else int(row.argmax())]
        cases += [Case(record, c, float(row[c]), masks.get(record.name)) for c in targets]
    if not cases:
        raise DataError(f"{place}: none of its {len(records)} images has a label; class=predicted needs none")
    if options.masks is not None and not any(case.mask for case in cases):
        raise DataError(f"{options.masks}: has no mask of any image; expected <image>.png for an image of that stem")
    return cases


def _place(run: ClassifierRun, options: CamOptions) -> tuple[Path, ClassifyData]:
    """The folder of the images, and the data set's options."""
    if options.images is not None and options.root is not None:
        raise ConfigError("images= and data.root= both name images; give one of them")
    data = run.config.data.model_copy(update={"root": options.root or run.config.data.root})
    place = options.images or test_place(data)
    if place is None:
        raise ConfigError(f"data.{data.layout}.test: names no folder of test images; give images=DIR")
    return place, data


def _truth(place: Path, data: ClassifyData, options: CamOptions, *, needed: bool) -> Truth | None:
    """Labels of ``labels=``, or of the images' folders if those are the classes; None if there are none."""
    if options.labels is not None:
        return Truth(*read_labels(options.labels, data))
    folders = [path.name for path in place.iterdir() if path.is_dir()] if place.is_dir() else []
    inside, classes = {nfc(name) for name in folders if name[:1] != "."}, set(data.classes)
    if inside == classes or (needed and inside >= classes):
        return Truth(*read_labels(place, data))
    if needed:
        raise ConfigError(f"class=label: {place} has no folder per class; give labels=FILE.csv or labels=DIR")
    return None


def _with_patients(records: Sequence[Record], data: ClassifyData, truth: Truth | None) -> list[Record]:
    """Records whose group is the patient: by their labels, their name, or else their folder."""
    found, unnamed = list[Record](), list[str]()
    for record in records:
        if truth is not None and record.name in truth.patients:
            group = truth.patients[record.name]
        elif data.folders is None:
            group = record.group
        else:
            try:
                group = patient_of_name(record.name, data.folders.group_pattern, FOLDERS_KEY)
            except DataError:  # other images than those of the data set
                group = record.name
                unnamed.append(record.name)
        found.append(record._replace(group=group))
    if unnamed:
        print(
            f"note: {len(unnamed)} name(s) have no patient, such as {unnamed[0]}; each image counts as one, so that "
            "intervals may be too narrow",
            flush=True,
        )
    return found


def _masks(folder: Path, records: Sequence[Record]) -> dict[str, Path]:
    """The mask of each image that has one, by the stem of its name."""
    if not folder.is_dir():
        raise DataError(f"masks={folder}: no such folder of PNG masks")
    found = by_stem([record.name for record in records], list_files(folder, ".png"))
    return {name: one.image for name, one in found.items()}


def _controls(
    run: ClassifierRun, control: ClassifierRun | None, cases: Sequence[Case], options: CamOptions
) -> dict[str, Located]:
    """The same cases, explained by networks that cannot know them."""
    masked = [case for case in cases if case.mask is not None]
    found = {}
    if options.random:
        draws = range(options.seed * options.random, (options.seed + 1) * options.random)
        found["random"] = Located.of([_inside(random_explainer(run, draw), masked, options) for draw in draws], masked)
    if control is not None:
        found["shuffled"] = Located.of([_inside(explainer_of(control), masked, options)], masked)
    return found


def _inside(explainer: Explainer, cases: Sequence[Case], options: CamOptions) -> list[Inside | None]:
    return explainer.inside(cases, options.batch, progress=options.progress)


def picked(inside: Sequence[Inside | None], count: int) -> list[int]:
    """Which cases are drawn: of evenly spaced ranks by the ratio, the highest first; without masks, evenly spaced."""
    ratios = {i: one.ratio for i, one in enumerate(inside) if one is not None and one.ratio == one.ratio}
    order = sorted(ratios, key=lambda i: -ratios[i]) or list(range(len(inside)))
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    return [order[i] for i in places]


def _tile(case: Case, maps: np.ndarray, cells: Cells, inside: Inside | None, run: ClassifierRun) -> Tile:
    image = read_colour(case.record.image)
    grid = Grid.of(image, run.config.data.size)
    ratio = f", energy {inside.share:.2f} on {inside.area:.3f} of the area" if inside else ""
    line = f"{run.classes[case.target]}: probability {case.probability:.2f}{ratio}"
    mask = None if case.mask is None else mask_of(case, grid)
    return Tile(image, heat_map(maps, grid, cells), mask, (stem_of(case.record.name), line))


def _table(cases: Sequence[Case], inside: Sequence[Inside | None], classes: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "patient", "class", "probability", "share", "area", "ratio"])
    for case, one in zip(cases, inside, strict=True):
        numbers = ["", "", ""] if one is None else [_cell(one.share), _cell(one.area), _cell(one.ratio)]
        record = case.record
        table.writerow([record.name, record.group, classes[case.target], f"{case.probability:.6f}", *numbers])
    return text.getvalue()


def _cell(value: float) -> str:
    """Six decimals; nothing if it is not defined."""
    return f"{value:.6f}" if value == value else ""


def _figures(located: Located | None, controls: Mapping[str, Located], options: CamOptions) -> dict[str, Any]:
    if located is None:
        return {"with_mask": 0}
    found: dict[str, Any] = {"with_mask": len(located.patients), **located.to_json(), "controls": {}}
    about: dict[str, dict[str, Any]] = {
        "random": {"networks": options.random, "seed": options.seed},
        "shuffled": {"run": options.control},
    }
    for name, one in controls.items():
        more = located.above(one)
        found["controls"][name] = about[name] | one.to_json() | {"gain": more.to_json(), "above": more.is_positive}
    return found


def _summary(
    cases: Sequence[Case], located: Located | None, controls: Mapping[str, Located], options: CamOptions
) -> str:
    lines = [f"{options.out}: {len(cases)} heat maps"]
    if located is None:
        return lines[0]
    share, area, ratio = (located.figures[name].text for name in ("share", "area", "ratio"))
    lines.append(f"energy in the mask {share} on {area} of the area: ratio {ratio}, {len(located.patients)} masks")
    if located.without_heat:
        lines.append(f"{located.without_heat} of them without heat, which do not count")
    words = {"random": "random weights", "shuffled": f"control {options.control}"}
    for name, one in controls.items():
        more = located.above(one)
        verdict = "above" if more.is_positive else "NOT above"
        lines.append(f"{words[name]}: ratio {one.figures['ratio'].text}; {verdict} it, by {more.text}")
    return "\n".join(lines)
