"""Predicting boxes: ``infer.sh`` of the task ``detect``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import model_validator

from ..config import Fraction
from ..data.layouts import test_place, test_records
from ..data.records import Record, scan
from ..errors import DataError, shown
from ..predict.detect import DetectorRun, open_detector
from ..predict.instances import MaskMember
from ..predict.run import write_submission
from ..runtime.provenance import digest
from ..runtime.sidecar import read_sidecar
from ..submission.table import check_target
from .box_thresholds import FILE, BoxThresholds, run_folder
from .common_options import RunOptions
from .retrained import note_retrained


class InferBoxes(RunOptions):
    """Options of ``infer`` for runs that detect; those of prediction that are None are the run's own."""

    masks: bool = False  # of mask_rcnn: masks of the classes in RLE, as a segmentation predicts them, instead of boxes
    maps: bool = False  # also save their probability maps
    threshold: Fraction | None = None  # of masks; null: 0.5
    postprocess: Path | None = None  # thresholds of scores by class; null: none; not given: the run's own, if any

    @model_validator(mode="after")
    def _of_masks(self) -> "InferBoxes":
        for key in ("maps", "threshold"):
            if getattr(self, key) and not self.masks:
                raise ValueError(f"{key}: is of masks, not of boxes; add masks=true")
        if self.masks and self.postprocess is not None:
            raise ValueError(
                "postprocess: has thresholds of boxes, and masks=true asks for masks; leave one of them out"
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
    """Predicts with one run into its CSV of boxes, or of masks; returns the CSV's path.

    Args:
        run: if it is open already, as :func:`opened` returns it.
    """
    out = options.out or Path("submissions") / f"{Path(name).name}.csv"
    check_target(out)
    run = run or opened(name, options)
    member = MaskMember(run) if options.masks else None
    records = find_records(run, options)
    if member is not None:
        write_submission(
            out, [member], records, threshold=0.5 if options.threshold is None else options.threshold,
            batch=options.batch or run.config.predict.batch, reuse_finished=True, progress=options.progress,
            maps_folder=out.with_suffix(".maps") if options.maps else None,
        )  # fmt: skip
        return out
    limits = thresholds_of(run, options)
    parts = [run.key, [[record.name, record.image.stat().st_size] for record in records]]
    key = digest([*parts, limits.thresholds] if limits else parts)
    if _is_finished(out, key):
        print(f"{out}: finished before; delete it to predict it again", flush=True)
        return out
    made = run.predict(records, options.batch or run.config.predict.batch, progress=options.progress)
    if limits is not None:
        # rounded as those that the thresholds were chosen on
        kept = [one.rounded().above(limits.limits()) for one in made.boxes]
        made = replace(made, boxes=tuple(kept), thresholds=limits.thresholds)
    made.write(out, key=key)
    return out


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


def _is_finished(out: Path, key: str) -> bool:
    try:
        sidecar, _ = read_sidecar(out)
    except DataError:
        return False
    return sidecar is not None and sidecar.key == key


def find_records(run: DetectorRun, options: InferBoxes) -> Sequence[Record]:
    """The images to predict: a plain folder, or the test set of a root in the layout the run was trained on."""
    from ..data.listing import list_images

    data = run.config.data.model_copy(update={"root": options.root or run.config.data.root})
    place = options.images or test_place(data)
    if place is not None and place.is_dir() and (text := list_images(place).to_text(place)):
        print(f"note: {shown(text)}", flush=True)
    return scan(options.images) if options.images is not None else test_records(data)
