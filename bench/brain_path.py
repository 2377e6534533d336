"""What can be planted into synthetic brain slices is found: wrong labels, a scanner that gives the class away, lesions
that a classifier does or does not look at, and a shortcut that restoration augmentation teaches.

Everything is done by the commands that a user has, on three synthetic sets: one whose classes share their sources, with
some wrong labels, one whose classes each come from a source of their own, and a small one without either, for
restoration. Each training is that of the first of three folds. What is finished is not done again, so the same command
continues.

    python bench/brain_path.py [--keep DIR] [--seed 1] [--quick] [--json FILE]
"""

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from common import flags, keep
from phalanx.cli import main as phalanx

FOLDS, WRONG = 3, 0.05
PATIENTS = {"shared": 4000, "apart": 1000, "few": 1000}  # of 240, a network learns too little of the lesions
TEST_PATIENTS = 150
EPOCHS = 9
SIDE = 128  # pixels of the images; the networks see 96
LEARN = ("model.norm=batch", "model.channels_last=true", "precision=bf16", "batch=32", "optim.lr=2e-3")
DENOISE = ("precision=bf16", "batch=32")
FINE = (*LEARN, "augment=flip", "model.options={output_stride: 16}")  # 6 x 6 cells to explain instead of 3 x 3
GROUPS = "data.folders.group_pattern=^(P[0-9]+)-"


def main() -> None:
    parser = flags(__doc__, quick="a few patients and one epoch: shows that it runs; its numbers mean nothing")
    parser.add_argument("--keep", type=Path, help="where sets and runs are kept, to continue")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic sets")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench((args.keep or Path(scratch)).resolve(), args.seed, args.quick)
        rows = [*bench.confound(), *bench.suspects(), *bench.cam(), *bench.restoration()]
    for row in rows:
        print(f"{row['claim']}: {row['ours']:.4f}" + (f" ({row['baseline']:.4f})" if row["baseline"] else ""))
    keep(rows, args.json)


def row(claim: str, ours: float, unit: str = "", baseline: float | None = None) -> dict[str, Any]:
    return {"claim": claim, "ours": ours, "baseline": baseline, "unit": unit}


class Bench:
    """The sets and the runs on them."""

    def __init__(self, place: Path, seed: int, quick: bool):
        self.place, self.runs, self.quick = place, place / "runs", quick
        self.sets = {name: place / name for name in PATIENTS}
        for name, folder in self.sets.items():
            if not folder.is_dir():
                wrong, confound = WRONG * (name == "shared"), int(name == "apart")
                patients = (
                    ("patients=24",) if quick else (f"patients={PATIENTS[name]}", f"test_patients={TEST_PATIENTS}")
                )
                self.call("phantom", "brain", f"out={folder}", *patients, f"size={SIDE}", f"seed={seed}",
                          f"wrong_labels={wrong}", f"confound={confound}")  # fmt: skip
        self.images = json.loads((self.sets["shared"] / "manifest.json").read_text(encoding="utf-8"))["images"]

    def call(self, *words: str) -> int:
        code = phalanx([*words])
        if code not in (0, 1):
            sys.exit(2)
        return code

    def train(self, name: str, recipe: str, *words: str, epochs: int, data: str = "shared") -> str:
        """A run, finished or not, by name."""
        fixed = ["fold=0", f"folds={FOLDS}", f"experiment={recipe}", f"name={name}", f"runs={self.runs}",
                 f"data.root={self.sets[data]}", GROUPS, "data.size=96",
                 f"epochs={1 if self.quick else epochs}", *words]  # fmt: skip
        self.call("train", *fixed)
        return name

    def report(self, name: str, *words: str) -> dict[str, Any]:
        """What a command with ``json=`` wrote; it is not run again."""
        file = self.place / f"{name}.json"
        if not file.is_file():
            self.call(*words, f"json={file}")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def confound(self) -> list[dict[str, Any]]:
        """The test of background and borders on both sets."""
        rows = []
        for name, title in (("shared", "classes share their sources"), ("apart", "each class has a source of its own")):
            found = self.report(f"confound_{name}", "confound", "data=brain", f"data.root={self.sets[name]}", GROUPS)
            rows.append(row(f"confound, {title}: AUC of the class by background and borders", found["macro_auc"]))
            rows.append(row(f"confound, {title}: found", float(found["detected"])))
        return rows

    def suspects(self) -> list[dict[str, Any]]:
        """Planted wrong labels, ranked by out-of-fold probabilities."""
        run = self.train("plain", "brain_light", *FINE, epochs=EPOCHS)
        planted = {f"{image['image']}.png": image["wrong_label"] for image in self.images}
        rows = []
        for by in ("image", "patient"):
            out = self.place / f"suspects_{by}.csv"
            self.call("suspects", run, f"runs={self.runs}", f"out={out}", f"by={by}")
            with out.open(encoding="utf-8", newline="") as file:
                rank = {line["image_name"]: int(line["rank"]) for line in csv.DictReader(file)}
            wrong = np.array([planted[image] for image in rank])
            found = average_precision_score(wrong, -np.array(list(rank.values())))
            title = f"suspects by {by}: average precision on {wrong.sum()} of {len(wrong)} labels that are wrong"
            rows.append(row(title, float(found), baseline=float(wrong.mean())))
        return rows

    def cam(self) -> list[dict[str, Any]]:
        """The part of the heat in lesions, of classifiers that learnt them and of such that learnt the source."""
        rows: list[dict[str, Any]] = []
        for pool, names, words in (
            ("mean", ("shuffled", "plain", "source"), FINE),
            ("log-sum-exp", ("lse_shuffled", "lse", "lse_source"), (*FINE, "model.pool=lse")),
        ):
            control = self.train(names[0], "brain_light", *words, "data.shuffle_labels=0", epochs=3)
            sound = self.train(names[1], "brain_light", *words, epochs=EPOCHS)
            source = self.train(names[2], "brain_light", *words, epochs=EPOCHS, data="apart")
            for run, data in ((sound, "shared"), (source, "apart")):
                out = self.place / f"cam_{run}"
                if not (out / "cam.json").is_file():
                    self.call("cam", run, f"runs={self.runs}", f"data.root={self.sets[data]}", "class=label",
                              f"masks={self.sets[data] / 'masks'}", f"control={control}", f"out={out}")  # fmt: skip
                found = json.loads((out / "cam.json").read_text(encoding="utf-8"))
                of = "classes share their sources" if run == sound else "a source per class"
                title = f"Grad-CAM, pooling by {pool}, {of}"
                rows.append(row(f"{title}: heat in lesions by their area", found["ratio"]["mean"]))
                rows += ends(found["ratio"]["interval"])
                for name, other in found["controls"].items():
                    rows.append(row(f"{title}: ratio less that of the control ({name})", other["gain"]["mean"]))
                    rows += ends(other["gain"]["interval"])
        return rows

    def restoration(self) -> list[dict[str, Any]]:
        """Tumours that become healthy once they are restored."""
        none = self.train("small", "brain_small", *LEARN, epochs=12, data="few")
        members = {"none": none}
        for kind, epochs in (("healthy", 5), ("all", 1)):  # so many images more that these are as many steps
            suffix = "" if kind == "healthy" else "_all"
            denoiser = self.train(f"restore{suffix}", f"brain_small_restore{suffix}", *DENOISE, epochs=8, data="few")
            made = self.place / f"restored{suffix}"
            if not made.is_dir():
                self.call("restore", denoiser, f"runs={self.runs}", f"out={made}")
            words = (*LEARN, f"data.restored={made}")
            members[kind] = self.train(
                f"restored{suffix}", f"brain_small_restored{suffix}", *words, epochs=epochs, data="few"
            )
        found = self.report("shortcut", "shortcut", "restore", f"runs={self.runs}",
                            f"picture={self.place / 'restored.png'}",
                            *(f"{kind}={run}" for kind, run in members.items()))  # fmt: skip
        return shortcut_rows(found)


def ends(interval: tuple[float, float] | None) -> list[dict[str, Any]]:
    """Rows of an interval, after that of its value."""
    named = zip(("lower", "upper"), interval or (), strict=False)
    return [row(f"the same, {end} end of the 95% interval", value) for end, value in named]


def shortcut_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the report of ``phalanx shortcut``."""
    rows = []
    for name, one in found["classifiers"].items():
        kind = f"{one['restored_for_training']} restored for training"
        rows.append(row(f"{name} ({kind}): restored healthy images called healthy", one["acceptance"]["value"]))
        rows.append(row(f"{name} ({kind}): tumours that become healthy once restored", one["diseased_turned"]["value"]))
    for name, one in found["differences"].items():
        rows.append(row(f"the same, restored healthy alone less {name}", one["value"]))
        rows += ends(one["interval"])
    rows.append(row("restored images told from plain ones by the power spectrum, AUC", found["spectrum"]["auc"]))
    return rows


if __name__ == "__main__":
    main()
