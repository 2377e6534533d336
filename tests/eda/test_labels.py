"""`phalanx eda` of images with labels: the numbers are those of the labels, and it replaces nobody's files."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.labelled import CLASSES, make_folders, make_table

from phalanx.cli import main
from phalanx.eda.labels import together


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("eda") / "table")


def eda(kind, root, out, *more):
    words = [f"data={kind}", f"data.root={root}", f"data.classes=[{','.join(CLASSES)}]", f"out={out}", "workers=1"]
    return main(["eda", *words, "progress=false", *more])


def test_tables_are_those_of_the_labels(root, tmp_path, capsys):
    folds, base = tmp_path / "folds.csv", [f"data.root={root}", f"data.classes=[{','.join(CLASSES)}]"]
    assert main(["folds", "data=ultrasound", *base, "folds=3", f"out={folds}"]) == 0
    assert eda("ultrasound", root, tmp_path / "o", f"data.folds_file={folds}", "folds=3") == 0
    said = capsys.readouterr().out
    truth = pd.read_csv(root / "train.csv", dtype={"image_name": str}).set_index("image_name")
    classes = pd.read_csv(tmp_path / "o" / "classes.csv").set_index("class")
    for name in CLASSES:
        row = classes.loc[name]
        assert row["images"] == (truth[name] == 1).sum()
        assert row["without"] == (truth[name] == 0).sum()
        assert row["not_labelled"] == truth[name].isna().sum() > 0
        assert row["patients"] == truth.loc[truth[name] == 1, "patient"].nunique()
    pairs = pd.read_csv(tmp_path / "o" / "cooccurrence.csv")
    for row in pairs.to_dict("records"):
        both = truth[[row["class"], row["other"]]].dropna()
        assert row["both"] == (both.sum(axis=1) == 2).sum()
        assert row["labelled"] == len(both)
        assert row["phi"] == pytest.approx(both.corr().iloc[0, 1], nan_ok=True)
    table = pd.read_csv(tmp_path / "o" / "folds.csv")
    assert table["images"].sum() == len(truth)
    assert table[CLASSES].sum().tolist() == [int((truth[name] == 1).sum()) for name in CLASSES]
    images = pd.read_csv(tmp_path / "o" / "images.csv")
    assert (images["split"] == "test").sum() == 6
    assert images.loc[images["split"] == "test", f"label {CLASSES[0]}"].isna().all()
    facts = json.loads((tmp_path / "o" / "eda.json").read_text())
    assert facts["images"] == {"train": 24, "test": 6}
    assert facts["left_out"] == []
    plots = {path.stem for path in (tmp_path / "o").glob("*.png")}
    assert plots == {"classes", "patients", "cooccurrence", "sizes", "intensity", "folds"}
    assert "24 train images, 6 test images" in said
    captions = facts["figures"]  # whom each leaves out, and why
    assert captions.keys() == plots
    for name in CLASSES:
        assert f"{name} {truth[name].isna().sum()}" in captions["classes"]
    assert "Of 24 training and 6 test images, which have no class here." in captions["intensity"]
    counts = sorted(pairs["labelled"])
    assert f"{counts[0]} to {counts[-1]}" in captions["cooccurrence"] or f"the {counts[0]} " in captions["cooccurrence"]


def test_folders_and_what_is_left_out(tmp_path, capsys):
    root = make_folders(tmp_path / "folders")
    (root / "train" / "up" / "broken.png").write_bytes(b"no image")
    assert eda("brain", root, tmp_path / "o", "data.folders.group_pattern=null") == 0
    said = capsys.readouterr().out
    assert "1 unusable image(s)" in said
    assert "data.folds_file is not set" in said
    assert not (tmp_path / "o" / "folds.png").exists()


def test_files_of_others_stay(root, tmp_path, capsys):
    (tmp_path / "classes.csv").write_text("mine")
    assert eda("ultrasound", root, tmp_path) == 2
    assert (tmp_path / "classes.csv").read_text() == "mine"
    assert not (tmp_path / "eda.json").exists()
    (tmp_path / "x.csv").write_text("a")
    assert eda("ultrasound", root, tmp_path / "o", f"csv={tmp_path / 'x.csv'}") == 2
    assert "only for task=segment" in capsys.readouterr().err


def test_a_constant_or_missing_class_has_no_correlation():
    labels = np.array([[1, 1, np.nan], [1, 0, np.nan]], np.float32)
    found = together(labels, ["a", "b", "c"]).set_index(["class", "other"])
    assert found.loc[("a", "b"), "both"] == 1
    assert np.isnan(found.loc[("a", "b"), "phi"])
    assert found.loc[("a", "c"), "labelled"] == 0
    assert together(labels[:, :1], ["a"]).empty
