"""Objects of three layouts: the same boxes, and every fault by its place."""

import json

import numpy as np
import pytest
from tests.boxed import make_coco, make_polygons, make_table, words

from phalanx.config.compose import compose
from phalanx.data.coco_rle import outlines as outlines_of_mask
from phalanx.data.objects import box_truth, shapes_of
from phalanx.data.quarantine import kept_records
from phalanx.errors import ConfigError, DataError


def data_of(root, layout="polygons", **changes):
    return compose(words(root, layout, **changes)).data


def test_three_layouts_have_the_same_boxes(tmp_path):
    made = {
        "polygons": make_polygons(tmp_path / "a"), "boxes": make_table(tmp_path / "b"),
        "coco_boxes": make_coco(tmp_path / "c"), "bare": make_coco(tmp_path / "d", drawn=False),
    }  # fmt: skip
    found = {}
    for name, root in made.items():
        data = data_of(root, "coco_boxes" if name == "bare" else name)
        records = kept_records(data)
        shapes = [shapes_of(record, data) for record in records]
        found[name] = box_truth(records, data, shapes)
        assert [record.group for record in records] == [f"P{i // 2:02d}" for i in range(16)]
        assert sum(not each for each in shapes) == 2
        drawn = [bool(one.outlines) for each in shapes for one in each]
        assert set(drawn) == {name in ("polygons", "coco_boxes")}
    for name in ("boxes", "bare"):
        assert found[name].images == found["polygons"].images
        for one, other in zip(found[name].boxes, found["polygons"].boxes, strict=True):
            assert np.allclose(one.sorted().corners, other.sorted().corners, atol=1e-3)
            assert (one.sorted().classes == other.sorted().classes).all()
    # COCO's outlines are on edges: half a pixel inside those of pixels that belong to an object
    for one, other in zip(found["coco_boxes"].boxes, found["polygons"].boxes, strict=True):
        assert np.abs(one.sorted().corners - other.sorted().corners).max(initial=0) <= 0.5 + 1e-6


def test_several_outlines_of_an_annotation_are_one_object(tmp_path):
    root = make_polygons(tmp_path, train=2, empty=0)
    path = next((root / "train/outputs_json").rglob("000.json"))
    parts = [[[2, 3], [9, 3], [9, 9]], [[20, 30], [28, 30], [28, 40]]]
    path.write_text(json.dumps({"annotations": [{"label": "disc", "points": parts}]}))
    data = data_of(root)
    (shape,) = shapes_of(kept_records(data)[0], data)
    assert shape.box.tolist() == [2, 3, 29, 41]
    assert len(shape.outlines) == 2


def test_names_in_files_become_classes(tmp_path):
    root = make_polygons(tmp_path, train=4, empty=0)
    data = data_of(root, data__classes="[thing]", data__labels="{thing:['b*','disc']}")
    assert {shape.label for record in kept_records(data) for shape in shapes_of(record, data)} == {0}
    data = data_of(root, data__classes="[one,two]", data__labels="{one:['*'],two:[disc]}")
    with pytest.raises(DataError, match="is both one and two"):
        [shapes_of(record, data) for record in kept_records(data)]
    root = make_coco(tmp_path / "coco", train=4, empty=0)
    data = data_of(root, "coco_boxes", data__classes="[thing]", data__labels="{thing:['*']}")
    assert sum(len(shapes_of(record, data)) for record in kept_records(data)) == 12


def annotate(root, label, points):
    path = next((root / "train/outputs_json").rglob("000.json"))
    path.write_text(json.dumps({"annotations": [{"label": label, "points": points}]}))


POLYGONS = {
    "unknown class": ("dsic", [[1, 1], [9, 1], [9, 9]], "unknown label 'dsic'; did you mean disc"),
    "no area": ("disc", [[5, 5], [9, 5], [20, 5]], None),
    "two points": ("disc", [[5, 5], [9, 5]], "no area"),
    "outside": ("disc", [[100, 100], [120, 100], [120, 120]], "is outside its image of 64 x 64"),
}


@pytest.mark.parametrize("case", POLYGONS)
def test_polygons_that_are_no_objects(tmp_path, case):
    label, points, expected = POLYGONS[case]
    root = make_polygons(tmp_path, train=2, empty=0)
    annotate(root, label, points)
    data = data_of(root)
    record = kept_records(data)[0]
    if expected is None:  # an outline belongs to its object, so a line is a pixel high
        assert shapes_of(record, data)[0].box.tolist() == [5, 5, 21, 6]
        return
    with pytest.raises(DataError, match=expected) as caught:
        shapes_of(record, data)
    assert "annotation 0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_object_twice_is_refused(tmp_path):
    root = make_polygons(tmp_path, train=2, empty=0)
    path = next((root / "train/outputs_json").rglob("000.json"))
    one = {"label": "disc", "points": [[1, 1], [9, 1], [9, 9]]}
    path.write_text(json.dumps({"annotations": [one, one]}))
    data = data_of(root)
    with pytest.raises(DataError, match="has the class and box of annotation 0"):
        shapes_of(kept_records(data)[0], data)


def test_a_polygon_that_leaves_the_image_is_cut(tmp_path):
    root = make_polygons(tmp_path, train=2, empty=0)
    annotate(root, "disc", [[-20, 10], [30, 10], [30, 90]])
    data = data_of(root)
    (shape,) = shapes_of(kept_records(data)[0], data)
    assert shape.box.tolist() == [0, 10, 31, 64]
    assert np.concatenate(shape.outlines).min() >= 0


ROWS = {
    "no area": ("000.png,P00,disc,5,5,5,9", "has no area"),
    "outside": ("000.png,P00,disc,5,5,80,9", "x_max 80 is outside the image"),
    "unknown class": ("000.png,P00,dsic,5,5,9,9", "unknown class 'dsic'"),
    "twice": ("000.png,P00,disc,5,5,9,9\n000.png,P00,disc,5,5,9,9", "keep one"),
    "two patients": ("000.png,P01,disc,5,5,9,9\n000.png,P00,disc,1,1,9,9", "has two patients"),
    "not a number": ("000.png,P00,disc,5,5,nine,9", "x_max"),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_that_are_no_boxes(tmp_path, case):
    text, expected = ROWS[case]
    root = make_table(tmp_path, train=2, empty=0)
    header = "image_name,patient,class,x_min,y_min,x_max,y_max\n"
    (root / "train.csv").write_text(f"{header}{text}\n001.png,P00,,,,,\n")
    data = data_of(root, "boxes")
    with pytest.raises(DataError, match=expected) as caught:
        [shapes_of(record, data) for record in kept_records(data)]
    assert "train.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_without_image_and_an_image_without_row_are_refused(tmp_path):
    root = make_table(tmp_path, train=4, empty=0)
    (root / "train/images/000.png").unlink()
    with pytest.raises(DataError, match=r"lists '000\.png', which is not an image"):
        kept_records(data_of(root, "boxes"))
    root = make_table(tmp_path / "b", train=4, empty=0)
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join(line for line in lines if not line.startswith("000")))
    with pytest.raises(DataError, match=r"has no row of '000\.png'"):
        kept_records(data_of(root, "boxes"))
    assert len(kept_records(data_of(root, "boxes", data__skip_unlabelled=True))) == 3


def test_patients_come_from_names_if_no_column_has_them(tmp_path):
    root = make_table(tmp_path, train=4, empty=0)
    lines = [line.split(",") for line in (root / "train.csv").read_text().splitlines()]
    (root / "train.csv").write_text("\n".join(",".join(cells[:1] + cells[2:]) for cells in lines))
    found = kept_records(data_of(root, "boxes", data__boxes__group_pattern="'^(..)'"))
    assert {record.group for record in found} == {"00"}
    assert len({record.group for record in kept_records(data_of(root, "boxes"))}) == 4
    with pytest.raises(ConfigError, match="group_pattern"):
        data_of(root, "boxes", data__boxes__group_pattern="'('")


BBOXES = {
    "no area": ({"bbox": [1, 1, 0, 4]}, "has no area"),
    "outside": ({"bbox": [60, 1, 20, 4]}, "is outside the image"),
    "no numbers": ({"bbox": [1, 1, "a", 4]}, "not four numbers"),
    "nothing": ({}, "needs the keys image_id, category_id and bbox"),
}


@pytest.mark.parametrize("case", BBOXES)
def test_coco_boxes_that_are_no_boxes(tmp_path, case):
    change, expected = BBOXES[case]
    root = make_coco(tmp_path, train=2, empty=0, drawn=False)
    found = json.loads((root / "train.json").read_text())
    found["annotations"][0].pop("bbox")
    found["annotations"][0] |= change
    (root / "train.json").write_text(json.dumps(found))
    data = data_of(root, "coco_boxes")
    with pytest.raises(DataError, match=expected):
        [shapes_of(record, data) for record in kept_records(data)]


def test_crowds_are_not_objects(tmp_path):
    root = make_coco(tmp_path, train=2, empty=0, drawn=False)
    found = json.loads((root / "train.json").read_text())
    found["annotations"][0]["iscrowd"] = 1
    (root / "train.json").write_text(json.dumps(found))
    data = data_of(root, "coco_boxes")
    assert [len(shapes_of(record, data)) for record in kept_records(data)] == [2, 3]


def test_the_outlines_of_a_mask_are_on_the_edges_of_its_pixels():
    from phalanx.data.box_set import filled

    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((32, 32), np.uint8)
        for _ in range(3):
            x, y = rng.integers(2, 20, 2)
            mask[y : y + rng.integers(2, 10), x : x + rng.integers(2, 10)] = 1
        mask[6:8, 6:8] = 0
        outlines = outlines_of_mask(mask)
        points = np.concatenate(outlines)
        rows, columns = np.nonzero(mask)
        assert points.min(0).tolist() == [columns.min(), rows.min()]
        assert points.max(0).tolist() == [columns.max() + 1, rows.max() + 1]
        again = filled(outlines, 32)
        assert (again != mask).sum() <= 0.5 * sum(len(one) for one in outlines)  # the border alone


def test_a_run_length_mask_is_an_object_with_its_outline(tmp_path):
    from pycocotools import mask as api

    root = make_coco(tmp_path, train=2, empty=0)
    found = json.loads((root / "train.json").read_text())
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 30:45] = 1
    mask[13:15, 33:35] = 0
    packed = api.encode(np.asfortranarray(mask))
    found["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": packed["counts"].decode()}
    (root / "train.json").write_text(json.dumps(found))
    data = data_of(root, "coco_boxes")
    shape = shapes_of(kept_records(data)[0], data)[0]
    assert shape.box.tolist() == [30, 10, 45, 20]
    assert len(shape.outlines) == 2  # the hole is one, too
    found["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": [4096]}
    (root / "train.json").write_text(json.dumps(found))
    data = data_of(root, "coco_boxes")
    with pytest.raises(DataError, match="its mask is empty"):
        shapes_of(kept_records(data)[0], data)
