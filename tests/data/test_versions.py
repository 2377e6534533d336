"""Snapshots of data sets, what changed between two, and which one a run has."""

import csv
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from tests import boxed, label_maps, labelled

from phalanx.cli import main
from phalanx.config.compose import compose
from phalanx.data import snapshot as snapshots
from phalanx.data.changes import compare
from phalanx.data.digests import Digests
from phalanx.data.label_text import label_text, read_text
from phalanx.data.layouts import files
from phalanx.data.quarantine import kept_records
from phalanx.data.snapshot import Version, open_snapshot, present, take
from phalanx.data.truth import planes_of
from phalanx.data.versions import ImageRow, named, read_table, rows_of, trained
from phalanx.masks.planes import one_class
from phalanx.runs.reader import FoldRun

COMMON = {"name": "data", "workers": "1", "progress": "false"}


def config_of(root, layout):
    """A recipe of a tiny set of a layout."""
    changes = {
        "competition": lambda: {"data": "hand"},
        "masks": lambda: label_maps.words(root),
        "folders": lambda: labelled.words(root, "folders"),
        "table": lambda: labelled.words(root, "table"),
        "coco_boxes": lambda: boxed.words(root, "coco_boxes"),
        "boxes": lambda: boxed.words(root, "boxes"),
        "polygons": lambda: boxed.words(root, "polygons"),
    }[layout]()
    return compose({**changes, **COMMON, "data.root": str(root)})


def make(root, layout, hands):
    """The set itself."""
    if layout == "competition":
        shutil.copytree(hands, root)
    else:
        {
            "masks": label_maps.make, "folders": labelled.make_folders, "table": labelled.make_table,
            "coco_boxes": boxed.make_coco, "boxes": boxed.make_table, "polygons": boxed.make_polygons,
        }[layout](root)  # fmt: skip
    return config_of(root, layout)


def edit_csv(path, row, column, change):
    rows = list(csv.reader(path.open(encoding="utf-8")))
    cell = rows[0].index(column)
    rows[row][cell] = change(rows[row][cell])
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)


def edit_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def shift(points):
    return [[x + 3, y] for x, y in points]


def relabel(root, layout):
    """Changes the labels of one training image; returns its name."""
    if layout in ("competition", "polygons"):
        path = sorted((root / "train" / "outputs_json").rglob("*.json"))[-1]
        edit_json(path, lambda v: v["annotations"][0].update(points=shift(v["annotations"][0]["points"])))
        return f"{path.stem}.png"
    if layout == "masks":
        path = sorted((root / "train" / "labels").glob("*.png"))[3]
        labels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        labels[0, 0] = 2
        cv2.imwrite(str(path), labels)
        return path.name
    if layout == "folders":
        path = sorted((root / "train" / "up").iterdir())[0]
        path.rename(root / "train" / "flat" / path.name)
        return path.name
    if layout == "table":
        edit_csv(root / "train.csv", 2, "up", lambda cell: {"1": "0", "0": "1", "": "1"}[cell])
        return "001.png"
    if layout == "boxes":
        edit_csv(root / "train.csv", -1, "x_max", lambda cell: str(float(cell) - 2))
        return list(csv.reader((root / "train.csv").open(encoding="utf-8")))[-1][0]
    path = next(root.glob("*.json"))
    values = json.loads(path.read_text())
    one = values["annotations"][0]
    one["segmentation"] = [[value + 1 for value in part] for part in one["segmentation"]]
    path.write_text(json.dumps(values))
    return next(image["file_name"] for image in values["images"] if image["id"] == one["image_id"]).split("/")[-1]


LAYOUTS = ("competition", "masks", "folders", "table", "coco_boxes", "boxes", "polygons")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_changed_label_is_found_and_drawn_in_every_layout(layout, hands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    config = make(root, layout, hands)
    take(config, "one", tmp_path / "snapshots")
    assert not compare(open_snapshot("one", tmp_path / "snapshots"), present(config, tmp_path / "snapshots")).any
    name = relabel(root, layout)
    config = config_of(root, layout)
    take(config, "two", tmp_path / "snapshots")
    one, two = (open_snapshot(each, tmp_path / "snapshots") for each in ("one", "two"))
    found = compare(one, two)
    assert found.relabelled == [name]
    assert not (found.added)
    assert not (found.removed)
    assert not (found.image_changed)
    assert not (found.unknown)
    assert not (found.patients)
    assert found.same == len(one.rows) - 1
    now = present(config, tmp_path / "snapshots")
    assert compare(one, now).relabelled == [name]
    text = now.texts(now.rows[name].labels)
    assert text == two.texts(two.rows[name].labels) != one.texts(one.rows[name].labels)
    assert main(["data", "diff", "one", "two", "size=128"]) == 0
    out = tmp_path / "snapshots" / "diff_one_two"
    assert json.loads((out / "diff.json").read_text())["relabelled"] == [name]
    assert cv2.imread(str(out / "changed_1.png")).std() > 20
    shutil.rmtree(root)  # without the images, the labels are drawn all the same
    assert main(["data", "diff", "one", "two", "size=128"]) == 0


def test_the_stored_masks_are_the_annotated_ones(hands, tmp_path):
    config = config_of(hands, "competition")
    take(config, "one", tmp_path)
    version = open_snapshot("one", tmp_path)
    record = kept_records(config.data)[0]
    found = read_text(version.texts(version.rows[record.name].labels), "segment", (128, 128))
    planes = planes_of(record, config.data, (128, 128))
    for label, name in enumerate(config.data.classes):
        mask = one_class(planes, label)
        np.testing.assert_array_equal(found.masks.get(name, np.zeros((128, 128), bool)), mask)


def test_each_kind_of_change_has_its_name(hands, tmp_path):
    root = tmp_path / "set"
    config = make(root, "competition", hands)
    take(config, "one", tmp_path / "s")
    images = sorted((root / "train" / "DCM").rglob("*.png"))
    label = {path: root / "train" / "outputs_json" / path.parent.name / f"{path.stem}.json" for path in images}
    pixels = cv2.imread(str(images[0]), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(images[0]), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 0])  # the same pixels
    cv2.imwrite(str(images[1]), 255 - cv2.imread(str(images[1]), cv2.IMREAD_GRAYSCALE))
    label[images[2]].write_text(json.dumps(json.loads(label[images[2]].read_text()), indent=4))
    for path in (images[3], label[images[3]]):
        path.unlink()
    for path in (images[4], label[images[4]]):
        (path.parents[1] / "NEW").mkdir()
        path.rename(path.parents[1] / "NEW" / path.name)
    for path in (images[5], label[images[5]]):
        path.rename(path.with_name(f"renamed{path.suffix}"))
    tests = sorted((root / "test" / "DCM").rglob("*.png"))
    place = root / "train" / "DCM" / tests[0].parent.name
    place.mkdir()
    tests[0].rename(place / tests[0].name)
    target = root / "train" / "outputs_json" / tests[0].parent.name
    target.mkdir()
    shutil.copy(label[images[6]], target / f"{tests[0].stem}.json")
    config = config_of(root, "competition")
    found = compare(open_snapshot("one", tmp_path / "s"), present(config, tmp_path / "s"))
    assert found.image_rewritten == [images[0].name]
    assert found.image_changed == [images[1].name]
    assert found.annotation_rewritten == [images[2].name]
    assert found.removed == [images[3].name]
    assert [move.image for move in found.patients] == [images[4].name]
    assert found.patients[0].after == "NEW"
    assert [(move.before, move.after) for move in found.renamed] == [(images[5].name, "renamed.png")]
    assert [(move.image, move.before, move.after) for move in found.splits] == [(tests[0].name, "test", "train")]
    assert not (found.added)
    assert not (found.relabelled)
    assert not (found.unknown)
    text = found.to_text()
    assert "1 image(s) renamed" in text
    assert f"{tests[0].name}: test -> train" in text


def test_a_second_snapshot_decodes_nothing_again(hands, tmp_path, monkeypatch):
    config = config_of(hands, "competition")
    take(config, "one", tmp_path)

    def fail(*words):
        raise AssertionError("decoded again")

    monkeypatch.setattr(snapshots, "read_grey", fail)
    monkeypatch.setattr(snapshots, "label_text", fail)
    take(config, "two", tmp_path)
    assert (tmp_path / "one" / "labels.zip").read_bytes() == (tmp_path / "two" / "labels.zip").read_bytes()
    assert (tmp_path / "one" / "images.csv").read_bytes() == (tmp_path / "two" / "images.csv").read_bytes()


def test_labels_that_are_read_otherwise_are_read_again(hands, tmp_path):
    take(config_of(hands, "competition"), "one", tmp_path)
    fewer = compose({**COMMON, "data": "hand", "data.root": str(hands), "data.overlap": "last"})
    take(fewer, "two", tmp_path)
    one, two = (open_snapshot(name, tmp_path) for name in ("one", "two"))
    assert compare(one, two).relabelled  # bones that overlap have other pixels


def run_rows(config):
    records = kept_records(config.data, report=False)
    digests = Digests.of({record.name: files(record, config.data) for record in records})
    return rows_of(records, digests, config.data.root)


def test_a_run_names_the_snapshot_whose_data_it_has(hands, tmp_path):
    config = config_of(hands, "competition")
    rows = run_rows(config)
    before = named(rows, tmp_path)
    assert before["snapshot"] is False
    assert before["name"] == before["digest"][:12]
    take(config, "one", tmp_path)
    found = named(rows, tmp_path)
    assert (found["name"], found["snapshot"], found["left_out"]) == ("one", True, 0)
    assert found["digest"] == before["digest"]
    assert trained(read_table(tmp_path / "one" / "images.csv")).keys() == rows.keys()
    some = dict(list(rows.items())[1:])
    assert named(some, tmp_path)["left_out"] == 1
    name, row = next(iter(rows.items()))
    for change in ({"annotation": "0" * 64}, {"image": "0" * 64}, {"patient": "other"}, {"file": "elsewhere.png"}):
        assert not named({**rows, name: row._replace(**change)}, tmp_path)["snapshot"]
    (tmp_path / "one" / "images.csv").write_text("damaged")
    assert named(rows, tmp_path)["name"] == before["name"]  # a training does not depend on it


def test_a_label_that_is_a_folder_counts(tmp_path):
    config = make(tmp_path / "set", "folders", None)
    take(config, "one", tmp_path / "s")
    relabel(tmp_path / "set", "folders")
    assert not named(run_rows(config_of(tmp_path / "set", "folders")), tmp_path / "s")["snapshot"]


def test_a_training_writes_the_name_and_is_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(compose.__globals__["config_folder"]().resolve(), target_is_directory=True)
    root = labelled.make_folders(tmp_path / "set", train=12, test=3)
    words = [f"{key}={value}" for key, value in labelled.words(root, "folders", epochs=1).items()]
    assert main(["data", "snapshot", "first", *words]) == 0
    assert main(["train", "fold=0", "name=r", *words]) == 0
    run = FoldRun(tmp_path / "runs" / "r" / "fold0")
    assert (run.snapshot["name"], run.snapshot["images"]) == ("first", 12)
    capsys.readouterr()
    assert main(["data", "diff", "first", "r"]) == 0
    assert "12 images are the same" in capsys.readouterr().out
    name = relabel(root, "folders")
    assert main(["data", "diff", "r", "present", *words, "out=d"]) == 0
    assert f"1 image(s) relabelled\n  {name}" in capsys.readouterr().out
    assert (tmp_path / "d" / "changed_1.png").is_file()
    (run.folder / "snapshot.json").write_text("{}")
    assert main(["data", "diff", "r", "first"]) == 0  # it needs no name


def test_runs_and_folds(runs, hands, tmp_path, capsys):
    """Runs of other folds are compared by their folds; labels that no snapshot has are not known."""
    assert not FoldRun(runs / "fpn" / "fold0").snapshot["snapshot"]
    words = [f"runs={runs}", f"snapshots={tmp_path}"]
    assert main(["data", "diff", "fpn", "unet", *words]) == 0
    assert "12 images are the same" in capsys.readouterr().out


def test_images_in_another_fold_are_listed_and_nothing_else_changed(runs, tmp_path, capsys):
    """Two patients change places; of a whole snapshot, which has no folds, that is not a change."""
    shutil.copytree(runs / "fpn", tmp_path / "runs" / "moved")
    shutil.copytree(runs / "fpn", tmp_path / "runs" / "fpn")
    first = FoldRun(runs / "fpn" / "fold0")
    one, other = (next(p for image, p in first.patients.items() if first.folds[image] == k) for k in (0, 1))
    swapped = {one: 1, other: 0}
    for fold in (0, 1):
        path = tmp_path / "runs" / "moved" / f"fold{fold}" / "folds.csv"
        head, *lines = path.read_text().splitlines()
        cells = [line.split(",") for line in lines]
        rows = [",".join([image, patient, str(swapped.get(patient, fold))]) for image, patient, fold in cells]
        path.write_text("\n".join([head, *rows]) + "\n")
    words = [f"runs={tmp_path / 'runs'}", f"snapshots={tmp_path / 's'}", f"out={tmp_path / 'd'}"]
    assert main(["data", "diff", "fpn", "moved", *words]) == 0
    printed = capsys.readouterr().out
    images = {image for image, patient in first.patients.items() if patient in swapped}
    assert f"{len(images)} image(s) in another fold" in printed
    assert f"{12 - len(images)} images are the same" in printed
    found = json.loads((tmp_path / "d" / "diff.json").read_text())
    assert {tuple(row) for row in found["folds"]} == {
        (image, str(first.folds[image]), str(1 - first.folds[image])) for image in images
    }
    assert [found[key] for key in ("added", "removed", "relabelled", "patients")] == [[], [], [], []]


def test_what_only_one_side_knows_is_not_a_change():
    known = ImageRow("a", "train", "p", "", 0, 0, "i", "x", "n", "l")
    versions = [
        Version(name, "segment", ["c"], None, rows, splits, str)
        for name, rows, splits in (
            ("run", {"a": known._replace(pixels="", labels="")}, ("train",)),
            ("whole", {"a": known._replace(annotation="m"), "t": known._replace(name="t", split="test")},
             ("train", "test")),
        )
    ]  # fmt: skip
    found = compare(*versions)
    assert found.unknown == ["a"]
    assert not (found.added)
    assert not (found.relabelled)


BAD = {
    ("data",): "expected snapshot NAME, or diff A B",
    ("data", "snapshot"): "expected snapshot NAME",
    ("data", "snapshot", "present"): "cannot name a snapshot",
    ("data", "snapshot", "../up"): "cannot name a snapshot",
    ("data", "snapshot", "one"): "exists; snapshots never change",
    ("data", "diff", "one", "oen"): "neither a snapshot in s, nor a run; did you mean one?",
    ("data", "diff", "one", "present"): "present: name the data set",
    ("data", "diff", "one", "one", "sise=3"): "sise: only present reads a data set; did you mean size?",
    ("data", "diff", "one", "one", "images=x"): "images=x: expected a whole number",
    ("data", "diff", "one", "labels"): "they cannot be compared",
}


@pytest.mark.parametrize("words", BAD, ids="-".join)
def test_bad_words_are_one_line(words, hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    take(config_of(hands, "competition"), "one", tmp_path / "s")
    take(make(tmp_path / "set", "folders", None), "labels", tmp_path / "s")
    assert main([*words, "snapshots=s"]) == 2
    text = capsys.readouterr().err
    assert BAD[words] in text
    assert text.count("\n") == 1


def test_damaged_snapshots_and_files_of_others_are_refused(hands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "set"
    config = make(root, "competition", hands)
    take(config, "one", tmp_path / "s")
    relabel(root, "competition")
    take(config_of(root, "competition"), "two", tmp_path / "s")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diff.json").write_text("mine")
    assert main(["data", "diff", "one", "two", "snapshots=s", "out=mine"]) == 2
    assert "holds something else" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "s" / "one" / "labels.zip") as labels:
        names = labels.namelist()
    with zipfile.ZipFile(tmp_path / "s" / "one" / "labels.zip", "w") as labels:
        for name in names:
            labels.writestr(name, "finger-1,0 5\n")
    assert main(["data", "diff", "one", "two", "snapshots=s"]) == 2
    assert "labels.zip: is damaged" in capsys.readouterr().err
    (tmp_path / "s" / "one" / "images.csv").write_text("a,b\n")
    assert main(["data", "diff", "one", "two", "snapshots=s"]) == 2
    assert "is not the table of a snapshot" in capsys.readouterr().err


def test_a_snapshot_that_fails_leaves_nothing(hands, tmp_path):
    root = tmp_path / "set"
    config = make(root, "competition", hands)
    image = sorted((root / "train" / "DCM").rglob("*.png"))[-1]
    image.write_bytes(image.read_bytes()[:90])
    with pytest.raises(Exception, match=image.name):
        take(config, "one", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_equal_labels_are_equal_texts_whatever_their_order(tmp_path):
    root = boxed.make_polygons(tmp_path / "set")
    config = config_of(root, "polygons")
    record = kept_records(config.data)[-1]
    before = label_text(record, config.data, (64, 64))
    edit_json(record.labels, lambda values: values["annotations"].reverse())
    assert label_text(record, config.data, (64, 64)) == before
    assert before.count("\n") == 3
