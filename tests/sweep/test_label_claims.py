"""Tables of classifications: their results, columns, paired intervals and verdicts, on predictions that never were."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from phalanx.cli import main
from phalanx.config import validate_as
from phalanx.config.compose import config_folder
from phalanx.errors import ConfigError, DataError
from phalanx.runtime.metric import Metric
from phalanx.scoring.label_table import LabelTable, Predicted
from phalanx.scoring.several import score_several
from phalanx.sweep.claims import document
from phalanx.sweep.label_claims import LabelScores, PairedLabels
from phalanx.sweep.recipe import recipe_of, run_name
from phalanx.sweep.results import Predictions, SweepResult, read_results
from phalanx.sweep.table import Column, Table, read_table
from phalanx.sweep.verdict import gain_of

CLASSES = ("AC", "BPD")
TABLE = {
    "title": "Tiny labels", "why": "To see that it works.", "task": "classify", "experiment": "ultrasound",
    "scored_on": "test", "main": "all", "at": {"small": ["epochs=1", "folds=2"]},
    "columns": [{"name": "all"}, {"name": "two", "images": "two_labels"}, {"name": "marked", "images": "marked"},
                {"name": "clean", "images": "clean"}, {"name": "auc", "metric": "macro_auc"}],
    "rows": [
        {"name": "sigmoid", "source": "a report"},
        {"name": "other", "source": "a report", "overrides": ["optim.lr=1e-2"], "baseline": "sigmoid",
         "outcome": "worked"},
        {"name": "hard", "source": "a report", "after": "sigmoid", "baseline": "sigmoid", "outcome": "open"},
        {"name": "refined", "source": "a report", "after": "hard", "overrides": ["data.hard.keep=all"],
         "baseline": "sigmoid", "outcome": "open"},
    ],
}  # fmt: skip


def labels(people=24, seed=0):
    rng = np.random.default_rng(seed)
    count = 3 * people
    truth = (rng.random((count, 2)) < 0.6).astype(float)
    names, twins = tuple(f"{n:03d}.png" for n in range(count)), np.arange(count) % 2 == 0
    return LabelTable(names, tuple(f"P{n // 3:02d}" for n in range(count)), CLASSES, truth, twins)


def predicted(table, noise, seed, clean=0.0):
    rng = np.random.default_rng(seed)
    values = np.clip(0.5 + (table.labels - 0.5) * 0.6 + rng.normal(0, noise, table.labels.shape), 0, 1)
    return Predicted(CLASSES, "sigmoid", values, np.clip(values[table.has_twin] - clean, 0, 1))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder whose only table is TABLE."""
    shutil.copytree(config_folder(), tmp_path / "configs", ignore=lambda _, names: ["sweep"] * ("sweep" in names))
    (tmp_path / "configs/sweep").mkdir()
    (tmp_path / "configs/sweep/labels.yaml").write_text(yaml.safe_dump(TABLE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result(table, row, seed, made, truth, **changes):
    values = {
        "table": "labels", "row": row, "scale": "small", "data": "d", "seed": seed, "fold": 0, "folds": [0, 1],
        "metric": Metric("macro_f1"), "value": 0.5, "seconds": 1.0, "curve": [], "patients": {}, "images": {},
        "overrides": [], "recipe": recipe_of(table.recipe(table.row(row), "small", seed)), "command": "phalanx sweep",
        "commit": None, "machine": "a machine", "scored_on": "test", "predicted": Predictions.of(made, truth),
    }  # fmt: skip
    return SweepResult(**(values | changes))


def keep(place, truth, noises):
    table = read_table("labels")
    Path("results/sweep/small/d").mkdir(parents=True)
    Path("results/sweep/small/d/labels.csv").write_text(truth.to_csv())
    for row, noise in noises.items():
        for seed in range(3):
            result(table, row, seed, predicted(truth, noise, seed, clean=0.2), truth).write()
    return table


def cells(row):
    (line,) = [line for line in document().splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_result_is_compact_and_read_back_as_it_was(place):
    truth = labels()
    keep(place, truth, {"sigmoid": 0.3})
    found = read_results()
    assert [one.path().name for one in found] == [f"sigmoid.seed{s}.fold0-1.json" for s in range(3)]
    made = predicted(truth, 0.3, 1, clean=0.2)
    assert found[1].predicted.arrays.values == pytest.approx(made.values, abs=1e-4)
    assert found[1].predicted.arrays.twins == pytest.approx(made.twins, abs=1e-4)
    assert found[1].path().stat().st_size < 9000
    assert found[1].path().read_text().count("AC") == 2  # the recipe's classes, the columns and nothing per image
    read = LabelTable.read(Path("results/sweep/small/d/labels.csv"))
    assert read.images == truth.images
    assert (read.labels == truth.labels).all()
    assert (read.has_twin == truth.has_twin).all()


def test_columns_are_scores_of_parts_of_the_images(place):
    truth = labels()
    made = predicted(truth, 0.3, 0, clean=0.2)
    two = np.flatnonzero(truth.labels.sum(1) == 2)
    assert truth.score("x", made, "two_labels").value("macro_f1") == pytest.approx(
        score_several(
            "x", made.values[two], CLASSES, truth.labels[two], CLASSES, head="sigmoid",
            images=[truth.images[n] for n in two],
        ).value("macro_f1")
    )  # fmt: skip
    assert truth.score("x", made, "clean").value("accuracy") != truth.score("x", made, "marked").value("accuracy")
    assert truth.score("x", made, "clean").images == truth.score("x", made, "marked").images
    alone = LabelTable(truth.images, truth.patients, CLASSES, truth.labels, np.zeros(len(truth.images), bool))
    with pytest.raises(DataError, match="there are no images with marks, as they are to score"):
        alone.score("x", made._replace(twins=None), "marked")


def test_a_page_shows_each_column_with_its_gain(place):
    keep(place, labels(), {"sigmoid": 0.5, "other": 0.25})
    row = cells("other")
    assert row[:4] == ["other", "sigmoid", "worked", "3"]
    assert row[-1] == "agrees"
    assert len(row) == 4 + 5 + 1
    assert all("; +" in cell and "[" in cell and "±" in cell for cell in (row[4], row[8]))
    assert cells("hard")[-1] == "not run"
    assert "[" not in cells("sigmoid")[4]
    page = document()
    assert "*two*: macro f1 on images with two labels" in page
    assert "| small | d | 12 | 3 | 1 agrees, 2 not run |" in page


def test_the_same_predictions_gain_nothing(place):
    keep(place, labels(), {"sigmoid": 0.3, "other": 0.3})
    row = cells("other")
    assert row[4].endswith("; +0.000 [+0.000, +0.000]")
    assert row[-1] == "undecided"


def test_results_on_other_labels_or_with_other_thresholds_do_not_count(place):
    truth = labels()
    table = keep(place, truth, {"sigmoid": 0.3})
    Path("results/sweep/small/d/labels.csv").write_text(labels(seed=1).to_csv())
    assert "sigmoid.seed0.fold0-1.json`: was scored on other labels of the test images" in document()
    Path("results/sweep/small/d/labels.csv").write_text(truth.to_csv())
    made = predicted(truth, 0.3, 0)._replace(thresholds=np.array([0.3, 0.4]))
    result(table, "sigmoid", 0, made, truth).write()
    assert "sigmoid.seed0.fold0-1.json`: has other thresholds than the row" in document()


@pytest.mark.parametrize("change", [{"head": "other"}, {"test": [[0.1]]}, {"test": [[0.1, 2]]}, {"labels": 3}])
def test_damaged_predictions_are_one_line(place, change):
    keep(place, labels(), {"sigmoid": 0.3})
    path = Path("results/sweep/small/d/labels/sigmoid.seed0.fold0-1.json")
    values = json.loads(path.read_text())
    values["predicted"] |= change
    path.write_text(json.dumps(values))
    assert main(["claims", "out=r.md"]) == 2
    assert not Path("r.md").exists()


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Without any effect, of 40 comparisons of three seeds on 24 patients few intervals exclude zero."""
    truth, column, outside, rounds = labels(), Column(name="all", metric="macro_auc"), 0, 40
    config = {"data": {"classes": list(CLASSES)}}
    empty = SweepResult(
        "t", "row", "small", "d", 0, 0, Metric("macro_auc"), 0.5, 1.0, [], {}, {}, [], config, "", None, "m"
    )

    def scores(number, kind):
        noisy = [predicted(truth, 0.4, [number, seed, kind]) for seed in range(3)]
        found = [replace(empty, seed=seed, predicted=Predictions.of(made, truth)) for seed, made in enumerate(noisy)]
        return [LabelScores(one, truth) for one in found]

    for number in range(rounds):
        pair = PairedLabels.of(scores(number, 0), scores(number, 1))
        gain = gain_of(pair, [], column)
        assert gain.interval is not None
        outside += gain.sign != 0
    assert outside <= 0.15 * rounds


def test_a_row_after_another_begins_with_its_runs_and_mines_them(place):
    table = read_table("labels")
    base, hard, refined = (table.config(table.row(name), "small", 1) for name in ("sigmoid", "hard", "refined"))
    assert hard.model.init_from == hard.data.hard.run == run_name(base)
    assert refined.model.init_from == run_name(hard)
    assert (hard.data.hard.keep, refined.data.hard.keep) == ("only", "all")
    names = [(row.name, fold) for row, fold in table.networks(table.row("refined"), [0], "small", 1)]
    assert names == [("sigmoid", 0), ("sigmoid", 1), ("hard", 0), ("hard", 1), ("refined", 0)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"main": "three"}, "main: 'three' must be one of the columns"),
        ({"scored_on": "out_of_fold"}, "needs an experiment, options for a scale"),
        ({"task": "segment"}, "only for task: classify"),
        ({"columns": [{"name": "all", "images": "three_labels"}]}, "three_labels"),
        (
            {"rows": [{"name": "a", "source": "r", "after": "b"}, {"name": "b", "source": "r"}]},
            "'b' is not a row above",
        ),
        ({"rows": [{"name": "a", "source": "r", "classes": ["AC"]}]}, "only for task: segment"),
    ],
)
def test_an_impossible_table_is_one_line(change, message):
    with pytest.raises(ConfigError, match=message):
        validate_as(Table, TABLE | {"name": "labels"} | change)
