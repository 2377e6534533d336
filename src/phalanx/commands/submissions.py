"""Commands that predict and vote."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .args import split_places

INFER = """\
phalanx infer experiment=NAME[,NAME...] key=value ...        (bash infer.sh key=value ...)

  experiment=A,B         runs to predict with (all their folds, averaged): one submissions/<run>.csv each; or folders
                         of phalanx export, on the CPU by onnxruntime alone
  out=FILE.csv           where to, for a single run (default: submissions/<run>.csv)
  data.root=DIR          data set whose test images are predicted (default: the run's own)
  images=DIR             predict every image below a plain folder instead
  maps=true              also keep probability maps (submissions/<run>.maps/), for soft votes without the models
  weights=final|best|last   which weights (best was chosen on the held-out fold, so its scores are optimistic; last
                         are those of the last checkpoint, of a run that is unfinished)
  tta=hflip,vflip,rotate average over mirrored views and those turned by 90 degrees, in all combinations
  grid=2048              long side of the image when it is predicted (default: data.size of the run)
  scales=0.75,1,1.25     average over several such sizes
  window=1024            predict windows of that side instead of the whole, blended by Gaussians; or
                         window={size:1024,stride:512,skip:true}: skip leaves out those with nothing brighter than air
  workers=2              processes that share the images; devices=0,1 gives them GPUs in turn
  part=1/2               predict only this part, for a call in progress; workers= and devices= start such processes
  threshold=0.5  batch=4 (images or windows at once)  device=auto  precision=auto  runs=runs  progress=true
  decided=FILE.json      thresholds by class and cleaning that `phalanx decide members=NAME` kept

Options of prediction that are not given are the run's own (predict.* in training). Killed at any moment, the same
command goes on after the images that are done; with other members, options or images it begins anew. A CSV that the
same command has finished is left as it is.
"""


def infer(words: Sequence[str]) -> None:
    """``phalanx infer``."""
    from ..config.compose import split_words
    from ..config.words import typed
    from ..ensemble.options import InferOptions
    from ..ensemble.run import check_members, infer_run

    pairs = split_words(words)
    names = [name for name in (pairs.pop("experiment", "") or pairs.pop("name", "")).split(",") if name]
    if not names:
        raise ConfigError("experiment=: name the run or runs to predict with, as in experiment=base")
    options = typed(InferOptions, pairs)
    if options.out is not None and len(names) > 1:
        raise ConfigError("out=: fits one run; several runs go to submissions/<run>.csv each")
    files = [Path(name).name for name in names]
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise ConfigError(f"experiment=: two of them go to submissions/{twice}.csv; predict one at a time, with out=")
    check_members(names, options.runs, options.weights)
    for name in names:
        print(infer_run(name, options), flush=True)


ENSEMBLE = """\
phalanx ensemble mode=soft|hard members=A,B,C out=FILE.csv key=value ...        (bash ensemble.sh key=value ...)

  mode=soft              mean of probabilities; members: run names, run folders, folders of phalanx export or of
                         probability maps
  average=members|flat   a run's folds first, then members (default), or every fold the same (soft)
  mode=hard              majority of masks; members: all of those, and submission CSVs
  quorum=K               votes a pixel needs (hard; default: more than half, so a tie is background; quorum=1 is the
                         union, the number of members the intersection)
  weights=2,1,1          votes of each member, whole numbers (votes=2,1,1 is the same; weights=best: see below)
  decided=FILE.json      what `phalanx decide` kept for these members: weights, thresholds, cleaning (soft)
  anyway=true            go on although a member is misaligned: shifted, mirrored, under other classes or image names
  out=FILE.csv           default: submissions/<mode>.csv
  size=HxW               image size of CSV members without a sidecar, or images=DIR to look there (hard)
  data.root= images= maps= weights= tta= grid= scales= window= threshold= batch= device= devices= workers= precision=
  runs= progress= part=  as for infer; stored maps alone need neither the runs nor the images

Prints how members agree, and keeps it in FILE.json. Killed or stopped at a misaligned member, the same command goes on.
"""


def ensemble(words: Sequence[str]) -> None:
    """``phalanx ensemble``."""
    from ..config.compose import split_words
    from ..config.words import typed
    from ..ensemble.options import EnsembleOptions
    from ..ensemble.run import vote

    print(vote(typed(EnsembleOptions, split_words(words))), flush=True)


EXPORT = """\
phalanx export RUN|FOLD [out=DIR] key=value ...

Writes a folder that phalanx infer and ensemble take instead of the run (experiment=DIR), on the CPU and without
loading torch: an ONNX file a fold, PointRend included, and export.json, which tells how images are prepared and masks
made, with hashes of all files. Each network is compared with PyTorch on noise and on the first image to predict;
coarse logits that differ by more than 0.0001 (on large pictures twice PyTorch's own distance from 64 bits, where
that is more), or masks in more than 0.01% of the pixels, end the export.

  RUN                    a run's name or folder, or the folder of one fold
  out=DIR                must not exist (default: exports/<run>)
  weights=final|best|last   which weights, as for infer
  data.root=DIR          where the image to compare on lies (default: the run's own), or images=DIR of a plain folder
  runs=DIR               where runs lie (default: runs)

Needs onnx, onnxscript and onnxruntime (setup.sh installs them; else: pip install '.[onnx]'). Predicting needs
onnxruntime alone. The size of the pictures is fixed, by the run's data.size and predict.*; of the options of infer,
tta=, threshold=, batch= and workers= are free. Runs told of the patient (model.metadata) cannot be exported.
"""


def export(words: Sequence[str]) -> None:
    """``phalanx export``."""
    places, pairs = split_places(words)
    if len(places) != 1:
        raise ConfigError(f"expected one RUN or FOLD, got {' '.join(places) or 'nothing'}; see phalanx export --help")

    from ..config.words import typed
    from ..predict.export import ExportOptions, export_run

    print(export_run(places[0], typed(ExportOptions, pairs)), flush=True)


DECIDE = """\
phalanx decide members=A,B,C [out=submissions/decided.json]

Asks the out-of-fold maps of a run or more (trained with predict.oof_prob=true on the same folds) which of these gain,
each fitted on all folds but one and scored on that one:

  members                greedy forward selection among the members
  weights                votes of each member, the best of up to 255 proportions; of more than 8 members, greedy
                         selection in which a member may be taken again (a pass over all maps a step)
  thresholds             a threshold for each class, .05 to .95
  smallest               parts of a class's mask below 16, 64, 256 or 1024 pixels removed
  largest                only a class's largest part kept
  holes                  a class's holes filled

A class or member departs from the default only where that is 3 standard errors better in the folds it is fitted on. A
choice is kept where the cross-fitted gain in mean Dice is .0001 or more and its 95% interval over patients lies above
0; the Dice fitted and scored on the same images stands beside it. infer and ensemble mode=soft apply the file with
decided=FILE. The maps are those of the runs' own predict.* options: predict with the same, or decide about runs that
were told others.

  out=FILE.json          where to
  data.root=DIR          where the training images lie now
  runs=runs  progress=true
"""


def decide(words: Sequence[str]) -> None:
    """``phalanx decide``."""
    from ..config.compose import split_words

    pairs = split_words(words)
    if "members" not in pairs:
        raise ConfigError("members=: name the runs to decide about, as in members=base,unetpp")

    from ..config.words import typed
    from ..ensemble.tune import DecideOptions
    from ..ensemble.tune import decide as decide_members

    options = typed(DecideOptions, pairs)
    print(decide_members(options).to_text(), options.out, sep="\n")
