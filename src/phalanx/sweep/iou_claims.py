"""IoU of classes over the pixels of all images of a result: its gain over a baseline, and when training reaches it.

Where most images lack a class, Dice by image rewards a network that never predicts it. IoU over all pixels is 0 there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .results import SweepResult
from .table import Collapse

Counts = dict[str, np.ndarray]  # float64[2, C] by patient: pixels in both, and in the ground truth or the prediction


def counts_by_seed(results: Sequence[SweepResult]) -> dict[int, Counts]:
    """Pixels of each seed's patients, those of its folds together."""
    found: dict[int, Counts] = {}
    for result in results:
        seed = found.setdefault(result.seed, {})
        for name, sides in (result.pixels or {}).items():
            seed[name] = seed.get(name, 0) + np.array(sides, float)
    return found


def iou_of(counts: Counts, classes: Sequence[int]) -> float:
    """Mean IoU of the classes over the pixels of all patients; 1 for a class that neither side has."""
    return float(_ious(_stacked(counts, classes)).mean())


def _stacked(counts: Counts, classes: Sequence[int]) -> np.ndarray:
    """float64[P, 2, C] of the classes."""
    return np.stack(list(counts.values()))[:, :, list(classes)]


def _ious(pixels: np.ndarray) -> np.ndarray:
    """float64[C] of float64[P, 2, C]."""
    shared, either = pixels.sum(axis=0)
    return np.divide(shared, either, out=np.ones(len(shared)), where=either > 0)


@dataclass(frozen=True)
class PairedIoU:
    """The pixels of two recipes on the same patients, by seed."""

    pairs: tuple[tuple[Counts, Counts], ...]  # of each seed: the row's, its baseline's

    @classmethod
    def of(cls, ours: Sequence[SweepResult], baseline: Sequence[SweepResult]) -> "PairedIoU":
        """Pairs the seeds and folds that both recipes have; a seed's folds are joined."""
        others = {(result.seed, result.fold): result for result in baseline}
        pairs = [(result, other) for result in ours if (other := others.get((result.seed, result.fold)))]
        pairs = [(one, other) for one, other in pairs if one.images == other.images]
        one, two = (counts_by_seed([pair[side] for pair in pairs]) for side in (0, 1))
        return cls(tuple((one[seed], two[seed]) for seed in one))

    @property
    def seeds(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def by_seed(self, classes: Sequence[int]) -> np.ndarray:
        """float64[S]: difference of the mean IoU of the classes."""
        return np.array([iou_of(one, classes) - iou_of(other, classes) for one, other in self.pairs])

    def patient_variance(self, classes: Sequence[int]) -> float:
        """Variance of the mean over seeds that comes from which patients were drawn.

        IoU is a ratio of sums, so a patient moves it by its own pixels in both less IoU times those in either, over all
        in either (linearised). A patient of several seeds is one draw (cluster-robust variance).
        """
        parts: dict[str, float] = {}
        for one, other in self.pairs:
            moved = _influence(_stacked(one, classes)) - _influence(_stacked(other, classes))
            for name, share in zip(one, (moved / len(self.pairs)).tolist(), strict=True):
                parts[name] = parts.get(name, 0.0) + share
        count = len(parts)
        return sum(part**2 for part in parts.values()) * count / (count - 1) if count > 1 else float("inf")


def _influence(pixels: np.ndarray) -> np.ndarray:
    """float64[P]: by how much each patient moves the mean IoU over classes, of float64[P, 2, C]."""
    shared, either = pixels[:, 0], pixels[:, 1]
    whole = either.sum(axis=0)
    moved = np.divide(shared - _ious(pixels) * either, whole, out=np.zeros_like(shared), where=whole > 0)
    return moved.mean(axis=1)


def left_collapse(curve: Sequence[Sequence[float]], rule: Collapse) -> tuple[int, float] | None:
    """The first step of a curve of [step, IoU] with the rule's IoU, and that IoU; None if there is none.

    >>> rule = Collapse(label="diseased", iou=0.1)
    >>> left_collapse([[40, 0.0], [80, 0.12], [120, 0.08]], rule), left_collapse([[40, 0.05]], rule)
    ((80, 0.12), None)
    """
    return next(((int(step), iou) for step, iou in curve if iou >= rule.iou), None)


def collapse_title(rule: Collapse) -> str:
    """The column of a table that says when rows leave the collapse to background."""
    return f"held-out IoU of {rule.label} first {rule.iou:g} or more, by seed: step (IoU there; at the end)"


def collapse_text(results: Sequence[SweepResult], rule: Collapse) -> str:
    """When each seed left it, in steps of training."""
    cells = []
    for result in results:
        if curve := result.iou_curve:
            found, (steps, last) = left_collapse(curve, rule), curve[-1]
            begins = f"never in {steps:g}" if found is None else f"{found[0]} of {steps:g} ({found[1]:.3f}"
            cells.append(f"{begins}{' (' if found is None else '; '}{last:.3f})")
    return ", ".join(cells)
