"""Random ground truth and predictions of boxes: misses, inventions, wrong classes, doubles, ties in score."""

import numpy as np

from phalanx.submission.boxes import Boxes, BoxSubmission

CLASSES = ("a", "b", "c")


def boxes_at(rng, count, classes, scores=None):
    low = rng.uniform(0, 60, (count, 2))
    return Boxes.of(
        np.concatenate([low, low + rng.uniform(4, 40, (count, 2))], axis=1),
        np.ones(count) if scores is None else scores, rng.integers(0, classes, count),
    )  # fmt: skip


def truth_of(rng, images, classes=3, crowds=False):
    found = []
    for _ in range(images):
        boxes = boxes_at(rng, rng.integers(0, 5), classes)
        found.append(boxes._replace(ignore=rng.random(len(boxes.scores)) < 0.3) if crowds else boxes)
    return found


def predicted_of(rng, truth, classes=3, ties=True):
    found = []
    for boxes in truth:
        kept = boxes.chosen(np.repeat(np.arange(len(boxes.scores)), rng.integers(0, 3, len(boxes.scores))))
        moved = kept.corners + rng.normal(0, 2, kept.corners.shape)
        moved[:, :2], moved[:, 2:] = np.minimum(moved[:, :2], moved[:, 2:] - 1), np.maximum(moved[:, 2:], 1)
        wrong = rng.random(len(kept.scores)) < 0.15
        labels = np.where(wrong, rng.integers(0, classes, len(kept.scores)), kept.classes)
        other = boxes_at(rng, rng.integers(0, 3), classes)
        corners, labels = np.concatenate([moved, other.corners]), np.concatenate([labels, other.classes])
        scores = rng.random(len(labels))
        found.append(Boxes.of(corners, np.round(scores, 1) if ties else scores, labels))
    return found


def submission(boxes, name="p.csv", classes=CLASSES, patients=None):
    images = tuple(f"im{i:03}" for i in range(len(boxes)))
    return BoxSubmission(name, images, classes, tuple(boxes), patients=patients or {})
