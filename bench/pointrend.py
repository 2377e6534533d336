"""What the PointRend head adds: a light FPN, logits at stride 4, on synthetic hands of 512 pixels.

Each seed first trains the network without points on four of five folds, and from there on, for as many steps on the
same images, with the paper's head in two ways: `joint`, where the points' loss teaches the network below, too, and
`detached`, where it does not and gradients are not clipped, so that the coarse logits are those of a training without
points, to the bit. These, scored alone, are the baseline. Scores are of the patients of the fifth fold, at the original
size. What the head costs is the CPU time of steps and predictions. Runs are kept in ``--runs`` and not trained again.

    python bench/pointrend.py [--runs DIR] [--quick] [--json FILE]
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import flags, keep, machine
from phalanx.cli import main as phalanx
from phalanx.config.compose import compose
from phalanx.data.layouts import train_records
from phalanx.data.truth import truth_of
from phalanx.losses.stages import StagedLoss
from phalanx.models.build import build
from phalanx.predict.members import FoldMember
from phalanx.predict.run import write_submission
from phalanx.predict.soft import RunMember
from phalanx.runs.reader import FoldRun
from phalanx.runtime.device import open_device
from phalanx.scoring.score import score
from phalanx.submission.table import Submission
from phalanx.tasks.segment import loss_of

SIZE = 512
# without dropout: the head learns from logits as it will find them, not from those of a thinned decoder
DROPOUT = "model.options={decoder_pyramid_channels:128,decoder_segmentation_channels:64,decoder_dropout:0}"
SECOND = ["epochs=4", "optim.lr=2e-3", "optim.clip=0", DROPOUT]
HEAD = "points:{},oversample:3,importance:0.75,hidden:256,layers:3,subdivision_points:{}"
WITHOUT = ["model.pointrend=null", "loss=bce5_dice5"]
WAYS = {
    "detached": ["model.pointrend={" + HEAD.format(4096, 4096) + ",detach:true}", "loss=bce_dice"],
    "joint": ["model.pointrend={" + HEAD.format(8192, 8192) + "}", "loss=bce_dice"],
}


def call(*words: str) -> None:
    if phalanx(list(words)):
        sys.exit(2)


def dice(root: Path, runs: Path, seed: int, recipe: list[str], epochs: int) -> dict[str, float]:
    """Dice on the hands of the fold held out, by way, and ``without`` points."""
    words = ["experiment=demo_fpn", "fold=0", f"seed={seed}", f"data.root={root}", f"runs={runs}", *recipe]
    call("train", *words, f"name=coarse-seed{seed}", f"epochs={epochs}", *WITHOUT)
    start = f"model.init_from={runs / f'coarse-seed{seed}'}"
    found = {}
    for way, head in WAYS.items():
        call("train", *words, f"name={way}-seed{seed}", start, *SECOND, *head)
        result = FoldRun(runs / f"{way}-seed{seed}" / "fold0").result
        assert result is not None
        assert result.value is not None
        found[way] = result.value
    return found | {"without": coarse_dice(runs / f"detached-seed{seed}" / "fold0")}


def coarse_dice(folder: Path) -> float:
    """Dice of a finished fold's coarse logits, as those of a network without points."""
    member = FoldMember(folder, weights="final", device=open_device("cpu", "32"), changes={})
    member.network.core = member.network.segmenter
    records = train_records(member.config.data)
    number = FoldRun(folder).folds
    held_out = [record for record in records if number[record.name] == 0]
    csv = folder.parent / "coarse.csv"
    write_submission(csv, [RunMember("coarse", [member])], held_out, threshold=0.5, batch=1, progress=False)
    patients = {record.name: record.group for record in held_out}
    return score(Submission.read(csv), truth_of(held_out, member.config.data), patients).mean


class Cost:
    """A network and its loss, to be timed."""

    def __init__(self, size: int, words: list[str]):
        pairs = dict(word.split("=", 1) for word in [*words, "experiment=demo_fpn", f"data.size={size}"])
        self.config = compose(pairs)
        classes = self.config.data.classes
        torch.manual_seed(0)
        self.network = build(self.config.model, classes=len(classes), size=size, pretrained=False)
        self.loss = StagedLoss(self.config.loss, classes)
        self.images = torch.randint(0, 256, (self.config.batch, 1, size, size), dtype=torch.uint8)
        self.planes = torch.zeros(self.config.batch, -(-len(classes) // 8), size, size, dtype=torch.uint8)

    def step(self) -> float:
        """CPU seconds of forward, loss and backward of a batch."""
        self.network.train()
        began = time.process_time()
        loss_of(self.loss, 0, self.network(self.images), self.planes).total.backward()
        return time.process_time() - began

    @torch.no_grad()
    def predict(self) -> float:
        """CPU seconds of an image's logits at its full size."""
        self.network.eval()
        began = time.process_time()
        self.network.predict(self.images[:1])
        return time.process_time() - began


def main() -> None:
    parser = flags(__doc__, quick="tiny images and two epochs: shows that it runs; its Dice means nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_pointrend"), help="where hands and runs are kept")
    args = parser.parse_args()
    size, seeds = (128, [0]) if args.quick else (SIZE, [0, 1, 2])
    runs = args.runs / ("quick" if args.quick else "full")
    root = runs / "hands"
    patients, epochs = (10, 2) if args.quick else (75, 6)
    if not root.is_dir():
        sizes = [f"patients={patients}", "test_patients=1", f"size={size}"]
        call("phantom", "hand", *sizes, "seed=11", f"out={root}")
    recipe = [f"data.size={size}", "data.oversample=null", "augment=affine"]
    scores = [dice(root, runs, seed, recipe, epochs) for seed in seeds]
    where = f"{size} px, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        ours, baseline = (float(np.mean([score[key] for score in scores])) for key in (way, "without"))
        gains = [score[way] - score["without"] for score in scores]
        claim = f"{way}: mean Dice of unseen hands, {where}"
        rows.append({"claim": claim, "ours": ours, "baseline": baseline, "unit": "Dice"})
        rows.append({"claim": f"{way}: smallest gain of a seed, {where}", "ours": min(gains), "unit": "Dice"})
        rows.append({"claim": f"{way}: largest gain of a seed, {where}", "ours": max(gains), "unit": "Dice"})
    costs = {name: Cost(size, words) for name, words in {**WAYS, "without": WITHOUT}.items()}
    for claim, work in (("forward, loss and backward of two images", Cost.step), ("predicting an image", Cost.predict)):
        spent = {name: [work(cost) for _ in range(2 if args.quick else 6)] for name, cost in costs.items()}
        seconds = {name: float(np.median(values[1:])) for name, values in spent.items()}
        for way in WAYS:
            told = f"{way}: {claim}, {size} px"
            rows.append({"claim": told, "ours": seconds[way], "baseline": seconds["without"], "unit": "CPU s"})
    for row in rows:
        baseline = f"{row['baseline']:.4f}" if "baseline" in row else ""
        print(f"{row['claim']:60} {row['ours']:.4f} {baseline} {row['unit']}")
    print(machine())
    keep(rows, args.json)


if __name__ == "__main__":
    main()
