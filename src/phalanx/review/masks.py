"""Runs of the task ``segment`` to be reviewed: their masks out of fold, or those of the test images."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..config import SegmentConfig, SegmentData
from ..config.f1_iou import F1AtIoU
from ..data.layouts import test_records
from ..data.quarantine import kept_records
from ..data.records import Record
from ..data.root import resolve_root
from ..data.truth import read_truth, truth_of
from ..errors import DataError
from ..masks.midline import ELONGATED, elongation, widths_along_midline
from ..masks.stack import Stack
from ..predict.maps import Box, ProbabilityMaps
from ..predict.stored import MapsFolder
from ..runs.reader import FoldRun
from ..scoring.f1_iou import f1_of_masks
from ..scoring.mask_counts import MaskCounts, counts_of_stacks
from ..scoring.object_suspects import Annotated
from ..submission.table import Submission
from .case import Case, Outline, Reviewed, Seen, rule_of, scored_folds
from .options import ReviewOptions
from .places import test_answers

SAMPLED = 40  # images, of which the objects show whether they are long and thin
NOTHING = 0.01  # of an object's pixels: so little that is predicted there says nothing of its class


class Images(NamedTuple):
    """Predictions of images with their ground truth.

    Attributes:
        data: resolved.
        maps: probabilities of an image by its name; None if they were not stored.
    """

    data: SegmentData
    names: tuple[str, ...]
    predicted: Mapping[str, Submission]
    truth: Submission
    patients: Mapping[str, str]
    folds: Mapping[str, int | None]
    records: Mapping[str, Record]
    maps: Callable[[str], ProbabilityMaps | None]


def review_masks(name: str, options: ReviewOptions) -> Reviewed:
    """A run of the task ``segment`` with its images.

    Raises:
        ConfigError: no such run, one of another task, a rule that does not fit its classes.
        DataError: no finished fold, or predictions or annotations that are missing or do not fit.
    """
    run, folds, notes = scored_folds(name, options.runs)
    config = folds[0].config_of(SegmentConfig)
    rule = rule_of(options.f1_iou, config, name)
    found = held_out(folds, config, options.root) if options.split == "oof" else _tested(name, run, config, options)
    classes = tuple(config.data.classes)

    def stacks(image: str) -> tuple[Stack, Stack]:
        size = found.truth.sizes[image]
        return found.truth.stack(image, size), found.predicted[image].stack(image, size)

    @lru_cache(1)  # those of all images would not fit
    def masks(image: str) -> np.ndarray:  # bool[2, C, H, W]
        return np.stack([one.masks(found.truth.sizes[image]) for one in stacks(image)])

    counts = []
    for image in found.names:
        height, width = found.truth.sizes[image]
        counts.append(counts_of_stacks(*stacks(image), height * width))
    both = MaskCounts(*(np.stack(side) for side in zip(*counts, strict=True)))
    patients = [found.patients[image] for image in found.names]
    score = f1_of_masks(run, rule, classes, found.names, both, patients)
    wanted = _wants_widths(options, (masks(image)[0] for image in found.names[:SAMPLED]), classes, rule)
    cases = []
    for k, image in enumerate(found.names):
        own = MaskCounts(*(side[k] for side in both))
        cases.append(_case(image, found, own, masks(image), classes, rule, widths=wanted))
    if all(case.confidence is None for case in cases):
        notes += (
            f"{run}: has no confidence, as probability maps are not stored; with predict.oof_prob=true the same "
            "phalanx train command makes them",
        )  # fmt: skip
    return Reviewed(
        run, config, score, tuple(cases), lambda image: Seen(*(_outlines(one, classes) for one in masks(image))), folds,
        notes,
    )  # fmt: skip


def held_out(folds: Sequence[FoldRun], config: SegmentConfig, root: Path | None) -> Images:
    """What finished folds predicted of the images that they held out.

    Args:
        root: the data set, if it was moved.

    Raises:
        DataError: an image that is no more there, or has another size.
    """
    data = resolve_root(config.data.model_copy(update={"root": root or config.data.root}))
    predicted, fold_of, stored = dict[str, Submission](), dict[str, int | None](), dict[str, MapsFolder]()
    patients: dict[str, str] = {}
    for fold in folds:
        made = Submission.read(fold.folder / "oof.csv", config.data.classes)
        maps = fold.folder / "oof_prob"
        if (maps / "maps.json").is_file():
            stored |= dict.fromkeys(made.images, MapsFolder(maps))
        predicted |= dict.fromkeys(made.images, made)
        fold_of |= dict.fromkeys(made.images, fold.number)
        patients |= fold.patients
    records = {record.name: record for record in kept_records(data, report=False) if record.name in predicted}
    if lacking := sorted(predicted.keys() - records.keys()):
        raise DataError(
            f"{data.root}: has no annotated image {lacking[0]}, which {folds[0].folder.parent} held out "
            f"({len(lacking)} such); name the data set it was trained on with data.root="
        )
    truth = truth_of(list(records.values()), data, str(data.root))
    _check_sizes(predicted, truth)
    return Images(
        data, tuple(sorted(predicted)), predicted, truth, patients, fold_of, records, _reader(stored, records)
    )


def _tested(name: str, run: str, config: SegmentConfig, options: ReviewOptions) -> Images:
    """What a run predicts of the test images, written below ``out``."""
    from ..ensemble.options import InferOptions
    from ..ensemble.run import infer_run

    data = resolve_root(config.data.model_copy(update={"root": options.root or config.data.root}))
    answers = test_answers(data, options.truth)
    records = {record.name: record for record in test_records(data)}
    out = options.out / run / "test.csv"
    made = Submission.read(
        infer_run(
            name,
            InferOptions(
                out=out, root=data.root, maps=True, runs=options.runs, device=options.device, progress=options.progress
            ),
        ),
        config.data.classes,
    )
    truth, patients = read_truth(answers, data, made.sizes)
    stored = dict.fromkeys(made.images, MapsFolder(out.with_suffix(".maps")))
    return Images(
        data, made.images, dict.fromkeys(made.images, made), truth, patients, dict.fromkeys(made.images), records,
        _reader(stored, records),
    )  # fmt: skip


def _check_sizes(predicted: Mapping[str, Submission], truth: Submission) -> None:
    """Raises DataError if an image has another size than it was predicted at."""
    for image, made in predicted.items():
        if made.sizes.get(image, truth.sizes[image]) != truth.sizes[image]:
            raise DataError(
                f"{made.name}: {image} was {made.sizes[image][0]} x {made.sizes[image][1]} pixels, and is now "
                f"{truth.sizes[image][0]} x {truth.sizes[image][1]}; name the data set of the run with data.root="
            )


def _reader(stored: Mapping[str, MapsFolder], records: Mapping[str, Record]) -> Callable[[str], ProbabilityMaps | None]:
    return lambda image: stored[image].maps([records[image]], [])[0] if image in stored else None


def _wants_widths(options: ReviewOptions, some: Iterable[np.ndarray], classes: Sequence[str], rule: F1AtIoU) -> bool:
    """Whether objects are long and thin, so that they have widths along a midline."""
    if options.midline != "auto":
        return options.midline == "true"
    organ = [c for c, label in enumerate(classes) if label in (rule.negative, rule.positive)]
    found = [elongation(masks[c]) for masks in some for c in organ if masks[c].any()]
    return bool(found) and float(np.median(found)) >= ELONGATED


def _case(
    image: str, found: Images, counts: MaskCounts, masks: np.ndarray, classes: Sequence[str], rule: F1AtIoU, *,
    widths: bool,
) -> Case:  # fmt: skip
    sides = [
        {label: float(area) for label, area in zip(classes, side, strict=False) if area}
        for side in (counts.truth, counts.predicted)
    ]
    iou = counts.iou[: len(classes)]
    probability, certain = _probabilities(found.maps(image), masks, found.truth.sizes[image])
    confidence = None
    if certain and sides[1]:
        decisive = rule.positive if rule.positive in sides[1] else max(sides[1], key=lambda label: sides[1][label])
        c = list(classes).index(decisive)
        confidence = float(probability[c][masks[1, c]].mean())
    patient, (truth, predicted) = found.patients[image], sides
    return Case(
        image, patient, found.folds[image], found.records[image].image, truth, predicted,
        float(np.nanmean(iou)) if np.isfinite(iou).any() else 1.0, confidence,
        tuple(_objects(image, patient, masks, probability, classes, rule, widths=widths)),
    )  # fmt: skip


def _objects(
    image: str, patient: str, masks: np.ndarray, probability: np.ndarray, classes: Sequence[str], rule: F1AtIoU, *,
    widths: bool,
) -> Iterator[Annotated]:  # fmt: skip
    """The annotated organ of an image, or two if it is annotated with both classes."""
    if rule.negative is None:
        return
    organ = [list(classes).index(label) for label in (rule.negative, rule.positive)]
    number = 0
    for sick, c in enumerate(organ):
        if masks[0, c].any():
            number += 1
            measured = _widths(masks, c, organ) if widths else (None, None)
            evidence = _diseased(probability[organ], masks[0, c])
            yield Annotated(image, patient, number, bool(sick), float(masks[0, c].sum()), evidence, *measured)


def _widths(masks: np.ndarray, c: int, organ: Sequence[int]) -> tuple[float | None, float | None]:
    """Least over median width of an object, and of the organ as it is predicted, whatever its class."""
    found = [widths_along_midline(one) for one in (masks[0, c], masks[1][list(organ)].any(0))]
    return found[0].ratio if found[0] else None, found[1].ratio if found[1] else None


def _probabilities(maps: ProbabilityMaps | None, masks: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Probabilities float32[C, H, W], and whether they are more than the predicted masks."""
    if maps is None:
        return masks[1].astype(np.float32), False
    whole = Box(0, 0, *size)
    scale = max(size) / maps.side
    return np.stack([maps.resize(c, whole, size, scale) for c in range(masks.shape[1])]), True


def _diseased(probability: np.ndarray, mask: np.ndarray) -> float:
    """The fraction of what is predicted of the organ within an object that is diseased; 0.5 if nothing is.

    Args:
        probability: float[2, H, W] of the normal and the diseased organ.
    """
    normal, diseased = (float(one[mask].sum()) for one in probability)
    little = NOTHING * float(mask.sum())
    return (diseased + little) / (normal + diseased + 2 * little)


def _outlines(masks: np.ndarray, classes: Sequence[str]) -> list[Outline]:
    found = []
    for label, mask in zip(classes, masks, strict=True):
        # of four times the size: lines of the borders of pixels, not of their centres
        large = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8)) if mask.any() else None
        if large is None:
            continue
        lines, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        found += [Outline(label, (line[:, 0] + 0.5) / 2) for line in lines if len(line) > 2]
    return found
