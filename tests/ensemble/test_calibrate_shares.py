"""Calibration of a softmax whose images have several labels: thresholds per class, none of the negative class."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk
import yaml
from tests.labelled import CLASSES
from tests.oof_runs import make_run

from phalanx.cli import main
from phalanx.data.label_table import labels_csv
from phalanx.runs.reader import FORMAT
from phalanx.submission.probabilities import Probabilities, write_probabilities

NAMES = [*CLASSES, "none"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four classes with shares as targets: of two labels, each has nearly half of the probability."""
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < 0.4).astype(float)
    full = np.column_stack([labels, labels.sum(1) == 0])
    p = full / full.sum(1, keepdims=True) + 0.1 * rng.random((200, 4))
    p /= p.sum(1, keepdims=True)
    place = make_run(tmp_path_factory.mktemp("runs") / "shares", p[:, :3] / p[:, :3].sum(1, keepdims=True),
                     np.eye(3)[p[:, :3].argmax(1)], "softmax")  # fmt: skip
    for fold in (0, 1):
        folder = place / f"fold{fold}"
        recipe = yaml.safe_load((folder / "config.yaml").read_text())
        recipe.pop("format")
        recipe["data"] |= {"classes": NAMES, "layout": "table", "folders": None, "targets": "shares",
                           "negative": "none", "table": {}}  # fmt: skip
        (folder / "config.yaml").write_text(f"format: {FORMAT}\n{yaml.safe_dump(recipe)}")
        names = [f"{k:04d}.png" for k in range(200)]
        (folder / "labels.csv").write_text(labels_csv(names, NAMES, full))
        mine = np.flatnonzero(np.arange(200) // 2 % 2 == fold)
        for name in ("oof.csv", "oof.json"):
            (folder / name).unlink()
        write_probabilities(folder / "oof.csv", [names[k] for k in mine], NAMES, p[mine], "softmax", run_hashes={})
    return place, p, labels


def test_thresholds_find_the_second_label(run, tmp_path, capsys):
    place, p, labels = run
    out = tmp_path / "calibration.json"
    assert main(["calibrate", str(place), f"out={out}"]) == 0
    assert "thresholds: macro F1" in capsys.readouterr().out
    values = json.loads(out.read_text())
    choice = values["report"]["choices"][1]
    argmax = (np.arange(4) == p.argmax(1)[:, None])[:, :3]
    assert choice["before"] == pytest.approx(sk.f1_score(labels, argmax, average="macro"))
    assert choice["after"] > 0.98
    assert choice["adopted"]
    assert values["thresholds"][3] is None
    assert all(0.05 < limit < 0.5 for limit in values["thresholds"][:3])
    made = place / "fold0/oof.csv"
    read = Probabilities.read(made)
    rows = [int(name[:-4]) for name in read.images]
    text = "image_name,up,flat,slant\n" + "".join(
        f"{name},{','.join(f'{v:.0f}' for v in labels[row])}\n" for name, row in zip(read.images, rows, strict=True)
    )
    (tmp_path / "truth.csv").write_text(text)
    score = tmp_path / "score.json"
    for more, least, most in (([], 0.5, 0.95), ([f"postprocess={out}"], 0.98, 1.0)):
        assert main(["score", str(made), str(tmp_path / "truth.csv"), f"json={score}", *more]) == 0
        assert least <= json.loads(score.read_text())["metrics"]["macro_f1"]["value"] <= most


def test_suspects_of_shares_are_refused_in_a_line(run, tmp_path, capsys):
    assert main(["suspects", str(run[0]), f"out={tmp_path / 's.csv'}"]) == 2
    assert "name a run with sigmoids" in capsys.readouterr().err
