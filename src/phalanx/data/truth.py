"""Truth as a submission: masks at the original size, to be scored against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import Coco, Data, Masks
from ..errors import DataError
from ..masks.stack import Stack
from ..submission.table import Submission
from . import coco
from .images import Grid, image_size
from .layouts import truth
from .records import SUFFIXES, Record


def truth_of(records: Sequence[Record], data: Data, name: str = "truth") -> Submission:
    """The annotations of records as masks at their images' sizes, in the order of the data config's classes."""
    stacks, sizes = {}, {}
    for record in records:
        if record.labels is None:
            raise DataError(f"{record.image}: has no annotation to score against")
        shape = image_size(record.image)
        planes = planes_of(record, data, shape)
        stacks[record.name], sizes[record.name] = Stack.of_planes(planes, len(data.classes)), shape
    return Submission.of(stacks, data.classes, sizes, name)


def planes_of(record: Record, data: Data, shape: tuple[int, int]) -> np.ndarray:
    """Truth of a record as bit-planes uint8[H, W, P] at its image's size ``shape``, in whatever layout."""
    planes = truth(record, data, Grid(*shape, max(shape)))
    return np.ascontiguousarray(planes[: shape[0], : shape[1]])


def answers(
    place: Path, data: Data, sizes: dict[str, tuple[int, int]], *, partial: bool = False
) -> tuple[Submission, dict[str, str]]:
    """Truth from a folder of polygon JSON, a COCO file or a folder of PNG masks, without the images themselves.

    Args:
        place: of polygons and masks, the folder that holds those of the patients; which it is, ``data.layout`` says.
        sizes: (height, width) of the images by name, as a submission's sidecar tells them.
        partial: answers to other images are passed over instead of refused.

    Returns:
        The truth, and the patient of each image.

    Raises:
        DataError: an image without answer, or answers without image, since a mean over fewer images than asked
            for is another score.
    """
    found = {"competition": _polygons, "coco": _coco, "masks": _masks}[data.layout](place, data, list(sizes))
    stacks, patients = {}, {}
    for image, shape in sizes.items():
        record = found.pop(image, None)
        if record is None:
            raise DataError(f"{place}: has no answers for {image}{HINTS[data.layout]}")
        stacks[image] = Stack.of_planes(planes_of(record, data, shape), len(data.classes))
        patients[image] = record.group
    if found and not partial:
        raise DataError(
            f"{place}: {len(found)} answered images are not in the submission, such as {min(found)}; predict "
            "them too, or score what is there with partial=true"
        )
    return Submission.of(stacks, data.classes, sizes, str(place)), patients


HINTS = {
    "competition": " (expected <patient>/<image>.json)",
    "coco": " (no image of that file_name)",
    "masks": " (expected <patient>/<image>.png, or <patient>/<image>/<class>.png with data.masks.kind=classes)",
}


def _stem(image: str) -> str:
    return image.rsplit(".", 1)[0] if image.lower().endswith(SUFFIXES) else image


def _polygons(place: Path, data: Data, images: list[str]) -> dict[str, Record]:
    """Records by image name; by stem, those of images not asked for."""
    return _by_stem(place, images, sorted(place.rglob("*.json")))


def _coco(place: Path, data: Data, images: list[str]) -> dict[str, Record]:
    found = coco.gather(place, data)
    if found.problems:
        raise DataError(found.problems[0].text)
    options = data.coco or Coco()
    return {
        name: Record(name, coco.group_of(name, entry, place, options), Path(name), place)
        for name, entry in found.entries.items()
    }


def _masks(place: Path, data: Data, images: list[str]) -> dict[str, Record]:
    paths = sorted(place.rglob("*.png"))
    options = data.masks or Masks()
    if options.kind == "classes":
        known = {_stem(image) for image in images}
        stems = set()
        for path in paths:
            cuts = [i for i, letter in enumerate(path.stem) if letter == "_"]
            beside = [path.with_name(path.stem[:i]) for i in cuts if path.stem[i + 1 :] in data.classes]
            inside = [path.parent] if path.stem in data.classes else []
            stems |= {stem for stem in [*inside, *beside] if stem.name in known}
        paths = sorted(stems)
    single = options.group == "image"
    found = _by_stem(place, images, paths, with_suffix=options.kind == "labels")
    for name, record in found.items():
        if not single and record.labels is not None and record.labels.parent == place:
            raise DataError(
                f"{record.labels}: lies in no folder that names its patient; say with data.masks.group=image that "
                "each image is a patient of its own"
            )
        found[name] = record._replace(group=_stem(name)) if single else record
    return found


def _by_stem(place: Path, images: list[str], paths: list[Path], *, with_suffix: bool = True) -> dict[str, Record]:
    """Records of the files or stems found, by the name of the image they answer, or else their own stem."""
    named = {_stem(image): image for image in images}
    found: dict[str, Record] = {}
    for path in paths:
        stem = path.stem if with_suffix else path.name
        name = named.get(stem, stem)
        if name in found:
            raise DataError(f"{path}: answers for {stem} also stand at {found[name].labels}")
        found[name] = Record(name, path.parent.name, path, path)
    return found
