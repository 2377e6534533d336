"""Planted errors of annotated synthetic hands found by `phalanx suspects`.

Three seeds; in a tenth of the training images two bones are swapped, one is dropped, or one is moved, besides the two
images with swapped bones that each set has by itself. A small network is trained on two folds with these errors in its
training data; average precision of the planted annotations among all, by its out-of-fold predictions. A ranking by
chance has the fraction that is planted. With --root the images of another data set are ranked by a run of yours
(--run): nothing is planted, the table is written.

    python bench/mask_suspects.py [--quick] [--size 160] [--patients 60] [--epochs 40] [--keep DIR] [--json FILE]
    python bench/mask_suspects.py --root DIR --run NAME --runs DIR
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from common import flags, keep, phalanx
from phalanx.commands.tasks import TASKS
from phalanx.phantom.anatomy import FINGERS
from phalanx.phantom.hand import WRONG
from phalanx.review.annotation_suspects import rank_annotations, suspects_csv
from phalanx.review.evaluate_options import EvaluateOptions

PART = 10  # one image of so many has an error
MOVED = 0.06  # of the image's side


def swapped_by_the_phantom(root: Path) -> set[tuple[str, str]]:
    """(image, class) of the annotations that a synthetic set itself has wrong."""
    images = json.loads((root / "manifest.json").read_text(encoding="utf-8"))["images"]
    return {(f"{one['image']}.png", label) for one in images for label in WRONG.get(one["wrong_annotation"] or "", {})}


def plant(root: Path, side: int, seed: int) -> set[tuple[str, str]]:
    """Changes annotation files below train/; returns (image, class) of what is wrong."""
    rng, wrong = np.random.default_rng(seed), swapped_by_the_phantom(root)
    spoilt = {image for image, _ in wrong}
    files = sorted((root / "train").rglob("*.json"))
    for k, file in enumerate(rng.permutation(np.array(files, object))[: max(3, len(files) // PART)].tolist()):
        content = json.loads(file.read_text())
        rows = content["annotations"]
        there = sorted({row["label"] for row in rows} & set(FINGERS))
        a, b = rng.choice(there, 2, replace=False).tolist()
        image = f"{file.stem}.png"
        if image in spoilt:
            continue
        wrong.add((image, a))
        if k % 3 == 0:
            wrong.add((image, b))
            for row in rows:
                row["label"] = {a: b, b: a}.get(row["label"], row["label"])
        elif k % 3 == 1:
            content["annotations"] = [row for row in rows if row["label"] != a]
        else:
            for row in rows:
                if row["label"] == a:
                    row["points"] = [[min(x + MOVED * side, side - 1), y] for x, y in row["points"]]
        file.write_text(json.dumps(content))
    return wrong


def precision(run: str, runs: Path, wrong: set[tuple[str, str]]) -> tuple[float, float]:
    """Average precision of the planted annotations, and their fraction."""
    one = TASKS["segment"].evaluate(run, EvaluateOptions(runs=runs))
    found = rank_annotations(one)
    planted = [(one.names[doubt.image], one.classes[doubt.label]) in wrong for doubt in found]
    return float(average_precision_score(planted, [doubt.score for doubt in found])), float(np.mean(planted))


def main() -> None:
    """Runs the bench."""
    parser = flags(__doc__, "one seed, few patients: shows that it works, not how well")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="folder for sets and runs; what is there is not made again")
    parser.add_argument("--root", type=Path, help="another data set, without planted errors")
    parser.add_argument("--run", default="teeth_light", help="the run of --root")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    if given.root is not None:
        one = TASKS["segment"].evaluate(given.run, EvaluateOptions(runs=given.runs, root=given.root))
        out = Path("mask_suspects.csv")
        out.write_text(suspects_csv(one, rank_annotations(one)), encoding="utf-8")
        print(out)
        return
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        work = given.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        patients, epochs, seeds = (8, 2, (0,)) if given.quick else (given.patients, given.epochs, (0, 1, 2))
        for seed in seeds:
            root, planted = work / f"set{seed}", work / f"planted{seed}.json"
            if not planted.is_file():
                phalanx("phantom", "hand", f"patients={patients}", f"size={given.size}", f"seed={seed}", f"out={root}")
                wrong = plant(root, given.size, seed)
                planted.write_text(json.dumps(sorted(wrong)))
            wrong = {(image, label) for image, label in json.loads(planted.read_text())}
            phalanx(
                "train", "fold=0,1", "experiment=demo_fpn", f"name=suspects{seed}", f"runs={work / 'runs'}",
                f"data.root={root}", f"data.size={given.size}", "folds=2", f"epochs={epochs}", "batch=4",
                "predict.oof_prob=true", "data.oversample=null", "progress=false",
            )  # fmt: skip
            value, chance = precision(f"suspects{seed}", work / "runs", wrong)
            print(f"seed {seed}: average precision {value:.4f}, by chance {chance:.4f}", flush=True)
            rows.append({"claim": f"planted errors of hands, seed {seed}", "ours": value, "baseline": chance,
                         "unit": "average precision"})  # fmt: skip
    keep(rows, given.json)


if __name__ == "__main__":
    main()
