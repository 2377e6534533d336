"""Labels of real dental X-rays from scratch: which of 32 teeth are there, and the ten categories of the source.

Needs a set of panoramic dental X-rays in the competition's layout, with answers for its test images and meta_data.csv;
without it the bench says so and ends. Presence is scored by the mean AUC over teeth that at least five test images
lack, of the mean probability of two networks that differ by their seed. The baseline is a logistic regression per tooth
on the true number of teeth of an image: people who lack many teeth lack any one of them more often. A run that is
finished is not trained again, so the commands that are printed may train the two side by side beforehand.

    python bench/teeth_labels.py --root DIR [--runs DIR] [--quick] [--json FILE]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from common import flags, keep
from phalanx.cli import main as phalanx
from phalanx.config import ClassifyConfig
from phalanx.config.compose import compose_as
from phalanx.data.label_table import table_of
from phalanx.data.labels import labels_of, read_labels
from phalanx.data.layouts import train_records
from phalanx.runs.reader import FoldRun
from phalanx.scoring.classify import ClassifyScore, score_classes
from phalanx.scoring.resampling import interval
from phalanx.submission.probabilities import Probabilities

LEAST_ABSENT = 5  # test images without a tooth that is scored
SEEDS = (0, 1)  # of the networks for presence


def main() -> None:
    parser = flags(__doc__, quick="one epoch at 64 pixels: shows that it runs; its scores mean nothing")
    parser.add_argument("--root", type=Path, help="the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_teeth"), help="where the runs are kept")
    args = parser.parse_args()
    if args.root is None or not (args.root / "test" / "answers_json").is_dir():
        print(f"skipped: no dental X-rays with test/answers_json at --root {args.root}")
        return
    tiny = ["epochs=1", "data.size=64"] if args.quick else []
    rows = presence(args.root, args.runs, tiny) + category(args.root, args.runs, tiny)
    for row in rows:
        print(f"{row['claim']}: {row['ours']:.4f}" + (f" against {row['baseline']:.4f}" if row["baseline"] else ""))
    keep(rows, args.json)


def presence(root: Path, runs: Path, tiny: list[str]) -> list[dict[str, Any]]:
    """The rows of 32 teeth."""
    members, minutes = zip(*(predicted("teeth_presence", root, runs, tiny, seed) for seed in SEEDS), strict=True)
    file = members[0].with_name("teeth_presence_vote.csv")
    if phalanx(["ensemble", "mode=soft", f"members={','.join(one.stem for one in members)}", f"out={file}",
                f"data.root={root}", f"runs={runs}"]):  # fmt: skip
        sys.exit(2)
    made, *singles = map(Probabilities.read, (file, *members))
    assert all(one.images == made.images for one in singles)
    config = compose_as(ClassifyConfig, {"experiment": "teeth_presence", "data.root": str(root)})
    truth, _ = read_labels(root / "test" / "answers_json", config.data)
    labels = np.array([truth[image.rsplit(".", 1)[0]] for image in made.images])
    known = labels_of(train_records(config.data), config.data)
    counts = np.column_stack([known.sum(1)]), np.column_stack([labels.sum(1)])
    chosen = [c for c in range(labels.shape[1]) if (labels[:, c] == 0).sum() >= LEAST_ABSENT and labels[:, c].any()]
    regression = [LogisticRegression().fit(counts[0], known[:, c]).predict_proba(counts[1])[:, 1] for c in chosen]
    names = [config.data.classes[c] for c in chosen]

    def scored(name: str, values: np.ndarray) -> ClassifyScore:
        return score_classes(name, values, labels[:, chosen], names, "sigmoid", images=made.images)

    ours, theirs = scored("ours", made.values[:, chosen]), scored("number of teeth", np.array(regression).T)
    alone = [scored(f"seed {seed}", one.values[:, chosen]) for seed, one in zip(SEEDS, singles, strict=True)]
    gain = interval(ours.resampled("macro_auc") - theirs.resampled("macro_auc"))
    title = f"presence of teeth, macro AUC over the {len(chosen)} that {LEAST_ABSENT} test images or more lack"
    return [
        {"claim": title, "ours": ours.value("macro_auc"), "baseline": theirs.value("macro_auc"), "unit": ""},
        *ends("the same, ours less the regression on the number of teeth", gain),
        *spread("the same, ours", ours, "macro_auc"),
        *({"claim": f"the same, {one.name} alone", "ours": one.value("macro_auc"), "baseline": None, "unit": ""}
          for one in alone),
        {"claim": f"presence of teeth, training from scratch, the longer of {len(SEEDS)} networks",
         "ours": max(minutes), "baseline": None, "unit": "minutes"},
    ]  # fmt: skip


def category(root: Path, runs: Path, tiny: list[str]) -> list[dict[str, Any]]:
    """The rows of ten categories; the baseline always names the most frequent one."""
    file, minutes = predicted("teeth_category", root, runs, tiny)
    made = Probabilities.read(file)
    config = compose_as(ClassifyConfig, {"experiment": "teeth_category", "data.root": str(root)})
    assert config.data.table is not None
    table = config.data.table.model_copy(update={"rows": "split=test"})
    truth = table_of(root / table.train, config.data.model_copy(update={"table": table}))
    labels = np.array([truth[image].labels for image in made.images])
    known = labels_of(train_records(config.data), config.data)
    ours = score_classes("ours", made.values, labels, config.data.classes, "softmax", images=made.images)
    common = float(labels[:, known.sum(0).argmax()].mean())
    return [
        {"claim": "category of ten, accuracy", "ours": ours.value("accuracy"), "baseline": common, "unit": ""},
        *spread("the same", ours, "accuracy"),
        {"claim": "category of ten, macro AUC", "ours": ours.value("macro_auc"), "baseline": None, "unit": ""},
        {"claim": "category of ten, training from scratch", "ours": minutes, "baseline": None, "unit": "minutes"},
    ]


def predicted(recipe: str, root: Path, runs: Path, tiny: list[str], seed: int = 0) -> tuple[Path, float]:
    """The CSV of test predictions of a run on all training images, and the minutes of its training."""
    name = f"{recipe}{f'_{seed}' if seed else ''}{'_quick' if tiny else ''}"
    file, common = runs / f"{name}.csv", [f"data.root={root}", f"runs={runs}"]
    calls = [
        ["train", "fold=all", f"experiment={recipe}", f"name={name}", f"seed={seed}", *common, *tiny],
        ["infer", f"experiment={name}", *common, f"out={file}"],
    ]
    for call in calls:
        print("phalanx", *call, flush=True)
        if phalanx(call):
            sys.exit(2)
    trained = FoldRun(runs / name / "all").result
    assert trained is not None
    return file, trained.seconds_train / 60


def spread(claim: str, score: ClassifyScore, metric: str) -> list[dict[str, Any]]:
    return ends(claim, interval(score.resampled(metric)))


def ends(claim: str, found: tuple[float, float] | None) -> list[dict[str, Any]]:
    """Rows of the two ends of an interval."""
    named = zip(("lower", "upper"), found or (), strict=False)
    return [{"claim": f"{claim}, {end} end of the 95% interval", "ours": value, "baseline": None, "unit": ""}
            for end, value in named]  # fmt: skip


if __name__ == "__main__":
    main()
