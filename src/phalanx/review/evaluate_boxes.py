"""Evaluations of the task ``detect``."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from ..config import Config, DetectConfig
from ..data.root import resolve_root
from ..runs.reader import FoldRun
from ..runtime.metric import Metric
from ..scoring.box_thresholds import counts_by_image, f1_by_image
from ..scoring.boxes import BoxScore, pair_boxes, score_boxes
from ..scoring.confusion import BinaryCounts
from ..visualize.scene import BoxScene
from .boxes import Images, counting_from, held_out
from .case import scored_folds
from .charts_boxes import charts_of_boxes
from .evaluate_options import EvaluateOptions
from .evaluated import Evaluated, ImageOf

FIGURES = {"f1_iou": "f1"}  # of scores, by their name among the metrics of a recipe


def evaluate_boxes(name: str, options: EvaluateOptions) -> Evaluated:
    """A run of the task ``detect``, out of fold.

    Raises:
        ConfigError: no such run, one of another task. DataError: no finished fold, or files that do not fit.
    """
    run, folds, notes = scored_folds(name, options.runs)
    config = folds[0].config_of(DetectConfig)
    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    found = held_out(folds, config, data)
    limits, why = counting_from(lambda: found, folds, config, config.f1_iou, options.threshold)
    score = score_boxes(found.predicted, found.truth, iou=config.f1_iou, threshold=limits.tolist())
    return of_boxes(run, config, Metric(config.metric), score, found, folds=folds, notes=(*notes, f"{run}: {why}"))


def of_boxes(
    name: str, config: Config, metric: Metric, score: BoxScore, found: Images, *, folds: tuple[FoldRun, ...] = (),
    notes: tuple[str, ...] = (),
) -> Evaluated:  # fmt: skip
    """The evaluation of boxes of any origin, with their score."""
    figure = FIGURES.get(metric.name, metric.name)
    limits = np.broadcast_to(score.thresholds, (len(score.images), len(score.classes)))
    tp, fp, fn = np.moveaxis(counts_by_image(score, limits), 2, 0)
    counts = BinaryCounts(tp, fp, fn, np.full_like(tp, np.nan))
    images = tuple(
        ImageOf(image, patient, found.folds[image], found.paths[image])
        for image, patient in zip(score.images, score.patients, strict=True)
    )
    place = {image: k for k, image in enumerate(score.images)}

    @cache
    def sizes() -> Mapping[str, tuple[int, int]]:
        return {**found.truth.sizes, **found.predicted.sizes}

    def scene(image: str) -> BoxScene:
        k = place[image]
        counted = score.predicted[k].above(score.thresholds).sorted()
        size = sizes().get(image)
        if size is None:
            from ..data.images import image_size

            size = image_size(found.paths[image])
        marks = pair_boxes(counted, score.truth[k], score.at)
        return BoxScene(found.paths[image], size, score.truth[k], counted, *marks, len(score.classes))

    objects = np.stack([one.objects for one in score.matches], axis=1)
    return Evaluated(
        name, config, metric, score.classes, "boxes", images, counts, objects > 0, f1_by_image(score, score.thresholds),
        f"F1 at IoU {score.at:g}", counts.f1, lambda drawn: score.values(figure, drawn), scene, dict, folds,
        score.grouped, notes, {"score": score}, lambda: charts_of_boxes(score),
    )  # fmt: skip
