"""IoU of each class over the pixels of all images together, background among them, as segmentation tables report it."""

import numpy as np

from ..config.loss import BACKGROUND
from ..errors import DataError
from ..masks import rle
from ..masks.stack import any_class, shared_areas
from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission


def pooled_iou(submission: Submission, truth: Submission) -> dict[str, float]:
    """IoU by class, |A and B| / |A or B| of the pixels of all images; 1 for a class that neither has.

    Background is all that no class has.

    Raises:
        DataError: images, classes or known sizes differ, a size is not known, or a row is wrong.
    """
    check_matching([submission, truth])
    sizes, ordered = known_sizes([submission, truth]), submission.reorder(truth.classes)
    if unsized := [image for image in truth.images if image not in sizes]:
        raise DataError(
            f"{submission.name}: the size of {unsized[0]} is not known, which background needs; give size=HxW"
        )
    shared, either = np.zeros(1 + len(truth.classes)), np.zeros(1 + len(truth.classes))
    for image in truth.images:
        pixels = sizes[image][0] * sizes[image][1]
        one, other = ordered.stack(image, sizes[image]), truth.stack(image, sizes[image])
        own = shared_areas(one, other)
        shared[1:] += own
        either[1:] += one.areas + other.areas - own
        ours, theirs = any_class(one), any_class(other)
        both = rle.area(rle.intersection(ours, theirs))
        shared[0] += pixels - (rle.area(ours) + rle.area(theirs) - both)
        either[0] += pixels - both
    found = np.divide(shared, either, out=np.ones(len(shared)), where=either > 0)
    return dict(zip([BACKGROUND, *truth.classes], found.tolist(), strict=True))
