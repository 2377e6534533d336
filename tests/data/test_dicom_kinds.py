"""DICOM that is easily read wrong: bits, padding, tables, contradictory tags. Each is read right, or refused."""

import re
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from tests.data.dicoms import lut, write

from phalanx.data.images import image_size, read_grey
from phalanx.errors import DataError


@pytest.fixture
def twelve():
    """12 bits, whose brightest is 4095."""
    values = np.random.default_rng(0).integers(0, 4096, (13, 18), np.uint16)
    values[0, 0] = 4095
    return values


def refused(path, says):
    with pytest.raises(DataError, match=says) as found:
        read_grey(path)
    text = str(found.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert ";" in text or ". " in text  # a remedy


def with_syntax(path, syntax):
    image = pydicom.dcmread(path)
    if syntax == RLELossless:
        image.compress(RLELossless)
    image.file_meta.TransferSyntaxUID = syntax
    big = syntax == ExplicitVRBigEndian
    if big:
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(
        path, image, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not big, force_encoding=True
    )
    return path


SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless
]  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("high", [11, 13, 15])
def test_bits_in_the_upper_part_are_shifted_down_whatever_is_below(tmp_path, twelve, syntax, high):
    noise = np.random.default_rng(1).integers(0, 1 << (high - 11), twelve.shape).astype(np.uint16)
    path = write(tmp_path / "x.dcm", (twelve << (high - 11)) | noise, stored=12, HighBit=high)
    np.testing.assert_array_equal(read_grey(with_syntax(path, syntax)), twelve >> 4)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("high", [11, 15])
def test_signed_values_of_twelve_bits_are_negative_extended_or_not(tmp_path, twelve, extended, high):
    signed = twelve.astype(int) - 2048
    words = (signed << (high - 11)) & (0xFFFF if extended else (0xFFF << (high - 11)))
    path = write(tmp_path / "x.dcm", words.astype(np.uint16).view(np.int16), stored=12, HighBit=high)
    twelve[twelve == 4095] = 4095
    np.testing.assert_array_equal(read_grey(path), (signed - signed.min()) >> 4)


def test_overlays_in_the_upper_bits_are_left_out_and_other_bits_there_refused(tmp_path, twelve):
    words = twelve | (np.eye(13, 18, dtype=np.uint16) << 12)
    path = write(tmp_path / "x.dcm", words, stored=12)
    refused(path, "has pixels of more than BitsStored 12 bits; correct its tags")
    image = pydicom.dcmread(path)
    image.add_new(0x60000100, "US", 16)
    image.add_new(0x60000102, "US", 12)
    image.save_as(path)
    np.testing.assert_array_equal(read_grey(path), twelve >> 4)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"HighBit": 10}, "BitsStored 12 and HighBit 10 contradict"),
        ({"HighBit": 16}, "HighBit 16 contradict"),
        ({"BitsStored": 17, "HighBit": 16}, "contradict"),
        ({"BitsAllocated": None}, "no BitsAllocated"),
        ({"PixelRepresentation": None}, "no BitsAllocated or PixelRepresentation"),
        ({"BitsAllocated": 12}, "bits allocated|Bits Allocated|bytes of pixels"),
        ({"Rows": None}, "without an image"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation missing"),
        ({"Columns": 0}, "13 x 0 pixels"),
        ({"Columns": 17}, "bytes of pixels"),
        ({"Rows": 12}, "bytes of pixels"),
        ({"Rows": 14}, "cannot be read .*less than expected"),
        ({"Rows": [13, 13]}, "Rows is not one whole number"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel 3 with PhotometricInterpretation MONOCHROME2"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel 2"),
        ({"PhotometricInterpretation": "RGB"}, "SamplesPerPixel 1 with PhotometricInterpretation RGB"),
        ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation HSV"),
        ({"NumberOfFrames": 3}, "contains 3 frames"),
        ({"NumberOfFrames": 0}, "contains 0 frames"),
        ({"WindowCenter": 3}, "WindowCenter without WindowWidth"),
        ({"WindowCenter": 3, "WindowWidth": -3}, "WindowWidth -3"),
        ({"WindowCenter": 3, "WindowWidth": 30, "RescaleSlope": 0}, "RescaleSlope 0"),
        ({"VOILUTSequence": [lut([4, 0, 8], b"abcdef")]}, "a table of 6 bytes, whose LUTDescriptor claims 4 entries"),
        ({"VOILUTSequence": [lut([4, 0], b"abcd")]}, "a LUTDescriptor of 2 values"),
        ({"VOILUTSequence": [pydicom.Dataset()]}, "without LUTDescriptor"),
    ],
)
def test_missing_and_contradictory_tags_are_refused(tmp_path, twelve, tags, says):
    path = write(tmp_path / "x.dcm", twelve, stored=12)
    image = pydicom.dcmread(path)
    for key, value in tags.items():
        if value is None:
            delattr(image, key)
        else:
            setattr(image, key, value)
    pydicom.dcmwrite(path, image)
    refused(path, says)


def test_tags_that_follow_from_others_may_be_missing(tmp_path, twelve):
    path = write(tmp_path / "x.dcm", twelve, stored=12)
    image = pydicom.dcmread(path)
    del image.HighBit, image.SamplesPerPixel
    image.save_as(path)
    np.testing.assert_array_equal(read_grey(path), twelve >> 4)
    image.HighBit = 11
    del image.BitsStored
    image.save_as(path)
    np.testing.assert_array_equal(read_grey(path), twelve >> 4)


PADDED = [
    (np.uint16, 65535, {}),
    (np.uint16, 0, {}),
    (np.uint16, 4095, {}),
    (np.int16, -32768, {}),
    (np.int16, -2000, {"PixelPaddingRangeLimit": -1500}),
    (np.uint16, 60000, {"PixelPaddingRangeLimit": 65535}),
    (np.uint16, 60000, {"PixelPaddingRangeLimit": 50000}),
]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("more", [{}, {"WindowCenter": 2048, "WindowWidth": 4096, "RescaleSlope": 1}, "table"])
@pytest.mark.parametrize(("dtype", "value", "tags"), PADDED)
def test_padding_is_black_and_decides_nothing(tmp_path, syntax, kind, more, dtype, value, tags):
    """The picture is that of the file without its border of padding."""
    inner = np.random.default_rng(0).integers(1, 4095, (13, 18)).astype(dtype)
    inner[0, :2] = 1, 4094
    if more == "table":
        more = {"VOILUTSequence": [lut([4096, 0, 16], (np.arange(4096, dtype=np.uint16) * 16).tobytes())]}
    want = read_grey(with_syntax(write(tmp_path / "x.dcm", inner, kind=kind, **more), syntax))
    assert want.max() > 240
    whole = np.full((20, 30), value, dtype)
    if "PixelPaddingRangeLimit" in tags:
        whole[::2] = tags["PixelPaddingRangeLimit"]
        whole[1] = (value + tags["PixelPaddingRangeLimit"]) // 2
    whole[4:17, 5:23] = inner
    path = write(tmp_path / "y.dcm", whole, kind=kind, PixelPaddingValue=value, **tags, **more)
    found = read_grey(with_syntax(path, syntax))
    np.testing.assert_array_equal(found[4:17, 5:23], want)
    found[4:17, 5:23] = 0
    assert not found.any()


def test_padding_beyond_the_bits_that_are_stored(tmp_path, twelve):
    twelve[:, 0] = 0x8000
    path = write(tmp_path / "x.dcm", twelve, stored=12, PixelPaddingValue=0x8000)
    found = read_grey(path)
    assert not found[:, 0].any()
    np.testing.assert_array_equal(found[:, 1:], twelve[:, 1:] >> 4)
    twelve[:, 0] = 0
    shifted = write(tmp_path / "y.dcm", twelve << 4, stored=12, HighBit=15, PixelPaddingValue=16)
    np.testing.assert_array_equal(read_grey(shifted), np.where(twelve == 16, 0, twelve >> 4))


def test_an_image_of_padding_alone_is_black(tmp_path):
    assert not read_grey(write(tmp_path / "x.dcm", np.full((4, 5), 9, np.uint16), PixelPaddingValue=9)).any()


LEVELS = [0, 10, 100, 255]


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
@pytest.mark.parametrize(
    ("descriptor", "data"),
    [
        ([4, 10, 8], bytes(LEVELS)),  # packed
        ([4, 10, 8], np.array(LEVELS, np.uint16)),  # 16 bits claimed to be 8
        ([4, 10, 8], np.array(LEVELS, np.uint16) * 16),  # 12 bits claimed to be 8
        ([4, 10, 16], np.array(LEVELS, np.uint16) * 16),  # 12 bits claimed to be 16
        ([4, 10, 12], np.array(LEVELS, np.uint16) * 16),
        ([4, 10, 16], np.array(LEVELS, np.uint16) * 257),
        ([4, 10, 0], np.array(LEVELS, np.uint16) * 257),
    ],
)
def test_voi_tables_of_any_width_whatever_their_descriptor_claims(tmp_path, syntax, descriptor, data):
    image = np.array([[8, 10, 11], [12, 13, 99]], np.uint16)
    data = data if isinstance(data, bytes) else data.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    if syntax == ExplicitVRBigEndian and len(data) == 4:
        data = data[1::-1] + data[:1:-1]
    path = write(tmp_path / "x.dcm", image, VOILUTSequence=[lut(descriptor, data)])
    assert read_grey(with_syntax(path, syntax)).tolist() == [[0, 0, 10], [100, 255, 255]]


def test_a_table_of_an_odd_number_of_bytes(tmp_path):
    image = np.array([[0, 1, 2]], np.uint16)
    for data in (b"\x00\x64\xff", b"\x00\x64\xff\x00"):
        path = write(tmp_path / "x.dcm", image, VOILUTSequence=[lut([3, 0, 8], data)])
        assert read_grey(path).tolist() == [[0, 100, 255]]


def test_0_entries_are_65536_and_a_first_value_may_be_negative(tmp_path):
    image = np.array([[-32768, 0, 32767]], np.int16)
    data = np.arange(65536, dtype=np.uint16).tobytes()
    path = write(tmp_path / "x.dcm", image, VOILUTSequence=[lut([0, -32768, 16], data)])
    assert read_grey(path).tolist() == [[0, 128, 255]]
    values = np.array([[0, 1024, 2047]], np.uint16)
    table = lut([2048, 65536 - 1024, 8], (np.arange(2048) // 8).astype(np.uint8).tobytes())
    path = write(tmp_path / "y.dcm", values, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[table])
    assert read_grey(path).tolist() == [[0, 128, 255]]
    high = write(
        tmp_path / "z.dcm", values + 60000, VOILUTSequence=[lut([1536, 60000, 8], bytes(1530) + bytes([255] * 6))]
    )
    assert read_grey(high).tolist() == [[0, 0, 255]]


def test_a_modality_table_comes_before_a_window_or_a_voi_table(tmp_path):
    image = np.array([[0, 1, 2, 3]], np.uint16)
    modality = {"ModalityLUTSequence": [lut([4, 0, 16], np.array([0, 1000, 2000, 4095], np.uint16).tobytes())]}
    plain = write(tmp_path / "x.dcm", image, **modality)
    assert read_grey(plain).tolist() == [[0, 1000 >> 4, 2000 >> 4, 255]]
    windowed = write(tmp_path / "y.dcm", image, WindowCenter=1000, WindowWidth=2001, **modality)
    assert read_grey(windowed).tolist() == [[0, 128, 255, 255]]
    table = [lut([2, 1000, 8], b"\x07\xf0")]
    both = write(tmp_path / "z.dcm", image, VOILUTSequence=table, **modality)
    assert read_grey(both).tolist() == [[7, 7, 0xF0, 0xF0]]


def test_thirty_two_bits_are_read_as_far_as_the_rule_reaches(tmp_path, twelve):
    deep = twelve.astype(np.uint32)
    np.testing.assert_array_equal(read_grey(write(tmp_path / "x.dcm", deep)), twelve >> 4)
    signed = write(tmp_path / "s.dcm", deep.astype(np.int32) - 70000)
    np.testing.assert_array_equal(read_grey(signed), (twelve - twelve.min()) >> 4)
    windowed = write(tmp_path / "w.dcm", deep << 18, WindowCenter=2**29, WindowWidth=2**30)
    np.testing.assert_allclose(read_grey(windowed), twelve / 4096 * 255, atol=0.6)
    refused(write(tmp_path / "y.dcm", deep << 18), "pixels up to .*more than 16 bits")


@pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.840.10008.1.2.77", "no uid", "1.2.840.10008.5.1.4.1.1.1", "1" * 70])
def test_a_bad_transfer_syntax_is_refused(tmp_path, twelve, uid):
    path = write(tmp_path / "x.dcm", twelve)
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = uid
    pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=True, force_encoding=True)
    refused(path, "is not a transfer syntax")


@pytest.mark.parametrize("name", ["x.dcm", "IM0001"])
@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_header_or_with_an_empty_syntax_is_read_as_its_tags_are_written(
    tmp_path, twelve, implicit, name
):
    path = write(tmp_path / "x.dcm", twelve, stored=12)
    image = pydicom.dcmread(path)
    del image.file_meta, image.preamble
    image.file_meta = pydicom.dataset.FileMetaDataset()
    pydicom.dcmwrite(tmp_path / name, image, implicit_vr=implicit, little_endian=True, overwrite=True)
    assert b"DICM" not in (tmp_path / name).read_bytes()[:200]
    np.testing.assert_array_equal(read_grey(tmp_path / name), twelve >> 4)
    assert image_size(tmp_path / name) == (13, 18)


def test_tags_written_otherwise_than_the_syntax_says(tmp_path, twelve):
    """Implicit tags below a header of explicit ones, and the reverse: pydicom finds out, and says nothing here."""
    for syntax, implicit in ((ExplicitVRLittleEndian, True), (ImplicitVRLittleEndian, False)):
        path = write(tmp_path / "x.dcm", twelve, stored=12)
        image = pydicom.dcmread(path)
        image.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, image, implicit_vr=implicit, little_endian=True, force_encoding=True)
        np.testing.assert_array_equal(read_grey(path), twelve >> 4)


def test_pixels_compressed_against_the_syntax_and_the_reverse_are_refused(tmp_path, twelve):
    path = write(tmp_path / "x.dcm", twelve)
    image = pydicom.dcmread(path)
    image.PixelData = encapsulate([bytes(20000)])
    image.save_as(path)
    refused(path, "compressed, against its TransferSyntaxUID")
    content = write(tmp_path / "y.dcm", twelve).read_bytes()
    (tmp_path / "y.dcm").write_bytes(relabelled(content, JPEGBaseline8Bit))
    refused(tmp_path / "y.dcm", "compressed as JPEG Baseline")


def relabelled(content, uid):
    """A file of explicit little endian with another transfer syntax in its header."""
    old, new = (f"{name}".encode() + b"\0" * (len(name) % 2) for name in (ExplicitVRLittleEndian, uid))
    at = content.index(b"\x02\x00\x10\x00UI") + 6
    assert content[at + 2 :].startswith(old)
    content = content[:at] + len(new).to_bytes(2, "little") + new + content[at + 2 + len(old) :]
    at = content.index(b"\x02\x00\x00\x00UL") + 8
    length = int.from_bytes(content[at : at + 4], "little") + len(new) - len(old)
    return content[:at] + length.to_bytes(4, "little") + content[at + 4 :]


def compressed(path, grey, kind, syntax, **options):
    stream = path.with_suffix(".bin")
    Image.fromarray(grey).save(stream, kind, **options)
    image = pydicom.dcmread(write(path, grey, kind="RGB" if grey.ndim == 3 else "MONOCHROME2"))
    image.PixelData = encapsulate([stream.read_bytes()])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax
    image.save_as(path)
    return path


def test_jpeg_and_jpeg_2000_are_read(tmp_path):
    grey = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    lossy = compressed(tmp_path / "x.dcm", grey, "JPEG", JPEGBaseline8Bit, quality=100)
    assert np.abs(read_grey(lossy).astype(int) - grey).max() <= 2
    exact = compressed(tmp_path / "y.dcm", grey, "JPEG2000", JPEG2000Lossless, no_jp2=True)
    np.testing.assert_array_equal(read_grey(exact), grey)
    deep = compressed(tmp_path / "z.dcm", grey.astype(np.uint16) * 40, "JPEG2000", JPEG2000Lossless, no_jp2=True)
    np.testing.assert_array_equal(read_grey(deep), grey.astype(int) * 40 >> 4)


@pytest.mark.parametrize("kind", ["YBR_FULL", "YBR_FULL_422"])
def test_luminance_of_ybr_is_its_first_part(tmp_path, kind):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    full = np.dstack([grey, np.full_like(grey, 128), np.full_like(grey, 128)])
    path = write(tmp_path / "x.dcm", full, kind="YBR_FULL")
    if kind == "YBR_FULL_422":
        image = pydicom.dcmread(path)
        image.PhotometricInterpretation = kind
        pairs = np.stack([grey.ravel()[::2], grey.ravel()[1::2], np.full(24, 128), np.full(24, 128)], 1)
        image.PixelData = pairs.astype(np.uint8).tobytes()
        image.save_as(path)
    np.testing.assert_array_equal(read_grey(path), grey)


def test_colours_in_planes_and_of_sixteen_bits(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    deep = write(tmp_path / "x.dcm", np.dstack([grey.astype(np.uint16) * 257] * 3), kind="RGB")
    np.testing.assert_array_equal(read_grey(deep), grey)
    image = pydicom.dcmread(write(tmp_path / "y.dcm", np.dstack([grey] * 3), kind="RGB"))
    image.PlanarConfiguration, image.PixelData = 1, grey.tobytes() * 3
    image.save_as(tmp_path / "y.dcm")
    np.testing.assert_array_equal(read_grey(tmp_path / "y.dcm"), grey)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels_are_refused(tmp_path, twelve, name):
    image = pydicom.dcmread(write(tmp_path / "x.dcm", twelve))
    del image.PixelData
    setattr(image, name, twelve.astype(np.float32 if name[0] == "F" else np.float64).tobytes())
    image.save_as(tmp_path / "x.dcm")
    refused(tmp_path / "x.dcm", f"contains {name}; save the image with 8 or 16 bits")


def test_a_size_of_billions_and_a_bomb_are_refused_before_memory_is_asked_for(tmp_path, twelve):
    huge = write(tmp_path / "x.dcm", twelve, Rows=65535, Columns=65535)
    refused(huge, "claims 65535 x 65535 pixels; more than MAX_SIDE=32768 .* MAX_PIXELS=")
    with pytest.raises(DataError, match="MAX_PIXELS"):
        image_size(huge)
    head = relabelled(write(tmp_path / "y.dcm", twelve).read_bytes(), DeflatedExplicitVRLittleEndian)
    head = head[: head.index(b"\x08\x00\x16\x00")]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(squeeze.compress(bytes(1 << 24)) for _ in range(70)) + squeeze.flush()
    (tmp_path / "y.dcm").write_bytes(head + body)
    refused(tmp_path / "y.dcm", "deflated from more than")
    assert len(body) < 2e6


def test_a_picture_of_another_kind_with_a_name_of_dicom_is_read_as_what_it_is(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(grey).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_grey(tmp_path / "x.dcm"), grey)


def test_pydicom_says_nothing_of_its_own(tmp_path, twelve, recwarn, capfd):
    path = write(tmp_path / "x.dcm", twelve, stored=12)
    content = path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.1\0", b"1.2.840.10008.5.1.4.1.1.x\0")
    path.write_bytes(content + bytes(6))
    read_grey(path)
    assert [str(warning.message) for warning in recwarn] == []
    assert capfd.readouterr() == ("", "")
    assert re.search(rb"1\.1\.x", content)
