"""Boxes of real dental X-rays from scratch: one class "tooth", and all 32 numbers of teeth.

Needs a set of panoramic dental X-rays in the competition's layout, with answers for its test images; without it the
bench says so and ends. Each recipe trains one fold; its held-out images choose the threshold of scores, and the test
images score it. A plain script of torchvision's Faster R-CNN trains on the same images of the same input size, with
the same encoder and norm and AdamW, for as much CPU time as ours took, start included. Intervals are over images. What
is finished is not trained again.

    python bench/teeth_boxes.py --root DIR [--runs DIR] [--quick] [--json FILE]
"""

import json
import sys
from pathlib import Path
from typing import Any

from common import ends, flags, keep, phalanx, print_rows, row, run, train_once
from phalanx.config import DetectConfig
from phalanx.config.compose import compose_as
from phalanx.data.box_truth import read_box_truth
from phalanx.data.images import image_size
from phalanx.data.layouts import test_records, train_records
from phalanx.data.objects import box_truth
from phalanx.scoring.boxes import BoxScore, compare_boxes, score_boxes
from phalanx.submission.boxes import Boxes, BoxSubmission

FOLDS = 5
RECIPES = {
    "teeth_tooth_faster": "Faster R-CNN, one class",
    "teeth_tooth_mask": "Mask R-CNN, one class",
    "teeth_32_faster": "Faster R-CNN, 32 classes",
    "teeth_32_mask": "Mask R-CNN, 32 classes",
}
PLAIN_FOR = ("teeth_tooth_faster", "teeth_32_faster")

PLAIN = """
import json, math, sys, time
from pathlib import Path
import cv2, numpy as np, torch, torchvision
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

task = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(1), torch.manual_seed(0)
rng, side, classes = np.random.default_rng(0), task["side"], task["classes"]
swap = list(range(len(classes)))
for a, b in task["pairs"]:
    swap[classes.index(a)], swap[classes.index(b)] = classes.index(b), classes.index(a)

def read(image):
    picture = cv2.imread(image, 0)
    scale = side / max(picture.shape)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(picture).float().repeat(3, 1, 1) / 255, scale

train = [(read(image), np.array(boxes), np.array(labels)) for image, boxes, labels in task["train"]]
backbone = resnet_fpn_backbone(
    backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5)
network = FasterRCNN(backbone, len(classes) + 1, min_size=side, max_size=side,
                     image_mean=[0.449] * 3, image_std=[0.226] * 3)
optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
steps, done = 0, False
while not done:
    order = rng.permutation(len(train))
    for first in range(0, len(order) - 7, 8):
        images, targets = [], []
        for row in order[first : first + 8]:
            (image, scale), boxes, labels = train[row]
            boxes = torch.from_numpy(boxes * scale).float()
            if rng.random() < 0.5:
                image, labels = image.flip(2), np.array([swap[label] for label in labels])
                boxes = torch.stack([image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0],
                                     boxes[:, 3]], 1)
            images.append(image)
            targets.append({"boxes": boxes, "labels": torch.from_numpy(labels) + 1})
        left = max(0.0, 1 - time.process_time() / task["seconds"])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (steps + 1) / 50) * 0.5 * (1 - math.cos(math.pi * left))
        loss = sum(network(images, targets).values())
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        steps += 1
        done = time.process_time() >= task["seconds"]
        if done:
            break
network.eval()
found = {}
with torch.no_grad():
    for name, image in task["test"]:
        picture, scale = read(image)
        made = network([picture])[0]
        found[name] = {"corners": (made["boxes"].double() / scale).tolist(), "scores": made["scores"].double().tolist(),
                       "classes": (made["labels"] - 1).tolist()}
Path(task["out"]).write_text(json.dumps({"boxes": found, "steps": steps, "seconds": time.process_time()}))
"""


def main() -> None:
    parser = flags(__doc__, quick="one epoch at 96 pixels: shows that it runs; its scores mean nothing")
    parser.add_argument("--root", type=Path, help="the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_teeth_boxes"), help="where the runs are kept")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="which of the recipes, by default all")
    args = parser.parse_args()
    if args.root is None or not (args.root / "test" / "answers_json").is_dir():
        print(f"skipped: no dental X-rays with test/answers_json at --root {args.root}")
        return
    rows: list[dict[str, Any]] = []
    for recipe in args.recipes.split(","):
        found = Race(recipe, args.root, args.runs, args.quick).rows()
        print_rows(found)
        rows += found
    keep(rows, args.json)


class Race:
    """A recipe's run and the plain script's."""

    def __init__(self, recipe: str, root: Path, runs: Path, quick: bool):
        self.recipe, self.root, self.runs = recipe, root.resolve(), runs.resolve()
        self.tiny = ["epochs=1", "data.size=96"] if quick else []
        self.name = f"{recipe}_quick" if quick else recipe
        words = dict(word.split("=", 1) for word in self.tiny)
        self.data = compose_as(DetectConfig, {"experiment": recipe, "data.root": str(self.root), **words}).data
        self.test = test_records(self.data)
        sizes = {record.name: image_size(record.image) for record in self.test}
        self.truth = read_box_truth(self.root / "test" / "answers_json", self.data, sizes)

    def rows(self) -> list[dict[str, Any]]:
        title, (threshold, seconds) = RECIPES[self.recipe], self.trained()
        ours = score_boxes(self.predicted(), self.truth, threshold=threshold)
        rows = [row(f"{title}: {metric} on {len(self.test)} test images", ours.value(metric))
                for metric in ("map", "map50", "map75")]  # fmt: skip
        rows.append(row(f"{title}: F1 at an IoU of .5, scores from the out-of-fold threshold", ours.value("f1")))
        rows += ends(f"{title}: F1", ours.intervals("f1")[0])
        rows.append(row(f"{title}: training, minutes of CPU time", seconds / 60, unit="minutes"))
        if self.data.pairs:
            objects = int(ours.confusion[:-1].sum())
            sides = ours.exchanged(dict(self.data.pairs))
            rows.append(row(f"{title}: of {objects} teeth, found as that of the other side", float(sides)))
        if self.recipe in PLAIN_FOR:
            rows += self.against(ours, self.plain(seconds))
        return rows

    def against(self, ours: BoxScore, plain: BoxSubmission) -> list[dict[str, Any]]:
        """Rows of the differences; the plain script has no held-out images, so its F1 is at its best threshold."""
        title, theirs = RECIPES[self.recipe], score_boxes(plain, self.truth)
        rows = []
        for metric in ("map50", "map"):
            found = compare_boxes(theirs, ours, metric)
            rows.append(row(f"{title}: {metric}, against a plain script", ours.value(metric), theirs.value(metric)))
            rows += ends(f"{title}: {metric}, ours less the plain script's", found.interval)
        best = theirs.best_threshold().f1
        return [*rows, row(f"{title}: F1, against a plain script at its best threshold", ours.value("f1"), best)]

    def trained(self) -> tuple[float, float]:
        """Trains the fold; the threshold that its held-out images choose, and the seconds of CPU time."""
        run = self.runs / self.name / "fold0"
        spent = train_once(run, "fold=0", f"folds={FOLDS}", f"experiment={self.recipe}", f"data.root={self.root}",
                           "workers=0", "progress=false", "device=cpu", *self.tiny)  # fmt: skip
        if spent is None:
            raise SystemExit(f"{run}: was trained without measuring its time, which the plain script gets; delete it")
        return json.loads((run / "oof_score.json").read_text("utf-8"))["threshold"], spent

    def predicted(self) -> BoxSubmission:
        file = self.runs / f"{self.name}.csv"
        phalanx("infer", f"experiment={self.name}", f"data.root={self.root}", f"runs={self.runs}", f"out={file}",
                "device=cpu", "progress=false")  # fmt: skip
        return BoxSubmission.read(file, self.truth.classes)

    def plain(self, seconds: float) -> BoxSubmission:
        """The plain script's boxes of the test images, after as much CPU time."""
        file = self.runs / f"{self.name}.plain.json"
        if not file.is_file():
            held_out = BoxSubmission.read(self.runs / self.name / "fold0" / "oof.csv", self.truth.classes).images
            seen = [record for record in train_records(self.data) if record.name not in held_out]
            boxes = box_truth(seen, self.data).boxes
            task = {
                "train": [(str(one.image), each.corners.tolist(), each.classes.tolist())
                          for one, each in zip(seen, boxes, strict=True) if len(each.corners)],
                "test": [(record.name, str(record.image)) for record in self.test],
                "side": self.data.size, "classes": list(self.data.classes), "pairs": self.data.pairs,
                "seconds": seconds, "out": str(file),
            }  # fmt: skip
            note = self.runs / f"{self.name}.task.json"
            note.write_text(json.dumps(task), encoding="utf-8")
            run([sys.executable, "-c", PLAIN, str(note)], "the plain script")
        found = json.loads(file.read_text(encoding="utf-8"))["boxes"]
        boxes = tuple(Boxes.of(*(found[image][key] for key in ("corners", "scores", "classes")))
                      for image in self.truth.images)  # fmt: skip
        return BoxSubmission("plain script", self.truth.images, self.truth.classes, boxes)


if __name__ == "__main__":
    main()
