"""Scoring a CSV against answers, whichever form they come in. Imports no torch, so it starts at once."""

from pathlib import Path

from .data.truth import answers
from .errors import ConfigError, DataError
from .submit.score import Score, score
from .submit.table import Submission


def score_file(file: Path, truth_place: Path, pairs: dict[str, str], *, partial: bool = False) -> Score:
    """Dice of a submission against answers.

    Args:
        truth_place: a folder of polygon JSON or a submission CSV.
        pairs: ``data`` (for the classes) and ``size``, for CSVs without sidecar.
        partial: the answers may hold images that the submission does not.
    """
    submission, truth, patients = open_pair(file, truth_place, pairs, partial=partial)
    for note in submission.notes:
        print(f"note: {note}")
    return score(submission, truth, patients)


def open_pair(
    file: Path, truth_place: Path, pairs: dict[str, str], *, partial: bool = False
) -> tuple[Submission, Submission, dict[str, str] | None]:
    """The submission, its truth, and the patient of each image where the answers tell."""
    from .votes import parse_size

    unknown = set(pairs) - {"data", "size"}
    if unknown:
        raise ConfigError(f"{sorted(unknown)[0]}: no such option; known: data, size, --json, --partial")
    if not truth_place.exists():
        raise DataError(f"{truth_place}: no such file or folder of answers")
    classes = None
    if "data" in pairs:
        from .compose import compose

        classes = compose({"data": pairs["data"]}).data.classes
    submission = Submission.read(file, classes, parse_size(pairs["size"]) if "size" in pairs else None)
    if truth_place.is_file():
        return submission, Submission.read(truth_place, submission.classes), None
    unsized = [image for image in submission.images if image not in submission.sizes]
    if unsized:
        raise ConfigError(
            f"{file}: the size of {unsized[0]} is not known (no sidecar {file.with_suffix('.json')}); "
            "give it, as in size=2048x2048"
        )
    truth, patients = answers(truth_place, submission.classes, submission.sizes, partial=partial)
    return submission, truth, patients
