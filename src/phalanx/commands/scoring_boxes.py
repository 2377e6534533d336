"""Scores CSVs of boxes by a ground truth of any supported form. Imports no torch, so it starts at once."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import DetectConfig, DetectData, nearest, validate_as
from ..config.plain import NotPlain, parse_plain
from ..ensemble.detect_oof import out_of_fold
from ..errors import ConfigError, DataError, brief
from ..runtime.sidecar import is_csv
from ..scoring.box_matches import MAX_BOXES
from ..scoring.boxes import IOU, THRESHOLD, BoxScore, compare_boxes, score_boxes
from ..scoring.classify_compare import ClassifyComparison
from ..scoring.f1_iou import F1IoU, compare_f1, f1_of_boxes
from ..submission.box_matching import with_common_classes
from ..submission.boxes import BoxSubmission
from .args import number_of
from .f1_iou import f1_rules

OPTIONS = ("data", "size", "iou", "threshold", "max_boxes", "f1_iou")
COMPARED = ("map", "map50", "f1")


class Scores(NamedTuple):
    """Scores of a CSV: of its boxes, and of its images for each rule of ``f1_iou``."""

    boxes: BoxScore
    f1: list[F1IoU]
    pairs: Sequence[tuple[str, str]]  # classes of the left and right side


def score_csv(file: Path, truth: Path | None, pairs: dict[str, str], *, partial: bool = False) -> Scores:
    """Scores of a CSV of boxes.

    Args:
        truth: a CSV of boxes, a COCO file or a folder of polygon JSON; None: the annotated images of ``data.root``.
        pairs: ``data`` and its keys, ``size`` of CSVs without sidecar, ``iou``, ``threshold``, ``max_boxes``,
            ``f1_iou``.
        partial: the ground truth may have images that the CSV has not.

    Raises:
        ConfigError: an unknown or impossible option. DataError: files that cannot be used or do not match.
    """
    from ..ensemble.options import parse_size

    pairs = dict(pairs)
    rules = f1_rules(pairs)
    for key in pairs:
        if key not in OPTIONS and not key.startswith("data."):
            known = [*OPTIONS, "data.root", "data.layout", "json", "partial"]
            raise ConfigError(f"{key}: no such option{nearest(key, known)}")
    if truth is not None and not truth.exists():
        raise DataError(f"{truth}: no such file or folder of ground truth")
    iou = _number(pairs, "iou", IOU, "a number above 0, up to 1", lambda value: 0 < value <= 1)
    most = _number(pairs, "max_boxes", MAX_BOXES, "a whole number from 1", lambda value: value >= 1 and value % 1 == 0)
    data = _data(truth, {key: value for key, value in pairs.items() if key.split(".")[0] == "data"})
    size = parse_size(pairs["size"]) if "size" in pairs else None
    made = BoxSubmission.read(file, data.classes if data else None, size)
    for note in made.notes:
        print(f"note: {note}")
    gold = _truth(truth, made, data, partial=partial)
    if partial:
        gold = gold.only(made.images)
    made, gold = with_common_classes([made, gold], data.classes if data else None)
    threshold = _threshold(pairs.get("threshold"), made)
    found = score_boxes(made, gold, iou=iou, threshold=threshold, max_boxes=int(most))
    patients = found.patients if found.grouped else None
    columns = (found.classes, found.images, found.predicted, found.truth)
    f1 = [f1_of_boxes(str(file), rule, *columns, threshold=threshold, patients=patients) for rule in rules]
    return Scores(found, f1, data.pairs if data else [])


def compare_csvs(
    first: Path, second: Path, truth: Path | None, pairs: dict[str, str], *, partial: bool
) -> tuple[list[ClassifyComparison], tuple[Scores, Scores] | None]:
    """Paired differences of two CSVs and the score of each, as by :func:`score_csv`; or differences of two runs out of
    fold."""
    runs = first.is_dir() and second.is_dir()
    if runs:
        if truth is not None or pairs:
            raise ConfigError("two runs are compared by their out-of-fold boxes, without ground truth or options")
        one, other = (Scores(out_of_fold(run).score, [], []) for run in (first, second))
    else:
        one, other = (score_csv(file, truth, pairs, partial=partial) for file in (first, second))
    found = [compare_boxes(one.boxes, other.boxes, metric) for metric in COMPARED]
    found += [compare_f1(*both) for both in zip(one.f1, other.f1, strict=True)]
    return found, None if runs else (one, other)


def _number(pairs: dict[str, str], key: str, default: float, expected: str, fits: Callable[[float], bool]) -> float:
    """The number of an option."""
    if key not in pairs:
        return default
    value = number_of(pairs[key])
    if value is None or not fits(value):
        raise ConfigError(f"{key}={pairs[key]}: expected {expected}, as in {key}={default:g}")
    return value


def _threshold(text: str | None, made: BoxSubmission) -> float | list[float]:
    """The threshold of scores: of all classes, or of each. By default that which the boxes were chosen by, if any."""
    if text is None:
        return THRESHOLD if made.thresholds is None else [made.thresholds.get(name, THRESHOLD) for name in made.classes]
    try:
        found = parse_plain(re.sub(r":(?=\S)", ": ", text))  # as in Hydra, spaces are optional
    except NotPlain:
        found = None
    values = found if isinstance(found, dict) else {"": found}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(
                f"threshold={brief(text)[1:-1]}: expected a number from 0 to 1, as in threshold={THRESHOLD:g}, or one "
                "for each class, as in threshold={normal:.4,diseased:.6}"
            )
        if name and name not in made.classes:
            raise ConfigError(
                f"threshold: {brief(name)} is not a class of {made.name}{nearest(str(name), made.classes)}"
            )
    if not isinstance(found, dict):
        return float(values[""])
    if lacking := next((name for name in made.classes if name not in found), None):
        raise ConfigError(f"threshold: has none of {brief(lacking)}; give each class of {made.name} one")
    return [float(found[name]) for name in made.classes]


def _truth(place: Path | None, made: BoxSubmission, data: DetectData | None, *, partial: bool) -> BoxSubmission:
    """The boxes of the ground truth, with patients if it names them."""
    from ..data.box_truth import read_box_truth, with_endings
    from ..data.objects import box_truth

    if place is None:
        assert data is not None  # or there would be nothing to score against
        from ..data.quarantine import kept_records

        records = kept_records(data)
        if partial:
            records = [record for record in records if record.name in set(made.images)]
        return box_truth(records, data)
    if is_csv(place):
        gold = BoxSubmission.read(place, data.classes if data else None, truth=True)
        return with_endings(gold, made.images)
    if data is None:
        if not made.closed:
            raise ConfigError(
                f"{made.name}: has no sidecar that lists its classes, which {place} needs; give data=NAME"
            )
        values = {"name": "truth", "root": place, "classes": list(made.classes), "size": 32, "layout": _layout(place)}
        data = validate_as(DetectData, values)
    unsized = [image for image in made.images if image not in made.sizes]
    if unsized:
        raise ConfigError(
            f"{made.name}: the size of {unsized[0]} is unknown (no sidecar {Path(made.name).with_suffix('.json')}); "
            "give it, as in size=2048x2048"
        )
    return read_box_truth(place, data, made.sizes, partial=partial)


def _data(truth: Path | None, pairs: dict[str, str]) -> DetectData | None:
    """The data configuration that was named, with the detected layout of the ground truth by default."""
    if truth is None and "data.root" not in pairs:
        raise ConfigError("no ground truth: name it, or a data set with annotations, as in data.root=DIR")
    if not pairs:
        return None
    from ..config.compose import compose_as

    guessed = {"task": "detect", "model": "faster_rcnn", "loss": "boxes"}  # neither is read
    if truth is not None:
        guessed |= {"data.root": "."} | ({} if is_csv(truth) else {"data.layout": _layout(truth)})
    return compose_as(DetectConfig, guessed | pairs).data


def _layout(place: Path) -> str:
    """The layout of a ground truth, by its files."""
    return "coco_boxes" if place.is_file() else "polygons"
