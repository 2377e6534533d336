"""The demo's votes beside the plain script that one would write first, trained on the same hands for as long as one
of the demo's folds: FPN on MobileNetV3, 160 pixels, BatchNorm, smp's losses, one model, no fold, no vote.

    python bench/demo.py [--quick] [--json FILE]
"""

from pathlib import Path
from typing import Any

from common import flags, keep
from phalanx.cli import main as phalanx
from phalanx.commands.demo import run_demo
from phalanx.config import SegmentData
from phalanx.data.truth import read_truth
from phalanx.phantom.anatomy import HAND_CLASSES
from phalanx.runs.reader import FoldRun
from phalanx.runtime.device import open_device
from phalanx.scoring.score import score
from plain import plain_script

SIDE, ENCODER = 160, "tu-mobilenetv3_large_100"


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
        seconds = sum(trained) / len(trained)
        device = open_device("cpu", "32")
        plain, *_ = plain_script(root / "data", HAND_CLASSES, device, seconds, seed=0, side=SIDE, encoder=ENCODER)
        place = root / "data" / "test" / "answers_json"
        data = SegmentData(name="demo", root=place, classes=HAND_CLASSES, size=512)
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
