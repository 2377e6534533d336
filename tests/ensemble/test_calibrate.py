"""Out-of-fold probabilities of a run, and calibration and suspects from them, by the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.labelled import CLASSES, make_table, words
from tests.oof_runs import make_run, overconfident

from phalanx.cli import main
from phalanx.data.quarantine import read_quarantine
from phalanx.ensemble.classify_oof import read_out_of_fold
from phalanx.errors import ConfigError, DataError
from phalanx.scoring.calibration import apply_temperature
from phalanx.scoring.calibration_file import Calibration
from phalanx.submission.probabilities import Probabilities, write_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A run of each head."""
    runs = tmp_path_factory.mktemp("made")
    return {head: make_run(runs / head, *overconfident(600, head), head) for head in ("softmax", "sigmoid")}


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_the_folds_of_a_run_are_read_with_labels_and_patients(made, head):
    found = read_out_of_fold(str(made[head]), Path("runs"))
    p, y = overconfident(600, head)
    rows = [int(name[:-4]) for name in found.images]
    assert sorted(rows) == list(range(600))
    assert found.probabilities == pytest.approx(p[rows], abs=1e-8)
    assert (found.labels == y[rows]).all()
    assert found.patients == tuple(f"P{row // 2}" for row in rows)
    assert found.folds.tolist() == [row // 2 % 2 for row in rows]
    assert (found.classes, found.head, len(found.hashes), found.notes) == (tuple(CLASSES), head, 2, ())
    assert read_out_of_fold(head, made[head].parent).images == found.images


def test_runs_that_lack_something_are_refused(made, tmp_path):
    with pytest.raises(ConfigError, match="no trained run"):
        read_out_of_fold("none", tmp_path)
    with pytest.raises(ConfigError, match="folder of one fold; name its run"):
        read_out_of_fold(str(made["sigmoid"] / "fold0"), tmp_path)
    run = make_run(tmp_path / "run", *overconfident(8, "sigmoid"), "sigmoid")
    (run / "fold1" / "done.json").unlink()
    found = read_out_of_fold(str(run), tmp_path)
    assert set(found.folds.tolist()) == {0}
    assert "fold1 is not finished" in found.notes[0]
    labels = run / "fold0" / "labels.csv"
    labels.write_text(labels.read_text().partition("\n")[0] + "\n0002.png,1,0,0\n")
    with pytest.raises(DataError, match="has no row of"):
        read_out_of_fold(str(run), tmp_path)
    (run / "fold0" / "done.json").unlink()
    with pytest.raises(DataError, match="no finished fold"):
        read_out_of_fold(str(run), tmp_path)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_calibration_finds_the_planted_temperature(made, head, tmp_path, capsys):
    out = tmp_path / "calibration.json"
    assert main(["calibrate", str(made[head]), f"out={out}"]) == 0
    text = capsys.readouterr().out
    values = json.loads(out.read_text())
    assert values["temperature"] == pytest.approx([2.5] * 3, rel=0.2)
    assert len(set(values["temperature"])) == 1
    assert values["report"]["after"]["ece_equal_width"] < values["report"]["before"]["ece_equal_width"] / 2
    assert "temperature: negative log-likelihood" in text
    assert "adopted" in text
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert main(["calibrate", str(made[head]), f"out={out}"]) == 0  # our own files are replaced
    out.with_suffix(".png").write_bytes(b"mine")
    before = out.read_bytes()
    assert main(["calibrate", str(made[head]), f"out={out}"]) == 2
    assert out.read_bytes() == before


def test_honest_probabilities_keep_their_temperature(tmp_path):
    p, y = overconfident(400, "sigmoid", seed=3)
    run = make_run(tmp_path / "run", apply_temperature(p, 2.5, "sigmoid"), y, "sigmoid")
    out = tmp_path / "c.json"
    assert main(["calibrate", str(run), f"out={out}"]) == 0
    assert Calibration.read(out).temperature == [1.0] * 3


def test_one_temperature_per_sigmoid_is_not_for_a_softmax(made, tmp_path, capsys):
    assert main(["calibrate", str(made["sigmoid"]), "per_class=true", f"out={tmp_path / 'c.json'}"]) == 0
    assert len(set(Calibration.read(tmp_path / "c.json").temperature)) == 3
    assert main(["calibrate", str(made["softmax"]), "per_class=true", f"out={tmp_path / 'd.json'}"]) == 2
    assert "softmax" in capsys.readouterr().err
    assert not (tmp_path / "d.json").exists()
    run = make_run(tmp_path / "alone", *overconfident(8, "sigmoid"), "sigmoid")
    (run / "fold1" / "done.json").unlink()
    assert main(["calibrate", str(run), f"out={tmp_path / 'd.json'}"]) == 2
    assert "two or more" in capsys.readouterr().err


def test_votes_and_scores_apply_the_file_once(made, tmp_path, capsys):
    file, truth, out = tmp_path / "c.json", tmp_path / "truth.csv", tmp_path / "vote.csv"
    assert main(["calibrate", str(made["sigmoid"]), f"out={file}"]) == 0
    calibration = Calibration.read(file)
    p, y = overconfident(60, "sigmoid", seed=9)
    names = [f"{k:02d}.png" for k in range(60)]
    members = [tmp_path / name for name in ("a.csv", "b.csv")]
    for member, values in zip(members, (p, np.clip(p * 0.9 + 0.02, 0, 1)), strict=True):
        write_probabilities(member, names, CLASSES, values, "sigmoid")
    rows = [",".join([name, *(f"{v:.0f}" for v in row)]) for name, row in zip(names, y, strict=True)]
    truth.write_text("\n".join([",".join(["image_name", *CLASSES]), *rows]) + "\n")
    common = [f"members={members[0]},{members[1]}", f"postprocess={file}", f"out={out}"]
    assert main(["ensemble", "mode=soft", *common]) == 0
    voted = Probabilities.read(out)
    assert voted.calibration == calibration.digest
    cold = np.array(calibration.temperature)
    each = [apply_temperature(Probabilities.read(member).values, cold, "sigmoid") for member in members]
    assert voted.values == pytest.approx(np.mean(each, axis=0), abs=1e-8)

    def scored(csv_file: Path, *more: str) -> dict:
        assert main(["score", str(csv_file), str(truth), f"json={tmp_path / 's.json'}", *more]) == 0
        return json.loads((tmp_path / "s.json").read_text())

    alone = scored(members[0], f"postprocess={file}")
    limits = calibration.thresholds or [0.5] * 3
    assert [row["threshold"] for row in alone["classes"].values()] == pytest.approx(limits)
    want = ((each[0] >= np.array(limits)) == (y == 1)).mean()
    assert alone["metrics"]["accuracy"]["value"] == pytest.approx(want)
    # what was calibrated before is not calibrated again
    assert main(["ensemble", "mode=soft", f"members={members[0]}", f"postprocess={file}", f"out={out}"]) == 0
    again = scored(out, f"postprocess={file}")
    assert again["metrics"]["accuracy"] == alone["metrics"]["accuracy"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": [3.0] * 3}))
    assert main(["score", str(out), str(truth), f"postprocess={other}"]) == 2
    assert "another file" in capsys.readouterr().err
    assert main(["score", str(members[0]), str(truth), f"postprocess={file}", "threshold=.4"]) == 2
    assert "leave one of the two out" in capsys.readouterr().err
    assert main(["ensemble", "mode=hard", *common]) == 0
    hard = Probabilities.read(out).values
    assert set(np.unique(hard)) <= {0.0, 1.0}


def test_thresholds_decide_hard_votes(tmp_path):
    names, member = ["0.png", "1.png"], tmp_path / "a.csv"
    write_probabilities(member, names, CLASSES, np.array([[0.3, 0.3, 0.7], [0.1, 0.6, 0.9]]), "sigmoid")
    file = tmp_path / "c.json"
    values = {"format": "phalanx-calibration-1", "run": "r", "run_hashes": {}, "classes": CLASSES, "head": "sigmoid"}
    file.write_text(json.dumps(values | {"temperature": [1, 1, 1], "thresholds": [0.2, 0.5, 0.8]}))
    assert main(["ensemble", "mode=hard", f"members={member}", f"postprocess={file}", f"out={tmp_path / 'h.csv'}"]) == 0
    assert Probabilities.read(tmp_path / "h.csv").values.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_suspects_of_a_run_and_their_quarantine(tmp_path, capsys):
    p, y = overconfident(40, "sigmoid")
    y = (p >= 0.5).astype(float)
    y[7, 1] = 1 - y[7, 1]
    p[7, 1] = 0.001 if y[7, 1] else 0.999
    run = make_run(tmp_path / "run", p, y, "sigmoid")
    out, quarantine = tmp_path / "suspects.csv", tmp_path / "q.txt"
    assert main(["suspects", str(run), f"out={out}", "top=3", f"quarantine={quarantine}"]) == 0
    assert "0007.png" in capsys.readouterr().out
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 40
    assert (rows[0]["image_name"], rows[0]["patient"], rows[0]["fold"], rows[0]["doubted"]) == (
        "0007.png", "P3", "1", CLASSES[1]
    )  # fmt: skip
    left = read_quarantine(quarantine)
    assert list(left) == [row["image_name"] for row in rows[:3]]
    assert "doubted flat" in left["0007.png"]
    for words_, why in (
        ([str(run), f"quarantine={quarantine}", "top=1"], "exists"),
        ([str(run), f"quarantine={tmp_path / 'new.txt'}"], "top="),
        ([str(run), "top=0"], "whole number"),
        ([str(run), "tops=1"], "no such option"),
        ([str(run), "by=group"], "by=group: expected image, patient or auto"),
        ([str(run), "by=patient"], "needs a softmax"),
        ([], "one RUN"),
        ([str(tmp_path / "none")], "no trained run"),
    ):
        assert main(["suspects", *words_, f"out={tmp_path / 'new.csv'}"]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "new.csv").exists()


def test_a_trained_run_is_calibrated_and_predicts_with_the_file(tmp_path):
    """By the path of a user, with a file that has a temperature."""
    root, runs = make_table(tmp_path / "set"), tmp_path / "runs"
    line = [f"{k}={v}" for k, v in words(root, "table", runs=runs, epochs=1, name="r", augment="none").items()]
    assert main(["train", *line, "fold=0,1"]) == 0
    file, plain, cold = tmp_path / "c.json", tmp_path / "plain.csv", tmp_path / "cold.csv"
    assert main(["calibrate", "r", f"runs={runs}", f"out={file}"]) == 0
    assert main(["suspects", "r", f"runs={runs}", f"out={tmp_path / 's.csv'}"]) == 0
    values = json.loads(file.read_text()) | {"temperature": [2.0] * 3}
    file.write_text(json.dumps(values))
    common = ["experiment=r", f"runs={runs}", "device=cpu", "progress=false"]
    assert main(["infer", *common, f"out={plain}"]) == 0
    assert main(["infer", *common, f"out={cold}", f"postprocess={file}"]) == 0
    made, fine = Probabilities.read(plain), Probabilities.read(cold)
    assert made.calibration is None
    assert fine.calibration == Calibration.read(file).digest
    assert fine.values == pytest.approx(apply_temperature(made.values, 2.0, "sigmoid"), abs=1e-8)
    file.write_text(json.dumps(values | {"classes": ["up", "flat", "other"]}))
    before = cold.read_bytes()
    assert main(["infer", *common, f"out={cold}", f"postprocess={file}"]) == 2
    assert cold.read_bytes() == before
