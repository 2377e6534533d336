"""Truth as a submission: masks at the original size, to be scored against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import Data
from ..errors import DataError
from ..submit.rle import encode_planes
from ..submit.table import Submission
from .images import Grid, image_size
from .layouts import truth
from .polygons import rasterise, read_annotations
from .records import SUFFIXES, Record


def truth_of(records: Sequence[Record], data: Data, name: str = "truth") -> Submission:
    """The annotations of records as masks at their images' sizes, in the order of the data config's classes."""
    rles, sizes = {}, {}
    for record in records:
        if record.labels is None:
            raise DataError(f"{record.image}: has no annotation to score against")
        shape = image_size(record.image)
        planes = planes_of(record, data, shape)
        rles[record.name], sizes[record.name] = encode_planes(planes, len(data.classes)), shape
    return Submission.of(rles, data.classes, sizes, name)


def planes_of(record: Record, data: Data, shape: tuple[int, int]) -> np.ndarray:
    """Truth of a record as bit-planes uint8[H, W, P] at its image's size ``shape``, in whatever layout."""
    planes = truth(record, data, Grid(*shape, max(shape)))
    return np.ascontiguousarray(planes[: shape[0], : shape[1]])


def answers(
    folder: Path, classes: Sequence[str], sizes: dict[str, tuple[int, int]], *, partial: bool = False
) -> tuple[Submission, dict[str, str]]:
    """Truth from a folder of polygon JSON, ``<folder>/<patient>/<image>.json``, and the patient of each image.

    Args:
        sizes: (height, width) of the images by name, as a submission's sidecar tells them.
        partial: answers to other images are passed over instead of refused.

    Raises:
        DataError: an image without answer, or answers without image, since a mean over fewer images than asked
            for is another score.
    """
    by_stem: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.stem in by_stem:
            raise DataError(f"{path}: answers for {path.stem} also stand at {by_stem[path.stem]}")
        by_stem[path.stem] = path
    rles, patients = {}, {}
    for image, shape in sizes.items():
        stem = image.rsplit(".", 1)[0] if image.lower().endswith(SUFFIXES) else image
        if stem not in by_stem:
            raise DataError(f"{folder}: has no answers for {image} (expected <patient>/{stem}.json)")
        path = by_stem.pop(stem)
        planes = rasterise(read_annotations(path, classes), shape, len(classes))
        rles[image], patients[image] = encode_planes(planes, len(classes)), path.parent.name
    if by_stem and not partial:
        raise DataError(
            f"{folder}: {len(by_stem)} answered images are not in the submission, such as {min(by_stem)}; predict "
            "them too, or score what is there with --partial"
        )
    return Submission.of(rles, classes, sizes, str(folder)), patients
