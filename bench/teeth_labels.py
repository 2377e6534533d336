"""Labels of real dental X-rays from scratch: which of 32 teeth are there, and the ten categories of the source.

Needs a set of panoramic dental X-rays in the competition's layout, with answers for its test images and meta_data.csv;
without it the bench says so and ends. Presence is scored by the mean AUC over teeth that at least five test images
lack, of the mean probability of a classifier on all training images and a detector (`teeth_32_faster`, the first of
five folds, the same run as of teeth_boxes.py), with two seeds of the classifier. The baseline is a logistic regression
per tooth on the true number of teeth of an image: people who lack many teeth lack any one of them more often. A run
that is finished is not trained again.

    python bench/teeth_labels.py --root DIR [--runs DIR] [--quick] [--json FILE]
"""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from common import ends, flags, keep, phalanx, print_rows, row, train_once
from phalanx.config import ClassifyConfig
from phalanx.config.compose import compose_as
from phalanx.data.label_table import table_of
from phalanx.data.labels import labels_of, read_labels
from phalanx.data.layouts import train_records
from phalanx.scoring.classify import ClassifyScore, score_classes
from phalanx.scoring.resampling import interval
from phalanx.submission.probabilities import Probabilities

LEAST_ABSENT = 5  # test images without a tooth that is scored
SEEDS = (0, 1)  # of the classifier for presence
DETECTOR = "teeth_32_faster"
FOLDS = 5


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
    print_rows(rows)
    keep(rows, args.json)


def presence(root: Path, runs: Path, tiny: list[str]) -> list[dict[str, Any]]:
    """The rows of 32 teeth."""
    detector, spent = predicted(DETECTOR, root, runs, tiny, fold="0", labels=True)
    config = compose_as(ClassifyConfig, {"experiment": "teeth_presence", "data.root": str(root)})
    truth, _ = read_labels(root / "test" / "answers_json", config.data)
    members = {"detector": Probabilities.read(detector, config.data.classes)}
    labels = np.array([truth[image.rsplit(".", 1)[0]] for image in members["detector"].images])
    known = labels_of(train_records(config.data), config.data)
    chosen = [c for c in range(labels.shape[1]) if (labels[:, c] == 0).sum() >= LEAST_ABSENT and labels[:, c].any()]
    names = [config.data.classes[c] for c in chosen]

    def scored(name: str, values: np.ndarray) -> ClassifyScore:
        images = members["detector"].images
        return score_classes(name, values, labels[:, chosen], names, "sigmoid", images=images)

    counts = known.sum(1)[:, None], labels.sum(1)[:, None]
    regression = [LogisticRegression().fit(counts[0], known[:, c]).predict_proba(counts[1])[:, 1] for c in chosen]
    theirs = scored("number of teeth", np.array(regression).T)
    title = (f"presence of teeth, classifier and detector together, macro AUC over the {len(chosen)} that "
             f"{LEAST_ABSENT} test images or more lack")  # fmt: skip
    rows, minutes = list[dict[str, Any]](), [("detector", spent)]
    for seed in SEEDS:
        file, spent = predicted("teeth_presence", root, runs, tiny, seed)
        vote = file.with_name(f"{file.stem}_vote.csv")
        words = ["mode=soft", f"members={file},{detector}", f"out={vote}"]
        phalanx("ensemble", *words, "out_of_fold=false")
        members[f"classifier of seed {seed}"] = Probabilities.read(file, config.data.classes)
        minutes.append((f"classifier of seed {seed}", spent))
        made = Probabilities.read(vote, config.data.classes)
        assert made.images == members["detector"].images
        ours = scored("ours", made.values[:, chosen])
        name = title if seed == SEEDS[0] else f"the same, seed {seed}"
        rows.append(row(name, ours.value("macro_auc"), theirs.value("macro_auc")))
        gain = interval(ours.resampled("macro_auc") - theirs.resampled("macro_auc"))
        rows += ends(f"the same, seed {seed}, ours less the regression on the number of teeth", gain)
    alone = {name: scored(name, one.values[:, chosen]) for name, one in members.items()}
    rows += [row(f"the same, the {name} alone", one.value("macro_auc")) for name, one in alone.items()]
    return rows + [row(f"presence of teeth, {name}, training from scratch, CPU time", one / 60, unit="minutes")
                   for name, one in minutes if one is not None]  # fmt: skip


def category(root: Path, runs: Path, tiny: list[str]) -> list[dict[str, Any]]:
    """The rows of ten categories; the baseline always names the most frequent one."""
    file, spent = predicted("teeth_category", root, runs, tiny)
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
        row("category of ten, accuracy", ours.value("accuracy"), common),
        *spread("the same", ours, "accuracy"),
        row("category of ten, macro AUC", ours.value("macro_auc")),
        *([row("category of ten, training from scratch, CPU time", spent / 60, unit="minutes")] if spent else []),
    ]


def predicted(
    recipe: str, root: Path, runs: Path, tiny: list[str], seed: int = 0, fold: str = "all", labels: bool = False
) -> tuple[Path, float | None]:
    """The CSV of test predictions of a run, and the CPU seconds of its training, if they were measured.

    Args:
        fold: all training images, or the number of one.
        labels: of a detector: probabilities of classes.
    """
    name = f"{recipe}{f'_{seed}' if seed else ''}{'_quick' if tiny else ''}"
    run = runs / name / (fold if fold == "all" else f"fold{fold}")
    spent = train_once(run, f"fold={fold}", f"folds={FOLDS}", f"experiment={recipe}", f"seed={seed}",
                       f"data.root={root}", "workers=0", "device=cpu", "progress=false", *tiny)  # fmt: skip
    file = runs / (f"{name}.labels.csv" if labels else f"{name}.csv")
    phalanx("infer", f"experiment={name}", f"data.root={root}", f"runs={runs}", f"out={file}", "device=cpu",
            "progress=false", *(["labels=true"] if labels else []))  # fmt: skip
    return file, spent


def spread(claim: str, score: ClassifyScore, metric: str) -> list[dict[str, Any]]:
    return ends(claim, interval(score.resampled(metric)))


if __name__ == "__main__":
    main()
