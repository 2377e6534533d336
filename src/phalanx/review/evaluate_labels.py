"""Evaluations of the task ``classify``."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..config import ClassifyConfig, Config
from ..data.layouts import train_records
from ..data.records import Record
from ..data.root import resolve_root
from ..ensemble.classify_oof import score_of_folds
from ..errors import DataError
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..scoring.classify import ClassifyScore, truth_probability
from ..scoring.confusion import BinaryCounts
from ..visualize.scene import LabelScene
from .case import scored_folds
from .charts_labels import charts_of_labels
from .evaluate_options import EvaluateOptions
from .evaluated import Evaluated, ImageOf

Heat = Callable[[str, int], np.ndarray]  # of an image and a class


def evaluate_labels(name: str, options: EvaluateOptions) -> Evaluated:
    """A run of the task ``classify``, out of fold.

    Raises:
        ConfigError: no such run, one of another task. DataError: no finished fold, or files that do not fit.
    """
    run, folds, notes = scored_folds(name, options.runs)
    config = folds[0].config_of(ClassifyConfig)
    score = score_of_folds(folds)
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    records = {record.name: record for record in train_records(data)}
    if lacking := [image for image in score.images if image not in records]:
        raise DataError(
            f"{data.root}: has no image {lacking[0]}, which {folds[0].folder.parent} held out ({len(lacking)} such); "
            "name the data set it was trained on with data.root="
        )
    fold_of = {image: fold for one in folds for image, fold in one.folds.items() if fold == one.number}
    metric = folds[0].result.metric if folds[0].result else Metric(config.metric)
    return of_labels(
        run, config, metric, score, {name: record.image for name, record in records.items()}, fold_of,
        heat=_heat(folds, records, options), folds=folds, notes=notes,
    )  # fmt: skip


def of_labels(
    name: str, config: Config, metric: Metric, score: ClassifyScore, paths: Mapping[str, Path],
    fold_of: Mapping[str, int | None], *, heat: Heat | None = None, folds: tuple[FoldRun, ...] = (),
    notes: tuple[str, ...] = (),
) -> Evaluated:  # fmt: skip
    """The evaluation of probabilities of any origin, with their score."""
    known, positive = ~np.isnan(score.labels), score.labels == 1
    if score.head == "softmax":
        known = np.repeat(known.all(axis=1, keepdims=True), len(score.classes), axis=1)
    called = score.predicted
    cells = [(positive, called), (~positive, called), (positive, ~called), (~positive, ~called)]
    counts = BinaryCounts(*((known & a & b).astype(float) for a, b in cells))
    certain = np.where(known, np.where(positive, score.probabilities, 1 - score.probabilities), np.nan)
    per_image = truth_probability(score.probabilities, score.labels, score.head)
    images = tuple(
        ImageOf(image, patient, fold_of.get(image), paths[image])
        for image, patient in zip(score.images, score.patients, strict=True)
    )
    place = {image: k for k, image in enumerate(score.images)}

    def scene(image: str) -> LabelScene:
        from ..data.images import image_size

        k = place[image]
        own = None if heat is None else (lambda c: heat(image, c))
        return LabelScene(
            paths[image], image_size(paths[image]), score.labels[k], score.probabilities[k], called[k], own
        )

    return Evaluated(
        name, config, metric, score.classes, "images", images, counts, positive & known, per_image,
        "probability of the truth", certain, lambda drawn: score.in_draws(metric.name, drawn), scene, dict,
        folds, score.grouped, notes, {"score": score}, lambda: charts_of_labels(score),
    )  # fmt: skip


def _heat(folds: tuple[FoldRun, ...], records: Mapping[str, Record], options: EvaluateOptions) -> Heat:
    """Grad-CAM by the fold that held an image out. Networks are opened when the first image asks for them."""
    explainers: dict[int, object] = {}
    fold_of = {image: one for one in folds for image, fold in one.folds.items() if fold == one.number}

    def heat(image: str, c: int) -> np.ndarray:
        from ..predict.classify import open_classifier
        from ..predict.explain import Case, Explainer, explainer_of
        from ..visualize.gradcam import heat_map

        fold = fold_of[image]
        number = fold.number or 0
        if number not in explainers:
            explainers[number] = explainer_of(
                open_classifier(str(fold.folder), runs=options.runs, device=options.device)
            )
        explainer = explainers[number]
        assert isinstance(explainer, Explainer)
        case = Case(records[image], c, 0.0)
        (maps, grid) = next(iter(explainer.maps([case], 1, progress=False)))
        return np.asarray(heat_map(maps, grid, explainer.cells))

    return heat
