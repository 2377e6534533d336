"""Truth as PNG masks: one label map per image, or one mask per class; only the latter can overlap.

A mask may have another size than its image: it is resampled to the image's grid by nearest neighbour. It must have
the image's proportions, or it does not show the same region.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import Masks, SegmentData
from ..errors import DataError
from ..masks.planes import plane_count
from ..runtime.spelling import nfc, on_disk
from .images import Grid
from .listing import list_files
from .mask_files import class_masks, owner, read_labels, read_mask, readings
from .patients import MASKS_KEY, patient_of_name, patients_of_table
from .records import Record, by_stem, listed, refuse_unlabelled, root_of, scan, some, stem_of

KINDS = {"labels": "<image>.png", "classes": "<image>/<class>.png or <image>_<class>.png"}


def options_of(data: SegmentData) -> Masks:
    """Names of the data set's folders, and what its masks are."""
    return data.masks or Masks()


def train_records(data: SegmentData, without: Collection[str] = ()) -> Sequence[Record]:
    """Images with masks, sorted by name.

    Args:
        without: names of images to leave out, with masks or not.

    Raises:
        DataError: a folder, image or mask is missing, or the name of a mask contains an unknown class.
    """
    options, root = options_of(data), root_of(data)
    images, folder = root / options.images, root / options.masks
    remedy = "data.root, data.masks.images and data.masks.masks are the places of images and masks"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {remedy}")
    found = scan(images, remedy, complete=False)
    masked = _class_files(found, images, folder, data.classes, without) if options.kind == "classes" else set()
    records, lacking = list[Record](), list[Record]()
    for record in found:
        if record.name in without:
            continue
        path, group = place_of(record, images, folder, options.kind), group_of(record, images, data)
        there = path in masked or (options.kind == "labels" and path.is_file())
        (records if there else lacking).append(record._replace(labels=path, group=group))
    problem = (
        f"no mask here, but its image is there; expected {KINDS[options.kind]} with data.masks.kind={options.kind}"
    )
    refuse_unlabelled(lacking, data.skip_unlabelled, problem)
    return some(records, f"{folder}: no mask of any image")


def place_of(record: Record, images: Path, folder: Path, kind: str) -> Path:
    """Path of the mask of an image or, with ``classes``, the start of the paths of its masks."""
    stem = record.image.relative_to(images).with_suffix("")
    return on_disk(folder, stem if kind == "classes" else stem.with_name(f"{stem.name}.png"))


def group_of(record: Record, images: Path, data: SegmentData) -> str:
    """The patient of an image. Raises DataError if no folder, row or pattern names it."""
    options = options_of(data)
    if options.group_pattern is not None:
        return patient_of_name(record.name, options.group_pattern, MASKS_KEY)
    if options.patients is not None:
        tables = [root_of(data) / name for name in options.patients]
        found = _patients(tables, options)
        if record.name not in found and stem_of(record.name) not in found:
            raise DataError(f"{tables[0]}: has no row of {record.name}, whose patient it should name; add it")
        return found.get(record.name) or found[stem_of(record.name)]
    if options.group == "image":
        return nfc(Path(record.name).stem)
    if record.image.parent == images:
        raise DataError(
            f"{record.image}: is in no folder that names its patient; make one, name a CSV with data.masks.patients=, "
            "or with data.masks.group=image each image is a patient of its own"
        )
    return nfc(record.image.parent.name)


def train_names(data: SegmentData) -> set[str]:
    """Names of all images to train on, with masks or not."""
    return {record.name for record in listed(root_of(data) / options_of(data).images)}


def test_records(folder: Path, data: SegmentData) -> Sequence[Record]:
    """Images to predict, sorted by name."""
    return scan(folder, "data.masks.test names the folder of test images")


def ground_truth(place: Path, data: SegmentData, images: Sequence[str]) -> dict[str, Record]:
    """Records of the masks below a folder by image name; by stem, those of images not asked for.

    Raises:
        DataError: two masks belong to the same image, or no folder names a patient.
    """
    paths: Sequence[Path] = list_files(place, ".png")
    options = options_of(data)
    if options.kind == "classes":
        known = {stem_of(image) for image in images}
        stems = set()
        for path in paths:
            cuts = [i for i, letter in enumerate(path.stem) if letter == "_"]
            alongside = [path.with_name(path.stem[:i]) for i in cuts if nfc(path.stem[i + 1 :]) in data.classes]
            inside = [path.parent] if nfc(path.stem) in data.classes else []
            stems |= {stem for stem in [*inside, *alongside] if nfc(stem.name) in known}
        paths = sorted(stems)
    single = options.group == "image"
    table = _tables_near(place, options)
    found = by_stem(images, paths, with_suffix=options.kind == "labels")
    for name, record in found.items():
        if options.group_pattern is not None or options.patients is not None:
            pattern = options.group_pattern
            own = patient_of_name(name, pattern, MASKS_KEY) if pattern else table.get(name) or table.get(stem_of(name))
            found[name] = record._replace(group=own or stem_of(name))
            continue
        if not single and record.image.parent == place:
            raise DataError(
                f"{record.labels}: is in no folder that names its patient; with data.masks.group=image each image is "
                "a patient of its own"
            )
        found[name] = record._replace(group=stem_of(name)) if single else record
    return found


def _patients(tables: Sequence[Path], options: Masks) -> Mapping[str, str]:
    """Patient by image name of all tables."""
    if len(tables) == 1:
        return patients_of_table(tables[0], options.image_column, options.patient_column)
    found: dict[str, str] = {}
    for path in tables:
        found |= patients_of_table(path, options.image_column, options.patient_column)
    return found


def _tables_near(place: Path, options: Masks) -> Mapping[str, str]:
    """The tables of patients in the folder of a ground truth, or a few above it; empty if there is none. An image that
    they do not list counts as a patient of its own."""
    for folder in (place, *place.resolve().parents[:3]) if options.patients else ():
        if tables := [folder / name for name in options.patients or [] if (folder / name).is_file()]:
            return _patients(tables, options)
    return {}


def planes(record: Record, data: SegmentData, grid: Grid) -> np.ndarray:
    """Truth of a record as bit-planes uint8[side, side, P], 0 outside the image."""
    options, result = options_of(data), np.zeros((grid.side, grid.side, plane_count(len(data.classes))), np.uint8)
    rows, columns = grid.content
    assert record.labels is not None
    if options.kind == "labels":
        labels = read_labels(record.labels)
        grid.same_frame(labels.shape, record.labels)
        result[:rows, :columns] = table_of(record.labels, labels, data)[grid.sample(labels)]
        return result
    for number, path in class_masks(record.labels, data.classes):
        mask = read_mask(path)
        grid.same_frame(mask.shape, path)
        result[:rows, :columns, number // 8] |= grid.sample(mask).astype(np.uint8) << (number % 8)
    return result


def check(record: Record, data: SegmentData) -> None:
    """Raises DataError if a mask cannot be read or contains a value that is not a class."""
    assert record.labels is not None
    if options_of(data).kind == "labels":
        table_of(record.labels, read_labels(record.labels), data)
    else:
        for _, path in class_masks(record.labels, data.classes):
            read_mask(path)


def files(record: Record, data: SegmentData) -> list[Path]:
    """The mask files of a record."""
    assert record.labels is not None
    if options_of(data).kind == "labels":
        return [record.labels]
    return [path for _, path in class_masks(record.labels, data.classes)]


def table_of(path: Path, labels: np.ndarray, data: SegmentData) -> np.ndarray:
    """Bit-planes uint8[values, P] of each value of a label map; 0 is background."""
    values = options_of(data).values or {name: i for i, name in enumerate(data.classes, 1)}
    present = np.flatnonzero(np.bincount(labels.ravel()))
    unknown = sorted(set(present.tolist()) - {0, *values.values()})
    if unknown:
        raise DataError(
            f"{path}: the value {unknown[0]} is not a class; known: 0 for none, and {_ranges(sorted(values.values()))}"
            ". Correct the mask, or data.masks.values"
        )
    table = np.zeros((max([*values.values(), int(labels.max())]) + 1, plane_count(len(data.classes))), np.uint8)
    for number, name in enumerate(data.classes):
        table[values[name], number // 8] = 1 << (number % 8)
    return table


def _class_files(
    records: Sequence[Record], images: Path, folder: Path, classes: list[str], without: Collection[str]
) -> set[Path]:
    """Images that have masks, as <masks>/<image without ending>; every file of an image must name a class."""
    stems = {place_of(record, images, folder, "classes"): record.name for record in records}
    found = set()
    for path in list_files(folder, ".png"):
        if any(stems[stem] in without for stem, _ in readings(path, stems)):
            continue
        stem = owner(path, stems, classes)
        if stem is not None:
            found.add(stem)
    return found


def _ranges(values: list[int]) -> str:
    """Whole numbers as ranges.

    >>> _ranges([1, 2, 3, 7])
    '1..3, 7'
    """
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1][-1:] = [value] if len(runs[-1]) > 1 else [runs[-1][0], value]
        else:
            runs.append([value])
    return ", ".join("..".join(map(str, run)) for run in runs)
