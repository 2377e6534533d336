"""Truth as COCO JSON: polygons, and RLE compressed or not, rasterised as pycocotools does.

The origin of COCO's points is the corner of the first pixel, not its centre as in the competition's files. A polygon
is scaled to the grid and then filled; a run-length mask is resampled by nearest neighbour.
"""

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Coco, Data, nearest
from ..errors import DataError
from ..masks.planes import plane_count
from .coco_rle import decode
from .images import Grid
from .polygons import MAX_COORDINATE
from .records import Record, root_of, some

Segmentation = list[list[float]] | dict[str, Any]


class Entry(NamedTuple):
    """One image of a COCO file: its own keys, and its (class, segmentation, place in the file)."""

    about: dict[str, Any]
    size: tuple[int, int] | None  # height, width
    shapes: list[tuple[int, Segmentation, str]]


class Problem(NamedTuple):
    """A part of a COCO file that cannot be used. ``image``: name of the image it makes unusable, or empty."""

    kind: str
    text: str
    image: str


class Gathered(NamedTuple):
    """A COCO file: usable entries by image name, all problems, and the names of its categories."""

    entries: dict[str, Entry]
    problems: list[Problem]
    categories: list[str]


def options_of(data: Data) -> Coco:
    """Names of the data set's files."""
    return data.coco or Coco()


def train_records(data: Data, without: Collection[str] = ()) -> list[Record]:
    """Images of the training file, sorted by name. An image without annotations has none of the classes.

    Args:
        without: names of images to leave out.

    Raises:
        DataError: a file is missing or is not COCO JSON, names an unknown class, or has a shape that cannot be used.
    """
    options = options_of(data)
    path = root_of(data) / options.train
    entries = _read(path, data, without)
    if data.skip_unlabelled:
        entries = {name: entry for name, entry in entries.items() if entry.shapes}
    return [record._replace(labels=path) for record in _records(path, entries, data)]


def train_names(data: Data) -> set[str]:
    """Names of all images of the training file."""
    return set(gather(root_of(data) / options_of(data).train, data).entries)


def test_records(path: Path, data: Data) -> list[Record]:
    """Images of a test file, sorted by name, without annotations."""
    return _records(path, _read(path, data, annotated=False), data)


def ground_truth(path: Path, data: Data, images: Sequence[str]) -> dict[str, Record]:
    """Records of all images of a COCO file by name, whose files need not exist.

    Raises:
        DataError: of the first entry that cannot be used.
    """
    found = gather(path, data)
    if found.problems:
        raise DataError(found.problems[0].text)
    patients = {name: group_of(name, entry, path, options_of(data)) for name, entry in found.entries.items()}
    return {name: Record(name, patient, Path(name), path) for name, patient in patients.items()}


def planes(record: Record, data: Data, grid: Grid) -> np.ndarray:
    """Truth of a record as bit-planes uint8[side, side, P], 0 outside the image."""
    from pycocotools import mask as api

    assert record.labels is not None
    entry = gather(record.labels, data).entries[record.name]
    result = np.zeros((grid.side, grid.side, plane_count(len(data.classes))), np.uint8)
    rows, columns = grid.content
    height, width = entry.size or (grid.height, grid.width)
    grid.same_frame((height, width), f"{record.labels}: {record.name}")
    scale = grid.scale * np.array([grid.width / width, grid.height / height])
    for label, shape, where in entry.shapes:
        bit, plane = np.uint8(1 << label % 8), result[:rows, :columns, label // 8]
        if isinstance(shape, dict):
            mask = decode(shape, where)
            grid.same_frame(mask.shape, where)
            plane |= grid.sample(mask) * bit
            continue
        for flat in shape:
            points = (np.asarray(flat, float).reshape(-1, 2) * scale).ravel().tolist()
            runs = api.frPyObjects([points], rows, columns)[0]
            x, y, w, h = (int(value) for value in api.toBbox(runs))
            box = np.s_[y : y + h, x : x + w]
            plane[box] |= api.decode(runs)[box] * bit
    return result


def check(record: Record, data: Data) -> None:
    """Raises DataError if a mask of the record cannot be decoded; the rest was checked when the file was read."""
    assert record.labels is not None
    for _, shape, where in gather(record.labels, data).entries[record.name].shapes:
        if isinstance(shape, dict):
            decode(shape, where)


def _records(path: Path, entries: dict[str, Entry], data: Data) -> list[Record]:
    options, folder = options_of(data), root_of(data) / options_of(data).images
    records = []
    for name, entry in entries.items():
        image = folder / entry.about["file_name"]
        if not image.is_file():
            raise DataError(
                f"{image}: no such image, but {path.name} lists it; add it, or correct data.coco.images (the folder "
                "that file_name is relative to)"
            )
        records.append(Record(name, group_of(name, entry, path, options), image, None))
    return some(sorted(records), f"{path}: no image{' with annotations' if data.skip_unlabelled else ''}")


def group_of(name: str, entry: Entry, path: Path, options: Coco) -> str:
    """The patient of an image. Raises DataError if the file does not name it."""
    file = Path(entry.about["file_name"])
    if options.group == "image":
        return file.stem
    if options.group == "folder":
        if not file.parent.name:
            raise DataError(
                f"{path}: file_name {entry.about['file_name']!r} has no folder that names the patient; name a "
                "key of the images with data.coco.group=KEY, or use data.coco.group=image: each its own patient"
            )
        return file.parent.name
    if options.group not in entry.about:
        raise DataError(
            f"{path}: image {name} has no key {options.group!r} (data.coco.group)"
            f"{nearest(options.group, [*entry.about, 'folder', 'image'])}"
        )
    return str(entry.about[options.group])


def _read(path: Path, data: Data, without: Collection[str] = (), annotated: bool = True) -> dict[str, Entry]:
    """The entries of a COCO file by image name. Raises DataError for the first problem of an image not left out."""
    found = gather(path, data, annotated)
    for problem in found.problems:
        if problem.image not in without:
            raise DataError(problem.text)
    return {name: entry for name, entry in found.entries.items() if name not in without}


def gather(path: Path, data: Data, annotated: bool = True) -> Gathered:
    """Reads a COCO file, once per process.

    Raises:
        DataError: the file is missing or is not COCO JSON.
    """
    try:
        state = path.stat()
    except OSError:
        raise DataError(f"{path}: no such COCO file; data.coco.train and data.coco.test name them") from None
    return _parse(path, (state.st_mtime_ns, state.st_size), tuple(data.classes), annotated)


@lru_cache(maxsize=8)
def _parse(path: Path, state: tuple[int, int], classes: tuple[str, ...], annotated: bool) -> Gathered:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        images = values["images"]
        annotations = values["annotations"] if annotated else []
        categories = {item["id"]: item["name"] for item in values["categories"]} if annotated else {}
        names = {image["id"]: Path(image["file_name"]).name for image in images}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a COCO file ({type(error).__name__}: {error}); expected JSON with images (id, file_name), "
            "annotations (image_id, category_id, segmentation) and categories (id, name)"
        ) from None
    problems: list[Problem] = []
    entries: dict[Any, Entry] = {}  # by id
    taken: dict[str, Any] = {}
    for image in images:
        name = Path(image["file_name"]).name
        if image["id"] in entries:
            text = f"{path}: two images have the same id; give each its own"
            problems.append(Problem("same-id", text, name))
        elif name in taken:
            problems.append(
                Problem("doubled-name", f"{path}: two images have the name {name}; rename one of them", name)
            )
        else:
            taken[name] = image["id"]
            size = None
            try:
                size = _size(path, image)
            except DataError as error:
                problems.append(Problem("bad-size", str(error), name))
            entries[image["id"]] = Entry(image, size, [])
    number = {name: i for i, name in enumerate(classes)}
    for row, item in enumerate(annotations):
        key = item.get("image_id") if isinstance(item, dict) else None
        spoilt = names.get(key, "") if isinstance(key, int | str) else ""
        try:
            label, shape, where = _shape(item, f"{path}: annotation {row}", names, categories, number)
        except _BadShape as error:
            problems.append(Problem(error.kind, str(error), spoilt))
            continue
        if item["image_id"] in entries:
            entries[item["image_id"]].shapes.append((label, shape, where))
    found = {name: entries[key] for name, key in taken.items()}
    return Gathered(found, problems, list(categories.values()))


class _BadShape(DataError):
    """An annotation that cannot be used, and what kind of problem that is."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _shape(
    item: Any, where: str, images: Collection[Any], categories: dict[Any, str], number: dict[str, int]
) -> tuple[int, Segmentation, str]:
    """Class, segmentation and place of one annotation."""
    if not isinstance(item, dict) or not {"image_id", "category_id", "segmentation"} <= set(item):
        text = f"{where}: needs the keys image_id, category_id and segmentation; correct or remove it"
        raise _BadShape("bad-annotation", text)
    where = f"{where} (id {item.get('id')}, image {item['image_id']})"
    if not isinstance(item["image_id"], int | str) or item["image_id"] not in images:
        raise _BadShape("no-image", f"{where}: no image has that id; correct or remove it")
    name = categories.get(item["category_id"]) if isinstance(item["category_id"], int | str) else None
    if name is None or name not in number:
        known = nearest(str(name), number)
        what = f"unknown class {name!r}" if name is not None else f"no category has the id {item['category_id']}"
        raise _BadShape("unknown-label", f"{where}: {what}{known}. Correct it, or add the class to data.classes")
    try:
        return number[name], _segmentation(item["segmentation"], where), where
    except DataError as error:
        raise _BadShape("bad-polygon", str(error)) from None


def _size(path: Path, image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width that the points refer to, if the file contains them."""
    if "height" not in image or "width" not in image:
        return None
    size = image["height"], image["width"]
    if not all(isinstance(value, int) and value > 0 for value in size):
        raise DataError(f"{path}: image {image['file_name']}: height and width must be whole numbers above 0")
    return size


def _segmentation(value: Any, where: str) -> Segmentation:
    """A segmentation that can be rasterised. Raises DataError for anything else."""
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        whole = isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
        if not whole or not isinstance(counts, str | list):
            raise DataError(f"{where}: an RLE needs size [height, width] and counts; correct or remove it")
        assert isinstance(size, list)
        if isinstance(counts, list) and (
            not all(isinstance(n, int) and n >= 0 for n in counts) or sum(counts) != size[0] * size[1]
        ):
            raise DataError(f"{where}: the RLE's counts do not add up to {size[0]} x {size[1]}; make it again")
        return value
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: has no segmentation; draw it, or remove the annotation")
    for flat in value:
        try:
            points = np.asarray(flat)
            if points.dtype.kind not in "iuf" or points.ndim != 1 or len(points) % 2:
                raise ValueError
            if not np.isfinite(points).all():
                raise ValueError
        except ValueError:
            raise DataError(f"{where}: a polygon must be a list of numbers [x, y, x, y, ...]") from None
        if len(points) < 6:
            raise DataError(f"{where}: a polygon of {len(points) // 2} points has no area; redraw or remove it")
        if np.abs(points).max() > MAX_COORDINATE:
            raise DataError(f"{where}: a point is {np.abs(points).max():g} pixels away; correct it")
    return value
