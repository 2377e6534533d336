"""The command that shows the failures of runs and votes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places
from .evaluations import evaluation_of

if TYPE_CHECKING:
    from ..review.evaluated import Evaluated
    from ..review.options import ReviewOptions

REVIEW = """\
phalanx review RUN|VOTE.csv [OTHER ...] [out=DIR] [worst=20] [classes=A,B] [sort=fn] [key=value ...]

Failure review by what finished folds predicted of the images that they held out; no ground truth of test images is
needed. A vote is reviewed by the members' out-of-fold predictions, combined by its own rule. Writes into DIR:

  worst.png              the worst images: ground truth, prediction, false positives (striped) and negatives (dotted),
                         and a zoom at full resolution on the worst classes; below, in the same columns, each OTHER.
                         Labels: probabilities with marks at what is true, and Grad-CAM
  classes.png            the worst classes, each by the image in which most of it is wrong
  classes.csv images.csv value, false positives, false negatives, precision, recall of each class and image
  balance.png            false positives and negatives by class, of all runs side by side: over- and under-prediction
  size.png               Dice against area, of masks; confusion.png of labels
  review.json            what was reviewed

Of runs with masks or boxes of a normal and a diseased class, also below DIR/RUN, by F1 at an IoU:

  cells.csv              each image with its cell: truth, prediction, IoU, areas, confidence
  tp.png fp.png ...      the images behind a cell, the lowest IoU first; true outlines are solid, predicted ones dashed
  suspects.csv .png      annotations in doubt: by area, width along the midline of long objects, prediction
  area.png width.png     area, and least over median width, against class

and below DIR comparison.png (a row per image, a column per run, IoU under each), comparison.csv, curves.png and
curves.csv (F1 over iterations; needs image_f1= and validate_steps= of training).

  RUN, OTHER             runs, their folders, or the folders of single folds (runs/NAME/fold0)
  out=DIR                the folder to write; default: reviews/RUN
  worst=20               images in each gallery; all are in the tables
  classes=A,B            only these classes
  sort=value             order of classes, and of images.csv: or fp, fn, precision, recall, name
  rows=10                images of the comparison
  "f1_iou={positive:diseased,negative:normal,iou:0.5}"   the rule; default: image_f1 of the run, else its two classes
  split=test             F1 at an IoU of the test images instead: predicts them, and needs their ground truth
  truth=PATH             ground truth of the test images if it is not in test/answers of the data set; or of a CSV,
                         which is then reviewed as it is
  images=DIR             images of that CSV, if they are not the test images of its run's data set
  data.root=DIR          the data set, if it was moved
  threshold=0.5          boxes with lower scores do not count; default: those of phalanx tune, else the best one out
                         of fold. Of a CSV of sigmoids: of their probabilities; default: that of the recipe
  midline=auto           true or false: whether objects are long and thin, and have a width along a midline
  runs=runs device=auto progress=true
"""


def review(words: Sequence[str]) -> None:
    """``phalanx review``."""
    places, pairs = split_places(words)
    if not places:
        raise ConfigError("expected RUN, got nothing; see phalanx review --help")

    from ..config.words import typed
    from ..review.options import ReviewOptions
    from ..review.run import check_names, check_place, common_images, write_review
    from ..runtime.files import write_report
    from ..runtime.sidecar import is_csv
    from .f1_iou import f1_rules
    from .task_of import task_of_members
    from .tasks import TASKS

    rules = f1_rules(pairs)
    if len(rules) > 1:
        raise ConfigError("f1_iou=: a review is of one disease; give one rule")
    options = typed(ReviewOptions, pairs)
    out = options.out if "out" in pairs else options.out / Path(places[0]).name.removesuffix(".csv")
    options = options.model_copy(update={"f1_iou": rules[0] if rules else None, "out": out})
    files = [name for name in places if is_csv(name)]
    if options.truth is not None and options.split != "test" and not files:
        raise ConfigError("truth: is of the test images; add split=test, or name a CSV")
    if options.f1_iou is not None and files:
        raise ConfigError(
            f"f1_iou: a CSV is reviewed by its metric; phalanx score {files[0]} TRUTH f1_iou=... has the figure"
        )
    task = task_of_members(places, options.runs)
    check_place(out, [])
    if options.split == "test":
        if files:
            raise ConfigError(f"{files[0]}: split=test predicts with runs; review a CSV with truth=PATH")
        reviewed = [TASKS[task].review(name, options) for name in places]
        check_names([one.name for one in reviewed])
        print(write_review(reviewed, options))
        return

    from ..review.general import asked_of, write_general

    evaluated = [_evaluated(name, task, options) for name in places]
    check_names([one.name for one in evaluated])
    check_place(out, [one.name for one in evaluated])
    asked = asked_of(evaluated[0], options.worst, options.classes, options.sort)
    # before anything is written: it may refuse the rule, or the runs
    by_cell = not files and _has_rule(evaluated[0], options)
    reviewed = [TASKS[task].review(name, options) for name in places] if by_cell else []
    if by_cell:
        common_images(reviewed)
    for note in (note for one in evaluated for note in one.notes):
        print(f"note: {note}", flush=True)
    about = {"runs": [{"name": one.name, one.metric.name: one.value} for one in evaluated]}
    write_report(out / "review.json", "review", {**about, "split": "oof", "finished": False})
    print(write_general(evaluated, asked, out), flush=True)
    if reviewed:
        print(write_review(reviewed, options))
        return
    write_report(out / "review.json", "review", {**about, "split": "oof", "finished": True})


def _evaluated(name: str, task: str, options: "ReviewOptions") -> "Evaluated":
    from ..review.evaluate_options import EvaluateOptions

    shared = {"root": options.root, "threshold": options.threshold, "runs": options.runs, "device": options.device}
    asked = EvaluateOptions.model_validate(shared)
    return evaluation_of(name, task, asked, options.truth, options.images)


def _has_rule(one: "Evaluated", options: "ReviewOptions") -> bool:
    """Whether images are positive or negative by a rule: the one given, the recipe's, or that of two classes."""
    if one.unit == "images":
        if options.f1_iou is not None:
            raise ConfigError("f1_iou: is of masks or boxes, and this run has labels; leave it out")
        return False
    return options.f1_iou is not None or getattr(one.config, "image_f1", None) is not None or len(one.classes) <= 2
