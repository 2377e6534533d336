"""Labels in folders and tables: what is read, and what is refused with file, fault and remedy."""

import shutil

import numpy as np
import pytest
from tests.labelled import CLASSES, make_folders, make_table, picture, write

from phalanx.config import ClassifyData, validate_as
from phalanx.data import layouts
from phalanx.data.cache import SampleCache
from phalanx.data.cache_folder import packed, unpacked
from phalanx.data.images import read_colour, read_grey
from phalanx.data.labels import label_row, labels_of, read_labels
from phalanx.data.layouts import passed_over, train_names, train_records
from phalanx.data.prepared import prepare
from phalanx.errors import ConfigError, DataError


def data_of(root, layout, **changes) -> ClassifyData:
    values = {"name": "t", "root": root, "classes": CLASSES, "size": 32, "layout": layout}
    if layout == "folders":
        values["folders"] = {"group_pattern": "^(P[0-9]+)-"}
    return validate_as(ClassifyData, values | changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("table"))


def test_folders_name_class_and_patient(folders):
    data = data_of(folders, "folders")
    found = train_records(data)
    assert [record.name for record in found] == sorted(record.name for record in found)
    assert len(found) == 24
    assert {(r.name, r.group, r.labels.name) for r in found} >= {
        ("P00-000.png", "P00", "up"),
        ("P04-007.png", "P04", "flat"),
    }
    labels = labels_of(found, data)
    assert labels.dtype == np.float32
    assert labels.sum(1).tolist() == [1.0] * 24
    assert [CLASSES[i] for i in labels.argmax(1)] == [record.labels.name for record in found]
    assert len(layouts.test_records(data)) == 6
    assert train_names(data) == {record.name for record in found}


def test_without_a_pattern_each_image_is_a_patient(folders):
    found = train_records(data_of(folders, "folders", folders={}))
    assert [record.group for record in found] == [record.name for record in found]


def test_a_table_has_missing_labels(table):
    data = data_of(table, "table")
    found = train_records(data)
    labels = labels_of(found, data)
    by_name = dict(zip((record.name for record in found), labels.tolist(), strict=True))
    assert np.isnan(by_name["000.png"][0])
    assert by_name["001.png"] == [1, 0, 1]
    assert {record.group for record in found} == {f"P{i}" for i in range(12)}
    assert len(layouts.test_records(data)) == 6


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("image_name;patient;up;flat;slant\n000.png;a;1;0;\n", (1, 0, None)),
        ("\ufeffimage_name,patient,slant,flat,up,note\r\n000.png,a,1.0,NA,0,x\r\n", (0, None, 1)),
        ('"image_name"\t"patient"\t"up"\t"flat"\t"slant"\n"000.png"\t"a"\t0\t?\t1\n', (0, None, 1)),
    ],
)
def test_tables_people_have_are_read(tmp_path, text, row):
    write(tmp_path / "train/images/000.png", picture([], 0))
    (tmp_path / "train.csv").write_text(text, encoding="utf-8", newline="")
    [record] = train_records(data := data_of(tmp_path, "table"))
    found = label_row(record, data)
    assert [None if value != value else value for value in found] == list(row)


def test_a_table_may_list_names_without_their_endings(table, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(table, root)
    text = (root / "train.csv").read_text(encoding="utf-8")
    (root / "train.csv").write_text(text.replace(".png,", ","), encoding="utf-8")
    bare, named = data_of(root, "table"), data_of(table, "table")
    assert [r.name for r in train_records(bare)] == [r.name for r in train_records(named)]
    assert np.array_equal(labels_of(train_records(bare), bare), labels_of(train_records(named), named), equal_nan=True)
    write(root / "train/images/P0/001.jpg", picture([], 0))
    with pytest.raises(DataError, match=r"001: is the row of 001.jpg and of 001.png; list both with their endings"):
        train_records(bare)


@pytest.mark.parametrize(
    ("cell", "row"),
    [("up", [1, 0, 0]), ("up|slant", [1, 0, 1]), (" flat | up ", [1, 1, 0]), ("", [None] * 3), ("none", [None] * 3)],
)
def test_a_column_of_class_names(tmp_path, cell, row):
    write(tmp_path / "train/images/000.png", picture([], 0))
    write(tmp_path / "train/images/001.png", picture([], 0))
    (tmp_path / "train.csv").write_text(f"image_name,label\n000.png,{cell}\n001.png,up\n", encoding="utf-8")
    data = data_of(tmp_path, "table", table={"label": "label", "group": None}, skip_unlabelled=True)
    labels = {record.name: label_row(record, data) for record in train_records(data)}
    assert ("000.png" in labels) == (row[0] is not None)
    if row[0] is not None:
        assert list(labels["000.png"]) == row


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (",up,", ",Up,", "has no column up; known: Up, flat"),
        (",flat,", ",up,", "has the column up twice"),
        ("patient,", "who,", "has no column patient"),
        ("001.png,P0,1,", "001.png,P0,2,", "line 3: '2' of class up is not 0, 1 or"),
        ("001.png,P0,1,", "001.png,P0,yes,", "is not 0, 1 or"),
        ("001.png,P0,1,", "001.png,P0,1,1,", "line 3: has 6 fields, its header has 5"),
        ("001.png,P0", "000.png,P0", "line 3: '000.png' also has a row above"),
        ("001.png,P0", "001.png,", "line 3: the column patient is empty"),
        ("001.png,P0", ",P0", "line 3: the column image_name is empty"),
        ("001.png,P0", "x01.png,P0", "lists 'x01.png', which is not an image"),
        ("001.png,P0,1,0,1", "001.png,P0,,,", "has no label of '001.png'"),
    ],
)
def test_a_bad_table_is_refused(table, tmp_path, old, new, fault):
    root = tmp_path / "set"
    shutil.copytree(table, root)
    text = (root / "train.csv").read_text(encoding="utf-8")
    assert old in text
    (root / "train.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        train_records(data_of(root, "table"))
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_without_a_row_are_refused_or_skipped(table, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(table, root)
    write(root / "train/images/P9/more.png", picture([], 99))
    with pytest.raises(DataError, match=r"has no label of 'more.png' \(1 such image"):
        train_records(data_of(root, "table"))
    assert len(train_records(data_of(root, "table", skip_unlabelled=True))) == 24


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda root: (root / "train/flat").rename(root / "train/Flat"), "'Flat' is not a class; did you mean"),
        (lambda root: shutil.rmtree(root / "train/up"), "has no folder of class 'up'"),
        (lambda root: shutil.copy(root / "train/up/P00-000.png", root / "train/flat"), "an image has one class"),
        (lambda root: (root / "train/up/P00-000.png").rename(root / "train/up/x.png"), "finds no patient in its name"),
        (lambda root: shutil.rmtree(root / "train"), "no such folder; expected the layout"),
    ],
)
def test_bad_folders_are_refused(folders, tmp_path, change, fault):
    root = tmp_path / "set"
    shutil.copytree(folders, root)
    change(root)
    with pytest.raises(DataError) as caught:
        train_records(data_of(root, "folders"))
    assert fault in str(caught.value)


def test_an_empty_class_and_what_is_passed_over(folders, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(folders, root)
    for path in (root / "train/up").iterdir():
        path.unlink()
    (root / "train/flat/.DS_Store").write_text("x")
    (root / "train/flat/notes.txt").write_text("x")
    data = data_of(root, "folders")
    assert len(train_records(data)) == 16
    assert "notes.txt" in passed_over(data)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"folders": {"group_pattern": "("}}, "not a regular expression"),
        ({"folders": {"group_pattern": "P[0-9]+"}}, "needs one group in brackets"),
        ({"table": {}}, "only for data.layout=table"),
        ({"classes": ["up", "up"]}, "a name appears twice"),
        ({"colour": True, "background": "contour"}, "is found in grey images"),
    ],
)
def test_impossible_options_are_refused(folders, changes, fault):
    with pytest.raises(ConfigError, match=fault.replace("(", r"\(")):
        data_of(folders, "folders", **changes)


def test_the_truth_of_a_score_is_a_table_or_folders(folders, table):
    labels, patients = read_labels(folders / "test", data_of(folders, "folders"))
    assert len(labels) == 6
    assert set(map(tuple, labels.values())) == {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert {patient[0] for patient in patients.values()} == {"P"}
    labels, patients = read_labels(table / "answers.csv", data_of(table, "table"))
    assert labels["024.png"] == tuple(float((24 * 5 + 24 // 7) >> bit & 1) for bit in range(3))
    assert patients["024.png"] == "P12"
    with pytest.raises(DataError, match="no such file or folder of labels"):
        read_labels(table / "nothing.csv", data_of(table, "table"))


def test_colour_is_read_and_cached_in_three_channels(tmp_path):
    root = make_folders(tmp_path, train=6, test=3, colour=True)
    data = data_of(root, "folders", colour=True)
    record = train_records(data)[0]
    image = read_colour(record.image)
    assert image.shape == (48, 48, 3)
    assert image[..., 2].max() == 200  # blue, in RGB
    assert image[..., 0].max() < 40
    prepared = prepare(record, data)
    assert prepared.image.shape == (32, 32, 3)
    again = unpacked("0" * 64, packed("0" * 64, prepared))
    assert again is not None
    assert np.array_equal(again.image, prepared.image)
    cache = SampleCache(data)
    cache.add([record], progress=False)
    assert np.array_equal(cache(record).image, prepared.image)
    assert prepare(record, data_of(root, "folders")).image.shape == (32, 32)
    grey = tmp_path / "grey.png"
    write(grey, read_grey(record.image))
    assert np.array_equal(read_colour(grey), np.repeat(read_grey(grey)[:, :, None], 3, 2))
