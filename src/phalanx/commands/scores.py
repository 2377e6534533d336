"""Commands that score, compare and draw predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import report_path, split_places, switch

if TYPE_CHECKING:
    from ..scoring.class_figures import ClassTable

SCORE = """\
phalanx score FILE.csv [TRUTH] [key=value ...] [json=FILE] [partial=true]

  TRUTH                  the ground truth: a folder of polygon JSON (<patient>/<image>.json), a COCO file, a folder of
                         PNG masks, or another submission CSV. A CSV has no patients, so the intervals are over images
                         and too narrow. Default: the annotated images of data.root=DIR
  data=NAME              classes of a CSV without sidecar (configs/data/)
  data.layout= data.coco.group= data.masks.kind= ...     layout of the ground truth, as for training
  size=HxW               image size of a CSV without sidecar
  surface=2              also compute surface Dice at this tolerance in pixels, and the 95% Hausdorff distance
  spacing=0.14           mm per pixel, to report these in mm as well
  postprocess=FILE.json  of a CSV of probabilities: temperature and thresholds of `phalanx calibrate`
  data.groups_file=FILE.csv   of a CSV of probabilities: patients of the images, as `phalanx check groups=` writes them
  "f1_iou={positive:diseased,negative:normal,iou:0.5}"   F1 of images that are diseased or not, found with that IoU;
                         several in [..., ...]. both=any|larger_area|most_confident decides an image with both classes,
                         below=fn|fn_and_fp counts a disease that is found below the IoU
  sort=fn                order of the classes, the worst first: value, fp, fn, precision, recall, or a column of the
                         table by its name; default: name, as they are in the data set
  json=FILE              write all numbers
  partial=true           FILE contains only some of the images, as an out-of-fold CSV does; score those

A CSV of probabilities (image_name and a column per class) is scored as a classification:

  TRUTH                  a CSV of labels, or a folder with one folder per class
  data.table.image= data.table.group= data.table.label=   columns of that CSV; data.folders.group_pattern= of the names
  data.classes=[A,B]     of a softmax, score these columns of TRUTH; default: all that the CSV has too
  head=softmax|sigmoid   of a CSV without sidecar
  threshold=0.5          of sigmoids, or of a softmax where images have several labels
  healthy=CLASS          also scores any disease against healthy
  prevalence=.25,.1,.0001   predictive values and average precision where this fraction is ill

A CSV of boxes (image_name, class, score, x_min, y_min, x_max, y_max) is scored as a detection:

  TRUTH                  a CSV of boxes (its score is optional; ignore and patient may be there), a folder of polygon
                         JSON, a COCO file; or data.root=DIR
  data=NAME              classes, data.pairs (left and right) and data.labels (several names for a class)
  iou=0.5                for F1 and the confusion matrix; average precision always has COCO's thresholds
  threshold=0.5          boxes with lower scores do not count for F1, the confusion matrix and f1_iou; or one for each
                         class: "{normal:.4,diseased:.6}". Default: those that infer applied, else 0.5
  max_boxes=100          boxes per image and class that count
  size=HxW  f1_iou=      as above
"""


def score(words: Sequence[str]) -> None:
    """``phalanx score``."""
    places, pairs = split_places(words)
    partial = switch(pairs, "partial")
    if not 1 <= len(places) <= 2:
        raise ConfigError(f"expected FILE.csv TRUTH, got {' '.join(places) or 'nothing'}; see phalanx score --help")

    from ..runtime.files import write_report
    from .task_of import task_of_csv
    from .tasks import TASKS

    report, sort = report_path(pairs, "score"), pairs.pop("sort", None)
    file, truth = Path(places[0]), Path(places[1]) if places[1:] else None
    text, values = TASKS[task_of_csv(file)].score(file, truth, pairs, partial, sort)
    print(text)
    if report is not None:
        write_report(report, "score", values)


COMPARE = """\
phalanx compare A.csv B.csv TRUTH [sort=fn] [key=value ...] [json=FILE] [partial=true]
phalanx compare runs/A runs/B [sort=fn] [json=FILE]

Scores both as phalanx score does (same options except surface= and spacing=), or reads the out-of-fold scores of two
runs. Prints the paired difference per class and overall, with a 95% interval over patients, and the p-value of a
sign-flip permutation test over patients. Of boxes: of map, map50 and f1; with f1_iou= also of that. Then false
positives, false negatives, precision and recall of each class, side by side; phalanx review draws them.

  sort=value             order of the classes there, the worst of B first: or fp, fn, precision, recall, name
"""


def compare(words: Sequence[str]) -> None:
    """``phalanx compare``."""
    places, pairs = split_places(words)
    partial = switch(pairs, "partial")
    if not 2 <= len(places) <= 3:
        raise ConfigError(f"expected A B TRUTH, got {' '.join(places) or 'nothing'}; see phalanx compare --help")

    from ..runtime.files import write_report
    from ..scoring.class_figures import check_sort, side_by_side, tables_json
    from .task_of import task_of_csv, task_of_run
    from .tasks import TASKS

    report, sort = report_path(pairs, "comparison"), pairs.pop("sort", "value")
    first, second, *truth = map(Path, places)
    check_sort(sort)
    task = task_of_run(str(first), Path()) if first.is_dir() else task_of_csv(first)
    text, values, classes = TASKS[task].compare(first, second, truth[0] if truth else None, pairs, partial)
    print(text)
    if first.is_dir() and second.is_dir():
        classes = _classes_of_runs(task, first, second)
    if classes is not None:
        print("", side_by_side(*classes, sort), sep="\n")
    if report is not None:
        write_report(report, "comparison", values | ({"by_class": tables_json(*classes)} if classes else {}))


def _classes_of_runs(task: str, first: Path, second: Path) -> "tuple[ClassTable, ClassTable] | None":
    """The classes of two runs, out of fold; None, and a note, if their data set is not there."""
    from ..errors import PhalanxError
    from ..review.evaluate_options import EvaluateOptions
    from .tasks import TASKS

    try:
        one, other = (TASKS[task].evaluate(str(run), EvaluateOptions()) for run in (first, second))
    except PhalanxError as error:
        print(f"note: classes are not compared: {error}")
        return None
    return one.class_table(), other.class_table()


PICTURE = """\
phalanx picture FILE.csv TRUTH IMAGES out=FILE.png [rows=4] [partial=true] [size=HxW]

Draws images with their ground truth and prediction, masks or boxes, from the worst to the best.

  IMAGES                 folder with the images, searched recursively
  rows=4                 number of images
  size=HxW               image size of a CSV without sidecar
  partial=true           FILE contains only some of the images of the ground truth; draw those
  data= data.layout= data.coco.group= ...   classes and layout of the ground truth, as for phalanx score
  threshold=  iou=       of boxes: those that are drawn, and from which IoU they are right, as for phalanx score
"""


def picture(words: Sequence[str]) -> None:
    """``phalanx picture``."""
    places, pairs = split_places(words)
    if len(places) != 3 or "out" not in pairs:
        raise ConfigError("expected FILE.csv TRUTH IMAGES out=FILE.png; see phalanx picture --help")

    from ..config import nearest
    from ..config.words import typed
    from ..visualize.overlay import PictureOptions, draw
    from .scoring import open_pair
    from .task_of import task_of_csv

    if (task := task_of_csv(Path(places[0]))) == "classify":
        raise ConfigError(
            f"{places[0]}: has probabilities of classes, and only masks and boxes are drawn; see phalanx cam --help"
        )
    partial = switch(pairs, "partial")
    options = typed(PictureOptions, {key: pairs.pop(key) for key in ("out", "rows") if key in pairs})
    more = ("threshold", "iou") if task == "detect" else ()
    for key in pairs:
        if key not in ("size", "data", *more) and not key.startswith("data."):
            known = ["out", "rows", "size", "partial", "data.layout", *more]
            raise ConfigError(f"{key}: no such option{nearest(key, known)}")
    if task == "detect":
        from ..visualize.boxes import draw_boxes
        from .scoring_boxes import score_csv

        found = score_csv(Path(places[0]), Path(places[1]), pairs, partial=partial)
        draw_boxes(found.boxes, Path(places[2]), options.out, rows=options.rows)
        print(options.out)
        return
    submission, truth, _ = open_pair(Path(places[0]), Path(places[1]), pairs, partial=partial)
    draw(submission, truth, Path(places[2]), options.out, rows=options.rows)
    print(options.out)
