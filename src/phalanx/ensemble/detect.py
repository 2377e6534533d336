"""Predicting boxes: ``infer.sh`` of the task ``detect``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import model_validator

from ..config import Fraction
from ..predict.detect import DetectorRun, open_detector
from ..predict.instances import MaskMember
from ..predict.run import write_submission
from ..runtime.provenance import digest
from ..submission.boxes import BoxSubmission
from ..submission.probabilities import write_probabilities
from ..submission.table import check_target
from .box_thresholds import FILE, BoxThresholds, run_folder
from .common_options import RunOptions
from .prediction import find_records, is_finished
from .retrained import note_retrained


class InferBoxes(RunOptions):
    """Options of ``infer`` for runs that detect; those of prediction that are None are the run's own."""

    masks: bool = False  # of mask_rcnn: masks of the classes in RLE, as a segmentation predicts them, instead of boxes
    maps: bool = False  # also save their probability maps
    threshold: Fraction | None = None  # of masks; null: 0.5
    labels: bool = False  # which classes an image has, as a classifier predicts them, instead of boxes
    postprocess: Path | None = None  # thresholds of scores by class; null: none; not given: the run's own, if any

    @model_validator(mode="after")
    def _of_masks(self) -> "InferBoxes":
        for key in ("maps", "threshold"):
            if getattr(self, key) and not self.masks:
                raise ValueError(f"{key}: is of masks, not of boxes; add masks=true")
        if self.masks and self.labels:
            raise ValueError("labels: asks for probabilities of classes, and masks=true for masks; leave one out")
        for key in ("masks", "labels"):
            if getattr(self, key) and self.postprocess is not None:
                raise ValueError(
                    f"postprocess: has thresholds of boxes, and {key}=true asks for {key}; leave one of them out"
                )
        return self


def opened(name: str, options: InferBoxes) -> DetectorRun:
    """A run by its name; prints if it was trained again since it was voted."""
    run = open_detector(
        name, runs=options.runs, weights=options.weights, device=options.device, precision=options.precision,
        tta=options.tta,
    )  # fmt: skip
    note_retrained(name, run.hashes)
    return run


def infer_run(name: str, options: InferBoxes, run: DetectorRun | None = None) -> Path:
    """Predicts with one run into its CSV of boxes, of masks or of probabilities; returns the CSV's path.

    Args:
        run: if it is open already, as :func:`opened` returns it.
    """
    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    check_target(out)
    run = run or opened(name, options)
    member = MaskMember(run) if options.masks else None  # refuses a run without masks before images are looked for
    records, batch = find_records(run.config.data, options), options.batch or run.config.predict.batch
    if member is not None:
        write_submission(
            out, [member], records, threshold=0.5 if options.threshold is None else options.threshold,
            batch=batch, reuse_finished=True, progress=options.progress,
            maps_folder=out.with_suffix(".maps") if options.maps else None,
        )  # fmt: skip
        return out
    limits = None if options.labels else thresholds_of(run, options)
    parts = [run.key, [[record.name, record.image.stat().st_size] for record in records]]
    key = digest([*parts, "labels"] if options.labels else [*parts, limits.thresholds] if limits else parts)
    if is_finished(out, key):
        return out
    made = run.predict(records, batch, progress=options.progress)
    if options.labels:
        hashes = run.hashes
        write_probabilities(out, made.images, made.classes, presence(made), "sigmoid", run_hashes=hashes, key=key)
        return out
    if limits is not None:
        # rounded as those that the thresholds were chosen on
        kept = [one.rounded().above(limits.limits()) for one in made.boxes]
        made = replace(made, boxes=tuple(kept), thresholds=limits.thresholds)
    made.write(out, key=key)
    return out


def presence(found: BoxSubmission) -> np.ndarray:
    """Probability that an image has each class, float64[N, C]: the sum of the scores of its boxes, which is the number
    of objects to expect, at most 1."""
    sums = [np.bincount(one.classes, weights=one.scores, minlength=len(found.classes)) for one in found.boxes]
    return np.stack(sums).clip(0, 1)


def thresholds_of(run: DetectorRun, options: InferBoxes) -> BoxThresholds | None:
    """The thresholds to apply: of the file that is named, or else of the run's own, if it has any; they are printed.

    Raises:
        ConfigError: no such file, or one that has no thresholds. DataError: it is of another run.
    """
    if "postprocess" not in options.model_fields_set:
        folder = run_folder(run.name, options.runs, options.weights)
        path, found = folder / FILE, BoxThresholds.of_run(folder, run.name, run.classes, run.hashes)
    elif options.postprocess is not None:
        path, found = options.postprocess, BoxThresholds.read(options.postprocess)
        found.check(path, run.name, run.classes, run.hashes)
    else:
        return None
    if found is not None:
        print(found.to_text(path), flush=True)
    return found
