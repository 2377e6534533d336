"""Planted wrong labels of synthetic pet X-rays found by the measures of `phalanx review`.

Livers and tracheas, three seeds, 6% of the training images with the other class. Average precision of the planted ones
by area, of tracheas by least over median width along the midline, and by all of these, from the annotations alone. With
--train a run of two folds adds what was predicted out of fold, by their recipes at 128 pixels, BatchNorm, bf16: about
ten minutes per seed and disease on a free core. A ranking by chance has the fraction that is planted.

    python bench/pet_suspects.py [--quick] [--train] [--work DIR] [--json FILE]
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from common import flags, keep, phalanx
from phalanx.config.compose import compose
from phalanx.data.quarantine import kept_records
from phalanx.data.truth import truth_of
from phalanx.masks.midline import ELONGATED, elongation, widths_along_midline
from phalanx.phantom.pet import make_pet
from phalanx.review.masks import review_masks
from phalanx.review.options import ReviewOptions
from phalanx.review.pictures import objects_of
from phalanx.scoring.object_suspects import Annotated, rank_objects

RECIPES = {"ch02": "pet_adam", "ab01": "pet"}
NAMES = ("normal", "diseased")
QUICKER = ["model.norm=batch", "model.channels_last=true", "precision=bf16", "data.size=128"]  # 1.6 times on a CPU


def annotated(root: Path) -> list[Annotated]:
    """Objects of the training images, without a prediction."""
    config = compose({"experiment": "pet", "data.root": str(root)})
    records = kept_records(config.data, report=False)
    truth, found = truth_of(records, config.data), []
    for record in records:
        masks = truth.stack(record.name).masks(truth.sizes[record.name])
        sick = bool(masks[1].any())
        mask = masks[int(sick)]
        widths = widths_along_midline(mask) if elongation(mask) >= ELONGATED else None
        width = widths.ratio if widths else None
        found.append(Annotated(record.name, record.group, 1, sick, float(mask.sum()), 0.5, width))
    return found


def precisions(objects: list[Annotated], planted: set[str], only: tuple[str, ...]) -> dict[str, float]:
    """Average precision by measure, and of all of them."""
    found = rank_objects(objects, NAMES)
    truth = [one.object.image in planted for one in found]
    scores = {name: [one.doubts[name] for one in found] for name in only if name in found[0].doubts}
    scores["all"] = [one.score for one in found]
    return {name: float(average_precision_score(truth, values)) for name, values in scores.items()}


def trained(disease: str, root: Path, work: Path, seed: int, epochs: int) -> list[Annotated]:
    """Objects with what a run of two folds predicted of them out of fold."""
    name = f"{disease}_{seed}"
    phalanx(
        "train", f"experiment={RECIPES[disease]}", f"name={name}", f"data.root={root}", f"runs={work / 'runs'}",
        *QUICKER, "folds=2", "fold=0,1", f"epochs={epochs}", "validate_every=0", "validate_steps=null",
        "predict.oof_prob=true", "device=cpu", "workers=0", "progress=false", "report=false", f"seed={seed}",
    )  # fmt: skip
    options = ReviewOptions(out=work / "review", runs=work / "runs", progress=False)
    return objects_of(review_masks(name, options))


def measure(work: Path, *, quick: bool, train: bool) -> list[dict[str, Any]]:
    """A row per disease, seed and measure."""
    rows = []
    for disease in RECIPES:
        for seed in (1,) if quick else (1, 2, 3):
            root = work / f"{disease}_{seed}"
            if not root.is_dir():
                make_pet(
                    root, patients=30 if quick else 80, size=256, seed=seed, disease=disease, wrong_labels=0.06,
                    test_diseased=0, test_patients=1, progress=False,
                )  # fmt: skip
            images = json.loads((root / "manifest.json").read_text())["images"]
            planted = {f"{row['image']}.png" for row in images if row["wrong_label"]}
            objects = annotated(root)
            found = precisions(objects, planted, ("area", "width"))
            if train:
                with_run = precisions(trained(disease, root, work, seed, 2 if quick else 100), planted, ("prediction",))
                found |= {"prediction": with_run["prediction"], "all, with prediction": with_run["all"]}
            chance = len(planted) / len(objects)
            for name, value in found.items():
                what = f"{disease}, seed {seed}, {len(planted)} of {len(objects)} planted: {name}"
                print(f"{what}: average precision {value:.3f} (chance {chance:.3f})", flush=True)
                rows.append({"claim": what, "ours": value, "baseline": chance, "unit": "average precision"})
    for disease in RECIPES:
        for name in ("area", "width", "all", "prediction", "all, with prediction"):
            own = [
                row["ours"] for row in rows if row["claim"].startswith(disease) and row["claim"].endswith(f": {name}")
            ]
            if own:
                print(f"{disease}, {name}: mean {np.mean(own):.3f} of {len(own)} seed(s), from {min(own):.3f}")
    return rows


def main() -> None:
    """Measures, prints and, with --json, writes the rows."""
    parser = flags(__doc__, "one seed of 30 animals")
    parser.add_argument("--train", action="store_true", help="also train, and add what was predicted out of fold")
    parser.add_argument("--work", type=Path, help="where data sets and runs stay; default: a temporary folder")
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        work = options.work or Path(place)
        work.mkdir(parents=True, exist_ok=True)
        keep(measure(work, quick=options.quick, train=options.train), options.json)


if __name__ == "__main__":
    main()
