"""The command that shows the failures of runs."""

from collections.abc import Sequence

from ..errors import ConfigError
from .args import split_places

REVIEW = """\
phalanx review RUN [OTHER ...] out=DIR [worst=20] [rows=10] [key=value ...]

Failure review of runs with masks or boxes of a normal and a diseased class, by what finished folds predicted of the
images that they held out; no ground truth of test images is needed. Writes, for each run, below DIR/RUN:

  cells.csv              each image with its cell of F1 at an IoU: truth, prediction, IoU, areas, confidence
  tp.png fp.png ...      the images behind a cell, the lowest IoU first; true outlines are solid, predicted ones dashed
  suspects.csv .png      annotations in doubt: by area, width along the midline of long objects, prediction
  area.png width.png     area, and least over median width, against class

and below DIR, for all of them, comparison.png (a row per image, a column per run, IoU under each), comparison.csv,
curves.png and curves.csv (F1 over iterations; needs image_f1= and validate_steps= of training) and review.json.

  RUN, OTHER             runs, their folders, or the folders of single folds (runs/NAME/fold0)
  out=DIR                the folder to write
  worst=20               images in each gallery; all are in the tables
  rows=10                images of the comparison
  "f1_iou={positive:diseased,negative:normal,iou:0.5}"   the rule; default: image_f1 of the run, else its two classes
  split=test             the test images instead: predicts them, and needs their ground truth
  truth=PATH             that ground truth, if it is not in test/answers of the data set
  data.root=DIR          the data set, if it was moved
  threshold=0.5          boxes with lower scores do not count; default: those of phalanx tune, else the best one out
                         of fold
  midline=auto           true or false: whether objects are long and thin, and have a width along a midline
  runs=runs device=auto progress=true
"""


def review(words: Sequence[str]) -> None:
    """``phalanx review``."""
    places, pairs = split_places(words)
    if not places:
        raise ConfigError("expected RUN, got nothing; see phalanx review --help")
    if "out" not in pairs:
        raise ConfigError("out=DIR: missing; name the folder for tables and pictures, as in out=runs/review")

    from ..config.words import typed
    from ..review.options import ReviewOptions
    from ..review.run import check_names, check_place, write_review
    from .f1_iou import f1_rules
    from .task_of import task_of_members
    from .tasks import TASKS

    rules = f1_rules(pairs)
    if len(rules) > 1:
        raise ConfigError("f1_iou=: a review is of one disease; give one rule")
    options = typed(ReviewOptions, pairs)
    options = options.model_copy(update={"f1_iou": rules[0] if rules else None})
    task = task_of_members(places, options.runs)
    check_place(options.out, [])
    reviewed = [TASKS[task].review(name, options) for name in places]
    check_names([one.name for one in reviewed])
    print(write_review(reviewed, options))
