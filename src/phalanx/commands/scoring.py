"""Scores CSVs by a ground truth of any supported form. Imports no torch, so it starts at once."""

from dataclasses import replace
from pathlib import Path

from ..config import SegmentConfig, SegmentData, nearest, validate_as
from ..data.listing import list_files
from ..data.truth import read_truth, truth_of
from ..errors import ConfigError, DataError
from ..runs.reader import folds_of
from ..scoring.compare import Comparison, compare, compare_means
from ..scoring.f1_submission import f1_of_submissions
from ..scoring.score import Score, Surface, score
from ..submission.matching import check_matching
from ..submission.table import Submission
from .args import number_of
from .f1_iou import f1_rules

OPTIONS = ("data", "size", "surface", "spacing", "f1_iou")


def score_file(file: Path, truth_place: Path | None, pairs: dict[str, str], *, partial: bool = False) -> Score:
    """Scores of a submission by its ground truth.

    Args:
        truth_place: a folder of polygon JSON or PNG masks, a COCO file, a submission CSV; None: the annotated images
            of ``data.root``.
        pairs: ``data`` and its keys, ``size`` for CSVs without sidecar, ``surface`` and ``spacing``,
            ``f1_iou``.
        partial: the ground truth may have images that the submission has not.
    """
    pairs = dict(pairs)
    rules = f1_rules(pairs)
    submission, truth, patients = open_pair(file, truth_place, pairs, partial=partial)
    for note in submission.notes:
        print(f"note: {note}")
    found = score(submission, truth, patients, _surface(pairs))
    return replace(found, f1=tuple(f1_of_submissions(submission, truth, rules, patients))) if rules else found


def compare_files(
    first: Path, second: Path, truth_place: Path | None, pairs: dict[str, str], *, partial: bool
) -> tuple[Comparison, tuple[Score, Score] | None]:
    """The comparison of two CSVs by the same ground truth, as for :func:`score_file` but without surfaces, and the
    score of each; or the comparison of the out-of-fold scores of two runs.

    Raises:
        DataError: what they were scored on differs.
    """
    if first.is_dir() and second.is_dir():
        if truth_place is not None or pairs:
            raise ConfigError("two runs are compared by their out-of-fold scores, without ground truth or options")
        (one, patients), (other, _) = out_of_fold(first), out_of_fold(second)
        return compare_means((str(first), str(second)), one, other, patients), None
    for key in pairs.keys() & {"surface", "spacing"}:
        raise ConfigError(f"{key}: compare computes no surfaces; phalanx score computes surfaces, file by file")
    before, after = (score_file(file, truth_place, pairs, partial=partial) for file in (first, second))
    return compare(before, after), (before, after)


def out_of_fold(run: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Mean Dice of every image held out by a finished fold of a run, and each image's patient.

    Raises:
        DataError: no finished fold, or one that cannot be read.
    """
    scored = [fold for fold in folds_of(run) if fold.is_scored]
    dice = {name: value for fold in scored for name, value in fold.per_image.items()}
    patients = {name: patient for fold in scored for name, patient in fold.patients.items()}
    without = sorted(dice.keys() - patients.keys())
    if without:
        raise DataError(f"{run}: its folds.csv does not list {without[0]}, which was scored; train it again")
    if not dice:
        raise DataError(
            f"{run}: has no finished fold (fold<k>/oof_score.json); name runs, or CSVs with their ground truth"
        )
    return dice, patients


def open_pair(
    file: Path, truth_place: Path | None, pairs: dict[str, str], *, partial: bool = False
) -> tuple[Submission, Submission, dict[str, str] | None]:
    """The submission, its ground truth, and the patient of each image if the ground truth lists them."""
    from ..ensemble.options import parse_size

    for key in pairs:
        if key not in OPTIONS and not key.startswith("data."):
            raise ConfigError(
                f"{key}: no such option{nearest(key, [*OPTIONS, 'data.root', 'data.layout', 'json', 'partial'])}"
            )
    if truth_place is not None and not truth_place.exists():
        raise DataError(f"{truth_place}: no such file or folder of ground truth")
    data = _data(truth_place, {key: value for key, value in pairs.items() if key.split(".")[0] == "data"})
    size = parse_size(pairs["size"]) if "size" in pairs else None
    submission = Submission.read(file, data.classes if data else None, size)
    if truth_place is None:
        assert data is not None  # or there would be nothing to score against
        from ..data.quarantine import kept_records

        records = kept_records(data)
        if partial:
            records = [record for record in records if record.name in set(submission.images)]
        return submission, truth_of(records, data, str(data.root)), {record.name: record.group for record in records}
    if truth_place.is_file() and truth_place.suffix.lower() != ".json":
        truth = Submission.read(truth_place)
        check_matching([submission, kept := truth.only(submission.images) if partial else truth])
        return submission, kept.reorder(submission.classes), None
    unsized = [image for image in submission.images if image not in submission.sizes]
    if unsized:
        raise ConfigError(
            f"{file}: the size of {unsized[0]} is unknown (no sidecar {file.with_suffix('.json')}); "
            "give it, as in size=2048x2048"
        )
    if data is None:
        given = {"name": "truth", "root": truth_place, "classes": submission.classes, "size": 32}
        data = validate_as(SegmentData, given | {"layout": _layout(truth_place)})
    truth, patients = read_truth(truth_place, data, submission.sizes, partial=partial)
    return submission, truth, patients


def _data(truth_place: Path | None, pairs: dict[str, str]) -> SegmentData | None:
    """The data configuration that was named, with the detected layout of the ground truth by default."""
    if truth_place is None and "data.root" not in pairs:
        raise ConfigError("no ground truth: name it, or a data set with annotations, as in data.root=DIR")
    if not pairs:
        return None
    from ..config.compose import compose_as

    guessed = {}
    if truth_place is not None:
        guessed = {"data.root": ".", "data.layout": _layout(truth_place)}  # the root is not read
    return compose_as(SegmentConfig, guessed | pairs).data


def _layout(place: Path) -> str:
    """The layout of a ground truth, by its files."""
    if place.is_file():
        return "coco"
    return "masks" if list_files(place, ".png") and not list_files(place, ".json") else "competition"


def _surface(pairs: dict[str, str]) -> Surface | None:
    """Tolerance and spacing of surface scores; None unless asked for."""
    given: dict[str, float] = {}
    for key in ("surface", "spacing"):
        if key in pairs:
            value = number_of(pairs[key])
            if value is None or not 0 <= value <= 10_000 or (key == "spacing" and not value):
                unit = "pixels" if key == "surface" else "mm per pixel"
                raise ConfigError(
                    f"{key}={pairs[key]}: expected a number of {unit}, up to 10000, as in {key}={EXAMPLES[key]}"
                )
            given[key] = value
    if "spacing" in given and "surface" not in given:
        raise ConfigError("spacing=: applies to surface scores only; give surface=PIXELS too")
    return Surface(given["surface"], given.get("spacing")) if "surface" in given else None


EXAMPLES = {"surface": "2", "spacing": "0.14"}
