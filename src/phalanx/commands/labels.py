"""Commands about labels: which may be wrong, whether something else gives them away, what probabilities are worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..errors import ConfigError
from .args import number_of, report_path, split_places, switch

SUSPECTS = """\
phalanx suspects RUN [out=suspects.csv] [picture=FILE.png] [quarantine=FILE top=K] [by=image|patient] [runs=DIR]
                     [data.root=DIR]

Ranks the annotations of a run by how little its out-of-fold predictions agree with them: candidates for errors, the
likeliest first. All finished folds are used. Of a ranking, look at as many as you have time for: it promises no number.

Labels of task=classify: an image's score is the softmin (temperature .1) of the probabilities of its labels. Where the
images of a patient share one class, as a diagnosis, each label is judged by all images of its patient.
Masks and boxes: each reason is the Dice, or score times IoU, that an annotation lacks of what its class has elsewhere;
they are combined as independent. Reasons: low agreement, a swap with another class, missing and extra objects, order
along a finger, borders that disagree, improbable pixels (with predict.oof_prob=true).

  out=FILE.csv           all annotations with scores and reasons (default: suspects.csv)
  picture=FILE.png       of masks and boxes: the top=K annotations in doubt, drawn beside the prediction
  top=20                 rows to print and draw, and to write into quarantine=
  quarantine=FILE        write the images of the top=K to a new file, for data.quarantine=FILE of phalanx train; needs
                         top=
  by=auto                image or patient: by what labels of one class each are judged (default: by the patient, if
                         its images share their class)
  runs=DIR               folder of the runs (default: runs)
  data.root=DIR          of masks and boxes: the data set, if it was moved
"""


def suspects(words: Sequence[str]) -> None:
    """``phalanx suspects``."""
    places, pairs = split_places(words)
    top = _whole(pairs.pop("top"), "top", 1) if "top" in pairs else None
    out, runs = Path(pairs.pop("out", "suspects.csv")), Path(pairs.pop("runs", "runs"))
    quarantine = Path(pairs.pop("quarantine")) if "quarantine" in pairs else None
    picture = Path(pairs.pop("picture")) if "picture" in pairs else None
    root = Path(pairs.pop("data.root")) if "data.root" in pairs else None
    by = pairs.pop("by", "auto")
    _refuse_others(pairs, ["out", "top", "quarantine", "runs", "picture", "data.root", "by"])
    if by not in ("auto", "image", "patient"):
        raise ConfigError(f"by={by}: expected image, patient or auto")
    if len(places) != 1:
        raise ConfigError(f"expected one RUN, got {' '.join(places) or 'nothing'}; see phalanx suspects --help")
    if out.suffix != ".csv":
        raise ConfigError(f"out={out}: expected a file name that ends in .csv, as in out=suspects.csv")
    if quarantine is not None and top is None:
        raise ConfigError("quarantine=: needs the number of images to leave out, as in top=20")
    if quarantine is not None and quarantine.exists():
        raise ConfigError(f"{quarantine}: exists and may contain your edits; give another name, or delete it yourself")

    from .task_of import task_of_run

    if (task := task_of_run(places[0], runs)) != "classify":
        if by != "auto":
            raise ConfigError(f"by={by}: is of labels; {places[0]} has task={task}")
        _suspect_annotations(task, places[0], runs, root, out, picture, quarantine, top)
        return
    if given := "picture" if picture is not None else "data.root" if root is not None else None:
        raise ConfigError(f"{given}: is of runs with masks or boxes; phalanx review draws images with wrong labels")

    from ..data.quarantine import write_quarantine
    from ..ensemble.classify_oof import read_out_of_fold
    from ..runtime.files import refuse_foreign, write_text
    from ..scoring.suspects import HEADER, By, rank_suspects, suspects_csv, suspects_text

    refuse_foreign(out, ",".join(HEADER))
    source = read_out_of_fold(places[0], runs)
    if source.negative is not None:
        raise ConfigError(
            f"{source.run}: its softmax shares probability among an image's labels, so a low one is no doubt; name a "
            "run with sigmoids"
        )
    for note in source.notes:
        print(f"note: {note}")
    found, note = rank_suspects(
        source.probabilities, source.labels, source.classes, source.head, images=source.images,
        patients=source.patients, folds=source.folds.tolist(), by=cast(By, by),
    )  # fmt: skip
    if note:
        print(f"note: {note}")
    print(suspects_text(found, top or 20), flush=True)
    write_text(out, suspects_csv(found))
    print(out)
    if quarantine is not None:
        write_quarantine(quarantine, {one.image: one.reason for one in found[:top]})
        print(f"{quarantine}: {len(found[:top])} image(s); look at them, and train without them with "
              f"data.quarantine={quarantine}")  # fmt: skip


def _suspect_annotations(
    task: str, name: str, runs: Path, root: Path | None, out: Path, picture: Path | None, quarantine: Path | None,
    top: int | None,
) -> None:  # fmt: skip
    """The same of masks and boxes."""
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"picture={picture}: expected a file name that ends in .png")

    from ..data.quarantine import write_quarantine
    from ..review.annotation_suspects import (
        draw_suspects,
        header,
        rank_annotations,
        reasons_by_image,
        suspects_csv,
        suspects_text,
    )
    from ..review.evaluate_options import EvaluateOptions
    from ..runtime.files import refuse_foreign, write_text
    from .tasks import TASKS

    refuse_foreign(out, header())
    one = TASKS[task].evaluate(name, EvaluateOptions(runs=runs, root=root))
    for note in one.notes:
        print(f"note: {note}")
    found = rank_annotations(one)
    print(suspects_text(one, found, top or 20), flush=True)
    write_text(out, suspects_csv(one, found))
    print(out)
    if picture is not None:
        draw_suspects(one, found, top or 20, picture)
        print(picture)
    if quarantine is not None:
        reasons = reasons_by_image(one, found[:top])
        write_quarantine(quarantine, reasons)
        print(f"{quarantine}: {len(reasons)} image(s); look at them, and train without them with "
              f"data.quarantine={quarantine}")  # fmt: skip


CONFOUND = """\
phalanx confound data=NAME data.root=DIR [permutations=199] [json=FILE] key=value ...

Tests whether the class of a training image can be told from what is not the object: the grey levels of its background
and borders, the noise and power spectrum there, size and type of its file. A logistic regression predicts patients
that it was not fitted on (5 folds); its AUC is compared with those on labels permuted over patients. If it is clearly
above them, a network may learn where an image comes from. The exit code is 1 if a confound is found: p <= .01, and a
mean AUC of .6 or that of a class of .7. What is weaker is reported as a trace.

  permutations=199       of the labels, 99 at least; the smallest p-value is 1 / (permutations + 1)
  json=FILE              write all numbers
  seed=0                 of the folds and permutations
  data.quarantine=FILE data.groups_file=FILE data.folders.group_pattern=...   the data set, as for training
  workers=N              processes (default: all cores)      progress=false   no progress bar
"""


def confound(words: Sequence[str]) -> int:
    """``phalanx confound``; returns 1 if one is found."""
    places, pairs = split_places(words)
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in data.root={places[0]}; see phalanx confound --help")
    report = report_path(pairs, "confound")
    permutations = _whole(pairs.pop("permutations", "199"), "permutations", 99)

    from ..config import ClassifyConfig
    from ..config.compose import compose

    config = compose(pairs)
    if not isinstance(config, ClassifyConfig):
        raise ConfigError(f"task={config.task}: this command needs a data set with labels, as in data=brain")

    from ..checks.confound import find_confound
    from ..config import ClassifyData
    from ..data.root import resolve_root
    from ..runtime.files import write_report

    data = resolve_root(config.data)
    assert isinstance(data, ClassifyData)
    found = find_confound(
        data, seed=config.seed, permutations=permutations, workers=config.workers, progress=config.progress
    )
    print(found.to_text(), flush=True)
    if report is not None:
        write_report(report, "confound", found.to_json())
    return int(found.detected)


CALIBRATE = """\
phalanx calibrate RUN [out=submissions/calibration.json] [per_class=true] [runs=DIR]

Fits a temperature to the out-of-fold probabilities of all finished folds of a run of task=classify, and a threshold per
class to those of sigmoids, or of a softmax with data.targets=shares. Each is fitted on all folds but one and measured
on that one, and adopted if the interval of its improvement over patients is above 0. Prints the expected calibration
error before and after, and the table.
infer, ensemble and score take the file as postprocess=FILE: the temperature divides the logits of probabilities (once:
a CSV records it), and the thresholds decide in scores and hard votes.

  out=FILE.json          the file to write; the reliability diagram is FILE.png
  per_class=true         a temperature for each sigmoid
  runs=DIR               folder of the runs (default: runs)
"""


def calibrate(words: Sequence[str]) -> None:
    """``phalanx calibrate``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"expected one RUN, got {' '.join(places) or 'nothing'}; see phalanx calibrate --help")
    per_class = switch(pairs, "per_class")

    from ..config.words import typed
    from ..ensemble.calibrate import CalibrateOptions
    from ..ensemble.calibrate import calibrate as calibrate_run

    options = typed(CalibrateOptions, pairs | {"per_class": str(per_class).lower()})
    print(calibrate_run(places[0], options).to_text(), options.out, options.picture, sep="\n")


def _whole(text: str, key: str, least: int) -> int:
    value = number_of(text)
    if value is None or value != int(value) or not least <= value <= 10**6:
        raise ConfigError(f"{key}={text}: expected a whole number from {least}")
    return int(value)


def _refuse_others(pairs: dict[str, str], known: list[str]) -> None:
    from ..config import nearest

    for key in pairs:
        raise ConfigError(f"{key}: no such option{nearest(key, known)}")


OVERLAYS = """\
phalanx overlays data=NAME data.root=DIR out=DIR [data.overlays=bilinear] [count=24]

Shows what data.overlays=black|fast_marching|bilinear removes from the images of a data set: calipers, dotted or dashed
lines and frames, arrows, results and their boxes, in any colour. Captions in the outermost lines and columns of the
screen stay, as do grey wedges. Writes overlays.csv, the fraction of each image that is removed, and
pages (.png) with images before, what was found, and images after.

  out=DIR                for the table and the pages
  count=24               images in the pages, from the one of which most is removed to the one of which least is
  data.overlays=         the way of removal that is shown; default: bilinear
  workers=N              processes (default: all cores)      progress=false   no progress bar
"""


def overlays(words: Sequence[str]) -> None:
    """``phalanx overlays``."""
    from ..config import ClassifyConfig
    from ..config.compose import compose_as, split_words

    pairs = split_words(words)
    out, count = pairs.pop("out", ""), pairs.pop("count", "24")
    if not out:
        raise ConfigError("out=DIR: missing; name the folder for the table and the pages, as in out=runs/overlays")
    if not count.isdecimal() or not 1 <= int(count) <= 10_000:
        raise ConfigError(f"count={count}: expected a whole number from 1 to 10000")
    config = compose_as(ClassifyConfig, pairs)

    from ..data.root import resolve_root
    from ..visualize.removed_marks import show_overlays

    data = resolve_root(config.data)
    print(show_overlays(data, Path(out), count=int(count), workers=config.workers, progress=config.progress))
