"""Charts of masks whose out-of-fold probability maps are stored: Dice over the threshold, calibration of pixels."""

from collections.abc import Sequence

import numpy as np

from ..config import SegmentConfig, SegmentData
from ..data.records import Record
from ..ensemble.candidates import OutOfFold, by_threshold, gather
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun
from ..scoring.reliability import BINS, Reliability
from .charts import Curves, Line, calibration, chosen_classes

THRESHOLDS = np.linspace(0.1, 0.9, 17).astype(np.float32)
SAMPLED = 24  # images: half a second each of 29 classes at 2048 pixels
FLOOR = 0.02  # probabilities below are not counted: nearly all of an image is background, and would hide the rest


def charts_of_masks(
    folds: Sequence[FoldRun], config: SegmentConfig, data: SegmentData, records: Sequence[Record],
    fold_of: dict[str, int],
) -> list[Curves]:  # fmt: skip
    """Dice over the threshold and calibration; nothing without stored maps, or if classes exclude each other.

    Args:
        records: images that the folds held out, at most ``SAMPLED`` of which are measured.
        fold_of: the fold that held an image out.
    """
    folders = {
        fold.number: [MapsFolder(fold.folder / "oof_prob")]
        for fold in folds
        if fold.number is not None and (fold.folder / "oof_prob" / "maps.json").is_file()
    }
    stored = sorted(record for record in records if fold_of[record.name] in folders)
    if not stored or config.model.head == "softmax":
        return []
    picked = [
        stored[k] for k in np.unique(np.linspace(0, len(stored) - 1, min(SAMPLED, len(stored))).round().astype(int))
    ]
    number = np.array([fold_of[record.name] for record in picked])
    bins = np.zeros((2, BINS)), np.zeros(BINS)  # pixels with and in truth; sums of probabilities
    counting = by_threshold(THRESHOLDS, np.ones(1))

    def measure(c: int, levels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        some = levels[0] >= FLOOR
        values, inside = levels[0][some], truth[some]
        place = np.minimum((values * BINS).astype(int), BINS - 1)
        bins[0][0] += np.bincount(place, minlength=BINS)
        bins[0][1] += np.bincount(place, weights=inside, minlength=BINS)
        bins[1][:] += np.bincount(place, weights=values, minlength=BINS)
        return counting(c, levels, truth)

    held = OutOfFold((config.name,), data, picked, number, folders, progress=False)
    dice = gather(held, len(THRESHOLDS), FLOOR, measure).mean(axis=0)  # [C, T]
    some, note = chosen_classes(dice.max(axis=1), np.ones(len(dice), bool))
    x = THRESHOLDS.tolist()
    lines = [Line("mean of all classes", x, dice.mean(axis=0).tolist())] if len(dice) > 1 else []
    lines += [Line(data.classes[c], x, dice[c].tolist()) for c in some]
    best = THRESHOLDS[dice.mean(axis=0).argmax()]
    sample = f"{len(picked)} of {len(fold_of)} held-out images. "
    text = f"{sample}The highest mean is at {best:.2f}; the run uses {config.predict.threshold:g}. {note}"
    charts = [Curves("Dice over the threshold", "threshold of the probability", "Dice", lines, note=text)]
    (count, true), total = bins
    if count.sum():
        kept = count > 0
        edges = np.linspace(0, 1, BINS + 1)
        table = Reliability(
            edges[:-1][kept], edges[1:][kept], count[kept].astype(np.int64), total[kept] / count[kept],
            true[kept] / count[kept],
        )  # fmt: skip
        charts.append(calibration(table, f"{sample}Pixels of all classes with a probability of {FLOOR:g} or more"))
    return charts
