"""The ground truth of boxes from annotations, to be scored against, without the images themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import DetectData
from ..errors import DataError
from ..runtime.sidecar import Size
from ..submission.boxes import BoxSubmission
from .label_table import keys_of
from .layouts import LAYOUTS
from .objects import box_truth, shapes_of


def read_box_truth(place: Path, data: DetectData, sizes: Mapping[str, Size], *, partial: bool = False) -> BoxSubmission:
    """Boxes of a folder of polygon JSON or of a COCO file.

    Args:
        place: the folder that contains those of the patients, or the file; which it is, ``data.layout`` defines.
        sizes: (height, width) of the images by name, as a submission's sidecar records them.
        partial: ignore the truth of other images instead of refusing it.

    Raises:
        DataError: an image without truth, or truth without image; an annotation that cannot be used.
    """
    layout = LAYOUTS[data.layout]
    found = layout.ground_truth(place, data, list(sizes))
    if lacking := next((image for image in sizes if image not in found), None):
        raise DataError(f"{place}: has no ground truth for {lacking} (expected {layout.expected})")
    if (others := found.keys() - sizes.keys()) and not partial:
        raise DataError(
            f"{place}: {len(others)} image(s) with ground truth are not in the submission, such as {min(others)}; "
            "predict them too, or score what is there with partial=true"
        )
    records = [found[image]._replace(name=image) for image in sizes]
    return box_truth(records, data, [shapes_of(record, data, sizes[record.name]) for record in records])


def with_endings(truth: BoxSubmission, images: Sequence[str]) -> BoxSubmission:
    """The same with the names that ``images`` have: many tables leave their endings out."""
    names = {key: name for name, key in keys_of(set(truth.images), images).items()}
    return replace(
        truth, images=tuple(names.get(image, image) for image in truth.images),
        patients={names.get(image, image): patient for image, patient in truth.patients.items()},
        sizes={names.get(image, image): size for image, size in truth.sizes.items()},
    )  # fmt: skip
