"""Does the engine hold on real X-rays? One fold of the teeth recipe, trained from scratch, scored on unseen images.

Needs a set of panoramic dental X-rays in the competition's layout with answers for its test images
(`<root>/test/answers_json`); without it the bench says so and ends. A run that is finished is not trained again.

    python bench/teeth.py --root DIR [--runs DIR] [--quick] [--json FILE]
"""

import json
import sys
import tempfile
from pathlib import Path

from common import flags, keep
from phalanx.cli import main as phalanx
from phalanx.runs.reader import FoldRun

NAME = "teeth_light"


def main() -> None:
    parser = flags(__doc__, quick="one epoch at 64 pixels: shows that it runs; its Dice means nothing")
    parser.add_argument("--root", type=Path, help="the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run is kept")
    args = parser.parse_args()
    if args.root is None or not (args.root / "test" / "answers_json").is_dir():
        print(f"skipped: no dental X-rays with test/answers_json at --root {args.root}")
        return
    name = f"{NAME}_quick" if args.quick else NAME
    tiny = ["epochs=1", "data.size=64"] if args.quick else []
    runs = f"runs={args.runs}"
    with tempfile.TemporaryDirectory() as scratch:
        csv, score = Path(scratch) / "teeth.csv", Path(scratch) / "score.json"
        calls = [
            ["train", "fold=0", f"experiment={NAME}", f"name={name}", f"data.root={args.root}", runs, *tiny],
            ["infer", f"experiment={name}", f"data.root={args.root}", f"out={csv}", runs],
            ["score", str(csv), str(args.root / "test" / "answers_json"), "--json", str(score)],
        ]
        for call in calls:
            if phalanx(call):
                sys.exit(2)
        result = json.loads(score.read_text(encoding="utf-8"))
    trained = FoldRun(args.runs / name / "fold0").result
    assert trained is not None
    low, high = result["interval"]
    keep(
        [
            {"claim": "teeth, fold 0, mean test Dice, both empty counting 1", "ours": result["dice"], "unit": "Dice"},
            {"claim": "the same, lower end of the 95% interval over patients", "ours": low, "unit": "Dice"},
            {"claim": "the same, upper end", "ours": high, "unit": "Dice"},
            {"claim": "teeth, counting only present teeth", "ours": result["dice_present"], "unit": "Dice"},
            {"claim": "teeth, training from scratch", "ours": trained.seconds_train / 60, "unit": "minutes"},
        ],
        args.json,
    )


if __name__ == "__main__":
    main()
