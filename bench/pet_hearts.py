"""Hearts of which one in 44 is enlarged: what the rare images as augmented copies gain, and which part of it does that.

The report on pet X-rays repeated its diseased hearts as augmented copies until there were as many as normal ones, and
its F1 rose from .14 to .81. The recipe `pet_boxes_heart` does so; here on synthetic hearts, of 160 pixels. Beside it
train, for as many steps and with the same seed: nothing done; the same repetitions without augmentation; augmentation
of all images without repetitions; weights by class in the box head. F1 at an IoU of .5 over the steps is that of
held-out images with the threshold of scores that is best there. The test images are scored with the threshold that was
best on the held-out ones at the end; differences are paired over animals. What is finished is not trained again.

    python bench/pet_hearts.py [--keep DIR] [--patients 800] [--epochs 4] [--seeds 0] [--quick] [--json FILE]
"""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

from common import ends, flags, keep, phalanx, print_rows, row, train_once
from phalanx.config.f1_iou import F1AtIoU
from phalanx.data.box_truth import with_endings
from phalanx.phantom.pet import make_pet
from phalanx.runs.reader import FoldRun
from phalanx.scoring.boxes import BoxScore, score_boxes
from phalanx.scoring.f1_iou import F1IoU, compare_f1
from phalanx.submission.boxes import BoxSubmission
from phalanx.tasks.image_f1 import f1_of_images

SIDE, FOLDS, EVERY = 160, 3, 200
RULE = F1AtIoU(positive="diseased", negative="normal", iou=0.5)
AS_IT_IS = ["augment=none", "augment.copies_only=false"]
ONCE = ["data.balance=null", *AS_IT_IS]
# epochs of each: with as many rare images as normal ones, an epoch has twice the images
ROWS = {
    "augmented copies": (1, []),
    "nothing done": (2, ONCE),
    "plain repetitions": (1, AS_IT_IS),
    "augmentation of all, no repetitions": (2, ["data.balance=null", "augment.copies_only=false"]),
    "weights": (2, [*ONCE, "loss=boxes_weighted"]),
}
FIRST = "augmented copies"


def main() -> None:
    parser = flags(__doc__, quick="two rows, few animals, an epoch: shows that it runs; its scores mean nothing")
    parser.add_argument("--keep", type=Path, default=Path("runs/bench_hearts"), help="for the images and the runs")
    parser.add_argument("--patients", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=4, help="of repeated images; without repetitions twice as many")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2")
    args = parser.parse_args()
    patients, epochs, side, ill = (30, 1, 64, 10) if args.quick else (args.patients, args.epochs, SIDE, 40)
    root = args.keep.resolve() / f"hearts-{patients}p"
    if not root.is_dir():
        make_pet(root, patients=patients, size=256, seed=7, disease="ch05", wrong_labels=0.0, test_diseased=ill)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds.split(","):
        runs = {name: Run(name, root, epochs, side, seed) for name in [*ROWS][: 2 if args.quick else None]}
        for run in runs.values():
            rows += run.rows() + (run.behind(runs[FIRST]) if run is not runs[FIRST] else [])
    print_rows(rows)
    keep(rows, args.json)


class Run:
    """One fold of a row."""

    def __init__(self, name: str, root: Path, epochs: int, side: int, seed: str):
        self.title, self.root = f"hearts, seed {seed}: {name}", root
        times, words = ROWS[name]
        self.name = f"{name.replace(',', '').replace(' ', '_')}_{root.name}_{side}px_{epochs}epochs_seed{seed}"
        self.words = [f"runs={root.parent}", f"data.root={root}", "device=cpu", "progress=false"]
        self.folder = root.parent / self.name / "fold0"
        rule = ",".join(f"{key}:{value}" for key, value in RULE.model_dump().items())
        self.seconds = train_once(
            self.folder, "experiment=pet_boxes_heart", *self.words[1:], *words, f"data.size={side}", f"seed={seed}",
            "fold=0", f"folds={FOLDS}", f"epochs={epochs * times}", f"validate_steps={EVERY}", f"image_f1={{{rule}}}",
            "workers=0", "report=false",
        )  # fmt: skip

    @cached_property
    def boxes(self) -> BoxScore:
        """The score of its test boxes."""
        file = self.root.parent / f"{self.name}.csv"
        phalanx("infer", f"experiment={self.name}", *self.words, f"out={file}")
        made = BoxSubmission.read(file)
        truth = with_endings(BoxSubmission.read(self.root / "test/answers.csv", made.classes, truth=True), made.images)
        threshold = json.loads((self.folder / "oof_score.json").read_text(encoding="utf-8"))["threshold"]
        return score_boxes(made, truth, threshold=threshold)

    @cached_property
    def images(self) -> F1IoU:
        """Test images by what is predicted of them."""
        return f1_of_images(RULE, self.boxes, float(self.boxes.thresholds[0]))

    @property
    def precision_of_disease(self) -> float:
        """Its average precision at an IoU of .5, which needs no threshold of scores."""
        return float(self.boxes.figures["map50"][1 + self.boxes.classes.index(RULE.positive)])

    def rows(self) -> list[dict[str, Any]]:
        log = FoldRun(self.folder).log("validate")
        steps = {int(line["step"]): float(line.get("held_out/image_f1", 0.0)) for line in log}  # undefined: none called
        found = [row(f"{self.title}: F1 of held-out images after {step} steps", value) for step, value in steps.items()]
        count = f"{int(self.images.diseased.sum())} of {len(self.images.images)} test images diseased"
        found.append(row(f"{self.title}: F1 at an IoU of .5, {count}", self.images.value("f1")))
        found += [
            row(f"{self.title}: {figure}", value)
            for figure in ("precision", "recall")
            if not math.isnan(value := self.images.value(figure))
        ]  # nothing was called diseased
        found.append(row(f"{self.title}: average precision of the disease at an IoU of .5", self.precision_of_disease))
        if self.seconds is not None:
            found.append(row(f"{self.title}: training, minutes of CPU time", self.seconds / 60, unit="minutes"))
        return found

    def behind(self, first: "Run") -> list[dict[str, Any]]:
        """Rows of what the first run is ahead."""
        found = compare_f1(self.images, first.images)
        return ends(f"{first.title}: F1 less that of {self.title.split(': ')[1]}", found.interval)


if __name__ == "__main__":
    main()
