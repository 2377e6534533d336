"""Commands that train, or tell before what it takes."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .args import report_path, split_places, switch

if TYPE_CHECKING:
    from ..config import Config

TRAIN = """\
phalanx train key=value ...        (bash train.sh key=value ...)

  fold=0..4              folds to train: 0, or 0,2, or 0..4, or all (fit on everything, nothing held out)
  experiment=NAME        recipe in configs/experiment/ (default: base)
  name=NAME              the run's folder in runs/ (default: the experiment's name)
  data=NAME              configs/data/: hand, teeth; data.root=/path/to/dataset names your images
  data.layout=competition|coco|masks   how they lie there; data.crop=1024 trains on windows
  data.oversample.rotated=10  data.drop.bright=1.5   how often training images are shown, and which not at all
  model= loss= augment= optim=   a file of that folder of configs/
  any.key=value          every key of src/phalanx/config/: epochs=50 batch=2 data.size=1024 model.weights=none
                         optim.lr=3e-4 precision=auto|32|bf16|fp16 device=auto|cpu|cuda:1 accumulate=4
  on_nan=stop|skip|halve   a step that is not finite ends training, is left out, or halves the learning rate as well
  devices=0,1,2,3        folds side by side, one a GPU (or devices=cpu,cpu), and a table; exit code 1 if one fails
  tracking=tensorboard   or any of [tensorboard,wandb,mlflow], in addition to log.jsonl; each is an extra to install, as
                         in pip install '.[tensorboard]'. wandb works offline; mlflow writes runs/mlflow.db
  max_hours=10           stop this call in time, whole, with an exit code above 0; the same command continues
  devices=0,1 ddp=true   each fold on all these GPUs: every step's images are shared out, `batch` keeps its meaning
                         (each process has its own data.cache=ram; data.cache=disk is one for all)

Killed at any moment, the same command continues; a finished fold is left as it is. Where memory does not suffice,
fewer images are computed at a time, in steps of as many as before.
Writes runs/<name>/fold<k>/: config.yaml folds.csv log.jsonl last/ best/ final/ oof.csv oof_score.json
"""


def train(words: Sequence[str]) -> int:
    """``phalanx train``: 1 where one of several folds failed."""
    from ..config.compose import compose, parse_folds, split_words

    began = time.monotonic()
    pairs = split_words(words)
    wanted = pairs.pop("fold", "0")
    config = compose(pairs)
    folds = parse_folds(wanted, config.folds)
    deadline = began + 3600 * config.max_hours if config.max_hours else None
    if config.devices and not config.ddp:
        return side_by_side(pairs, folds, config, deadline)

    from ..data.quarantine import kept_records
    from ..data.root import resolve_root
    from ..engine.fit import fit
    from ..tasks.segment import Segment

    config.data = resolve_root(config.data)
    records = kept_records(config.data)
    for fold in folds:
        fit(config, fold, records, Segment, deadline)

    from ..runs.ledger import note_run

    note_run(config.runs / config.name, pairs.get("experiment", "base"))
    return 0


def side_by_side(
    pairs: Mapping[str, str], folds: Sequence[int | None], config: "Config", deadline: float | None
) -> int:
    """Trains folds on several devices, once it is known that the devices and the data set are usable."""
    from ..data.quarantine import kept_records
    from ..data.root import resolve_root
    from ..jobs.folds import train_folds
    from ..runtime.device import open_device

    for device in set(config.devices):
        open_device(device, config.precision)
    kept_records(resolve_root(config.data))  # made, or refused, once and not by each
    return train_folds(pairs, folds, config, deadline)


PLAN = """\
phalanx plan experiment=NAME key=value ... [vram=24] [measure=true] [json=FILE]

Tells what a recipe costs before it is trained, from the keys of phalanx train: parameters and multiply-adds of
encoder, decoder and heads, and the peak memory of a training step. On a GPU real steps are measured; without one the
step is played on tensors without data, and the text says which. With ddp=true it is that of one of the devices.

  vram=24                GiB of a GPU: look for the largest batch at 512, 1024, 2048 and the recipe's size, and for
                         the largest size at the recipe's batch
  measure=true           run real steps on the CPU, too, where there is no GPU
  json=FILE              write every number; memory in bytes
"""


def plan(words: Sequence[str]) -> None:
    """``phalanx plan``."""
    places, pairs = split_places(words)
    if places:
        raise ConfigError(f"{places[0]}: expected key=value, as in experiment={places[0]}; see phalanx plan --help")
    pairs.pop("fold", None)  # of a phalanx train that this asks about
    measure = switch(pairs, "measure")
    memory = pairs.pop("vram", None)
    try:
        vram = float(memory) if memory is not None else None
    except ValueError:
        vram = -1.0
    if vram is not None and not 0 < vram < 10_000:
        raise ConfigError(f"vram={memory}: expected the GPU's memory in GiB, as in vram=24")

    report = report_path(pairs, "plan")

    from ..config.compose import compose

    config = compose(pairs)

    from ..profiling.plan import make_plan
    from ..runtime.files import write_report

    found = make_plan(config, vram=vram, measure=measure)
    print(found.to_text())
    if report is not None:
        write_report(report, "plan", found.to_json())


SWEEP = """\
phalanx sweep TABLE ... [scale=small] [seeds=0,1] [rows=A,B] [fold=0] key=value ...

Trains the rows of configs/sweep/TABLE.yaml (or `all`) that have no result yet, on a baseline that all tables share:
all rows with the first seed, then with the next. A row that is a vote trains its members and votes them. Killed
anywhere, the same command continues. A row that fails is told, the others go on; exits 1 then. Writes
results/sweep/<scale>/<data set>/<table>/<row>.seed<s>.fold<k>.json.

  scale=NAME             the baseline, configs/experiment/claims_NAME.yaml: small takes 100 s a training on one core,
                         full is the published size, on data.root=DIR
  seeds=0,1,2            each draws its own folds, start and augmentation
  rows=A,B               only these rows (of one table)
  fold=0..4              held-out folds a seed (default: 0)
  device= workers= data.root= progress= ...      runtime keys of phalanx train
  runs=DIR               where the runs lie (default: runs/sweep)
"""


def sweep(words: Sequence[str]) -> int:
    """``phalanx sweep``: 1 where a training failed."""
    places, pairs = split_places(words)

    from ..sweep.options import SweepOptions

    options = SweepOptions.read(places, pairs)

    from ..sweep.run import sweep as run_sweep

    return 1 if run_sweep(options) else 0


CLAIMS = """\
phalanx claims [out=docs/results.md]

Writes what was published about each row of configs/sweep/ beside what results/sweep/ holds: Dice with its spread over
seeds, the gain over the row it is against with an interval over seeds and patients, and the verdict: agrees,
disagrees, undecided or not run. A result by another recipe than the present one is listed and not counted.

  out=FILE.md            another file
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
