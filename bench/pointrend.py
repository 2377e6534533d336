"""What the PointRend head adds: the same light FPN, logits at stride 4, trained with and without it on 512-pixel hands.

Each seed trains both on four of five folds, the same images in the same order for as many steps, and is scored on the
patients of the fifth at the original size. Runs are kept in ``--runs`` and not trained again.

    python bench/pointrend.py [--runs DIR] [--quick] [--json FILE]
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from common import flags, keep, machine
from phalanx.cli import main as phalanx

SIZE = 512
VARIANTS = {
    "without": ["model.pointrend=null", "loss=bce5_dice5"],
    "with": ["loss=bce_dice"],
}


def call(*words: str) -> None:
    if phalanx(list(words)):
        sys.exit(2)


def one(root: Path, runs: Path, variant: str, seed: int, recipe: list[str]) -> dict[str, float]:
    """Dice on the unseen hands, seconds of training and of predicting an image."""
    name = f"{variant}-seed{seed}"
    words = ["experiment=demo_fpn", f"name={name}", "fold=0", f"seed={seed}", f"data.root={root}", f"runs={runs}"]
    call("train", *words, *recipe, *VARIANTS[variant])
    folder = runs / name / "fold0"
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    images = len(json.loads((folder / "oof.json").read_text(encoding="utf-8"))["sizes"])
    return {"dice": done["dice"], "train": done["seconds_train"], "predict": done["seconds_oof"] / images}


def main() -> None:
    parser = flags(__doc__, quick="tiny images and two epochs: shows that it runs; its Dice means nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_pointrend"), help="where hands and runs are kept")
    args = parser.parse_args()
    size, seeds = (128, [0]) if args.quick else (SIZE, [0, 1, 2])
    runs = args.runs / ("quick" if args.quick else "full")
    root = runs / "hands"
    patients, epochs = ("10", 2) if args.quick else ("75", 6)
    if not root.is_dir():
        sizes = ["--patients", patients, "--test-patients", "1", "--size", str(size)]
        call("phantom", "hand", *sizes, "--seed", "11", "--out", str(root))
    recipe = [f"data.size={size}", f"epochs={epochs}", "data.oversample=null", "augment=affine"]
    # side by side: a seed's two runs follow each other, so that what else the machine does falls on both
    pairs = [{variant: one(root, runs, variant, seed, recipe) for variant in VARIANTS} for seed in seeds]
    found = {variant: [pair[variant] for pair in pairs] for variant in VARIANTS}
    gains = [a["dice"] - b["dice"] for a, b in zip(found["with"], found["without"], strict=True)]

    def mean(variant: str, key: str) -> float:
        return float(np.mean([result[key] for result in found[variant]]))

    where = f"{size} px, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    compared: list[tuple[str, str, str]] = [
        ("dice", "mean Dice of unseen hands", "Dice"),
        ("train", "training", "s"),
        ("predict", "predicting an image, scoring included", "s"),
    ]
    rows: list[dict[str, Any]] = []
    for key, claim, unit in compared:
        ours, baseline = mean("with", key), mean("without", key)
        rows.append(
            {"claim": f"{claim}, {where}", "ours": ours, "baseline": baseline, "ratio": ours / baseline, "unit": unit}
        )
    rows.append({"claim": f"smallest gain of a seed, {where}", "ours": min(gains), "unit": "Dice"})
    rows.append({"claim": f"largest gain of a seed, {where}", "ours": max(gains), "unit": "Dice"})
    for row in rows:
        baseline = f"{row['baseline']:.4f}" if "baseline" in row else ""
        print(f"{row['claim']:60} {row['ours']:.4f} {baseline} {row['unit']}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
