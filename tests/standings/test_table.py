"""`phalanx runs`: states, metrics and intervals, groups that are not ranked together, the best, filters, damage."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tests.oof_runs import overconfident
from tests.standings.folders import PATIENTS, make_run

from phalanx.cli import main
from phalanx.runs.reader import FoldResult, FoldRun
from phalanx.runtime.files import write_json
from phalanx.runtime.locks import hold
from phalanx.runtime.metric import Metric
from phalanx.runtime.sidecar import Sidecar
from phalanx.scoring.classify import score_classes
from phalanx.scoring.classify_report import score_json
from phalanx.scoring.resampling import draws, mean_interval
from phalanx.standings.recipes import differing, short_names
from phalanx.standings.table import arrange, list_runs, mean_text, to_text


@pytest.fixture
def place(tmp_path):
    make_run(tmp_path / "a", {0: 0.90, 1: 0.92, 2: 0.94}, optim__lr=1e-3)
    make_run(tmp_path / "b", {0: 0.93, 1: 0.95, 2: 0.97}, optim__lr=3e-4)
    make_run(tmp_path / "nested" / "one", {0: 0.99}, optim__lr=3e-4)  # better, but one fold of three
    return tmp_path


def rows(place, *words, sort="score"):
    return arrange(list_runs(place, None), sort).standings


def test_the_metric_is_over_all_held_out_images_with_an_interval_over_patients(place):
    b, _ = found = [one for one in rows(place) if one.name in "ab"]
    assert [one.name for one in found] == ["b", "a"]
    assert b.value == pytest.approx(0.95)
    assert (b.images, b.patients, b.drawn) == (2 * PATIENTS, PATIENTS, 3)
    assert b.spread == pytest.approx(0.02)
    values = {image: v for k in range(3) for image, v in FoldRun(place / f"b/fold{k}").per_image.items()}
    patients = FoldRun(place / "b/fold0").patients
    assert b.interval == mean_interval(values, patients)
    by_patient = np.array([np.mean([v for i, v in values.items() if patients[i] == f"P{p}"]) for p in range(PATIENTS)])
    drawn = np.concatenate([*draws(PATIENTS)]) @ by_patient / PATIENTS
    assert b.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.002)
    assert b.interval[0] < b.value < b.interval[1]


def test_the_best_has_all_folds_if_any_run_has(place):
    assert [(one.name, one.best) for one in rows(place)] == [("nested/one", False), ("b", True), ("a", False)]
    shutil.rmtree(place / "b" / "fold2")
    shutil.rmtree(place / "a" / "fold2")
    assert [one.name for one in rows(place) if one.best] == ["b"]  # none is complete: those with the most folds


def test_lower_may_be_better_and_metrics_tasks_and_data_are_not_ranked_together(tmp_path):
    make_run(tmp_path / "a", {0: 0.3, 1: 0.3, 2: 0.3}, metric="log_loss", higher=False)
    make_run(tmp_path / "b", {0: 0.2, 1: 0.2, 2: 0.2}, metric="log_loss", higher=False)
    make_run(tmp_path / "c", {0: 0.9, 1: 0.9, 2: 0.9})
    make_run(tmp_path / "d", {0: 0.8, 1: 0.8, 2: 0.8}, data__name="feet")
    make_run(tmp_path / "e", {0: 0.7, 1: 0.7, 2: 0.7}, experiment="demo_brain", metric="accuracy")
    listing = arrange(list_runs(tmp_path, None))
    names = {(g.task, g.data, g.metric): [(o.name, o.best) for o in some] for g, some in listing.groups.items()}
    assert names == {
        ("segment", "hand", "log_loss"): [("b", True), ("a", False)],
        ("segment", "hand", "dice"): [("c", False)],  # alone it is no best
        ("segment", "feet", "dice"): [("d", False)],
        ("classify", "brain", "accuracy"): [("e", False)],
    }
    assert "lower is better" in to_text(listing)


def test_a_metric_of_all_images_together_has_the_folds_own_interval_or_none(tmp_path):
    make_run(tmp_path / "one", {0: 0.8}, metric="macro_auc", shift=0.05)
    path = tmp_path / "one/fold0/oof_score.json"
    found = json.loads(path.read_text()) | {"metrics": {"macro_auc": {"value": 0.85, "interval": [0.7, 0.9]}}}
    path.write_text(json.dumps(found))
    make_run(tmp_path / "two", {0: 0.8, 1: 0.8}, metric="macro_auc", shift=0.05)
    one, two = sorted(rows(tmp_path), key=lambda found: found.name)
    assert one.interval == (0.7, 0.9)
    assert two.interval is None
    assert two.value == pytest.approx(0.85)


def test_several_folds_of_a_figure_of_all_images_have_an_interval(tmp_path):
    """As wide as draws of patients within each fold make it, though it is made of the folds' own intervals."""
    values, labels = overconfident(240, "softmax", seed=1)
    names, patients = [f"{k}" for k in range(240)], np.array([f"P{k // 2}" for k in range(240)])
    make_run(tmp_path / "auc", {0: 0.8, 1: 0.8, 2: 0.8}, metric="macro_auc", shift=0.05)
    each, total = [], 0
    for fold in range(3):
        own = np.flatnonzero(np.arange(240) // 2 % 3 == fold)[: 80 - 20 * fold]
        score = score_classes("x", values[own], labels[own], ["a", "b", "c"], "softmax",
                              images=[names[k] for k in own], patients=patients[own].tolist())  # fmt: skip
        folder, value = tmp_path / "auc" / f"fold{fold}", score.value("macro_auc")
        (folder / "oof_score.json").write_text(json.dumps({"per_image": {}, **score_json(score, ["macro_auc"])}))
        write_json(folder / "done.json", FoldResult(Metric("macro_auc"), value, len(own), 1.0, 1.0).to_json())
        each.append((len(own), np.random.default_rng(fold).permutation(score.resampled("macro_auc"))))
        total += len(own)
    [found] = rows(tmp_path)
    drawn = sum(count / total * values for count, values in each)
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.005)
    assert 0.01 < found.interval[1] - found.interval[0] < 0.2


def test_states(tmp_path):
    make_run(tmp_path / "stopped", {0: 0.5}, finished=False)
    make_run(tmp_path / "training", {0: 0.5}, finished=False)
    folder = tmp_path / "training" / "fold0"
    with hold(folder):
        found = {one.name: one for one in rows(tmp_path)}
        assert found["training"].state == "training"
    assert found["stopped"].state == "stopped"
    fold = found["stopped"].folds[0]
    assert (fold.epoch, fold.epochs, fold.validated, fold.value, fold.seconds) == (2, 3, 0.5, None, 21.0)
    assert found["stopped"].value is None


DAMAGE = {
    "config.yaml": (None, "config.yaml"),
    "done.json": ("{", "done.json"),
    "folds.csv": ("x\n", "folds.csv"),
    "oof_score.json": (None, "oof_score.json"),
    "log.jsonl": ("[]\n", "log.jsonl"),
    "environment.json": ("{}", "environment.json"),
    "oof.csv": (None, "no such file"),
}


@pytest.mark.parametrize("file", DAMAGE)
def test_a_damaged_run_is_a_row_that_says_so(place, capsys, file):
    content, says = DAMAGE[file]
    path = place / "b/fold1" / file
    path.unlink() if content is None else path.write_text(content)
    assert main(["runs", f"runs={place}"]) == 0
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("damaged: b: ")]
    assert says in line
    (row,) = [line for line in text.splitlines() if line.split()[:1] == ["b"]]
    assert "damaged" in row
    assert [line.split()[1] for line in text.splitlines() if line.startswith("* ")][:1] == ["a"]


def test_filters_sorting_and_columns(place, capsys):
    def names(*words):
        assert main(["runs", f"runs={place}", *words]) == 0
        lines = capsys.readouterr().out.splitlines()[2:]
        return [line.lstrip("* ").split()[0] for line in lines[: lines.index("")] if line] if "" in lines else [
            line.lstrip("* ").split()[0] for line in lines if line
        ]  # fmt: skip

    assert names("optim.lr=3e-4") == ["nested/one", "b"]
    assert names("optim.lr=0.001") == ["a"]
    assert names("sort=name") == ["a", "b", "nested/one"]
    assert names("sort=-name") == ["nested/one", "b", "a"]
    assert names("sort=optim.lr")[-1] == "a"
    assert names("name=n*") == names("nested/one") == names(str(place / "nested/one")) == ["nested/one"]
    assert main(["runs", f"runs={place}", "keys=batch,optim.lr"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["batch", "lr"]
    assert main(["runs", f"runs={place}", "folds=true", "keys=none"]) == 0
    text = capsys.readouterr().out
    assert text.count("fold2") == 2
    assert "sd 0.0200" in text
    assert main(["runs", f"runs={place}"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "lr"  # the key that differs


def test_files_have_every_number(place, tmp_path, capsys):
    assert main(["runs", f"runs={place}", f"json={tmp_path}/r.json", f"csv={tmp_path}/r.csv"]) == 0
    (group,) = json.loads((tmp_path / "r.json").read_text())["groups"]
    assert group["differ"] == ["optim.lr"]
    row = next(one for one in group["rows"] if one["name"] == "b")
    assert [fold["score"] for fold in row["folds"]] == [0.93, 0.95, 0.97]
    assert row["recipe"] == {"optim.lr": 0.0003}
    with (tmp_path / "r.csv").open(newline="") as file:
        table = {one["name"]: one for one in csv.DictReader(file)}
    assert float(table["b"]["score"]) == row["score"]
    assert (table["b"]["best"], table["b"]["optim.lr"], table["b"]["folds"]) == ("*", "0.0003", "3 of 3")
    assert main(["runs", f"runs={place}", f"csv={tmp_path}/r.csv"]) == 0  # its own file is replaced
    (tmp_path / "mine.csv").write_text("a,b\n")
    assert main(["runs", f"runs={place}", f"csv={tmp_path}/mine.csv"]) == 2
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["runs=nowhere"], "runs=nowhere: no such folder"),
        (["lr=3e-4"], "lr: no listed recipe has this key; did you mean optim.lr?"),
        (["optim.lr=5"], "has no run that fits optim.lr=5"),
        (["sort=lrr"], "sort=lrr: nothing of that name to sort by; did you mean optim.lr?"),
        (["keys=lr"], "keys=lr: no listed recipe has lr; did you mean optim.lr?"),
        (["state=done"], "state=done: expected one of finished, training, stopped, damaged"),
        (["folds=yes"], "folds=yes: expected true or false"),
        (["nothing*"], "has no run that fits nothing*"),
    ],
)
def test_what_cannot_be_listed_is_refused(place, capsys, words, says):
    assert main(["runs", *([] if words[0].startswith("runs=") else [f"runs={place}"]), *words]) == 2
    assert says in capsys.readouterr().err


def test_votes_and_csvs_are_rows_of_the_table_of_their_runs(place, monkeypatch):
    monkeypatch.chdir(place)
    folder = place / "subs"
    folder.mkdir()
    hashes = {f"b/fold{k}": FoldRun(place / f"b/fold{k}").weights_digest() for k in range(3)}
    digest = "0" * 64
    for name, vote, made in (
        ("b", None, hashes),
        ("old", None, hashes | {"b/fold0": "f" * 64}),  # the run was trained again since
        ("v", {"how": "hard", "members": ["x.csv", "y.csv"]}, hashes),
    ):
        (folder / f"{name}.csv").write_text("image_name\n")
        (folder / f"{name}.json").write_text(Sidecar(digest, ["c"], {}, made, vote).text())
    (folder / "foreign.csv").write_text("a,b\n")
    (folder / "broken.csv").write_text("a\n")
    (folder / "broken.json").write_text(Sidecar(digest, ["c"], {}, {}).text().replace('"classes"', '"klasses"'))
    found = {one.path.name: one for one in list_runs(place, folder)}
    assert found["b.csv"].value == found["b"].value
    assert found["old.csv"].value is None
    assert (found["v.csv"].kind, found["v.csv"].members) == ("vote", ("x.csv", "y.csv"))
    assert found["v.csv"].group == found["b"].group
    assert found["foreign.csv"].group.task == "unknown"
    assert found["broken.csv"].state == "damaged"
    assert not any(one.best for one in arrange(list(found.values())).standings if one.kind == "file")


def test_several_folds_end_with_their_mean(place):
    found = {one.name: one for one in rows(place)}
    assert mean_text(found["b"]).startswith("b: 3 folds, dice 0.9500 over 24 images, 95% interval ")
    (place / "b/fold1/done.json").unlink()
    assert mean_text(next(one for one in rows(place) if one.name == "b")) == ""


def test_columns_have_the_shortest_names_that_tell_them_apart():
    assert short_names(["a.b.size", "c.size", "optim.lr", "name"], ["name"]) == {
        "a.b.size": "b.size", "c.size": "c.size", "optim.lr": "lr", "name": "name",
    }  # fmt: skip
    assert differing([{"name": "a", "device": "cpu", "x": 1}, {"name": "b", "device": "cuda", "x": 2}]) == ["x"]


def test_no_torch_is_loaded(place):
    code = (
        "import sys; from phalanx.cli import main\n"
        f"assert main(['runs', 'runs={place}']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
