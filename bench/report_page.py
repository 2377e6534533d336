"""Time and size of the pages of runs: 288 images at 2048 pixels with 29 classes, on as many cores as it is given.

Nothing is trained. The images are synthetic hands, of which each is used several times as another patient; predictions
are the ground truth, shifted by some pixels and with some bones missing, so that every image has errors. Measured are
the page of one run, and the page of several beside each other.

    python bench/report_page.py [--images 288] [--size 2048] [--hands 12] [--runs 3] [--cores 2] [--home DIR]
        [--quick] [--json FILE]
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from common import flags, keep, machine
from phalanx.config import SegmentConfig
from phalanx.config.compose import compose_as
from phalanx.data.layouts import train_records
from phalanx.data.truth import truth_of
from phalanx.masks.stack import Stack
from phalanx.runs.reader import FORMAT, FoldResult
from phalanx.runtime.files import write_json, write_text
from phalanx.runtime.metric import Metric
from phalanx.submission.table import write

FOLDS = 2
SECONDS, MEGABYTES = 60.0, 30.0  # limits of a page


def main() -> None:
    """Makes what is missing in ``--home``, then the pages, and prints their time and size."""
    parser = flags(__doc__, quick="fewer and smaller images")
    for name, default in (("images", 288), ("size", 2048), ("hands", 12), ("runs", 3), ("cores", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--home", type=Path, help="make the set and the runs there, and use those that are there")
    given = parser.parse_args()
    if given.quick:
        given.images, given.size, given.hands = 24, 256, 2
    rows = []
    with tempfile.TemporaryDirectory() as place:
        home = given.home or Path(place)
        made = make(home, given.images, given.size, given.hands, given.runs)
        for count in sorted({1, given.runs}):
            seconds, cpu, megabytes, others = measure(home, made[:count], given.cores)
            free = others < 0.05 * seconds * given.cores  # else the time passed is that of other programs, too
            limit = SECONDS if count == 1 else None
            runs = "one run" if count == 1 else f"{count} runs beside each other"
            what = f"page of {runs}, {given.images} images at {given.size} with 29 classes, {given.cores} cores"
            rows += [
                *([{"claim": what, "ours": seconds, "baseline": limit, "unit": "s"}] if free else []),
                {
                    "claim": f"{what}: processor time of all cores",
                    "ours": cpu,
                    "baseline": limit and limit * given.cores,
                    "unit": "s",
                },
                {"claim": f"{what}: size", "ours": megabytes, "baseline": MEGABYTES, "unit": "MB"},
            ]
    for row in rows:
        most = f" (limit {row['baseline']:g})" if row["baseline"] is not None else ""
        print(f"{row['claim']}: {row['ours']:.4g} {row['unit']}{most}")
    print(machine())
    keep(rows, given.json)


def make(
    home: Path, images: int, size: int, hands: int, runs: int,
    copy: Callable[[Path, Path], object] = shutil.copyfile,
) -> list[str]:  # fmt: skip
    """The data set and the runs; returns the runs' names.

    Args:
        copy: how an image is used another time.
    """
    names = [f"run{k}" for k in range(runs)]
    root = home / "set"
    if not root.exists():
        small = home / "hands"
        words = ["phantom", "hand", f"patients={hands}", "test_patients=1", f"size={size}", "seed=0", f"out={small}"]
        if not small.exists():
            subprocess.run([sys.executable, "-m", "phalanx", *words], check=True, stdout=subprocess.DEVNULL)
        repeat(small, root, images, copy)
    if not all((home / "runs" / name).exists() for name in names):
        predict(home, root, names)
    return names


def repeat(small: Path, root: Path, images: int, copy: Callable[[Path, Path], object]) -> None:
    """A data set of so many images, in which each of the small one's is used several times."""
    pictures = sorted((small / "train" / "DCM").rglob("*.png"))
    for number in range(images):
        picture = pictures[number % len(pictures)]
        labels = small / "train" / "outputs_json" / picture.relative_to(small / "train" / "DCM").with_suffix(".json")
        patient, name = f"ID{number // 2:04d}", f"image{number:04d}"
        for source, target in ((picture, root / "train" / "DCM" / patient / f"{name}.png"),
                               (labels, root / "train" / "outputs_json" / patient / f"{name}.json")):  # fmt: skip
            target.parent.mkdir(parents=True, exist_ok=True)
            copy(source, target)


def predict(home: Path, root: Path, names: list[str]) -> None:
    """Folders of finished runs whose predictions are the shifted ground truth."""
    words = {"experiment": "demo_fpn", "data": "hand", "data.root": str(root), "folds": str(FOLDS)}
    base = compose_as(SegmentConfig, {**words, "name": names[0], "runs": str(home / "runs")})
    records = train_records(base.data)
    truth = truth_of(records, base.data)
    for seed, name in enumerate(names):
        config = base.model_copy(update={"name": name})
        rng = np.random.default_rng(seed)
        fold_of = {record.name: int(record.group[2:]) % FOLDS for record in records}
        for fold in range(FOLDS):
            folder = home / "runs" / name / f"fold{fold}"
            folder.mkdir(parents=True, exist_ok=True)
            rows = []
            mine = sorted(image for image, of in fold_of.items() if of == fold)
            for image in mine:
                size = truth.sizes[image]
                rows.append((image, shifted(truth.stack(image, size), size, rng).texts()))
            write(folder / "oof.csv", rows, base.data.classes, {image: truth.sizes[image] for image in mine})
            text = yaml.safe_dump(config.model_dump(mode="json"))
            write_text(folder / "config.yaml", f"format: {FORMAT}\n{text}")
            lines = [f"{record.name},{record.group},{fold_of[record.name]}\n" for record in records]
            write_text(folder / "folds.csv", "image_name,group,fold\n" + "".join(lines))
            write_text(folder / "log.jsonl", "".join(
                json.dumps({"event": "epoch", "step": 10 * k, "time": 0.0, "loss": 1 / k, "lr": 1e-3}) + "\n"
                for k in range(1, 101)
            ))  # fmt: skip
            write_json(folder / "environment.json", {"python": "", "packages": {}, "threads": 1, "machine": "bench"})
            write_json(folder / "done.json", FoldResult(Metric("dice"), 0.9, len(mine), 1.0, 1.0).to_json())


def shifted(stack: Stack, size: tuple[int, int], rng: np.random.Generator) -> Stack:
    """Masks a few pixels lower and to the right; of one image in ten classes two are missing."""
    move = int(rng.integers(1, 9)) * size[1] + int(rng.integers(1, 9))
    missing = set(rng.choice(stack.classes, 2, replace=False).tolist()) if rng.random() < 0.1 else set()
    each = []
    for c in range(stack.classes):
        runs = stack.runs[stack.splits[c] : stack.splits[c + 1]] + move
        each.append(runs[:0] if c in missing else runs[runs[:, 1] <= size[0] * size[1]])
    return Stack.of_runs(each)


def busy() -> float:
    """Seconds that all cores have worked, for whatever programs."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure(home: Path, names: list[str], cores: int) -> tuple[float, float, float, float]:
    """Makes the page in a process of its own, on so many cores: seconds, those of the processor, megabytes, and
    seconds of the processor for other programs meanwhile."""
    page = home / "page.html"
    page.unlink(missing_ok=True)
    words = ["report", *names, f"runs={home / 'runs'}", f"out={page}", "progress=false", f"workers={cores}"]
    free = sorted(os.sched_getaffinity(0))[:cores]
    earlier = resource.getrusage(resource.RUSAGE_CHILDREN)
    before, began, all_before = earlier.ru_utime + earlier.ru_stime, time.perf_counter(), busy()
    subprocess.run(
        [sys.executable, "-m", "phalanx", *words], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, free),
    )  # fmt: skip
    seconds = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before
    return round(seconds, 1), round(cpu, 1), round(page.stat().st_size / 1e6, 2), busy() - all_before - cpu


if __name__ == "__main__":
    main()
