"""What is in a folder of images: images by content, and all else with its reason."""

import json
import os
import socket

import cv2
import numpy as np
import pytest

from phalanx import cli
from phalanx.config import SegmentData, validate_as
from phalanx.data.layouts import passed_over, train_records
from phalanx.data.layouts import test_records as records_to_predict
from phalanx.data.listing import kind_of, list_files, list_images
from phalanx.data.records import by_stem, scan, stem_of
from phalanx.errors import DataError

PIXELS = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
SQUARE = {"annotations": [{"label": "a", "points": [[8, 8], [40, 8], [40, 40], [8, 40]]}]}


def image(path, ending=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(ending or path.suffix, PIXELS)[1].tobytes())


def dicom(path):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 64, 64, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = PIXELS.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path)


def data_of(root, **keys) -> SegmentData:
    return validate_as(SegmentData, {"name": "x", "root": root, "classes": ["a"], "size": 64, **keys})


@pytest.fixture
def root(tmp_path):
    """Two patients in train, one in test."""
    for number in (0, 1):
        image(tmp_path / f"train/DCM/P{number}/im{number}.png")
        place = tmp_path / f"train/outputs_json/P{number}/im{number}.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(SQUARE))
    image(tmp_path / "test/DCM/P9/im9.png")
    return tmp_path


@pytest.mark.parametrize("ending", [".PNG", ".JPG", ".jpeg", ".jpe", ".jfif", ".TIF", ".tiff", ".bmp", ".dib", ".webp"])
def test_every_ending_of_the_kinds_that_are_read(tmp_path, ending):
    kind = {".jpe": ".jpg", ".jfif": ".jpg", ".dib": ".bmp"}.get(ending, ending.lower())
    image(tmp_path / "P" / f"x{ending}", kind)
    (record,) = scan(tmp_path)
    assert record.name == f"x{ending}"
    assert stem_of(record.name) == "x"


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.2.5", "x.ima", "no ending"])
def test_dicom_is_known_by_its_content(root, name):
    dicom(root / "test/DCM/P9" / name)
    assert [record.name for record in records_to_predict(data_of(root))] == sorted(["im9.png", name])
    assert stem_of(name) == name


def test_images_without_an_ending_have_annotations_by_their_whole_name(root):
    for name in ("1.2.3", "1.2.4"):
        dicom(root / "train/DCM/P0" / name)
        (root / f"train/outputs_json/P0/{name}.json").write_text(json.dumps(SQUARE))
    found = {record.name: record.labels.name for record in train_records(data_of(root))}
    assert found["1.2.3"] == "1.2.3.json"
    assert found["1.2.4"] == "1.2.4.json"


@pytest.mark.parametrize(
    "name",
    [
        ".ipynb_checkpoints/im9-checkpoint.png",
        "._im9.png",
        "__MACOSX/P9/im9.png",
        ".DS_Store",
        "Thumbs.db",
        ".x/y/z.png",
    ],
)
def test_hidden_files_are_not_images(root, name):
    path = root / "test/DCM/P9" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((root / "test/DCM/P9/im9.png").read_bytes())
    assert [record.name for record in records_to_predict(data_of(root))] == ["im9.png"]
    (passed,) = list_images(root / "test/DCM").passed
    assert passed.kind == "hidden"
    assert "1 hidden" in list_images(root / "test/DCM").to_text(root / "test/DCM")


def test_hidden_annotations_annotate_nothing(root):
    for name in ("._im0.json", ".ipynb_checkpoints/im0-checkpoint.json"):
        path = root / "train/outputs_json/P0" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    assert len(list_files(root / "train/outputs_json", ".json")) == 2
    assert not passed_over(data_of(root))


@pytest.mark.parametrize("name", ["x.gif", "x.heic", "x.jp2", "x.nii.gz", "x.dng", "IM.HEIF"])
def test_an_image_that_is_not_read_stops_a_prediction(root, name):
    (root / "test/DCM/P9" / name).write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"is of a format that is not read; convert it to PNG \(1 such below") as caught:
        records_to_predict(data_of(root))
    assert name in str(caught.value)
    (root / "train/DCM/P0" / name).write_bytes(b"GIF89a")
    assert len(train_records(data_of(root))) == 2
    assert f"1 that cannot be used (P0/{name})" in passed_over(data_of(root))


@pytest.mark.parametrize("magic", [b"GIF89a", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\0\x18ftypheic", b"8BPS"])
def test_an_image_that_is_not_read_is_known_by_its_content(tmp_path, magic):
    (tmp_path / "IM1").write_bytes(magic + b"\0" * 200)
    assert kind_of(tmp_path / "IM1") == "unread"


def test_other_files_and_empty_folders_are_named(root):
    (root / "train/DCM/P0/notes.txt").write_text("x")
    (root / "train/DCM/P7").mkdir()
    (root / "train/DCM/DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (root / "train/outputs_json/P0/gone.json").write_text(json.dumps(SQUARE))
    text = passed_over(data_of(root))
    assert "2 other file(s) (DICOMDIR, ...)" in text
    assert "1 empty folder(s) (P7)" in text
    assert "1 annotation(s) without an image (P0/gone.json)" in text
    (root / "train/outputs_json/P1/im1.json").unlink()
    assert "1 image(s) without an annotation" in passed_over(data_of(root, skip_unlabelled=True))
    assert "\n" not in text


def test_links_to_folders_are_followed_once(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    image(elsewhere / "P5/im5.png")
    (root / "test/DCM/P5").symlink_to(elsewhere / "P5")
    (root / "test/DCM/P9/again").symlink_to(root / "test/DCM")
    (root / "test/DCM/P9/self").symlink_to(root / "test/DCM/P9")
    found = list_images(root / "test/DCM")
    assert [path.name for path in found.files] == ["im5.png", "im9.png"]
    assert {one.why for one in found.passed} == {"is a link to a folder that contains it"}


def test_a_link_to_nothing_a_pipe_and_a_socket_are_no_images(root):
    folder = root / "test/DCM/P9"
    (folder / "gone.png").symlink_to(folder / "none")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket is short
        one.bind("s.png")
        os.chdir(here)
    found = {path.name: why for path, _, why in list_images(root / "test/DCM").unread}
    assert found.keys() == {"gone.png", "pipe.png", "s.png"}
    assert "is a link that leads nowhere" in found["gone.png"]
    assert "is a pipe" in found["pipe.png"]
    with pytest.raises(DataError, match=r"3 such below .*; mend each, or move it elsewhere"):
        records_to_predict(data_of(root))


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("P9"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("phalanx.data.listing.os.scandir", refuse)
    with pytest.raises(DataError, match=r"P9: is a folder that cannot be read \(Permission denied\)"):
        records_to_predict(data_of(root))


@pytest.mark.parametrize("name", [b"\xbc\xd5.png", b"a\nb.png", b"a\x1bb.png", "a\u2028b.png".encode()])
@pytest.mark.parametrize("folder", [False, True])
def test_a_name_that_no_csv_can_list_is_refused_in_one_line(root, name, folder, capsys):
    other = os.fsdecode(name)
    path = root / "train/DCM" / (f"{other}/x.png" if folder else f"P0/{other}")
    image(path, ".png")
    with pytest.raises(
        DataError, match=r"its name (is not UTF-8|has a line break or control character), so CSV"
    ) as caught:
        train_records(data_of(root, skip_unlabelled=True))
    assert "rename it" in str(caught.value)
    assert str(caught.value).isprintable()
    words = ["data=hand", "data.classes=[a]", f"data.root={root}", f"json={root}/c.json", "workers=1", "progress=false"]
    assert cli.main(["check", *words, "data.pairs=[]", "data.skip_unlabelled=true"]) == 1
    (bad,) = (one for one in json.loads((root / "c.json").read_text())["findings"] if one["kind"] == "bad-name")
    assert bad["severity"] == "error"
    assert bad["file"].isprintable()
    assert "Rename it" in bad["remedy"]
    assert "\n\n" not in capsys.readouterr().out


def test_check_lists_all_that_is_passed_over(root, capsys):
    image(root / "test/DCM/P9/._im9.png", ".png")
    (root / "test/DCM/P9/x.gif").write_bytes(b"GIF89a")
    (root / "test/DCM/P9/x.txt").write_text("x")
    (root / "test/DCM/P8").mkdir()
    image(root / "test/DCM/P9/IM9.PNG", ".png")
    words = ["data=hand", "data.classes=[a]", f"data.root={root}", f"json={root}/c.json", "workers=1", "progress=false"]
    assert cli.main(["check", *words, "data.pairs=[]"]) == 1
    found = {(one["kind"], one["severity"]): one for one in json.loads((root / "c.json").read_text())["findings"]}
    assert found["hidden", "note"]["file"].endswith("._im9.png")
    assert found["unread-image", "error"]["file"].endswith("x.gif")
    assert found["not-an-image", "note"]["file"].endswith("x.txt")
    assert found["empty-folder", "note"]["file"].endswith("P8")
    assert "capitals" in found["similar-name", "warning"]["text"]
    assert "unread-image, 1x" in capsys.readouterr().out


def test_truth_of_two_images_of_one_stem_is_ambiguous(tmp_path):
    (tmp_path / "a.json").touch()
    with pytest.raises(DataError, match="differ in their ending alone"):
        by_stem(["a.png", "a.jpg"], [tmp_path / "a.json"])
