"""Evaluations of CSVs by a ground truth that is given."""

from collections.abc import Mapping
from pathlib import Path

from ..config import ClassifyConfig, Config, DetectConfig, SegmentConfig
from ..data.box_truth import read_box_truth, with_endings
from ..data.layouts import test_records
from ..data.records import Record, scan
from ..data.root import resolve_root
from ..data.truth import read_truth
from ..errors import ConfigError, DataError
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..runtime.sidecar import is_csv, read_sidecar
from ..scoring.boxes import score_boxes
from ..submission.boxes import BoxSubmission
from ..submission.matching import check_matching
from ..submission.probabilities import Probabilities
from ..submission.table import Submission
from .boxes import Images
from .csv_labels import evaluate_probabilities
from .evaluate_boxes import of_boxes
from .evaluate_masks import Masks, of_masks
from .evaluate_options import EvaluateOptions
from .evaluated import Evaluated

DEFAULT = 0.5  # of scores of boxes


def evaluate_csv(file: Path, truth: Path, images: Path | None, options: EvaluateOptions) -> Evaluated:
    """A CSV of masks, boxes or probabilities by a ground truth.

    Args:
        truth: a CSV, a folder of polygons or PNG masks, or a COCO file; of probabilities a CSV of labels, a folder
            with one folder per class, or of polygons.
        images: folder of the images; None: the test images of the data set of the run that made the CSV.

    Raises:
        ConfigError: a CSV whose run is not there. DataError: files that cannot be read or do not fit.
    """
    fold = _run_of(file)
    if not truth.exists():
        raise DataError(f"truth={truth}: no such file or folder of ground truth")
    task = fold.recipe.get("task", "segment")
    config: Config
    if task == "classify":
        config = fold.config_of(ClassifyConfig)
    else:
        config = fold.config_of(SegmentConfig if task == "segment" else DetectConfig)
    root = options.root or config.data.root
    records = _records(file, config, images, root)
    if isinstance(config, SegmentConfig):
        return _masks(file, truth, config, records)
    if isinstance(config, ClassifyConfig):
        names = Probabilities.read(file, config.data.classes, config.model.head).images
        _check(file, list(names), records)
        return evaluate_probabilities(file, truth, config, records, options.threshold)
    assert isinstance(config, DetectConfig)
    return _boxes(file, truth, config, records, DEFAULT if options.threshold is None else options.threshold)


def _run_of(file: Path) -> FoldRun:
    """The first fold of the run that predicted a CSV."""
    sidecar, _ = read_sidecar(file)
    for folder in sorted(sidecar.run_hashes) if sidecar else ():
        place = Path(folder.rpartition(": ")[2])  # a vote may name the member before it
        if (place / "config.yaml").is_file():
            return FoldRun(place)
    raise ConfigError(
        f"{file}: the run that predicted it is not there (its sidecar names it), so classes and images are not known; "
        "phalanx picture draws any CSV over a folder of images"
    )


def _records(file: Path, config: Config, images: Path | None, root: Path | None) -> Mapping[str, Record]:
    if images is not None:
        return {record.name: record for record in scan(images)}
    if root is None or not root.is_dir():
        raise ConfigError(f"{file}: its run's data set {root} is not there; name the folder of its images with images=")
    data = resolve_root(config.data.model_copy(update={"root": root}))
    return {record.name: record for record in test_records(data)}


def _check(file: Path, names: list[str], records: Mapping[str, Record]) -> None:
    if lost := [name for name in names if name not in records]:
        raise DataError(f"{file}: image {lost[0]} is not there ({len(lost)} such); name its folder with images=DIR")


def _masks(file: Path, truth: Path, config: SegmentConfig, records: Mapping[str, Record]) -> Evaluated:
    made = Submission.read(file, config.data.classes)
    if is_csv(truth):
        gold = Submission.read(truth)
        check_matching([made, gold])
        gold, patients = gold.reorder(made.classes), None
    else:
        gold, patients = read_truth(truth, config.data, made.sizes)
    _check(file, list(made.images), records)
    known = {name: records[name]._replace(group=patients[name]) if patients else records[name] for name in made.images}
    found = Masks(dict.fromkeys(made.images, made), gold, known, dict.fromkeys(made.images))
    return of_masks(file.stem, config, config.data, found, grouped=patients is not None)


def _boxes(file: Path, truth: Path, config: DetectConfig, records: Mapping[str, Record], threshold: float) -> Evaluated:
    made = BoxSubmission.read(file, config.data.classes)
    if is_csv(truth):
        gold = BoxSubmission.read(truth, config.data.classes, truth=True)
    else:
        gold = read_box_truth(truth, config.data, made.sizes)
    gold = with_endings(gold, made.images)
    if set(gold.images) != set(made.images):
        raise DataError(f"{file} and {truth}: are not of the same images; name the ground truth of these images")
    _check(file, list(made.images), records)
    score = score_boxes(made, gold, iou=config.f1_iou, threshold=threshold)
    images = Images(made, gold, dict.fromkeys(made.images), {name: records[name].image for name in made.images})
    note = f"{file.stem}: boxes count from a score of {threshold:g}; threshold= sets it"
    return of_boxes(file.stem, config, Metric(config.metric), score, images, notes=(note,))
