"""Pixels of the masks of a submission and its ground truth, image by image."""

import numpy as np

from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission
from .mask_counts import MaskCounts, counts_of_stacks


def counts_of_submissions(submission: Submission, truth: Submission) -> MaskCounts:
    """Counts float64[N, C + 1] of the images and classes in the order of the truth; the background of an image whose
    size is not known is NaN.

    Raises:
        DataError: images, classes or known sizes differ, or a row is wrong.
    """
    check_matching([submission, truth])
    sizes, ordered, rows = known_sizes([submission, truth]), submission.reorder(truth.classes), []
    for image in truth.images:
        size = sizes.get(image)
        stacks = truth.stack(image, size), ordered.stack(image, size)
        rows.append(counts_of_stacks(*stacks, size[0] * size[1] if size else None))
    return MaskCounts(*(np.stack(side) for side in zip(*rows, strict=True)))
