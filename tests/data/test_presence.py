"""Labels from polygons, rows of a table by a column, and labels that a flip swaps."""

import csv
import json

import numpy as np
import pytest
import torch
from tests.labelled import CLASSES, make_table, picture, words, write

from phalanx.cli import main
from phalanx.config import Augment, ClassifyConfig, ClassifyData, validate_as
from phalanx.config.compose import compose, compose_as
from phalanx.data import layouts
from phalanx.data.cache import SampleCache
from phalanx.data.dataset import LabelledSet
from phalanx.data.labels import labels_of, read_labels
from phalanx.data.layouts import train_records
from phalanx.data.prepared import prepare, prepare_image
from phalanx.errors import ConfigError, DataError
from phalanx.predict.classify import open_classifier

SHOWN = [["up"], [], ["up", "flat"], ["slant", "flat"], ["slant"], ["up", "slant"], ["flat"], ["up", "flat", "slant"]]


def make_presence(root, test=True):
    """Images of the competition's layout, of a patient each, with a square outline of every class that is shown."""
    for split, labels in (("train", "outputs_json"), ("test", "answers_json"))[: 1 + test]:
        for i, shown in enumerate(SHOWN * 2):
            write(
                root / split / "DCM" / f"P{i:02d}" / f"{split}{i:02d}.png",
                picture(shown, i if split == "train" else i + 100),
            )
            outlines = [
                {"label": name, "points": [[4 * k, 4], [4 * k + 8, 4], [4 * k + 8, 12], [4 * k, 12]]}
                for k, name in enumerate(CLASSES)
                if name in shown
            ]
            path = root / split / labels / f"P{i:02d}" / f"{split}{i:02d}.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"annotations": outlines}))
    return root


def data_of(root, **changes) -> ClassifyData:
    values = {"name": "t", "root": root, "classes": CLASSES, "size": 64, "layout": "presence"}
    return validate_as(ClassifyData, values | changes)


def test_a_class_is_present_if_it_is_outlined(tmp_path):
    data = data_of(make_presence(tmp_path))
    found = train_records(data)
    expected = [[float(name in shown) for name in CLASSES] for shown in SHOWN * 2]
    assert labels_of(found, data).tolist() == expected
    assert [record.group for record in found] == [f"P{i:02d}" for i in range(16)]
    assert [record.name for record in layouts.test_records(data)] == [f"test{i:02d}.png" for i in range(16)]
    planes = prepare(found[7], data).runs.planes()
    assert all(100 <= (planes[:, :, 0] >> bit & 1).sum() <= 140 for bit in range(3))  # 8 x 8 pixels, at 64 / 48
    labels, patients = read_labels(tmp_path / "test" / "answers_json", data)
    assert [list(labels[f"test{i:02d}"]) for i in range(16)] == expected
    assert patients["test03"] == "P03"


def test_a_group_file_takes_the_place_of_folders(tmp_path):
    make_presence(tmp_path)
    (tmp_path / "groups.csv").write_text("image_name,group\ntrain00.png,together\ntrain01.png,together\n")
    found = train_records(data_of(tmp_path, groups_file=tmp_path / "groups.csv"))
    assert [record.group for record in found[:3]] == ["together", "together", "P02"]


def test_train_infer_score_and_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_presence(tmp_path / "set")
    recipe = words(tmp_path / "set", "table") | {"data": "teeth_presence", "data.pairs": "[]", "epochs": "1"}
    pairs = [f"{key}={value}" for key, value in recipe.items()]
    assert main(["train", "fold=0", "name=p", *pairs]) == 0
    assert main(["infer", "experiment=p", f"data.root={tmp_path / 'set'}", "out=p.csv"]) == 0
    assert main(["score", "p.csv", str(tmp_path / "set" / "test" / "answers_json")]) == 0
    assert "macro_auc" in capsys.readouterr().out.replace("macro AUC", "macro_auc")
    (tmp_path / "set/train/outputs_json/P03/train03.json").write_text('{"annotations": [{"label": "other"}]}')
    (tmp_path / "set/train/outputs_json/P05/train05.json").unlink()
    config = compose(recipe | {"name": "x"})
    from phalanx.checks.labels import check

    report = check(config.data, progress=False)
    errors = {(finding.image, finding.kind) for finding in report.findings if "ann" in finding.kind}
    assert errors == {("train03.png", "bad-annotation"), ("train05.png", "unannotated")}


def test_rows_of_another_part_are_not_read(tmp_path):
    root = make_table(tmp_path)
    rows = list(csv.reader((root / "train.csv").open())) + list(csv.reader((root / "answers.csv").open()))[1:]
    parts = ["part", *["train"] * 24, *["test"] * 6]
    with (root / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*row, part] for row, part in zip(rows, parts, strict=True)])
    table = {"train": "all.csv", "rows": "part=train"}
    assert len(train_records(data_of(root, layout="table", table=table))) == 24
    labels, _ = read_labels(root / "all.csv", data_of(root, layout="table", table=table | {"rows": "part=test"}))
    assert sorted(labels) == [f"{i:03d}.png" for i in range(24, 30)]
    with pytest.raises(DataError, match="has no 'valid' in any row"):
        train_records(data_of(root, layout="table", table=table | {"rows": "part=valid"}))
    with pytest.raises(DataError, match="has no column parts"):
        train_records(data_of(root, layout="table", table=table | {"rows": "parts=train"}))
    with pytest.raises(ConfigError, match="is not COLUMN=VALUE"):
        data_of(root, layout="table", table=table | {"rows": "train"})


def test_a_flip_swaps_the_labels_of_a_pair(tmp_path):
    data = data_of(make_presence(tmp_path, test=False), pairs=[("up", "slant")])
    found = train_records(data)
    labels = labels_of(found, data)
    common = {"labels": labels, "data": data, "seed": 0, "cache": SampleCache(data)}
    plain, flipped = (LabelledSet(found, augment=Augment(flip=flip), **common) for flip in (0.0, 1.0))
    one, other = (each.collate([each[0, row] for row in range(8)]) for each in (plain, flipped))
    assert torch.equal(other.images, one.images.flip(-1))
    assert one.labels.tolist() == labels[:8].tolist()
    assert other.labels.tolist() == labels[:8, ::-1].tolist()


def test_a_flip_swaps_regions_only_if_each_class_has_one(tmp_path):
    presence = data_of(make_presence(tmp_path / "a", test=False), pairs=[("up", "slant")])
    table = {"regions": "regions"}
    single = data_of(make_table(tmp_path / "b"), layout="table", table=table, pairs=[("up", "flat")])
    swapped = {
        data.layout: LabelledSet([], labels=np.zeros((0, 3), np.float32), data=data, augment=Augment(), seed=0,
                                 cache=SampleCache(data)).pairs
        for data in (presence, single)
    }  # fmt: skip
    assert swapped == {"presence": [(0, 2)], "table": []}


def test_mirrored_views_swap_the_probabilities_of_a_pair(tmp_path, monkeypatch):
    root = make_presence(tmp_path / "set")
    changes = {"data": "teeth_presence", "data.pairs": "[[up,slant]]", "runs": str(tmp_path), "predict.tta": "[hflip]"}
    recipe = words(root, "table") | changes | {"epochs": "1"}
    assert main(["train", "fold=all", "name=p", *(f"{key}={value}" for key, value in recipe.items())]) == 0
    config = compose_as(ClassifyConfig, recipe | {"name": "p"})
    records = layouts.test_records(config.data)
    both = open_classifier("p", runs=tmp_path, device="cpu")
    found = both.predict(records, 4, progress=False)
    images = torch.from_numpy(np.stack([prepare_image(record, config.data)[0][None] for record in records]))
    network = both.folds[0].network
    with torch.no_grad():
        one, other = (torch.sigmoid(network.predict(each)).double() for each in (images, images.flip(-1)))
    assert np.allclose(found, (one + other[:, [2, 1, 0]]).numpy() / 2, atol=1e-6)
    assert not np.allclose(found, (one + other).numpy() / 2, atol=1e-4)
