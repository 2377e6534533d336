"""Mask R-CNN beside a feature pyramid that segments, on synthetic hands of 512 pixels, with as much CPU time.

The recipe `hand_mask_rcnn_light` trains the first of five folds. The pyramid (`fpn_light`, BatchNorm, bf16) then trains
the same fold for as many epochs as fit into the CPU time that took, start and prediction of held-out images included;
what an epoch costs comes from two short trainings. Both predict the test images of patients that neither has seen.
What is finished is not trained again.

    python bench/hand_instances.py [--keep DIR] [--patients 80] [--epochs 20] [--quick] [--json FILE]
"""

from pathlib import Path

from common import ends, flags, keep, phalanx, print_rows, row, train_once
from hands import hand_set
from phalanx.config import SegmentConfig
from phalanx.config.compose import compose_as
from phalanx.scoring.compare import compare
from phalanx.scoring.score import Score, score
from phalanx.submission.table import Submission
from phalanx.sweep.runs import ground_truth

SIDE = 512
INSTANCES = "experiment=hand_mask_rcnn_light"
PYRAMID = [
    "experiment=claims_small", "model.norm=batch", "model.channels_last=true", "precision=bf16",
    "augment=affine", "batch=8",
]  # fmt: skip
SHORT = (1, 3)  # epochs of the trainings from which the cost of an epoch comes


def main() -> None:
    parser = flags(__doc__, quick="few hands of 128 pixels, an epoch: shows that it runs; its scores mean nothing")
    parser.add_argument("--keep", type=Path, default=Path("runs/bench_instances"), help="for hands and runs")
    parser.add_argument("--patients", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=20, help="of Mask R-CNN")
    args = parser.parse_args()
    patients, epochs, side = (12, 1, 128) if args.quick else (args.patients, args.epochs, SIDE)
    race = Race(args.keep, hand_set(args.keep, patients, side, 7), side)
    spent = race.train("mask_rcnn", [INSTANCES, f"validate_every={epochs}"], epochs)
    short = [race.train("probe", PYRAMID, count) for count in SHORT]
    cost = (short[1] - short[0]) / (SHORT[1] - SHORT[0])
    fits = max(1, int(SHORT[0] + (spent - short[0]) / cost))
    took = race.train("fpn", [*PYRAMID, f"validate_every={fits}"], fits)
    ours, theirs = race.scored("mask_rcnn", ["masks=true"]), race.scored("fpn", [])
    found = compare(theirs, ours)
    rows = [
        row(f"mean Dice of Mask R-CNN on {len(ours.images)} test images of {side} pixels (baseline: the pyramid)",
            ours.mean, theirs.mean),
        *ends("its Dice less that of the pyramid", found.interval),
        row("epochs (baseline: the pyramid's)", epochs, fits, "epochs"),
        row("CPU time of training (baseline: the pyramid's)", spent / 60, took / 60, "minutes"),
    ]  # fmt: skip
    print_rows(rows)
    keep(rows, args.json)


class Race:
    """Trainings on one set of hands."""

    def __init__(self, place: Path, root: Path, side: int):
        self.place, self.common = place.resolve(), [f"data.root={root.resolve()}"]
        self.side, self.names = side, dict[str, str]()  # the run of each network
        self.data = compose_as(SegmentConfig, {"experiment": "claims_small", "data.root": str(root)}).data

    def train(self, name: str, words: list[str], epochs: int) -> float:
        """CPU seconds of a training of the first fold."""
        self.names[name] = f"{name}_{self.side}px_{epochs}epochs"
        run = self.place / self.names[name] / "fold0"
        spent = train_once(run, *words, *self.common, f"epochs={epochs}", f"data.size={self.side}", "fold=0", "folds=5",
                           "seed=0", "workers=0", "device=cpu", "progress=false", "report=false")  # fmt: skip
        if spent is None:
            raise SystemExit(f"{run}: was trained without measuring its time, which the race needs; delete it")
        return spent

    def scored(self, name: str, words: list[str]) -> Score:
        """The score of a training's test masks."""
        file = self.place / f"{self.names[name]}.csv"
        phalanx("infer", f"experiment={self.names[name]}", f"runs={self.place}", *self.common, f"out={file}", *words,
                "device=cpu", "progress=false")  # fmt: skip
        submission = Submission.read(file)
        truth, patients = ground_truth(submission, self.data)
        return score(submission, truth, patients)


if __name__ == "__main__":
    main()
