"""F1 at an IoU of masks in a submission."""

from collections.abc import Mapping, Sequence

from ..config.f1_iou import F1AtIoU
from ..submission.table import Submission
from .f1_iou import F1IoU, f1_of_masks
from .submission_counts import counts_of_submissions


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
    counts = counts_of_submissions(submission, truth)
    of = None if patients is None else [patients[image] for image in truth.images]
    return [f1_of_masks(submission.name, rule, truth.classes, truth.images, counts, of) for rule in rules]
