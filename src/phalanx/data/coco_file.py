"""A COCO file as others wrote it: entries by image, whatever is wrong with them as problems, none passed over.

Ids may be numbers or text, also mixed. What could mean two things is a problem and is never decided by order.
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ..config import nearest
from ..errors import DataError, brief
from ..runtime.reading import LARGE, fault, read_json
from ..runtime.spelling import nfc
from .coco_rle import runs, size_of
from .polygons import MAX_COORDINATE, class_index

Segmentation = list[list[float]] | dict[str, Any]
EXPECTED = (
    "expected JSON with images (id, file_name), annotations (image_id, category_id, segmentation) and categories "
    "(id, name)"
)
MAX_NAME = 255  # bytes of a file's name on the usual disks
CONTROL = re.compile("[\x00-\x1f\x7f]")
MAX_WORD = 100  # characters of a class for which a similar one is looked for


class Entry(NamedTuple):
    """One image of a COCO file: its own keys, and its (class, segmentation, place in the file)."""

    about: dict[str, Any]
    size: tuple[int, int] | None  # height, width
    shapes: list[tuple[int, Segmentation, str]]

    @property
    def file(self) -> PurePosixPath:
        """Its file_name, with the backslashes of Windows as slashes."""
        return file_of(self.about["file_name"])


class Problem(NamedTuple):
    """A part of a COCO file that cannot be used. ``image``: name of the image it makes unusable, or empty."""

    kind: str
    text: str
    image: str


class Gathered(NamedTuple):
    """A COCO file: usable entries by image name, all problems, the names of its categories, and notes."""

    entries: dict[str, Entry]
    problems: list[Problem]
    categories: list[str]
    notes: list[str]


class _BadShape(DataError):
    """An annotation that cannot be used, and what kind of problem that is."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def key_of(value: Any) -> str | None:
    """An id as text, the same for 1, 1.0 and "1"; None if it is not an id.

    >>> [key_of(value) for value in (1, 1.0, "1", "a", None, "", True, 0.5, [1])]
    ['1', '1', '1', 'a', None, None, None, None, None]
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return nfc(value) or None
    return str(value) if type(value) is int else None


def file_of(file_name: str) -> PurePosixPath:
    """The relative path of a file_name, which may have been written on Windows."""
    return PurePosixPath(file_name if "/" in file_name else file_name.replace("\\", "/"))


def gather(path: Path, data_classes: tuple[str, ...], annotated: bool = True, boxes: bool = False) -> Gathered:
    """Reads a COCO file, once per process.

    Args:
        boxes: an annotation may have a bbox and no segmentation, and its shape is then ``{"bbox": [x, y, w, h]}``;
            crowds (``iscrowd``) are left out, as they are not one object.

    Raises:
        DataError: the file is missing or is not COCO JSON.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        raise DataError(f"{path}: no such COCO file; data.coco.train and data.coco.test name them") from None
    return _parse(path, (state.st_mtime_ns, state.st_size), data_classes, annotated, boxes)


@lru_cache(maxsize=8)
def _parse(path: Path, state: tuple[int, int], classes: tuple[str, ...], annotated: bool, boxes: bool) -> Gathered:
    values = read_json(path, LARGE, EXPECTED, finite=False)  # an entry's numbers are checked with it
    if not isinstance(values, dict):
        raise fault(path, "not a COCO file (it is not a mapping)", EXPECTED)
    images, annotations, categories = (
        _entries(path, values, key) if annotated or key == "images" else []
        for key in ("images", "annotations", "categories")
    )
    gathered = Gathered({}, [], [], [])
    by_id = _images(path, images, gathered)
    names = _categories(path, categories, gathered)
    gathered.categories.extend(dict.fromkeys(name for found in names.values() for name in found))
    number, ids = class_index(classes), Counter[str]()
    named = [(str(entry.about["file_name"]), entry.file) for entry in gathered.entries.values()]
    windows = [(name, file) for name, file in named if "\\" in name and "\\" not in str(file)]
    if windows:
        text = f"{len(windows)} file_name(s) have backslashes; {windows[0][0]} is read as {windows[0][1]}"
        gathered.notes.append(text)
    for row, item in enumerate(annotations):
        where = f"{path}: annotation {row}"
        if boxes and isinstance(item, dict) and item.get("iscrowd"):
            continue
        owners = by_id.get(key_of(item.get("image_id")) or "", []) if isinstance(item, dict) else []
        try:
            label, shape, where = _shape(item, where, owners, names, number, boxes)
        except _BadShape as error:
            gathered.problems.append(Problem(error.kind, str(error), owners[0] if owners else ""))
            continue
        ids[key_of(item.get("id")) or ""] += 1
        if len(owners) == 1 and owners[0] in gathered.entries:  # of several, each has a problem already
            gathered.entries[owners[0]].shapes.append((label, shape, where))
    repeated = [name for name, count in ids.items() if name and count > 1]
    if repeated:
        text = f"{len(repeated)} id(s) are those of several annotations, such as {brief(repeated[0])}; all are used"
        gathered.notes.append(text)
    return gathered


def _entries(path: Path, values: dict[str, Any], key: str) -> list[Any]:
    """One of the lists of a COCO file."""
    found = values.get(key)
    if not isinstance(found, list):
        kind = f"{key!r} is {brief(found)}, not a list" if key in values else f"it has no {key!r}"
        raise fault(path, f"not a COCO file ({kind})", EXPECTED)
    return found


def _images(path: Path, images: list[Any], gathered: Gathered) -> dict[str, list[str]]:
    """Adds the images; returns the names of those with each id, of which there should be one."""
    by_id: dict[str, list[str]] = {}
    for row, image in enumerate(images):
        problem = _image_problem(image)
        if problem:
            gathered.problems.append(Problem("bad-image", f"{path}: image {row}: {problem}; correct or remove it", ""))
            continue
        key, name = str(key_of(image["id"])), nfc(file_of(image["file_name"]).name)
        if name in gathered.entries:
            text = f"{path}: two images have the name {name}; rename one of them"
            gathered.problems.append(Problem("doubled-name", text, name))
            if name not in by_id.setdefault(key, []):
                by_id[key].append("")  # its annotations are not those of the first
            continue
        others = by_id.setdefault(key, [])
        others.append(name)
        if len(others) > 1:
            text = f"{path}: two images have the same id {brief(image['id'])} ({others[0]}, {name}); give each its own"
            gathered.problems.extend(Problem("same-id", text, one) for one in (others[0], name))
        size = None
        try:
            size = _size(path, image)
        except DataError as error:
            gathered.problems.append(Problem("bad-size", str(error), name))
        gathered.entries[name] = Entry(image, size, [])
    return by_id


def _image_problem(image: Any) -> str:
    """What is wrong with the entry of an image, in words."""
    if not isinstance(image, dict):
        return f"{brief(image)} is not a mapping with id and file_name"
    if key_of(image.get("id")) is None:
        return f"the id {brief(image.get('id'))} is neither a number nor text"
    name = image.get("file_name")
    if not isinstance(name, str) or CONTROL.search(name):
        return f"the file_name {brief(name)} is not a file name"
    parts = file_of(name).parts
    if not parts or parts[-1] in ("/", "..") or max(len(part.encode()) for part in parts) > MAX_NAME:
        return f"the file_name {brief(name)} is not a file name"
    return ""


def _size(path: Path, image: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width that the points refer to, if the file contains them."""
    height, width = image.get("height"), image.get("width")
    if height is None or width is None:
        return None
    sides = [int(side) if isinstance(side, float) and side.is_integer() else side for side in (height, width)]
    if not all(type(side) is int and 0 < side <= MAX_COORDINATE for side in sides):
        raise DataError(
            f"{path}: image {brief(image['file_name'])}: height and width must be whole numbers above 0, not "
            f"{brief(height)} and {brief(width)}"
        )
    return sides[0], sides[1]


def _categories(path: Path, categories: list[Any], gathered: Gathered) -> dict[str, list[str]]:
    """Names of the categories by id, of which there should be one."""
    names: dict[str, list[str]] = {}
    first: dict[str, tuple[str, Any]] = {}
    for row, item in enumerate(categories):
        key = key_of(item.get("id")) if isinstance(item, dict) else None
        if key is None or not isinstance(item.get("name"), str):
            text = f"{path}: category {row}: {brief(item)} needs an id and a name; correct or remove it"
            gathered.problems.append(Problem("bad-category", text, ""))
            continue
        name, above = nfc(item["name"]), item.get("supercategory")
        found = names.setdefault(key, [])
        if found and name not in found:
            text = (
                f"{path}: two categories have the same id {brief(item['id'])} ({brief(found[0])}, {brief(name)}); give "
                "each its own"
            )
            gathered.problems.append(Problem("doubled-category", text, ""))
        other, other_above = first.setdefault(name, (key, above))
        if other != key and above and other_above and above != other_above:
            text = (
                f"{path}: two categories have the name {brief(name)}, one of {brief(other_above)} and one of "
                f"{brief(above)}; give each a name of its own"
            )
            gathered.problems.append(Problem("doubled-category", text, ""))
        elif other != key:
            ids = f"{brief(other)} and {brief(key)}"
            gathered.notes.append(f"the categories {ids} have the same name {brief(name)} and are one class")
        if name not in found:
            found.append(name)
    return names


def _shape(
    item: Any, where: str, owners: list[str], categories: Mapping[str, list[str]], number: dict[str, int], boxes: bool
) -> tuple[int, Segmentation, str]:
    """Class, segmentation and place of one annotation.

    Args:
        owners: names of the images with its image_id.
    """
    boxed = boxes and isinstance(item, dict) and not item.get("segmentation")
    drawing = "bbox" if boxed else "segmentation"
    if not isinstance(item, dict) or not {"image_id", "category_id", drawing} <= set(item):
        text = f"{where}: needs the keys image_id, category_id and {drawing}; correct or remove it"
        raise _BadShape("bad-annotation", text)
    where = f"{where} (id {_plain(item.get('id'))}, image {_plain(item['image_id'])})"
    if not owners:
        raise _BadShape("no-image", f"{where}: no image has that id; correct or remove it")
    found = categories.get(key_of(item["category_id"]) or "", [])
    if len(found) > 1:
        raise _BadShape("unknown-label", f"{where}: its category means {brief(found[0])} and {brief(found[1])}")
    if not found or found[0] not in number:
        what = f"no category has the id {_plain(item['category_id'])}"
        known = _nearest(found[0][:MAX_WORD] if found else str(None), tuple(number))
        if found:
            what = f"unknown class {brief(found[0])}"
        raise _BadShape("unknown-label", f"{where}: {what}{known}. Correct it, or add the class to data.classes")
    try:
        shape: Segmentation = _bbox(item["bbox"], where) if boxed else _segmentation(item["segmentation"], where)
        return number[found[0]], shape, where
    except DataError as error:
        raise _BadShape("bad-polygon", str(error)) from None


@lru_cache(maxsize=256)  # a wrong name is mostly that of many annotations
def _nearest(word: str, known: tuple[str, ...]) -> str:
    return nearest(word, known)


def _plain(value: Any) -> str:
    """An id for a message."""
    return str(value) if isinstance(value, int | float) else brief(value)


def _bbox(value: Any, where: str) -> dict[str, Any]:
    """A box as a shape. Raises DataError for anything that is not four numbers with a width and height above 0."""
    plain = isinstance(value, list) and len(value) == 4 and all(type(one) in (int, float) for one in value)
    if not plain or not np.isfinite(value).all() or np.abs(value).max() > MAX_COORDINATE:
        raise DataError(f"{where}: bbox {brief(value)} is not four numbers, x, y, width and height; correct it")
    if min(value[2:]) <= 0:
        raise DataError(f"{where}: bbox {brief(value)} has no area; correct or remove the annotation")
    return {"bbox": [float(one) for one in value]}


def _segmentation(value: Any, where: str) -> Segmentation:
    """A segmentation that can be rasterised. Raises DataError for anything else."""
    if isinstance(value, dict):
        size_of(value, where)
        if isinstance(value["counts"], list):
            runs(value, where)
        return value
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: has no segmentation; draw it, or remove the annotation")
    for flat in value:
        try:
            points = np.asarray(flat)
            if points.dtype.kind not in "iuf" or points.ndim != 1 or len(points) % 2:
                raise ValueError
            points = points.astype(np.float64)
            if not np.isfinite(points).all():
                raise ValueError
        except ValueError:
            raise DataError(f"{where}: a polygon must be a list of numbers [x, y, x, y, ...]") from None
        if len(points) < 6:
            raise DataError(f"{where}: a polygon of {len(points) // 2} points has no area; redraw or remove it")
        if np.abs(points).max() > MAX_COORDINATE:
            raise DataError(f"{where}: a point is {np.abs(points).max():g} pixels away; correct it")
    return value
