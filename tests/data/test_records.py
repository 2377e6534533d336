"""Finding a data set's images, and saying what is wrong with its folders."""

import re

import pytest

from phalanx.data import records as finding
from phalanx.data.records import train_records
from phalanx.errors import DataError


def layout(root, images, labels=None):
    """Empty files: finding reads no image. images, labels: '<patient>/<stem>' of each."""
    for name in images:
        path = root / "train" / "DCM" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "train" / "outputs_json").mkdir(parents=True, exist_ok=True)
    for name in images if labels is None else labels:
        path = root / "train" / "outputs_json" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_each_image_with_its_patient_and_annotation_sorted_by_name(tmp_path):
    root = layout(tmp_path, ["ID9/a", "ID1/c", "ID1/b"])
    found = train_records(root)
    assert [(r.name, r.group) for r in found] == [("a.png", "ID9"), ("b.png", "ID1"), ("c.png", "ID1")]
    assert [r.labels for r in found] == [root / "train/outputs_json" / f"{n}.json" for n in ("ID9/a", "ID1/b", "ID1/c")]
    assert all(r.image.is_file() for r in found)


def test_other_files_are_no_images_and_capital_endings_are(tmp_path):
    root = layout(tmp_path, ["ID1/a", "ID1/b"])
    (root / "train/DCM/ID1/b.png").rename(root / "train/DCM/ID1/b.PNG")
    (root / "train/DCM/ID1/Thumbs.db").touch()
    (root / "train/DCM/ID1/folder.png").mkdir()
    assert [record.name for record in train_records(root)] == ["a.png", "b.PNG"]


def test_test_images_need_no_annotation(tmp_path):
    path = tmp_path / "test" / "DCM" / "ID1" / "a.png"
    path.parent.mkdir(parents=True)
    path.touch()
    assert finding.test_records(tmp_path) == [("a.png", "ID1", path, None)]


def test_a_missing_folder_is_named_with_the_layout(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/train/DCM: no such folder; expected the layout")):
        train_records(tmp_path)
    (tmp_path / "train" / "DCM").mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/train/DCM: no images (.png")):
        train_records(tmp_path)
    (tmp_path / "train" / "DCM" / "a.png").touch()
    with pytest.raises(DataError, match=r"outputs_json: no such folder; annotations belong there as <patient>/<image>"):
        train_records(tmp_path)


def test_an_image_without_annotation_is_refused_or_left_out_on_request(tmp_path):
    root = layout(tmp_path, ["ID1/a", "ID2/b", "ID3/c"], labels=["ID1/a"])
    with pytest.raises(
        DataError, match=r"ID2/b\.json: no such annotation file.*\(2 such image.*data\.skip_unlabelled=true"
    ):
        train_records(root)
    assert [record.name for record in train_records(root, skip_unlabelled=True)] == ["a.png"]


def test_another_patients_annotation_is_not_taken(tmp_path):
    root = layout(tmp_path, ["ID1/a"], labels=["ID2/a"])
    with pytest.raises(DataError, match=r"ID1/a\.json: no such annotation file"):
        train_records(root)
    with pytest.raises(DataError, match="no annotated image"):
        train_records(root, skip_unlabelled=True)


def test_a_doubled_name_is_refused_naming_both_files(tmp_path):
    """Names are a submission's keys: two images of one name would overwrite each other there."""
    root = layout(tmp_path, ["ID1/a", "ID2/a"])
    with pytest.raises(DataError, match=r"ID2/a\.png: the name a\.png is also that of .*ID1/a\.png; rename one"):
        train_records(root)
