"""Commands that train, or estimate the cost of training."""

import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from .args import number_of, report_path, split_places, switch
from .recipes import Recipe, one_by_one, say_mean

TRAIN = """\
phalanx train key=value ...        (bash train.sh key=value ...)

  fold=0..4              folds to train: 0, or 0,2, or 0..4, or all (train on all images, none held out)
  experiment=NAME[,NAME...]   recipe in configs/experiment/ (default: base), or several, one after another
  name=NAME              folder of the run in runs/ (default: the name of the experiment)
  data=NAME              configs/data/: hand, teeth; data.root=/path/to/dataset is the folder of your data set
  data.layout=competition|coco|masks   layout of that folder; data.crop=1024 trains on crops
  data.oversample.rotated=10  data.drop.bright=1.5   show some training images more often, or leave some out
  model= loss= augment= optim=   a file of that folder of configs/
  any.key=value          any key of src/phalanx/config/: epochs=50 batch=2 data.size=1024 model.weights=none
                         optim.lr=3e-4 precision=auto|32|bf16|fp16 device=auto|cpu|cuda:1 accumulate=4
  on_nan=stop|skip|halve   on a non-finite step: stop training, skip the step, or skip it and halve the learning rate
  devices=0,1,2,3        train folds in parallel, one per GPU (or devices=cpu,cpu); the exit code is 1 if one fails
  tracking=tensorboard   or any of [tensorboard,wandb,mlflow], in addition to log.jsonl; each is an extra to install, as
                         in pip install '.[tensorboard]'. wandb works offline; mlflow writes runs/mlflow.db
  report=false           do not write runs/<name>/report.html, the page of phalanx report, after the last fold
  cluster=slurm          train on a cluster, one job per fold of each recipe: configs/cluster/slurm.yaml or
                         ray.yaml, with cluster.partition=gpu cluster.gpus=1 cluster.hours=10 (docs/clusters.md). Slurm
                         has the jobs in its queue then: `phalanx jobs` shows them, cluster.wait=true waits for them
  max_hours=10           save and stop after this time, with an exit code above 0; the same command continues
  devices=0,1 ddp=true   train each fold on all these GPUs: the images of a step are divided among them, and `batch`
                         means the same as on one (data.cache=ram is per process, data.cache=disk is shared)

Without any word it says what it would do, how long that takes on this machine, and asks; yes=true answers.

If training is killed, the same command continues it; a finished fold is not trained again. If memory runs out, the
micro-batch is halved and the effective batch is unchanged.
Writes runs/<name>/fold<k>/: config.yaml folds.csv log.jsonl curves.csv curves.png last/ best/ final/
oof.csv oof_score.json
"""


def train(words: Sequence[str]) -> int:
    """``phalanx train``; returns 1 if one of several folds failed."""
    from ..config.cluster import take_cluster
    from ..config.compose import compose, parse_folds, split_words

    began = time.monotonic()
    pairs = split_words(words)
    agreed = switch(pairs, "yes")
    if not words or (agreed and not pairs):
        from .first_training import announce

        if not announce(compose({}), agreed=agreed):
            return 0
    cluster = take_cluster(pairs)
    wanted = pairs.pop("fold", "0")
    recipes = [Recipe(each, config := compose(each), parse_folds(wanted, config.folds)) for each in one_by_one(pairs)]
    config = recipes[0].config
    deadline = began + 3600 * config.max_hours if config.max_hours else None
    if cluster is not None or (config.devices and not config.ddp):
        from .training_jobs import train_as_jobs

        return train_as_jobs(recipes, cluster, deadline)
    for recipe in recipes:
        train_here(recipe, deadline)
    return 0


def train_here(recipe: Recipe, deadline: float | None) -> None:
    """Trains the folds of a recipe in this process, one after another."""
    from ..runtime.progress import working

    config = recipe.config
    with working("loading libraries", config.progress) as step:  # torch takes seconds to load
        from ..data.quarantine import kept_records
        from ..data.root import resolve_root
        from ..engine.fit import fit
        from .tasks import TASKS

        kind = TASKS[config.task].task()
        step.rename("reading the data set")
        config.data = resolve_root(config.data)
        records = kept_records(config.data)
    for fold in recipe.folds:
        fit(config, fold, records, kind, deadline)

    say_mean(config, recipe.folds)

    from ..runs.ledger import note_run

    note_run(config.runs / config.name, recipe.pairs.get("experiment", "base"))
    if config.report:
        from .report import report_of_training

        report_of_training(config)


PLAN = """\
phalanx plan experiment=NAME key=value ... [vram=24] [measure=true] [json=FILE]

Estimates the cost of a recipe before training, from the options of phalanx train: parameters and multiply-adds of the
encoder, decoder and heads, and the peak memory of a training step. On a GPU, real steps are measured; without one, the
step is simulated on tensors without data. The output states which. With ddp=true, memory is per device.

  vram=24                memory of a GPU in GiB: find the largest batch at 512, 1024, 2048 (of images with labels: 224,
                         384, 512) and the input size of the recipe, and the largest input size at its batch
  measure=true           run real steps on the CPU if there is no GPU
  json=FILE              write all numbers; memory in bytes
"""


def plan(words: Sequence[str]) -> None:
    """``phalanx plan``."""
    places, pairs = split_places(words)
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in experiment={places[0]}; see phalanx plan --help")
    pairs.pop("fold", None)  # of the phalanx train whose cost is estimated
    measure = switch(pairs, "measure")
    memory = pairs.pop("vram", None)
    vram = number_of(memory) if memory is not None else None
    if memory is not None and (vram is None or not 0 < vram <= 10_000):
        raise ConfigError(f"vram={memory}: expected the GPU's memory in GiB, up to 10000, as in vram=24")

    report = report_path(pairs, "plan")

    from ..config.cluster import take_cluster
    from ..config.compose import compose

    take_cluster(pairs)  # where the phalanx train would run
    config = compose(pairs)

    from ..profiling.plan import make_plan
    from ..runtime.files import write_report

    found = make_plan(config, vram=vram, measure=measure)
    print(found.to_text())
    if report is not None:
        write_report(report, "plan", found.to_json())


SWEEP = """\
phalanx sweep TABLE ... [scale=small] [seeds=0,1] [rows=A,B] [fold=0] key=value ...

Trains the rows of configs/sweep/TABLE.yaml (or `all`) that have no result yet, on a recipe that all tables share: all
rows with the first seed, then with the next. For a row that is an ensemble it trains the members and votes. If it is
killed, the same command continues. If a row fails, its error is printed, the others are trained, and the exit code is
1. Writes results/sweep/<scale>/<data set>/<table>/<row>.seed<s>.fold<k>.json.

  scale=NAME             shared recipe, configs/experiment/claims_NAME.yaml: small takes about 100 s per training on one
                         core, full is the published size, on data.root=DIR
  seeds=0,1,2            each seed has its own folds, initial weights and augmentation
  rows=A,B               only these rows (of one table)
  fold=0..4              held-out folds per seed (default: 0)
  devices=0,1            trainings in parallel, one per GPU (or devices=cpu,cpu)
  cluster=slurm          trainings on a cluster, as of phalanx train; the sweep waits for them, then votes and scores
  device= workers= data.root= progress= ...      runtime options of phalanx train
  runs=DIR               folder of the runs (default: runs/sweep)
"""


def sweep(words: Sequence[str]) -> int:
    """``phalanx sweep``; returns 1 if a training failed."""
    places, pairs = split_places(words)

    from ..config.cluster import take_cluster
    from ..sweep.options import SweepOptions

    cluster = take_cluster(pairs)
    options = SweepOptions.read(places, pairs, cluster)

    from ..sweep.run import sweep as run_sweep

    return 1 if run_sweep(options) else 0


CLAIMS = """\
phalanx claims [out=docs/results.md]

Compares what was published about each row of configs/sweep/ with our results in results/sweep/: the score with its
spread over seeds, the gain over the baseline with an interval over seeds and patients, and the verdict: agrees,
disagrees, undecided or not run. Results of an outdated recipe are listed but not counted. Of published figures of
classifications (configs/published_classification.yaml) it says whether one integer confusion matrix can give them,
beside our own of phalanx rank in results/classification/.

  out=FILE.md            file to write (default: docs/results.md)
"""


def claims(words: Sequence[str]) -> None:
    """``phalanx claims``."""
    from ..config.compose import split_words

    pairs = split_words(words)
    out = Path(pairs.pop("out", "docs/results.md"))
    if pairs or out.suffix != ".md":
        raise ConfigError(f"{' '.join(words)}: expected out=FILE.md or nothing")

    from ..runtime.files import refuse_foreign, write_text
    from ..sweep.claims import document

    refuse_foreign(out, "Made by `phalanx claims`")
    write_text(out, document())
    print(out)
