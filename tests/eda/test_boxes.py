"""`phalanx eda` of images with boxes: the numbers are those of the objects, and it replaces nobody's files."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.boxed import CLASSES, make_coco, make_polygons, make_table, words

from phalanx.cli import main
from phalanx.models.anchors import Anchors, best_anchor_iou

KEYS = {
    "task", "data", "model", "loss", "data.root", "data.layout", "data.pairs", "data.classes", "data.size",
    "model.encoder", "model.levels", "model.anchors_per_level", "model.weights",
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("eda") / "table")


def eda(root, out, *more, layout="boxes", code=0):
    base = {key: value for key, value in words(root, layout).items() if key in KEYS}
    base |= dict(word.split("=", 1) for word in more)
    assert main(["eda", *(f"{k}={v}" for k, v in base.items()), f"out={out}"]) == code


def test_tables_are_those_of_the_boxes(root, tmp_path, capsys):
    out, folds = tmp_path / "o", tmp_path / "folds.csv"
    rows = pd.read_csv(root / "train.csv", dtype={"image_name": str}).drop_duplicates("image_name")
    rows = rows.sort_values("image_name")
    fold_of = rows["patient"].str[1:].astype(int) % 2
    table = pd.DataFrame({"image_name": rows["image_name"], "group": rows["patient"], "fold": fold_of})
    table.to_csv(folds, index=False)
    eda(root, out, f"data.folds_file={folds}", "folds=2")
    said = capsys.readouterr().out
    truth = pd.read_csv(root / "train.csv", dtype={"image_name": str})
    drawn = truth.dropna(subset="class")
    objects = pd.read_csv(out / "objects.csv")
    assert len(objects) == len(drawn)
    assert objects["width"].sum() == pytest.approx((drawn["x_max"] - drawn["x_min"]).sum())
    classes = pd.read_csv(out / "classes.csv").set_index("class")
    for name in CLASSES:
        own = drawn[drawn["class"] == name]
        assert classes.loc[name, "objects"] == len(own)
        assert classes.loc[name, "images"] == own["image_name"].nunique()
        assert classes.loc[name, "patients"] == own["patient"].nunique()
        aspect = (own["x_max"] - own["x_min"]) / (own["y_max"] - own["y_min"])
        assert classes.loc[name, "aspect_median"] == pytest.approx(aspect.median())
    images = pd.read_csv(out / "images.csv")
    assert (images["objects"] == 0).sum() == 2  # the first two have none
    assert images["objects"].sum() == len(drawn)
    groups = pd.read_csv(out / "groups.csv")
    assert groups["images"].sum() == 16
    assert groups["without"].sum() == 2
    by_fold = pd.read_csv(out / "folds.csv")
    assert by_fold[CLASSES].sum().tolist() == [int((drawn["class"] == name).sum()) for name in CLASSES]
    facts = json.loads((out / "eda.json").read_text())
    assert facts["figures"].keys() == {path.stem for path in out.glob("*.png")}
    assert (
        f"Of the {len(drawn)} objects in 16 training images; the 2 images without one are left out"
        in facts["figures"]["sizes"]
    )
    assert "test images are left out" in facts["figures"]["classes"]
    assert facts["images"] == {"train": 16, "test": 4}
    assert facts["without_objects"] == 2
    assert facts["objects_per_image"] == {"0": 2, "3": 14}
    assert "2 images without one (12.5%)" in said
    for name in ("classes", "objects_per_image", "sizes", "aspect", "places", "anchors"):
        assert (out / f"{name}.png").stat().st_size > 1000


def test_the_best_possible_recall_is_that_of_all_anchors_on_their_grid():
    rng = np.random.default_rng(0)
    shapes = np.array([[[9.0, 12.0], [16.0, 10.0]], [[30.0, 24.0], [40.0, 50.0]]])
    low = rng.uniform(0, 90, (60, 2))
    boxes = np.concatenate([low, np.minimum(low + rng.uniform(4, 60, (60, 2)), 128)], axis=1)
    import torch
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import box_iou

    maps = [torch.zeros(1, 1, 128 // stride, 128 // stride) for stride in (8, 16)]
    (anchors,) = Anchors(shapes)(ImageList(torch.zeros(1, 1, 128, 128), [(128, 128)]), maps)
    every = box_iou(torch.from_numpy(boxes).float(), anchors).amax(1)
    assert best_anchor_iou(boxes, shapes, [8, 16], 128) == pytest.approx(every.numpy(), abs=1e-5)


@pytest.mark.parametrize("layout", ["polygons", "coco_boxes"])
def test_other_layouts_and_what_is_left_out(tmp_path, capsys, layout):
    root = {"polygons": make_polygons, "coco_boxes": make_coco}[layout](tmp_path / "set", train=6)
    eda(root, tmp_path / "o", layout=layout)
    said = capsys.readouterr().out
    assert "left out: classes per fold: data.folds_file is not set" in said
    assert ("left out: the test set" in said) == (layout == "coco_boxes")
    assert "best possible recall of the recipe's anchors" in said


def test_poor_anchors_and_tiny_objects_are_named_and_fcos_has_none(root, tmp_path, capsys):
    eda(root, tmp_path / "o", "model.anchors=[[4,4],[5,5]]", "data.size=32")
    said = capsys.readouterr().out
    assert "anchors miss objects, most of" in said
    assert "have a side below 8 pixels of the input" in said
    eda(root, tmp_path / "f", "model=fcos")
    assert "anchors: model.architecture=fcos has none" in capsys.readouterr().out
    assert not (tmp_path / "f" / "anchors.png").exists()


def test_what_cannot_be_explored_is_one_line_and_nothing_is_replaced(root, tmp_path, capsys):
    def line(*words, **options):
        eda(root, *words, code=2, **options)
        text = capsys.readouterr().err.strip()
        assert "\n" not in text
        return text

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/objects.csv").write_text("mine")
    assert "objects.csv" in line(tmp_path / "mine")
    assert (tmp_path / "mine/objects.csv").read_text() == "mine"
    csv = root / "train.csv"
    assert "only for task=segment" in line(tmp_path / "o", f"csv={csv}")
    empty = make_table(tmp_path / "empty", train=2, empty=2)
    eda(empty, tmp_path / "e", code=2)
    assert "none of its 2 images has an object" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()
