"""The command line: finds the command, and turns its errors into one line and an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from .commands import (
    bundle,
    cam,
    config,
    curves,
    datasets,
    jobs,
    labels,
    ledger,
    models,
    panels,
    phantom,
    ranking,
    report,
    restoration,
    review,
    rounds,
    runs,
    scores,
    show,
    submissions,
    training,
    versions,
    view,
)
from .commands.args import plain_words
from .errors import ConfigError, PhalanxError, shown
from .runtime.leftovers import temporary_folder
from .runtime.stopping import MESSAGES, stoppable
from .runtime.terminal import close_streams, open_streams
from .runtime.waiting import wait_briefly

MAIN = """\
phalanx: segmentation of overlapping bones in hand X-rays, from fold training to the ensemble submission

  phalanx train fold=0..4 experiment=NAME data=NAME key=value ...    train folds; the same command continues
  phalanx infer experiment=NAME[,NAME...] key=value ...              predict the test set: one CSV per run
  phalanx ensemble mode=soft|hard members=A,B,C out=FILE.csv ...     combine runs, probability maps and CSVs by vote
  phalanx export RUN [out=DIR]                                       export a run to ONNX, for use without PyTorch
  phalanx bundle RUN|FILE.csv [out=DIR] [format=onnx] [wheels=true]  a run or vote for a machine without network
  phalanx score FILE TRUTH [json=FILE]                               mean Dice, per class, patient bootstrap
  phalanx compare A B TRUTH                                          the difference of two, paired by patient
  phalanx rank A B C TRUTH [healthy=CLASS]                           classifiers in one table, by accuracy and by AUC
  phalanx tune members=A,B [out=FILE.json]                           tune the ensemble out of fold
  phalanx runs [NAME ...] [sort=score] [key=value ...]               every run: state, metric, where recipes differ
  phalanx diff A B                                                   two recipes: the keys that differ
  phalanx jobs [NAME ...] | cancel ID|NAME|all                       jobs of a cluster: state, attempt, node, reason
  phalanx ledger add RUN|FILE.csv [public=.976 private=.974]         add a run or submission to submissions/ledger.csv
  phalanx leaderboard [picture=FILE.png]                             the ledger, the best first; public against own
  phalanx phantom hand|ultrasound patients=N size=S seed=K out=DIR   make a synthetic data set
  phalanx folds data=NAME out=FILE.csv                               draw the folds of a data set into a file
  phalanx eda data=NAME data.root=DIR out=DIR                        rotation, train/test shift, sizes, odd images
  phalanx check data=NAME data.root=DIR [quarantine=FILE]            find problems of a data set
  phalanx show [WHAT ...] data=NAME data.root=DIR out=DIR            look at images, annotations and augmentations
  phalanx data snapshot NAME | diff A B data=NAME data.root=DIR      versions of a data set: digests, changed labels
  phalanx overlays data=NAME data.root=DIR out=DIR                   burnt-in marks: what is found, and after removal
  phalanx confound data=NAME data.root=DIR                           is the class told by the background alone?
  phalanx suspects RUN [quarantine=FILE top=K]                       labels that may be wrong, the likeliest first
  phalanx calibrate RUN [out=FILE.json]                              temperature and thresholds of probabilities
  phalanx restore RUN out=DIR                                        more training images, by a denoiser
  phalanx shortcut RUN healthy=A none=B all=C                        did restored images teach a shortcut?
  phalanx quarantine data.root=DIR data.drop.RULE=... out=FILE       list the training images that a rule drops
  phalanx selection data.root=DIR key=value ... [out=FILE.csv]       which images are trained on, how often, why
  phalanx rounds experiment=NAME [rounds=2] [truth=FILE]             hard-negative rounds of an image classifier
  phalanx config experiment=NAME key=value ...                       the resolved recipe: which file each value is from
  phalanx models [WORD ...]                                          architectures, encoders, published scores
  phalanx plan experiment=NAME key=value ... [vram=24]               parameters, multiply-adds, memory, what fits
  phalanx picture FILE TRUTH IMAGES out=FILE.png                     draw predictions next to the ground truth
  phalanx review RUN [OTHER ...] out=DIR                             failures, annotations in doubt, runs side by side
  phalanx report RUN|FILE.csv [OTHER ...] [out=FILE.html]            one HTML page of a run, or of several compared
  phalanx curves RUN [OTHER ...] [out=FILE.png]                      curves of trainings, several over each other
  phalanx panels RUN [epochs=5,50]                                   held-out images after several epochs, side by side
  phalanx view [RUN ...] [suspects=FILE.csv]                         a local page: browse, review, try an image
  phalanx cam RUN [masks=DIR] [control=RUN] out=DIR                  where a classifier looks: Grad-CAM, with controls
  phalanx sweep TABLE [scale=small] [seeds=0,1]                      train published variants that have no result yet
  phalanx claims                                                     compare published and own results: docs/results.md
  phalanx demo [job=hand|ultrasound|brain|pet] [quick=true]          a whole pipeline on synthetic images

Options are key=value; `--key value` means the same. `phalanx COMMAND --help` lists the options of a command. The
scripts train.sh, infer.sh, ensemble.sh and demo.sh prepare the environment and call these commands.
"""

DEMO = """\
phalanx demo [job=hand|ultrasound|brain|pet] [quick=true]    (bash demo.sh [job=...] [quick=true])

Makes synthetic hands, trains two encoder/decoder pairs on two folds each, predicts unseen patients, combines them by
soft and hard vote, and scores all. Writes runs/demo/summary.json and runs/demo/picture.png. quick=true is a smoke test.

  job=ultrasound         the same with labels: fetal ultrasound, in which an image shows several organs
  job=brain              brain MRI, healthy or one of three tumours
  job=pet                pet X-rays: masks of livers and boxes of hip joints, normal or diseased. These three write
                         runs/demo_JOB/summary.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, 1 if a check found errors or a fold failed, 2 for a user error, 130
    or 143 if it was stopped by Ctrl-C or SIGTERM.

    Args:
        arguments: by default those of the process, whose streams then are ours too, and which ends after this.
    """
    if arguments is not None:
        return run(list(arguments))
    open_streams()
    return close_streams(run(sys.argv[1:], at_exit=True))


def run(words: list[str], *, at_exit: bool = False) -> int:
    """Runs one command; returns the exit code. ``at_exit``: the process ends after this."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(MAIN, end="")
        return 0
    if words[0] == "--version":
        from . import __version__

        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    wait_briefly()
    stop_line, outermost = f"phalanx {command}: {MESSAGES[command in RESUMED]}", True
    try:
        if command not in COMMANDS:
            if command in RENAMED:
                raise ConfigError(f"{command}: no such command; it is now {RENAMED[command]}")
            if command in OTHER_NAMES:
                raise ConfigError(
                    f"{command}: no such command; it is phalanx {OTHER_NAMES[command]} here, see phalanx "
                    f"{OTHER_NAMES[command]} --help"
                )
            import difflib

            close = difflib.get_close_matches(command, COMMANDS, n=1)
            raise ConfigError(f"{command}: no such command{f'; did you mean {close[0]}?' if close else ''} See --help")
        call, text = COMMANDS[command]
        if "-h" in rest or "--help" in rest:
            print(text, end="")
            return 0
        with ExitStack() as stack:
            outermost = stack.enter_context(stoppable(stop_line, at_exit=at_exit))
            if at_exit:
                with suppress(OSError):  # few commands need one, and say what is wrong with it
                    stack.enter_context(temporary_folder())
            return call(plain_words(rest)) or 0
    except PhalanxError as error:
        print(f"phalanx {shown(command)}: {shown(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        from .runtime.files import why_unwritable

        if error.filename is None and why_unwritable(error) is None:
            raise
        remedy = "; make room there, and run the same command again" if why_unwritable(error) else ""
        place = PhalanxError(error.filename or "writing")
        print(f"phalanx {command}: {place}: {error.strerror}{remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        if not outermost:  # a step of the demo
            raise
        if sys.stderr.isatty():  # which shows ^C
            print(file=sys.stderr)
        print(stop_line, file=sys.stderr)
        return getattr(error, "code", 130)


def demo(words: Sequence[str]) -> None:
    """``phalanx demo``."""
    from .config.compose import split_words

    pairs = split_words(words)
    quick, job = pairs.pop("quick", "false"), pairs.pop("job", "hand")
    if pairs or quick not in ("true", "false"):
        raise ConfigError(f"{' '.join(words)}: the demo takes job=hand|ultrasound|brain|pet and quick=true")
    if job == "hand":
        from .commands.demo import run_demo

        run_demo(quick=quick == "true", call=main)
        return

    if job == "pet":
        from .commands.demo_pet import run_pet

        run_pet(quick=quick == "true", call=main)
        return

    from .commands.demo_labels import JOBS, run_labels

    if job not in JOBS:
        raise ConfigError(f"job={job}: no such job; known: hand, {', '.join(JOBS)}, pet")
    run_labels(job, quick=quick == "true", call=main)


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], Any], str]] = {
    "train": (training.train, training.TRAIN),
    "infer": (submissions.infer, submissions.INFER),
    "ensemble": (submissions.ensemble, submissions.ENSEMBLE),
    "export": (submissions.export, submissions.EXPORT),
    "bundle": (bundle.bundle, bundle.BUNDLE),
    "score": (scores.score, scores.SCORE),
    "compare": (scores.compare, scores.COMPARE),
    "rank": (ranking.rank, ranking.RANK),
    "tune": (submissions.tune, submissions.TUNE),
    "runs": (runs.runs, runs.RUNS),
    "diff": (runs.diff, runs.DIFF),
    "jobs": (jobs.jobs, jobs.JOBS),
    "ledger": (ledger.ledger, ledger.LEDGER),
    "leaderboard": (ledger.leaderboard, ledger.LEADERBOARD),
    "phantom": (phantom.phantom, phantom.PHANTOM),
    "folds": (datasets.folds, datasets.FOLDS),
    "eda": (datasets.eda, datasets.EDA),
    "check": (datasets.check, datasets.CHECK),
    "show": (show.show, show.SHOW),
    "data": (versions.data, versions.DATA),
    "overlays": (labels.overlays, labels.OVERLAYS),
    "confound": (labels.confound, labels.CONFOUND),
    "suspects": (labels.suspects, labels.SUSPECTS),
    "restore": (restoration.restore, restoration.RESTORE),
    "shortcut": (restoration.shortcut, restoration.SHORTCUT),
    "calibrate": (labels.calibrate, labels.CALIBRATE),
    "quarantine": (datasets.quarantine, datasets.QUARANTINE),
    "selection": (datasets.selection, datasets.SELECTION),
    "rounds": (rounds.rounds, rounds.ROUNDS),
    "config": (config.config, config.CONFIG),
    "models": (models.models, models.MODELS),
    "plan": (training.plan, training.PLAN),
    "picture": (scores.picture, scores.PICTURE),
    "panels": (panels.panels, panels.PANELS),
    "review": (review.review, review.REVIEW),
    "report": (report.report, report.REPORT),
    "curves": (curves.curves, curves.CURVES),
    "view": (view.view, view.VIEW),
    "cam": (cam.cam, cam.CAM),
    "sweep": (training.sweep, training.SWEEP),
    "claims": (training.claims, training.CLAIMS),
    "demo": (demo, DEMO),
}

RESUMED = {"train", "rounds", "infer", "ensemble", "sweep", "demo"}  # commands that go on where they were stopped
RENAMED = {"decide": "tune"}  # commands of earlier versions
OTHER_NAMES = {  # that other programs have for a command
    "predict": "infer", "inference": "infer", "test": "infer", "fit": "train", "evaluate": "score", "eval": "score",
    "metrics": "score", "vote": "ensemble", "blend": "ensemble", "list": "runs", "ls": "runs", "results": "runs",
    "visualize": "picture", "plot": "picture", "gradcam": "cam", "recipe": "config", "encoders": "models",
    "summary": "plan", "queue": "jobs", "generate": "phantom", "split": "folds",
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
