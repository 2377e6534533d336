"""IoU of each class over the pixels of all images together, background among them, as segmentation tables report it."""

import numpy as np

from ..config.loss import BACKGROUND
from ..errors import DataError
from ..submission.table import Submission
from .submission_counts import counts_of_submissions


def pooled_iou(submission: Submission, truth: Submission) -> dict[str, float]:
    """IoU by class, |A and B| / |A or B| of the pixels of all images; 1 for a class that neither has.

    Background is all that no class has.

    Raises:
        DataError: images, classes or known sizes differ, a size is not known, or a row is wrong.
    """
    counts = counts_of_submissions(submission, truth)
    if unsized := np.flatnonzero(np.isnan(counts.truth[:, -1])).tolist():
        raise DataError(
            f"{submission.name}: the size of {truth.images[unsized[0]]} is not known, which background needs; "
            "give size=HxW"
        )
    found = np.nan_to_num(counts.pooled_iou, nan=1.0).tolist()
    return dict(zip([BACKGROUND, *truth.classes], [found[-1], *found[:-1]], strict=True))
