"""Truth as a submission: masks at the original size, to be scored against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..config import SegmentData
from ..errors import DataError
from ..masks.stack import Stack
from ..submission.table import Submission
from .images import Grid, image_size
from .layouts import LAYOUTS, truth
from .records import Record


def truth_of(records: Sequence[Record], data: SegmentData, name: str = "truth") -> Submission:
    """The annotations of records as masks at their images' sizes, in the order of the data config's classes."""
    stacks, sizes = {}, {}
    for record in records:
        if record.labels is None:
            raise DataError(f"{record.image}: has no annotation to score against")
        shape = image_size(record.image)
        planes = planes_of(record, data, shape)
        stacks[record.name], sizes[record.name] = Stack.of_planes(planes, len(data.classes)), shape
    return Submission.of(stacks, data.classes, sizes, name)


def planes_of(record: Record, data: SegmentData, shape: tuple[int, int]) -> np.ndarray:
    """Truth of a record as bit-planes uint8[H, W, P] at its image's size ``shape``, in whatever layout."""
    planes = truth(record, data, Grid(*shape, max(shape)))
    return np.ascontiguousarray(planes[: shape[0], : shape[1]])


def read_truth(
    place: Path, data: SegmentData, sizes: dict[str, tuple[int, int]], *, partial: bool = False
) -> tuple[Submission, dict[str, str]]:
    """Truth from a folder of polygon JSON, a COCO file or a folder of PNG masks, without the images themselves.

    Args:
        place: for polygons and masks, the folder that contains those of the patients; which it is, ``data.layout``
            defines.
        sizes: (height, width) of the images by name, as a submission's sidecar records them.
        partial: ignore the truth of other images instead of refusing it.

    Returns:
        The truth, and the patient of each image.

    Raises:
        DataError: an image without truth, or truth without image, since a mean over fewer images than asked for is
            another score.
    """
    layout = LAYOUTS[data.layout]
    found = layout.ground_truth(place, data, list(sizes))
    stacks, patients = {}, {}
    for image, shape in sizes.items():
        record = found.pop(image, None)
        if record is None:
            raise DataError(f"{place}: has no ground truth for {image} (expected {layout.expected})")
        stacks[image] = Stack.of_planes(planes_of(record, data, shape), len(data.classes))
        patients[image] = record.group
    if found and not partial:
        raise DataError(
            f"{place}: {len(found)} image(s) with ground truth are not in the submission, such as {min(found)}; "
            "predict them too, or score what is there with partial=true"
        )
    return Submission.of(stacks, data.classes, sizes, str(place)), patients
