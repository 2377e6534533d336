"""Text files of a data set as people have them: read right, or refused by one line with the remedy."""

import json
import os
import time
import unicodedata

import cv2
import numpy as np
import pytest

from phalanx.checks.run import check
from phalanx.config import SegmentData, validate_as
from phalanx.data import coco_rle, layouts
from phalanx.data import folds as folding
from phalanx.data.images import Grid
from phalanx.data.quarantine import kept_records, read_quarantine, write_quarantine
from phalanx.data.records import Record
from phalanx.data.selection import Selection
from phalanx.errors import DataError
from phalanx.masks.planes import unpack

SHAPE = (48, 64)
SQUARE = [[5, 5, 30, 5, 30, 30, 5, 30]]
BOM = b"\xef\xbb\xbf"


def nfd(text):
    return unicodedata.normalize("NFD", text)


def data(root, layout="coco", **changes):
    values = {"name": "t", "root": root, "classes": ["a", "b"], "size": 64, "layout": layout}
    return validate_as(SegmentData, values | changes)


def image_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, content = cv2.imencode(
        ".png", np.random.default_rng(sum(map(ord, path.name))).integers(0, 255, SHAPE, np.uint8)
    )
    assert ok
    path.write_bytes(content.tobytes())


def coco_set(root, *, files=("P0/im0.png",), **changes):
    """A COCO set of one image with a square of class a."""
    for file in files:
        image_at(root / "images" / file)
    value = {
        "images": [{"id": 1, "file_name": "P0/im0.png", "height": 48, "width": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "segmentation": SQUARE}],
        "categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}],
    }
    (root / "train.json").write_text(json.dumps(value | changes))
    return root


def planes(config, number=0):
    record = layouts.train_records(config)[number]
    layouts.check(record, config)
    return unpack(layouts.truth(record, config, Grid(*SHAPE, 64)), len(config.classes))


def image(**changes):
    return {"id": 1, "file_name": "P0/im0.png", "height": 48, "width": 64} | changes


def shape(**changes):
    return {"id": 1, "image_id": 1, "category_id": 3, "segmentation": SQUARE} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [image(id="1")]},
        {"annotations": [shape(image_id="1", category_id="3")]},
        {"annotations": [shape(image_id=1.0, category_id=3.0)]},
        {"images": [image(height=None, width=None, license=None)]},
        {"images": [image(height=48.0, width=64.0)]},
        {"annotations": [shape(bbox=None, iscrowd=None, id=None)]},
        {"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "a"}]},
        {"categories": [{"id": 9, "name": "a"}, {"id": 3, "name": "a", "supercategory": "hand"}]},
        {"images": [image(file_name="P0\\im0.png")]},
        {"images": [image(file_name="./P0/im0.png")]},
        {"info": None, "licenses": None},
    ],
)
def test_a_coco_file_of_other_tools_means_the_same(tmp_path, changes):
    expected = planes(data(coco_set(tmp_path / "plain")))
    assert expected[0].any()
    np.testing.assert_array_equal(planes(data(coco_set(tmp_path / "other", **changes))), expected)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"annotations": None}, "not a COCO file ('annotations' is null, not a list); expected JSON with images"),
        ({"images": None}, "'images' is null, not a list"),
        ({"categories": None}, "'categories' is null, not a list"),
        ({"images": [image(), image(file_name=None)]}, "image 1: the file_name null is not a file name"),
        ({"images": [image(), image(id=None, file_name="b.png")]}, "image 1: the id null is neither a number nor text"),
        ({"images": [image(), image(id="1", file_name="P1/b.png")]}, "images have the same id '1' (im0.png, b.png)"),
        ({"images": [image(), image(id=2, file_name="P1/im0.png")]}, "two images have the name im0.png; rename"),
        ({"images": [image(file_name="P0/x\u0000.png")]}, "is not a file name"),
        ({"images": [image(file_name="x" * 400)]}, "is not a file name"),
        ({"images": [image(height=1e300)]}, "height and width must be whole numbers above 0, not 1e+300 and 64"),
        (
            {"categories": [{"id": 3, "name": "a"}, {"id": "3", "name": "b"}]},
            "two categories have the same id '3' ('a', 'b')",
        ),
        (
            {"categories": [{"id": i, "name": "a", "supercategory": f"{i}"} for i in (3, 4)]},
            "two categories have the name 'a', one of '3' and one of '4'",
        ),
        ({"categories": [{"id": 3, "name": None}]}, "needs an id and a name"),
        ({"annotations": [shape(image_id=7)]}, "no image has that id"),
        ({"annotations": [shape(image_id=None)]}, "no image has that id"),
        ({"annotations": [shape(segmentation=None)]}, "has no segmentation"),
        ({"annotations": [shape(segmentation=[[SQUARE]])]}, "must be a list of numbers"),
        ({"annotations": [shape(segmentation=[[1, 2, 3, 4, 5, float("nan")]])]}, "must be a list of numbers"),
        ({"annotations": [shape(segmentation=[[1, 2, 3, 4, 5, -(2**63)]])]}, "pixels away; correct it"),
        ({"annotations": [shape(segmentation={"size": [10**5, 10**5], "counts": [10**10]})]}, "other proportions"),
        ({"annotations": [shape(segmentation={"size": [10**9, 10**9], "counts": "5"})]}, "not that of an image"),
        ({"annotations": [shape(segmentation={"size": [48, 64], "counts": "P" * 10**6})]}, "cannot be decoded"),
        ({"annotations": [shape(segmentation={"size": [48, 64], "counts": "환자"})]}, "cannot be decoded"),
        ({"annotations": [shape(segmentation={"size": [48, 64], "counts": [4000, -928]})]}, "do not add up"),
        ({"annotations": [shape(segmentation={"size": [48, 64], "counts": [0.5, 3071.5]})]}, "do not add up"),
        ({"annotations": [shape(segmentation={"size": [48, 64], "counts": []})]}, "do not add up"),
        ({"annotations": [shape(segmentation={"size": [True, 1], "counts": [1]})]}, "needs size [height, width]"),
    ],
)  # fmt: skip
def test_what_a_coco_file_could_mean_twice_or_not_at_all_is_refused(tmp_path, changes, says):
    coco_set(tmp_path, **changes)
    began = time.monotonic()
    with pytest.raises(DataError) as found:
        planes(data(tmp_path))
    assert says in str(found.value)
    assert "train.json" in str(found.value)
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 600
    assert time.monotonic() - began < 5


def test_counts_as_floats_and_masks_of_another_resolution(tmp_path, monkeypatch):
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:30, 5:30] = 1
    flat = np.concatenate([[0], mask.T.ravel().astype(int)])
    counts = np.diff([0, *np.flatnonzero(np.diff(flat)), mask.size])
    shapes = [shape(segmentation={"size": list(SHAPE), "counts": counts.astype(float).tolist()})]
    np.testing.assert_array_equal(planes(data(coco_set(tmp_path, annotations=shapes)))[0][:48], mask)
    grid, large = Grid(*SHAPE, 64), 20
    monkeypatch.setattr(coco_rle, "MAX_DECODED", SHAPE[0] * SHAPE[1])  # more pixels are sampled from the runs
    big = {"size": [SHAPE[0] * large, SHAPE[1] * large], "counts": []}
    column, runs = np.repeat(mask, large, axis=0), []
    for x in range(SHAPE[1]):
        runs += column[:, x].tolist() * large
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.array(runs, np.int8)])))
    big["counts"] = np.diff([0, *edges, SHAPE[0] * SHAPE[1] * large**2]).tolist()
    assert big["size"][0] * big["size"][1] > coco_rle.MAX_DECODED
    np.testing.assert_array_equal(coco_rle.sample(big, "x", grid), grid.sample(mask))


def test_an_outline_far_outside_costs_no_more_than_the_frame(tmp_path):
    """pycocotools takes gigabytes for it, or ends the process."""
    far = [value for i in range(2000) for value in (1e6 * (-1) ** i, 1e3 * i - 1e6)]
    began = time.monotonic()
    planes(data(coco_set(tmp_path, annotations=[shape(segmentation=[far])])))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("file", ["/data/images/P0/im0.png", "../elsewhere/im0.png", "hands/P0/im0.png"])
def test_the_check_names_the_file_that_it_looked_for(tmp_path, file):
    coco_set(tmp_path, images=[image(file_name=file)])
    report = check(data(tmp_path), workers=1, progress=False)
    text = report.to_text()
    assert "no images in what data.coco names" in text
    assert f"{file}: train.json lists this image, which does not exist" in text
    if file != "../elsewhere/im0.png":
        assert "P0/im0.png is there, so its file_name" in text
    with pytest.raises(DataError, match=r"no such image, but train\.json lists it"):
        layouts.train_records(data(tmp_path))


def test_the_check_lists_every_fault_and_goes_on(tmp_path):
    shapes = [shape(), shape(image_id=9), shape(category_id=8), shape(segmentation=None), shape(image_id=10)]
    coco_set(
        tmp_path,
        annotations=shapes,
        images=[image(), image(id=2, file_name="P1\\b.png")],
        files=["P0/im0.png", "P1/b.png"],
    )
    report = check(data(tmp_path), workers=1, progress=False)
    kinds = [finding.kind for finding in report.findings if finding.severity == "error"]
    assert sorted(kinds) == ["bad-polygon", "no-image", "no-image", "unknown-label"]
    assert "1 file_name(s) have backslashes; P1\\b.png is read as P1/b.png" in report.to_text()
    with pytest.raises(DataError, match=r"\(4 such problems; phalanx check lists them\)"):
        layouts.train_records(data(tmp_path))


# one normal form


def competition(root, *, folders=("환자0", "환자1"), label="요골", classes=("요골",)):
    for i, folder in enumerate(folders):
        image_at(root / f"train/DCM/{folder}/손{i}.png")
        path = root / f"train/outputs_json/{folder}/손{i}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"annotations": [{"label": label, "points": [[5, 5], [30, 5], [30, 30]]}]}))
    return data(root, "competition", classes=list(classes))


def test_decomposed_names_are_those_composed(tmp_path):
    """Folders copied from a Mac, with annotations unpacked elsewhere, and labels and classes of either kind."""
    plain = competition(tmp_path / "plain")
    mac = competition(tmp_path / "mac", label=nfd("요골"), classes=[nfd("요골")])
    for path in sorted((tmp_path / "mac/train/DCM").rglob("*"), reverse=True):
        path.rename(path.with_name(nfd(path.name)))
    one, other = ([(r.name, r.group) for r in layouts.train_records(config)] for config in (plain, mac))
    assert one == other
    np.testing.assert_array_equal(planes(mac), planes(plain))
    assert planes(plain).any()
    (tmp_path / "q.txt").write_text(nfd("손0.png # 흐림\n"))
    mac.quarantine = tmp_path / "q.txt"
    assert [record.name for record in kept_records(mac)] == ["손1.png"]
    (tmp_path / "f.csv").write_text(nfd("image_name,group,fold\n손0.png,환자0,0\n손1.png,환자1,1\n"))
    assert folding.read(tmp_path / "f.csv", layouts.train_records(plain), 2) == {"손0.png": 0, "손1.png": 1}
    assert not [f for f in check(mac, workers=1, progress=False).findings if f.severity == "error"]


def test_coco_names_are_found_whatever_the_disk_has(tmp_path):
    root = coco_set(tmp_path, files=[nfd("환자0/손.png")], images=[image(file_name="환자0/손.png", patient="환자0")])
    record = layouts.train_records(data(root))[0]
    assert (record.name, record.group) == ("손.png", "환자0")
    assert record.image.is_file()


@pytest.mark.parametrize("encode", [lambda t: BOM + t.encode(), lambda t: t.encode("utf-16")])
def test_a_byte_order_mark_is_not_part_of_a_file(tmp_path, encode):
    config = competition(tmp_path)
    records = layouts.train_records(config)
    for path in [*(tmp_path / "train/outputs_json").rglob("*.json")]:
        path.write_bytes(encode(path.read_text()))
    assert planes(config).any()
    path = tmp_path / "x.txt"
    path.write_bytes(encode("# comment\r손0.png # why\r"))
    assert read_quarantine(path) == {"손0.png": "why"}
    path.write_bytes(encode("image_name,group,fold\r\n손0.png,환자0,0\r\n\r\n손1.png,환자1,1,,\r\n,,\r\n"))
    assert folding.read(path, records, 2) == {"손0.png": 0, "손1.png": 1}
    path.write_bytes(encode("image_name;group;fold\n손0.png;환자0;0\n손1.png;환자1;1\n"))
    assert folding.read(path, records, 2) == {"손0.png": 0, "손1.png": 1}
    root = coco_set(tmp_path / "coco")
    (root / "train.json").write_bytes(encode((root / "train.json").read_text()))
    assert planes(data(root)).any()


# quarantine, folds, selection


def test_names_with_hashes_survive_a_quarantine(tmp_path):
    reasons = {"#1.png": "a", "b # 2.png": "b # c", " c.png": "", "d.png": "x"}
    path = tmp_path / "q.txt"
    write_quarantine(path, reasons)
    assert read_quarantine(path, [*reasons, "b"]) == reasons
    with pytest.raises(DataError, match=r"q\.txt: cannot list 'a\\nb\.png', which is not one line"):
        write_quarantine(path, {"a\nb.png": ""})


def test_a_line_that_matches_nothing_is_named_with_the_nearest_name(tmp_path):
    config = competition(tmp_path, folders=("P0",))
    (tmp_path / "train/DCM/P0/손0.png").rename(tmp_path / "train/DCM/P0/image_100.png")
    (tmp_path / "train/outputs_json/P0/손0.json").rename(tmp_path / "train/outputs_json/P0/image_100.json")
    (tmp_path / "q.txt").write_text("image_1O0.png # typing error\n")
    config.quarantine = tmp_path / "q.txt"
    with pytest.raises(DataError, match=r"image_1O0\.png is not a training image of .*; did you mean image_100\.png\?"):
        kept_records(config)
    report = check(config, workers=1, progress=False)
    assert [f.text for f in report.findings if f.file.endswith("q.txt")] == [
        f"image_1O0.png is not a training image of {tmp_path}; did you mean image_100.png?"
    ]


RECORDS = [Record(f"{i}.png", f"P{i}", None, None) for i in range(2)]  # type: ignore[arg-type]


@pytest.mark.parametrize("fold", ["١", "１", "-1", "1e0", "9" * 5000, "1_0", "0x1", "NaN"])
def test_a_fold_is_a_plain_number(tmp_path, fold):
    path = tmp_path / "f.csv"
    path.write_text(f"image_name,group,fold\n0.png,P0,0\n\n1.png,P1,{fold}\n")
    with pytest.raises(DataError, match=r"f\.csv:4: fold '.* is not one of 0\.\.1") as found:
        folding.read(path, RECORDS, 2)
    assert len(str(found.value)) < 300


def test_rows_of_other_images_are_counted(tmp_path, capsys):
    path = tmp_path / "f.csv"
    path.write_text("image_name,group,fold\n0.png,P0,0\n1.png,P1,1\nx.png,P7,0\n")
    folding.read(path, RECORDS, 2)
    assert "1 row(s) are of images that are not trained on here, such as x.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.png,nan,annotation,,", "has another form"),
        ("a.png,1e999,annotation,,", "has another form"),
        ("a.png,-1,annotation,,", "has another form"),
        ("a.png,١,annotation,,", "has another form"),
        ("a.png,1.0,annotation", "has another form"),
        ("a.png,1.0,annotation,,\na.png,2.0,annotation,,", "is a second row of its image"),
    ],
)
def test_a_selection_of_another_form_is_refused(tmp_path, row, says):
    path = tmp_path / "selection.csv"
    path.write_text(f"image_name,weight,source,rule,reason\n{row}\n")
    with pytest.raises(DataError, match=says) as found:
        Selection.read(path)
    assert str(path) in str(found.value)


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (read_quarantine, Selection.read, lambda path: folding.read(path, RECORDS, 2)):
        for path, fault in ((tmp_path / "pipe", "is a pipe"), (tmp_path, "is a folder")):
            with pytest.raises(DataError, match=fault):
                read(path)
