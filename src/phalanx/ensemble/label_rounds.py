"""The table of hard-negative rounds: what each training was made of, and what it forgot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import ClassifyConfig
from ..data.hard import Mined, Pair, told_apart
from ..data.root import resolve_root
from ..data.selection import Selection
from ..errors import shown
from ..runs.reader import FoldRun, folds_of
from ..scoring.classify_report import number
from ..scoring.label_table import LabelTable, Predicted
from .classify_oof import read_out_of_fold
from .label_test import predict_test, read_test_table

METRIC = "macro_f1"


class Stage(NamedTuple):
    """One training of the rounds.

    Attributes:
        name: full, hard 1, refined 1, ...
        pairs: classes whose failures it was trained on, as its mined run confused them; none of the first.
    """

    name: str
    run: str
    pairs: tuple[Pair, ...] = ()


def stage_report(
    stage: Stage, runs: Path, pairs: Sequence[Pair], truth: Path | None, device: str = "auto"
) -> dict[str, Any]:
    """What a finished training is worth, as JSON types.

    Args:
        pairs: the confused classes that all trainings are compared on.
        truth: labels of the test images; None: they are not scored.
    """
    place = runs / stage.run
    folds = [fold for fold in folds_of(place) if fold.number is not None]
    found = read_out_of_fold(stage.run, runs)
    selection = Selection.read(folds[0].folder / "selection.csv")
    config = folds[0].config_of(ClassifyConfig)
    config = config.model_copy(update={"device": device, "runs": runs, "data": resolve_root(config.data)})
    held_out = LabelTable(found.images, found.patients, found.classes, found.labels, np.zeros(len(found.images), bool))
    made = Predicted(found.classes, found.head, found.probabilities)
    report: dict[str, Any] = {
        "stage": stage.name,
        "run": stage.run,
        "mined_pairs": [list(pair) for pair in stage.pairs],
        "failures": sum(" out of fold by " in row.reason and "right" not in row.reason for row in selection.rows),
        "epochs": config.epochs,
        "appearances_per_epoch": sum(selection.trained_weights.values()),
        "seconds": sum(fold.result.seconds_train for fold in folds if fold.result),
        "out_of_fold": {METRIC: number(held_out.score(shown(stage.run), made).value(METRIC))},
    }
    report["out_of_fold"]["pairs"] = _apart(held_out, made, config, pairs)
    if truth is not None:
        report["test"] = _on_test(stage, [fold.folder for fold in folds], config, truth, pairs)
    return report


def _on_test(
    stage: Stage, folders: Sequence[Path], config: ClassifyConfig, truth: Path, pairs: Sequence[Pair]
) -> dict[str, Any]:
    table = read_test_table(config.data, str(truth.resolve()))
    made = predict_test(folders, config, table)
    values: dict[str, Any] = {METRIC: number(table.score(shown(stage.run), made).value(METRIC))}
    if table.has_twin.any():
        values["marked"] = number(table.score(shown(stage.run), made, "marked").value(METRIC))
        values["clean"] = number(table.score(shown(stage.run), made, "clean").value(METRIC))
    return values | {"pairs": _apart(table, made, config, pairs)}


def _apart(table: LabelTable, made: Predicted, config: ClassifyConfig, pairs: Sequence[Pair]) -> float | None:
    """The fraction of images that have one class of a pair for which this one was predicted and not the other."""
    if made.head == "softmax":
        predicted = np.arange(len(made.columns)) == made.values.argmax(axis=1)[:, None]
    else:
        predicted = made.values >= config.predict.threshold
    places = [made.columns.index(name) for name in table.classes]
    seen = Mined("", table.classes, table.images, made.values[:, places], predicted[:, places], table.labels)
    right, count = told_apart(seen, [pair for pair in pairs if set(pair) <= set(table.classes)])
    return right / count if count else None


def rounds_text(reports: Sequence[dict[str, Any]], pairs: Sequence[Pair]) -> str:
    """The reports as a table for the terminal."""
    parts = [("out_of_fold", METRIC), ("out_of_fold", "pairs")]
    parts += [("test", key) for key in (METRIC, "marked", "clean", "pairs") if key in reports[0].get("test", {})]
    names = {"out_of_fold": "oof", "test": "test"}
    head = ["training", "run", "failures", "shown", *(f"{names[part]} {key}" for part, key in parts)]
    rows = [head]
    for report in reports:
        cells = [report["stage"], report["run"], str(report["failures"]), f"{report['appearances_per_epoch']:g}"]
        values = [report[part][key] for part, key in parts]
        rows.append([*cells, *("-" if value is None else f"{value:.4f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    named = ", ".join("/".join(pair) for pair in pairs)
    lines.append(
        f"pairs: of the images with one class of {named}, the fraction for which it and not the other was predicted"
    )
    return "\n".join(lines)


def mined_pairs(runs: Path, stage: str) -> tuple[Pair, ...]:
    """The pairs that a training's own recipe names. Empty if it lets the mined run choose, or mines none."""
    fold: FoldRun = folds_of(runs / stage)[0]
    hard = fold.config_of(ClassifyConfig).data.hard
    return tuple(hard.pairs or ()) if hard else ()
