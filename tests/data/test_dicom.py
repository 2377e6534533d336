"""DICOM files written here by pydicom, read as 8-bit grey, held against the standard's formulas done slowly."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.uid import ImplicitVRLittleEndian, JPEGLosslessSV1, RLELossless
from tests.data.dicoms import write

from phalanx.data.dicom import decode
from phalanx.data.grey import window
from phalanx.data.images import read_grey
from phalanx.data.records import scan
from phalanx.errors import DataError


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 4096, (13, 18), np.uint16)


def test_eight_bits_arrive_as_they_are(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (13, 18), np.uint8)
    np.testing.assert_array_equal(read_grey(write(tmp_path / "x.dcm", picture)), picture)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_pixels_are_scaled_as_those_of_a_deep_png(tmp_path, bits):
    deep = np.random.default_rng(0).integers(0, 1 << bits, (13, 18), np.uint16)
    deep[0, 0] = (1 << bits) - 1
    found = read_grey(write(tmp_path / "x.dcm", deep, stored=bits))
    np.testing.assert_array_equal(found, deep // (1 << (bits - 8)))


def test_monochrome1_is_inverted(tmp_path, values):
    plain, inverted = (read_grey(write(tmp_path / f"{k}.dcm", values, kind=k)) for k in ("MONOCHROME2", "MONOCHROME1"))
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_without_a_window_slope_and_intercept_change_nothing_but_for_the_sign(tmp_path, values):
    plain = read_grey(write(tmp_path / "x.dcm", values, stored=12))
    for slope, inverse in ((1, False), (0.01, False), (-2, True)):
        path = write(tmp_path / "y.dcm", values, stored=12, RescaleSlope=slope, RescaleIntercept=-1024)
        np.testing.assert_array_equal(read_grey(path), 255 - plain if inverse else plain)


def test_signed_values_count_from_the_smallest(tmp_path, values):
    signed = values.astype(np.int16) - 1000
    signed[0, 0] = -1000
    expected = (signed.astype(int) + 1000) // 16
    np.testing.assert_array_equal(read_grey(write(tmp_path / "x.dcm", signed)), expected)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_window_follows_the_rescale_as_pydicom_does_it(tmp_path, values, function, signed):
    pixels = values.astype(np.int16) - 2048 if signed else values
    tags = {"RescaleSlope": 2, "RescaleIntercept": -500, "WindowCenter": 1200, "WindowWidth": 3000}
    if function:
        tags["VOILUTFunction"] = function
    path = write(tmp_path / "x.dcm", pixels, stored=12, **tags)
    image = pydicom.dcmread(path)
    slow = apply_windowing(apply_modality_lut(image.pixel_array, image), image)
    low = (-2048 if signed else 0) * 2 - 500
    np.testing.assert_allclose(read_grey(path), (slow - low) / (4095 * 2) * 255, atol=0.501)


def test_of_several_windows_the_first_is_taken(tmp_path, values):
    one = read_grey(write(tmp_path / "x.dcm", values, WindowCenter=900, WindowWidth=1000))
    two = read_grey(write(tmp_path / "y.dcm", values, WindowCenter=[900, 5], WindowWidth=[1000, 10]))
    np.testing.assert_array_equal(one, two)


def test_the_standards_own_example_of_a_window():
    """PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0..4095 to the whole range; width 1 is a threshold."""
    ramp = np.array([[-1.0, 0, 2047.5, 4095, 9999]])
    assert window(ramp, 2048, 4096).tolist() == [[0, 0, 128, 255, 255]]
    assert window(np.array([[99.0, 100.0]]), 100, 1).tolist() == [[0, 255]]


def test_a_voi_table_is_looked_up(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [4, 10, 12], np.array([0, 160, 1600, 4095], np.uint16).tobytes()
    image = np.array([[8, 10, 11], [12, 13, 99]], np.uint16)
    path = write(tmp_path / "x.dcm", image, VOILUTSequence=[table])
    assert read_grey(path).tolist() == [[0, 0, 10], [100, 255, 255]]


def test_colours_become_their_luminance(tmp_path):
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[0] = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    found = read_grey(write(tmp_path / "x.dcm", colours, kind="RGB"))
    np.testing.assert_allclose(found[0], [0.299 * 255, 0.587 * 255, 0.114 * 255], atol=0.51)


def test_a_lossless_compression_that_pydicom_knows_is_read(tmp_path, values):
    path = write(tmp_path / "x.dcm", values)
    image = pydicom.dcmread(path)
    image.compress(RLELossless)
    image.save_as(tmp_path / "y.dcm")
    np.testing.assert_array_equal(read_grey(tmp_path / "y.dcm"), read_grey(path))


def test_a_file_is_known_by_its_mark_or_its_name(tmp_path, values):
    path = write(tmp_path / "x.dcm", values)
    whole = read_grey(path)
    path.rename(tmp_path / "x.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "x.png"), whole)
    bare = pydicom.dcmread(tmp_path / "x.png")
    bare.file_meta, bare.preamble = FileMetaDataset(), None
    pydicom.dcmwrite(tmp_path / "y.dcm", bare, implicit_vr=True, little_endian=True, overwrite=True)
    assert (tmp_path / "y.dcm").read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(read_grey(tmp_path / "y.dcm"), whole)
    assert [record.name for record in scan(tmp_path)] == ["x.png", "y.dcm"]


def test_a_compression_that_cannot_be_undone_is_named_with_its_remedy(tmp_path, values):
    from pydicom.encaps import encapsulate

    path = tmp_path / "x.dcm"
    write(path, values)
    image = pydicom.dcmread(path)
    image.PixelData = encapsulate([b"\xff\xd8\xff\xc3" + bytes(100)])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    image.save_as(path)
    with pytest.raises(DataError, match=re.escape(f"{path}: compressed as JPEG Lossless")) as found:
        read_grey(path)
    assert "pip install pylibjpeg" in str(found.value)
    assert "\n" not in str(found.value)


def test_what_cannot_be_used_is_refused_in_one_line_naming_the_file(tmp_path, values):
    whole = write(tmp_path / "x.dcm", values).read_bytes()
    cases = {
        "cut": (whole[:-100], "its pixels cannot be read"),
        "header": (whole[:140], "DICOM"),
        "text": (b"<html>404 not found</html>" * 20, "DICOM"),
        "empty": (b"", "the file is empty"),
    }
    for name, (content, says) in cases.items():
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(content)
        with pytest.raises(DataError, match=says) as found:
            read_grey(path)
        assert str(found.value).startswith(f"{path}: ")
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"NumberOfFrames": 2}, "contains 2 frames; save the one"),
        ({"kind": "PALETTE COLOR"}, "PALETTE COLOR pixels; save the image in grey"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "its rescale or window cannot be used (WindowWidth 0)"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "(VOILUTFunction CUBIC)"),
    ],
)
def test_other_kinds_are_refused_with_a_remedy(tmp_path, values, tags, says):
    pixels = np.concatenate([values, values]) if "NumberOfFrames" in tags else values
    path = write(tmp_path / "x.dcm", pixels, syntax=ImplicitVRLittleEndian, **tags)
    with pytest.raises(DataError, match=re.escape(says)):
        decode(path, np.frombuffer(path.read_bytes(), np.uint8))
