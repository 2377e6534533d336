"""The demo's votes beside the plain script that one would write first, trained on the same hands for as long as one
of the demo's folds: FPN on MobileNetV3, 160 pixels, BatchNorm, smp's losses, one model, no fold, no vote.

    python bench/demo.py [--quick] [--json FILE]
"""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch

from common import flags, keep
from phalanx.cli import main as phalanx
from phalanx.commands.demo import run_demo
from phalanx.config import Data
from phalanx.data.polygons import rasterise, read_annotations
from phalanx.data.records import Record, test_records, train_records
from phalanx.data.truth import read_truth
from phalanx.masks.planes import unpack
from phalanx.masks.rle import encode
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.runs.reader import FoldRun
from phalanx.scoring.score import score
from phalanx.submission.table import Submission

SIDE = 160


def plain_sample(record: Record) -> tuple[torch.Tensor, torch.Tensor]:
    """Image float[3, S, S] and masks float[C, S, S], as a plain data set gives them."""
    image = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
    size = image.shape[0]
    assert record.labels is not None
    planes = rasterise(read_annotations(record.labels, HAND_CLASSES), image.shape[:2], len(HAND_CLASSES), 1.0)
    masks = unpack(planes, len(HAND_CLASSES)).astype(np.uint8)
    if size != SIDE:
        image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        masks = np.stack([cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for mask in masks])
    return torch.from_numpy(image / 255).float().expand(3, SIDE, SIDE), torch.from_numpy(masks).float()


def plain_script(root: Path, seconds: float, seed: int) -> Submission:
    """Trains the plain model for so many seconds and predicts the test images."""
    torch.manual_seed(seed)
    samples = [plain_sample(record) for record in train_records(root)]
    model = smp.FPN("tu-mobilenetv3_large_100", encoder_weights=None, classes=len(HAND_CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    dice, bce = smp.losses.DiceLoss("multilabel"), torch.nn.BCEWithLogitsLoss()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for part in torch.randperm(len(samples)).split(8):
            images, masks = (torch.stack(parts) for parts in zip(*[samples[i] for i in part], strict=True))
            if torch.rand(()) < 0.5:
                images, masks = images.flip(3), masks.flip(3)
            logits = model(images)
            loss = dice(logits, masks) + bce(logits, masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    rles, sizes = {}, {}
    for record in test_records(root):
        whole = cv2.imread(str(record.image), cv2.IMREAD_GRAYSCALE)
        small = cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            maps = model(torch.from_numpy(small / 255).float().expand(1, 3, SIDE, SIDE)).sigmoid()[0].numpy()
        rles[record.name] = [encode(cv2.resize(one, whole.shape[::-1]) >= 0.5) for one in maps]
        sizes[record.name] = whole.shape
    return Submission.of(rles, HAND_CLASSES, sizes, "plain script")


def main() -> None:
    parser = flags(__doc__, quick="the tiny demo; its Dice means nothing")
    parser.add_argument("--without-plain", action="store_true", help="the demo's own numbers, without a baseline")
    args = parser.parse_args()
    summary: dict[str, Any] = run_demo(quick=args.quick, call=phalanx)
    root = Path("runs/demo_quick" if args.quick else "runs/demo")
    folds = [root / run / fold for run in summary["dice_members"] for fold in ("fold0", "fold1")]
    trained = [result.seconds_train for folder in folds if (result := FoldRun(folder).result)]
    usual = None
    if not args.without_plain:
        plain = plain_script(root / "data", sum(trained) / len(trained), seed=0)
        place = root / "data" / "test" / "answers_json"
        data = Data(name="demo", root=place, classes=HAND_CLASSES, size=512)
        truth, patients = read_truth(place, data, plain.sizes)
        usual = score(plain, truth, patients).mean
    rows: list[dict[str, Any]] = [
        {"claim": f"{vote} vote of two models, two folds each", "ours": summary[f"dice_{vote}"], "baseline": usual}
        for vote in ("soft", "hard")
    ]
    rows += [
        {"claim": f"{run}, two folds", "ours": dice, "baseline": usual} for run, dice in summary["dice_members"].items()
    ]
    rows = [row | {"unit": "Dice, unseen patients"} for row in rows]
    rows = [row | {"ratio": row["ours"] / usual if usual else None} for row in rows]
    rows.append({"claim": "the demo after set-up", "ours": summary["seconds_main"] / 60, "unit": "minutes"})
    rows.append({"claim": "training one fold, on average", "ours": sum(trained) / len(trained), "unit": "s"})
    if summary["seconds_setup"] is not None:
        rows.append({"claim": "set-up", "ours": summary["seconds_setup"], "unit": "s"})
    for row in rows:
        print(f"{row['claim']:45} {row['ours']:.4f} {row.get('baseline') or float('nan'):.4f} {row['unit']}")
    keep(rows, args.json)


if __name__ == "__main__":
    main()
