"""Commands that predict, vote, export and tune votes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import split_places

if TYPE_CHECKING:
    from ..standings.top import Wanted

MEMBERS: "dict[str, Wanted]" = {"soft": "runs", "hard": "any"}  # of other modes CSVs

INFER = """\
phalanx infer experiment=NAME[,NAME...] key=value ...        (bash infer.sh key=value ...)

Predicts with one run or more, each into a CSV of its own. The folds of a run are averaged.

  experiment=A,B         runs, or folders of phalanx export, which need only the CPU and onnxruntime
  bundle=DIR             instead: a folder of phalanx bundle, with data.root= or images=, out=, device=, devices=,
                         workers=, batch=, precision= and progress=; all else is decided in it
  out=FILE.csv           the CSV, for a single run (default: submissions/<run>.csv)
  data.root=DIR          data set whose test images are predicted (default: the run's own)
  images=DIR             predict every image below a plain folder instead
  maps=true              also save probability maps (submissions/<run>.maps/), for soft votes without the models
  weights=final|best|last   checkpoint. The best was chosen on the held-out fold, so its scores are optimistic;
                         the last is that of a run that is not finished
  tta=hflip,vflip,rotate average over mirrored views and those rotated by 90 degrees, in all combinations
  input_size=2048        long side of the image as it is predicted (default: data.size of the run)
  scales=0.75,1,1.25     average over several such sizes
  window=1024            predict sliding windows of that side, blended by Gaussians, instead of the whole image; or
                         window={size:1024,stride:512,skip_empty:true}, which leaves out those with nothing
                         brighter than air
  workers=2              processes that share the images; devices=0,1 assigns them GPUs in turn
  part=1/2               predict only this part of the images; workers= and devices= start such processes. The same
                         command without it finds what parts predicted, on whatever machines, and writes the CSV
  cluster=slurm          predict on a cluster, one job per run, of masks divided into workers= jobs: configs/cluster/,
                         with cluster.gpus=1 ... as of phalanx train (docs/clusters.md)
  threshold=0.5  batch=4 (images or windows at once)  device=auto  precision=auto  runs=runs  progress=true
  masks=true             of a run of mask_rcnn: masks of its classes, as a segmentation predicts them, instead of boxes
  labels=true            of a run of task=detect: probabilities of its classes, as a classifier predicts them
  postprocess=FILE.json  thresholds by class and cleaning of masks, from `phalanx tune members=NAME`; of task=classify a
                         temperature, from `phalanx calibrate NAME`; of task=detect thresholds of scores, by default
                         those that `phalanx tune members=NAME` stored with the run (null: all boxes)

Prediction options that are not given are the run's own (predict.* in training). If the command is killed, the same
command continues after the images that are done; with other members, options or images it starts again. A CSV that
the same command has finished is left as it is.
"""


def infer(words: Sequence[str]) -> int:
    """``phalanx infer``; returns 1 if a job of a cluster failed."""
    from ..config.compose import split_words
    from ..config.words import split_names
    from .task_of import task_of_members
    from .tasks import TASKS

    pairs = split_words(words)
    if "bundle" in pairs:
        from .bundle import infer_bundle

        infer_bundle(pairs)
        return 0
    cluster = None
    if any(key.partition(".")[0] == "cluster" for key in pairs):
        from ..config.cluster import take_cluster

        cluster = take_cluster(pairs)
    names = split_names(pairs.pop("experiment", "") or pairs.pop("name", ""))
    if not names:
        raise ConfigError("experiment=: name the run or runs to predict with, as in experiment=base")
    task = TASKS[task_of_members(names, Path(pairs.get("runs", "runs")))]
    if cluster is None:
        task.infer(names, pairs)
        return 0
    from .infer_jobs import infer_as_jobs

    return infer_as_jobs(task.infer_jobs(names, pairs), cluster, pairs)


ENSEMBLE = """\
phalanx ensemble mode=soft|hard members=A,B,C out=FILE.csv key=value ...        (bash ensemble.sh key=value ...)

  members=top:3          the three best runs out of fold; top:3:public and top:3:private by the ledger's columns, and
                         top:3:oof:brain_* among runs with such names. mode=hard takes their CSVs where there are any
  mode=soft              mean of probabilities. Members are run names, run folders, folders of phalanx export, or
                         folders of probability maps
  average=members|flat   average the folds of each run first, then the members (default), or all folds equally (soft)
  mode=hard              majority of masks. Members are all of those, and submission CSVs
  quorum=K               votes that a pixel needs (hard). By default more than half, so a tie is background; 1 is the
                         union, the number of members the intersection
  weights=2,1,1          votes of each member, whole numbers; votes=2,1,1 is the same. (weights=best is a checkpoint)
  postprocess=FILE.json  weights, thresholds and cleaning of masks from `phalanx tune` of these members (soft); of
                         task=classify a temperature for every member and thresholds (hard), from `phalanx calibrate`
  allow_misaligned=true  vote although a member is misaligned: shifted, mirrored, or with other class or image names
  out=FILE.csv           default: submissions/<mode>.csv
  out_of_fold=true       also vote the members' out-of-fold predictions by the same rule, and store their score with the
                         vote: the leaderboard shows it. A soft vote of masks needs runs with predict.oof_prob=true
  size=HxW               image size of CSV members without a sidecar; or images=DIR to read it from the images (hard)
  data.root= images= maps= weights= tta= input_size= scales= window= threshold= batch= device= devices= workers=
  precision= runs= progress= part=   as for infer; stored maps alone need neither the runs nor the images

phalanx ensemble mode=wbf|nms|soft_nms members=A.csv,B.csv,C.csv out=FILE.csv key=value ...

  mode=wbf               weighted boxes fusion of CSVs of boxes; nms and soft_nms choose among the boxes instead
  iou=0.55               boxes of a class that overlap more are one (default: 0.55 of wbf, 0.5 of nms)
  scores=mean|sum|average|max   how the scores of one object's boxes become one (wbf): mean and sum lower the score of
                         what few members find, average and max do not
  weights=2,1,1          weight of each member
  min_score=0  most=100  boxes of members with lower scores are left out; boxes per image
  size=HxW  allow_misaligned=true  out_of_fold=true  runs=runs  out=FILE.csv    as above

Prints how members agree, and records it in FILE.json. If the command is killed, or stopped by a misaligned member, the
same command continues.
"""


def ensemble(words: Sequence[str]) -> None:
    """``phalanx ensemble``."""
    from ..config.compose import split_words
    from ..config.words import split_names
    from .task_commands import record_command
    from .task_of import task_of_members
    from .tasks import TASKS

    pairs = split_words(words)
    pairs = ranked(pairs, MEMBERS.get(pairs.get("mode", ""), "csvs"))
    names = split_names(pairs.get("members", ""))
    out = TASKS[task_of_members(names, Path(pairs.get("runs", "runs")))].vote(pairs)
    record_command(out, "ensemble", names, pairs)
    print(out, flush=True)


def ranked(pairs: dict[str, str], wanted: "Wanted") -> dict[str, str]:
    """Pairs in which members that are named by their rank, as in ``members=top:3``, are named one by one."""
    from ..standings.top import best_members, is_ranked

    if not is_ranked(pairs.get("members", "")):
        return pairs

    from ..config.words import join_list

    names = best_members(pairs["members"], Path(pairs.get("runs", "runs")), wanted)
    return pairs | {"members": join_list(names)}


EXPORT = """\
phalanx export RUN|FOLD [out=DIR] key=value ...

Writes a folder that phalanx infer and ensemble accept instead of the run (experiment=DIR), on the CPU and without
torch. It contains one ONNX file per fold, PointRend included, and export.json: how images are prepared and masks made,
and the hashes of all files. Each network is compared with PyTorch on noise and on the first image to predict. The
export fails if coarse logits differ by more than 0.0001 (on large pictures twice PyTorch's own distance from 64 bits,
if that is more), or masks in more than 0.01% of the pixels. Runs that segment or classify can be exported, detectors
cannot.

  RUN                    a run's name or folder, or the folder of one fold
  out=DIR                must not exist (default: exports/<run>)
  weights=final|best|last   checkpoint, as for infer
  data.root=DIR          data set of the image to compare on (default: the run's own), or images=DIR of a plain folder
  runs=DIR               folder of the runs (default: runs)

Needs onnx, onnxscript and onnxruntime (setup.sh installs them; else: pip install '.[onnx]'). Predicting needs only
onnxruntime. The picture size is fixed by the run's data.size and predict.*; of the options of infer, tta=, threshold=,
batch= and workers= are free. Runs conditioned on metadata (model.metadata) cannot be exported.
"""


def export(words: Sequence[str]) -> None:
    """``phalanx export``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"expected one RUN or FOLD, got {' '.join(places) or 'nothing'}; see phalanx export --help")

    from ..config.words import typed
    from ..predict.exported import ExportOptions
    from .task_of import task_of_run
    from .tasks import TASKS

    options = typed(ExportOptions, pairs)
    print(TASKS[task_of_run(places[0], options.runs)].export(places[0], options), flush=True)


TUNE = """\
phalanx tune members=A,B,C|top:3[:oof|public|private] [out=submissions/postprocess.json]
phalanx tune members=RUN [thresholds=auto|class|one]             (a run that detects)

Tunes a soft vote on the out-of-fold maps of one run or more, trained with predict.oof_prob=true on the same folds. Each
choice is fitted on all folds but one and scored on that one:

  members                greedy forward selection among the members
  weights                votes of each member, the best of up to 255 proportions; of more than 8 members, greedy
                         selection with replacement (one pass over all maps per step)
  thresholds             a threshold for each class, .05 to .95
  smallest               remove the parts of a class's mask below 16, 64, 256 or 1024 pixels
  largest                retain only the largest part of a class
  holes                  fill the holes of a class

A class or member departs from the default only if that is 3 standard errors better in the folds it is fitted on. A
choice is adopted if its cross-fitted gain in mean Dice is .0001 or more, with a 95% interval over patients above 0. The
table also shows the Dice fitted and scored on the same images. infer and ensemble mode=soft apply the file with
postprocess=FILE. The maps are those of the runs' own predict.* options: predict with the same options.

  out=FILE.json          the file to write
  data.root=DIR          the data set of the training images, if it was moved
  runs=runs  progress=true

Of a run that detects, it chooses the scores from which boxes count, with the highest F1 at the run's f1_iou, on the
out-of-fold boxes, and writes them into runs/RUN/thresholds.json, where infer finds them:

  thresholds=auto        auto: one for each class, if that has the higher mean F1 on images it was not chosen on; class:
                         one for each in any case; one: one for all. A class with fewer than 10 objects has that for all
  out=FILE.json          another file, for infer postprocess=FILE
"""


def tune(words: Sequence[str]) -> None:
    """``phalanx tune``."""
    from ..config.compose import split_words

    pairs = split_words(words)
    if "members" not in pairs:
        raise ConfigError("members=: name the runs to tune, as in members=base,unetpp")
    pairs = ranked(pairs, "runs")

    from ..config.words import split_names
    from .task_of import task_of_members
    from .tasks import TASKS

    task = task_of_members(split_names(pairs["members"]), Path(pairs.get("runs", "runs")))
    print(TASKS[task].tune(pairs), flush=True)
