"""F1 at an IoU of masks in a submission."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..config.f1_iou import F1AtIoU
from ..submission.matching import check_matching, known_sizes
from ..submission.table import Submission
from .f1_iou import F1IoU, f1_of_masks
from .mask_counts import MaskCounts, counts_of_stacks


def f1_of_submissions(
    submission: Submission, truth: Submission, rules: Sequence[F1AtIoU], patients: Mapping[str, str] | None = None
) -> list[F1IoU]:
    """F1 of a submission by each rule.

    Args:
        patients: image to patient; by default each image is a patient of its own.

    Raises:
        ConfigError: a class of a rule that does not exist, ``both: most_confident``, which masks cannot have.
        DataError: images, classes or known sizes differ.
    """
    check_matching([submission, truth])
    sizes, ordered, rows = known_sizes([submission, truth]), submission.reorder(truth.classes), []
    for image in truth.images:
        size = sizes.get(image)
        stacks = truth.stack(image, size), ordered.stack(image, size)
        rows.append(counts_of_stacks(*stacks, size[0] * size[1] if size else None))
    counts = MaskCounts(*(np.stack(side) for side in zip(*rows, strict=True)))
    of = None if patients is None else [patients[image] for image in truth.images]
    return [f1_of_masks(submission.name, rule, truth.classes, truth.images, counts, of) for rule in rules]
